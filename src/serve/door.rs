//! Who comes in: connections are few, short and fairly shared, whatever comes over them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinSet};
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
    sources: HashMap<Id, IpAddr>,
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
        Ok(Self { listener, certificate, pages, log, inside: JoinSet::new(), sources: HashMap::new() })
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
                    self.sources.remove(&id);
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
        let taken = self.sources.values().filter(|ip| **ip == refusals::source(from)).count();
        if self.inside.len() >= CONNECTIONS || taken >= FROM_ONE {
            return;
        }
        // Whoever comes is counted as refused until he is not: a handshake costs as much as a wrong token.
        let source = Source { ip: from, charged: self.pages.charge(from) };
        if !source.charged && taken >= FROM_EXHAUSTED {
            return;
        }
        let (acceptor, trouble) = self.certificate.current();
        if let Some(e) = trouble {
            self.log.trouble(None, &format!("goes on with the certificate it has: {e}"));
        }
        let pages = self.pages.clone();
        let task = self.inside.spawn(async move {
            let _ = timeout(CONNECTION, talk(io, acceptor, pages, source)).await;
        });
        self.sources.insert(task.id(), refusals::source(from));
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
