//! One member of etcd and the one connection to it.
//!
//! Dialled here and not by tonic: its lazy channel connects behind a call's back, keeps a failure for whichever call
//! comes next, and hides why. Here a connection that ended is replaced by the next call that needs one, under that
//! call's deadline.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::Endpoint as Transport;

use super::credentials::Loaded;
use crate::elect::config::Endpoint;

/// The kernel asks a silent peer after this long, this often, three times: a host that vanished ends an idle watch.
const PROBE: Duration = Duration::from_secs(10);

/// A member. Cheap until used.
pub(super) struct Member {
    pub(super) endpoint: Endpoint,
    link: Mutex<Option<Link>>,
    /// Held while dialling: N groups that find no connection make one.
    dialling: tokio::sync::Mutex<()>,
    /// Where it was reached last. Tried before the resolver is asked, so that a dead resolver does not fence anybody.
    address: Mutex<Option<SocketAddr>>,
}

/// A connection. It lives on while a call or a stream uses it, also after the member has a newer one.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: Client,
    /// What happened below gRPC, which tonic does not tell.
    pub(super) trace: Arc<Trace>,
    generation: u64,
}

/// The end of a connection as the socket saw it.
#[derive(Default)]
pub(super) struct Trace {
    failure: Mutex<Option<Arc<io::Error>>>,
    first: Mutex<Option<u8>>,
}

impl Trace {
    /// The error reading or writing ended with.
    pub(super) fn failure(&self) -> Option<Arc<io::Error>> {
        lock(&self.failure).clone()
    }

    /// The first byte the member sent.
    pub(super) fn first(&self) -> Option<u8> {
        *lock(&self.first)
    }
}

impl Member {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, link: Mutex::default(), dialling: tokio::sync::Mutex::default(), address: Mutex::default() }
    }

    /// The connection there is, or a new one. With newer credentials than those of the connection, a new one; if it
    /// cannot be made, the old one still.
    ///
    /// # Errors
    /// When none can be made.
    pub(super) async fn link(&self, tls: Option<Arc<Loaded>>) -> io::Result<Link> {
        let wanted = tls.as_ref().map_or(0, |t| t.generation);
        let fresh = |link: &Option<Link>| link.clone().filter(|l| l.generation >= wanted);
        if let Some(link) = fresh(&lock(&self.link)) {
            return Ok(link);
        }
        let _one = self.dialling.lock().await;
        let old = lock(&self.link).clone();
        if let Some(link) = fresh(&old) {
            return Ok(link);
        }
        match (self.dial(tls).await, old) {
            (Ok(link), _) => {
                self.use_from_now(link.clone());
                Ok(link)
            }
            (Err(_), Some(old)) => Ok(old),
            (Err(e), None) => Err(e),
        }
    }

    /// Calls from now on go through `link`.
    pub(super) fn use_from_now(&self, link: Link) {
        *lock(&self.link) = Some(link);
    }

    /// No further call goes through `link`. A connection that timed out may sit in the kernel's retransmission
    /// back-off for minutes after the network healed.
    pub(super) fn retire(&self, link: &Link) {
        lock(&self.link).take_if(|l| Arc::ptr_eq(&l.trace, &link.trace));
    }

    /// A new connection.
    ///
    /// # Errors
    /// When there is none: resolver, TCP, TLS.
    pub(super) async fn dial(&self, tls: Option<Arc<Loaded>>) -> io::Result<Link> {
        let tcp = self.reach().await?;
        tcp.set_nodelay(true)?;
        rustix::net::sockopt::set_socket_keepalive(&tcp, true)?;
        rustix::net::sockopt::set_tcp_keepidle(&tcp, PROBE)?;
        rustix::net::sockopt::set_tcp_keepintvl(&tcp, PROBE)?;
        rustix::net::sockopt::set_tcp_keepcnt(&tcp, 3)?;
        let generation = tls.as_ref().map_or(0, |t| t.generation);
        let stream: Box<dyn Stream> = match tls.filter(|_| self.endpoint.tls) {
            Some(tls) => {
                let name = ServerName::try_from(self.endpoint.host.clone()).map_err(io::Error::other)?;
                Box::new(tls.connector.connect(name, tcp).await?)
            }
            None => Box::new(tcp),
        };
        let trace = Arc::new(Trace::default());
        let traced = Traced { stream, trace: trace.clone() };
        let client = client(&self.endpoint, traced).await.map_err(io::Error::other)?;
        Ok(Link { client, trace, generation })
    }

    async fn reach(&self) -> io::Result<TcpStream> {
        // Taken out: if this attempt is given up halfway, the next one asks the resolver.
        let last = lock(&self.address).take();
        let tcp = match last {
            Some(address) => TcpStream::connect(address).await.ok(),
            None => None,
        };
        let tcp = match tcp {
            Some(tcp) => tcp,
            None => TcpStream::connect((self.endpoint.host.as_str(), self.endpoint.port)).await?,
        };
        *lock(&self.address) = tcp.peer_addr().ok();
        Ok(tcp)
    }
}

/// A client that speaks through `stream` and through nothing else.
async fn client(endpoint: &Endpoint, stream: Traced) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    // http:// below and https:// as origin: TLS is ours, so tonic must not add its own.
    let at = endpoint.to_string();
    let origin: http::Uri = at.parse()?;
    let transport = Transport::from_shared(at.replacen("https://", "http://", 1))?.origin(origin);
    let slot = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_: http::Uri| std::future::ready(lock(&slot).take().ok_or(Ended)));
    let channel = Channel::Tonic(transport.connect_with_connector_lazy(connector));
    // Without a leader a member answers at once instead of hanging, and ends its watches.
    let options = ConnectOptions::new().with_require_leader(true);
    Ok(Client::from_channel(channel, Some(options)).await?)
}

/// The connection had ended before the call: nothing of it was sent.
#[derive(Debug, thiserror::Error)]
#[error("the connection ended")]
struct Ended;

/// Whether a call failed before anything of it was sent.
pub(super) fn unsent(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else { return false };
    let mut next: Option<&dyn std::error::Error> = Some(status);
    while let Some(error) = next {
        if error.is::<Ended>() {
            return true;
        }
        next = error.source();
    }
    false
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

struct Traced {
    stream: Box<dyn Stream>,
    trace: Arc<Trace>,
}

impl Traced {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|e| {
            let shared = Arc::new(e);
            let copy = io::Error::new(shared.kind(), shared.to_string());
            lock(&self.trace.failure).get_or_insert(shared);
            copy
        })
    }
}

impl AsyncRead for Traced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if let Some(first) = buf.filled().get(before) {
            lock(&self.trace.first).get_or_insert(*first);
        }
        Poll::Ready(self.note(result))
    }
}

impl AsyncWrite for Traced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(self.note(result))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(self.note(result))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
