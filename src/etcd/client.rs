//! The adapter to one etcd member: mutual TLS, own deadlines, no hidden balancer.
//!
//! One member, one lazy connection. tonic's balancer has no health exclusion and its deadlines do not cover the wait for
//! a connection, so every call here runs under a timeout of its own and a caller that has several members rotates itself.

mod discovery;
mod leases;
mod maintenance;
mod members;
mod records;
mod tokens;

pub use records::Record;
pub use tokens::Found;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Channel, Compare, CompareOp, Txn, TxnOp};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tonic::transport::Endpoint;

use crate::error::{Error, Result};
use crate::etcd::{MemberStatus, keys};

/// Deadline of one call, connecting and TLS included. The operator waits for it when a member hangs.
const CALL: Duration = Duration::from_secs(5);

/// A client of one member.
pub struct Client {
    member: SocketAddr,
    runtime: tokio::runtime::Runtime,
    inner: etcd_client::Client,
    patience: Duration,
}

impl Client {
    /// A client of the member whose client port is `member`. Nothing is sent yet.
    ///
    /// # Errors
    /// When no runtime can be made.
    pub fn new(member: SocketAddr, tls: rustls::ClientConfig) -> Result<Self> {
        Self::named(member, ServerName::IpAddress(member.ip().into()), tls)
    }

    /// A client of the member at `member` whose certificate is for `name`. Nothing is sent yet.
    ///
    /// # Errors
    /// When no runtime can be made.
    pub fn named(member: SocketAddr, name: ServerName<'static>, tls: rustls::ClientConfig) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| Error::apply("cannot set up a connection to etcd").cause(e);
        let mut tls = tls;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
        // http:// here and https:// as origin: TLS is ours, so tonic must not add its own.
        let origin: http::Uri = format!("https://{member}").parse().map_err(|e| failed(&e))?;
        let endpoint = Endpoint::from_shared(format!("http://{member}")).map_err(|e| failed(&e))?.origin(origin);
        let connector = tower::service_fn(move |_: http::Uri| {
            let (tls, name) = (tls.clone(), name.clone());
            async move {
                let tcp = TcpStream::connect(member).await?;
                tcp.set_nodelay(true)?;
                let stream = tls.connect(name, tcp).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        });
        let inner = runtime
            .block_on(async {
                let channel = Channel::Tonic(endpoint.connect_with_connector_lazy(connector));
                etcd_client::Client::from_channel(channel, None).await
            })
            .map_err(|e| failed(&e))?;
        Ok(Self { member, runtime, inner, patience: CALL })
    }

    /// With another deadline for each call, for whoever has other members to ask.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn call<T>(
        &self,
        what: &str,
        call: impl AsyncFnOnce(etcd_client::Client) -> Result<T, etcd_client::Error>,
    ) -> Result<T> {
        let failed = || Error::apply(format!("etcd at {}: cannot {what}", self.member)).hint("hamaster status");
        match self.block_on(call(self.inner.clone())) {
            Some(Ok(value)) => Ok(value),
            Some(Err(e)) => Err(failed().cause(e)),
            None => Err(failed().cause(format!("no answer within {} s", self.patience.as_secs()))),
        }
    }

