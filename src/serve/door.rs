//! Who comes in: connections are few, short and fairly shared, whatever comes over them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::Log;
use super::certificate::Certificate;
use super::join::{Pages, Source};
use super::refusals;
use crate::error::{Error, Result};

/// At once.
const CONNECTIONS: usize = 256;
/// Of these, from one source. The next one is closed at once.
const FROM_ONE: usize = 16;
/// From one that was refused too often: it waits, and is told so.
const FROM_EXHAUSTED: usize = 1;
/// So long.
const PENANCE: Duration = Duration::from_secs(1);
/// TLS must be agreed on by then, and then the request's head be there by then again.
const HEAD: Duration = Duration::from_secs(5);
/// From accepting a connection to its end.
const CONNECTION: Duration = Duration::from_secs(15);
/// The largest head of a request, in bytes.
const BUFFER: usize = 16 * 1024;
/// After a failed accept (no descriptors left): not in a hot loop.
const RETRY: Duration = Duration::from_secs(1);
/// At the end, those inside may finish.
const GRACE: Duration = Duration::from_secs(5);

/// The door of one master.
pub(super) struct Door {
    listener: TcpListener,
    certificate: Certificate,
    pages: Pages,
    log: Log,
    inside: JoinSet<()>,
    /// Whose each of them is.
    seats: HashMap<Id, Seat>,
    /// How many came so far.
    came: u64,
}

/// A connection inside.
struct Seat {
    source: IpAddr,
    /// Its place among all that came.
    number: u64,
    task: AbortHandle,
}

impl Door {
    /// Listens at `at`.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(super) async fn open(at: SocketAddr, certificate: Certificate, pages: Pages, log: Log) -> Result<Self> {
        let listener = TcpListener::bind(at).await.map_err(|e| {
            Error::apply(format!("cannot listen on {at}")).cause(e).hint(format!("ss -ltnp 'sport = :{}'", at.port()))
        })?;
        Ok(Self { listener, certificate, pages, log, inside: JoinSet::new(), seats: HashMap::new(), came: 0 })
    }

    /// Lets them in, for ever.
    pub(super) async fn attend(&mut self) {
        loop {
            tokio::select! {
                came = self.listener.accept() => match came {
                    Ok((io, peer)) => self.seat(io, peer.ip()),
                    Err(_) => sleep(RETRY).await,
                },
                Some(gone) = self.inside.join_next_with_id() => {
                    let id = gone.map_or_else(|e| e.id(), |(id, ())| id);
                    self.seats.remove(&id);
                }
            }
        }
    }

    /// Lets nobody in any more, and waits for those inside.
    pub(super) async fn close(mut self) {
        drop(self.listener);
        let _ = timeout(GRACE, async { while self.inside.join_next().await.is_some() {} }).await;
    }

    fn seat(&mut self, io: TcpStream, from: IpAddr) {
        // Who finds no seat pays nothing for it.
        let taken = self.seats.values().filter(|seat| seat.source == refusals::source(from)).count();
        let full = self.seats.len() >= CONNECTIONS;
        let given_up = if full { self.given_up(taken) } else { None };
        if taken >= FROM_ONE || full && given_up.is_none() {
            return;
        }
        // Whoever comes is counted as refused until he is not: a handshake costs as much as a wrong token.
        let source = Source { ip: from, charged: self.pages.charge(from) };
        if !source.charged && taken >= FROM_EXHAUSTED {
            return;
        }
        if let Some(seat) = given_up.and_then(|id| self.seats.remove(&id)) {
            seat.task.abort();
        }
        let (acceptor, trouble) = self.certificate.current();
        if let Some(e) = trouble {
            self.log.trouble(None, &format!("goes on with the certificate it has: {e}"));
        }
        let pages = self.pages.clone();
        let task = self.inside.spawn(async move {
            let _ = timeout(CONNECTION, talk(io, acceptor, pages, source)).await;
        });
        self.came += 1;
        let seat = Seat { source: refusals::source(from), number: self.came, task: task.clone() };
        self.seats.insert(task.id(), seat);
    }

    /// Whoever has most seats gives one up, the one he has had for longest, to whoever has fewer: some that hold theirs
    /// cannot keep everybody else out.
    fn given_up(&self, fewer: usize) -> Option<Id> {
        let mut taken: HashMap<IpAddr, usize> = HashMap::new();
        for seat in self.seats.values() {
            *taken.entry(seat.source).or_default() += 1;
        }
        let (fullest, _) = taken.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > fewer + 1)?;
        let his = self.seats.iter().filter(|(_, seat)| seat.source == fullest);
        his.min_by_key(|(_, seat)| seat.number).map(|(id, _)| *id)
    }
}

async fn talk(io: TcpStream, acceptor: TlsAcceptor, pages: Pages, source: Source) {
    if !source.charged {
        sleep(PENANCE).await;
    }
    let _ = io.set_nodelay(true);
    // Garbage and strangers end here, unheard: a scanner is no news.
    let Ok(Ok(tls)) = timeout(HEAD, acceptor.accept(io)).await else { return };
    let router = pages.router();
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(source);
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    let _ = http.serve_connection(TokioIo::new(tls), service).await;
}