    fn block_on<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async { tokio::time::timeout(self.patience, work).await.ok() })
    }

    /// What the member says of itself.
    ///
    /// # Errors
    /// When it does not answer, or refuses our certificate.
    pub fn status(&self) -> Result<MemberStatus> {
        let status = self.call("read its status", async |mut c| c.status().await)?;
        let header = status.header();
        let member_id = header.map_or(0, etcd_client::ResponseHeader::member_id);
        Ok(MemberStatus {
            cluster_id: format!("{:x}", header.map_or(0, etcd_client::ResponseHeader::cluster_id)),
            member_id: format!("{member_id:x}"),
            version: status.version().to_owned(),
            db_size: status.db_size(),
            is_leader: status.leader() == member_id,
            is_learner: status.is_learner(),
        })
    }

    /// The value of `key`, read linearizably.
    ///
    /// # Errors
    /// When the member does not answer or has no quorum.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.read(key)?.kvs().first().map(|kv| kv.value().to_vec()))
    }

    /// Asked twice: a cluster that elects its leader answers nobody for a while, and to read again does no harm.
    fn read(&self, key: &str) -> Result<etcd_client::GetResponse> {
        let once = || self.call(&format!("read {key}"), async |mut c| c.get(key, None).await);
        once().or_else(|_| once())
    }

    /// Creates `key`; an existing one stays as it is. True when it was created.
    ///
    /// # Errors
    /// When the member does not answer. The transaction may have happened all the same; sending it again is safe.
    pub fn put_if_absent(&self, key: &str, value: &[u8]) -> Result<bool> {
        let txn = Txn::new()
            .when([Compare::create_revision(key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, value, None)]);
        let answer = self.call(&format!("create {key}"), async |mut c| c.txn(txn).await)?;
        Ok(answer.succeeded())
    }

    /// The registered spec and its generation.
    ///
    /// # Errors
    /// When the member does not answer or the key holds something else.
    pub fn spec(&self) -> Result<Option<Registered>> {
        Ok(self.spec_at()?.0)
    }

    /// The same, and etcd's revision at which that was so: for [`Client::await_change`].
    ///
    /// # Errors
    /// As [`Client::spec`].
    pub fn spec_at(&self) -> Result<(Option<Registered>, i64)> {
        let answer = self.read(keys::SPEC)?;
        let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
        let registered = answer.kvs().first().map(|kv| Registered::read(kv.value())).transpose()?;
        Ok((registered, revision))
    }

    /// Registers `yaml` under the next generation, over what is meant, by compare-and-swap. False when it is registered
    /// already.
    ///
    /// # Errors
    /// When the member does not answer, or another writer was faster.
    pub fn put_spec(&self, yaml: &str, over: &Over) -> Result<bool> {
        let answer = self.read(keys::SPEC)?;
        let seen = answer.kvs().first().map_or(0, etcd_client::KeyValue::mod_revision);
        let registered = answer.kvs().first().map(|kv| Registered::read(kv.value())).transpose()?;
        if registered.as_ref().is_some_and(|r| r.spec == yaml) {
            return Ok(false);
        }
        let expected = match over {
            Over::Anything => true,
            Over::Nothing => registered.is_none(),
            Over::This(spec) => registered.as_ref().is_some_and(|r| r.spec == *spec),
        };
        let faster = || {
            Error::conflict("the cluster spec was changed by someone else meanwhile")
                .hint("run the same command again: it begins with the spec as it is now")
        };
        if !expected {
            return Err(faster());
        }
        let generation = registered.map_or(0, |r| r.generation) + 1;
        let value = Registered { generation, spec: yaml.to_owned() }.write()?;
        let txn = Txn::new().when([Compare::mod_revision(keys::SPEC, CompareOp::Equal, seen)]).and_then([TxnOp::put(
            keys::SPEC,
            value,
            None,
        )]);
        let answer = self.call("register the spec", async |mut c| c.txn(txn).await)?;
        if answer.succeeded() { Ok(true) } else { Err(faster()) }
    }
}

/// What a spec may be registered over: what whoever made it had seen. Or masters that joined meanwhile would be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// None was registered.
    Nothing,
    /// Exactly this one.
    This(String),
    /// Whatever there is: nobody else writes it.
    Anything,
}

/// The value of [`keys::SPEC`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Registered {
    /// Counts up with every change.
    pub generation: u64,
    /// The resolved `cluster.yaml`.
    pub spec: String,
}

impl Registered {
    /// Reads the key's value.
    ///
    /// # Errors
    /// When it holds something else.
    pub fn read(value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value).map_err(|e| {
            Error::conflict(format!("etcd key {} does not hold a hamaster spec", keys::SPEC))
                .cause(e)
                .hint(format!("etcdctl get {}", keys::SPEC))
        })
    }

    /// The key's value.
    ///
    /// # Errors
    /// None that is known.
    pub fn write(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::apply("cannot encode the spec").cause(e))
    }
}
