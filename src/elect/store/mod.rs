//! etcd as the election uses it: transactions, watches, one lease.
//!
//! One connection to each member, one member preferred until it fails. Every call is one attempt at one member under
//! a deadline that covers connecting; the next call goes to the next member. Nothing is retried that may have happened.

mod credentials;
mod error;
mod health;
mod member;
mod session;
mod version;
mod watch;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Client, GetOptions, PutOptions};
use tokio::sync::mpsc::UnboundedSender;

use self::credentials::{Credentials, Loaded};
use self::error::{Asked, Fault};
pub use self::error::{StoreError, StoreErrorKind};
use self::health::Health;
pub use self::health::Op;
use self::member::Member;
pub use self::session::SessionHandle;
pub use self::watch::WatchHandle;
use self::wire::Headed;
use crate::elect::config::{Endpoint, TlsFiles};
use crate::elect::event::Interest;
use crate::elect::instant::Instant;
use crate::elect::record::LeaseId;
use crate::elect::txn::{Answer, Txn};
use crate::elect::view::{Change, Key, PREFIX, View, prefix};
use crate::error::{Error, Result};
use crate::host::clock::boottime;

/// What the store tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// The group as a linearizable read shows it.
    Seen(View),
    /// A watched key changed.
    Changed(Change),
    /// Another cluster answers, or one that was set back. A `Seen` follows.
    Replaced,
    /// The lease; `None`: lost, another one will be granted.
    Lease(Option<LeaseId>),
    /// Something fails that worked, or fails otherwise. At most ten a minute.
    Trouble(StoreError),
    /// The trouble last told of is over.
    Back,
}

/// etcd. Cheap to clone; lives in a tokio runtime.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    members: Vec<Member>,
    credentials: Option<Credentials>,
    /// The member the next call goes to.
    preferred: AtomicUsize,
    cluster: Mutex<Cluster>,
    /// Counts replacements of the cluster; who watches it re-reads.
    epoch: tokio::sync::watch::Sender<u64>,
    /// The epoch each watched prefix was last told of: a watch that takes over from one must not lose it.
    told: Mutex<BTreeMap<String, u64>>,
    health: Health,
    /// Of the member that was asked last.
    version: Mutex<Option<String>>,
}

/// Which cluster answers.
#[derive(Default)]
struct Cluster {
    id: Option<u64>,
    /// The highest revision seen. A linearizable answer to a question asked later cannot be below.
    revision: i64,
}

impl Store {
    /// Reads the files; nothing is sent yet.
    ///
    /// # Errors
    /// When there is no endpoint, or the files do not read or do not fit together.
    pub fn new(endpoints: &[Endpoint], tls: Option<TlsFiles>) -> Result<Self> {
        if endpoints.is_empty() {
            return Err(Error::usage("no etcd endpoint given").hint("write `endpoints: [https://127.0.0.1:2379]`"));
        }
        if tls.is_none() && endpoints.iter().any(|e| e.tls) {
            return Err(Error::usage("an https endpoint of etcd needs a CA, a certificate and a key")
                .hint("write caFile, certFile and keyFile"));
        }
        Ok(Self(Arc::new(Inner {
            members: endpoints.iter().cloned().map(Member::new).collect(),
            credentials: tls.map(Credentials::load).transpose()?,
            preferred: AtomicUsize::new(0),
            cluster: Mutex::default(),
            epoch: tokio::sync::watch::Sender::new(0),
            told: Mutex::default(),
            health: Health::default(),
            version: Mutex::default(),
        })))
    }

    /// Runs `txn` in `group`: one attempt at one member, given up `within`, connecting included. The renewal of a
    /// leader waits for it.
    pub async fn run(&self, group: &str, txn: &Txn, within: Duration) -> Answer {
        let prefix = prefix(group);
        let request = wire::txn(&prefix, txn);
        let call = |mut c: Client| {
            let request = request.clone();
            async move { c.txn(request).await }
        };
        self.attempt(Op::Txn, within, call).await.map_or(Answer::Unknown, |(_, r)| wire::answer(&prefix, &r))
    }

    /// Reads `group` linearizably: one attempt at one member, given up `within`.
    ///
    /// # Errors
    /// When there was no answer in time.
    pub async fn read(&self, group: &str, within: Duration) -> Result<View, StoreError> {
        self.read_at(self.preferred(), &prefix(group), within).await
    }

    /// Watches keys of `group`: reads first ([`StoreEvent::Seen`]), then tells changes; reads again after any loss.
    /// If nothing came for `silence` the group is read at another member, for the watched one may be frozen. For a
    /// group that is two renewals and an attempt of its leader; a waiter is content with a minute.
    pub fn watch(
        &self,
        group: &str,
        interest: Interest,
        silence: Duration,
        tell: UnboundedSender<StoreEvent>,
    ) -> WatchHandle {
        watch::spawn(self.clone(), prefix(group), interest, silence, tell)
    }

    /// Holds a lease of `ttl` (whole seconds), and another one if it is lost. Also tells `tell` of trouble with the
    /// store as a whole: one session for each process.
    pub fn session(&self, ttl: Duration, tell: UnboundedSender<StoreEvent>) -> SessionHandle {
        session::spawn(self.clone(), ttl, tell)
    }

    /// Gives back a lease, if it can be done `within`: that of a predecessor, whose place in the queue ends with it.
    ///
    /// # Errors
    /// When no member answered in time. A lease that is gone already is no error.
    pub async fn revoke(&self, LeaseId(id): LeaseId, within: Duration) -> Result<(), StoreError> {
        let call = move |mut c: Client| async move {
            match c.lease_revoke(id).await {
                Ok(_) => Ok(true),
                Err(etcd_client::Error::GRpcStatus(s)) if s.code() == tonic::Code::NotFound => Ok(false),
                Err(e) => Err(e),
            }
        };
        self.insist(Op::Revoke, within, call).await.map(|_| ())
    }

    /// Writes one of the operator's keys; with `ttl` it vanishes by itself. Tries member after member `within`.
    ///
    /// # Errors
    /// When no member did it in time.
    pub async fn put_control(
        &self,
        group: &str,
        key: Key,
        bytes: Vec<u8>,
        ttl: Option<Duration>,
        within: Duration,
    ) -> Result<(), StoreError> {
        let lease = match ttl {
            None => None,
            Some(ttl) => Some(self.insist(Op::Grant, within, grant(ttl)).await?.id()),
        };
        let path = key.path(&prefix(group));
        let call = |mut c: Client| {
            let (path, bytes) = (path.clone(), bytes.clone());
            async move { c.put(path, bytes, lease.map(|id| PutOptions::new().with_lease(id))).await }
        };
        self.insist(Op::Put, within, call).await.map(|_| ())
    }

    /// Deletes a key. Tries member after member `within`. True when it was there.
    ///
    /// # Errors
    /// When no member did it in time.
    pub async fn delete(&self, group: &str, key: Key, within: Duration) -> Result<bool, StoreError> {
        let path = key.path(&prefix(group));
        let call = |mut c: Client| {
            let path = path.clone();
            async move { c.delete(path, None).await }
        };
        self.insist(Op::Delete, within, call).await.map(|r| r.deleted() > 0)
    }

    /// The groups that have a key. Tries member after member `within`.
    ///
    /// # Errors
    /// When no member answered in time.
    pub async fn groups(&self, within: Duration) -> Result<BTreeSet<String>, StoreError> {
        let keys = || Some(GetOptions::new().with_prefix().with_keys_only());
        let found = self.insist(Op::Read, within, |mut c| async move { c.get(PREFIX, keys()).await }).await?;
        let name = |kv: &etcd_client::KeyValue| {
            let (group, _) = kv.key_str().ok()?.strip_prefix(PREFIX)?.split_once('/')?;
            Some(group.to_owned())
        };
        Ok(found.kvs().iter().filter_map(name).collect())
    }

    /// Id of the cluster that answered last.
    pub fn cluster_id(&self) -> Option<u64> {
        self.cluster().id
    }

    /// What fails, and since when on the boot clock; `None`: all is well.
    pub fn health(&self) -> Option<(StoreError, Instant)> {
        self.0.health.trouble()
    }

    /// When the client certificate in use expires; `None`: there is none.
    pub fn certificate_expires(&self) -> Option<time::OffsetDateTime> {
        self.0.credentials.as_ref().and_then(|c| c.current().expires)
    }

    /// Requests so far, by kind and outcome.
    pub fn requests(&self) -> Vec<(Op, &'static str, u64)> {
        self.0.health.requests()
    }

    /// Looks whether the TLS files changed; if so, connects with the new ones first, and goes over to them only then.
    /// A session does it at every renewal.
    pub async fn refresh(&self, within: Duration) {
        let Some(credentials) = &self.0.credentials else { return };
        let Some(changed) = credentials.changed() else { return };
        let member = &self.0.members[self.preferred()];
        let asked = Asked { endpoint: &member.endpoint, credentials: Some(credentials) };
        let failed = match changed {
            Err(e) => asked.files(format!("the new TLS files cannot be used, the old ones still are: {e}")),
            Ok(new) => match tokio::time::timeout(within, try_out(member, new.clone())).await {
                Ok(Ok(link)) => {
                    credentials.adopt(new);
                    member.use_from_now(link);
                    return self.0.health.files_taken();
                }
                // That says nothing about the files.
                Err(_) => return,
                Ok(Err(fault)) => {
                    let e = asked.explain(&fault);
                    if e.kind != StoreErrorKind::Tls {
                        return;
                    }
                    credentials.reject(&new);
                    StoreError { words: format!("with the new TLS files, {}; the old ones stay in use", e.words), ..e }
                }
            },
        };
        self.0.health.files_refused(failed, boottime());
    }

    fn preferred(&self) -> usize {
        self.0.preferred.load(Ordering::Relaxed)
    }

    /// The member after `at`.
    fn after(&self, at: usize) -> usize {
        (at + 1) % self.0.members.len()
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.0.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_at(&self, at: usize, prefix: &str, within: Duration) -> Result<View, StoreError> {
        let all = || Some(GetOptions::new().with_prefix());
        let call = |mut c: Client| async move { c.get(prefix, all()).await };
        let response = self.attempt_at(at, Op::Read, within, call).await?;
        Ok(wire::view(prefix, response.header().map_or(0, |h| h.revision()), response.kvs()))
    }

    /// Attempts at one member after the other until one succeeds or the time is up: for what may be done twice.
    async fn insist<T: Headed, F>(&self, op: Op, within: Duration, call: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let until = tokio::time::Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            match self.attempt(op, left.min(PATIENCE.min(within / 3)), &call).await {
                Ok((_, value)) => return Ok(value),
                Err(e) if until <= tokio::time::Instant::now() + BACKOFF => return Err(e),
                Err(_) => tokio::time::sleep(BACKOFF).await,
            }
        }
    }

    /// One attempt at the preferred member.
    async fn attempt<T: Headed, F>(
        &self,
        op: Op,
        within: Duration,
        call: impl Fn(Client) -> F,
    ) -> Result<(usize, T), StoreError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let at = self.preferred();
        self.attempt_at(at, op, within, call).await.map(|value| (at, value))
    }

    /// One attempt at the member `at`. If it fails, that one is no longer preferred.
    async fn attempt_at<T: Headed, F>(
        &self,
        at: usize,
        op: Op,
        within: Duration,
        call: impl Fn(Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let Inner { members, credentials, health, preferred, .. } = &*self.0;
        let member = &members[at];
        let asked = Asked { endpoint: &member.endpoint, credentials: credentials.as_ref() };
        let floor = self.cluster().revision;
        let mut used = None;
        let until = tokio::time::Instant::now() + within;
        if tokio::time::timeout_at(until, health.pace()).await.is_err() {
            // Nobody was asked: the others of this process use up what an outage allows.
            return Err(health.trouble().map_or_else(|| asked.explain(&Fault::Late(within)), |(e, _)| e));
        }
        let outcome = tokio::time::timeout_at(until, async {
            self.refresh(within / 2).await;
            // Lets the runtime look at the sockets, then the two tasks of an HTTP/2 connection: if it ended meanwhile
            // that is known before the call, and not while nobody can say any more whether it was sent.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            loop {
                let tls = credentials.as_ref().map(Credentials::current);
                let link = member.link(tls).await.map_err(Fault::Dial)?;
                used = Some(link.clone());
                match call(link.client.clone()).await {
                    Ok(value) => return Ok(value),
                    // The connection had ended while nobody used it: nothing was sent, so this is still one attempt.
                    Err(e) if member::unsent(&e) => member.retire(&link),
                    Err(e) => return Err(Fault::Rpc(e, link.trace)),
                }
            }
        });
        let error = match outcome.await.unwrap_or(Err(Fault::Late(within))) {
            Ok(value) => match self.recognize(value.stands(), floor) {
                Ok(()) => {
                    health.succeeded(op);
                    return Ok(value);
                }
                Err(why) => asked.replaced(why),
            },
            Err(fault) => asked.explain(&fault),
        };
        let answered = matches!(
            error.kind,
            StoreErrorKind::Auth | StoreErrorKind::NoSpace | StoreErrorKind::NoLeader | StoreErrorKind::Replaced
        );
        if let Some(link) = used.filter(|_| !answered) {
            member.retire(&link);
        }
        health.failed(op, &error, boottime());
        // Only if nobody else moved on already: N calls that fail together must not skip a member.
        let _ = preferred.compare_exchange(at, self.after(at), Ordering::Relaxed, Ordering::Relaxed);
        Err(error)
    }

    /// Whether it is still the same cluster that speaks, and has not been set back. `floor`: the highest revision
    /// known before the question was asked.
    fn recognize(&self, stands: Option<(u64, Option<i64>)>, floor: i64) -> Result<(), String> {
        let Some((id, revision)) = stands else { return Ok(()) };
        let mut cluster = self.cluster();
        let other = cluster.id.filter(|known| *known != id);
        let why = match (other, revision) {
            (Some(known), _) => format!("it belongs to cluster {id:x}, and {known:x} was there before"),
            (None, Some(revision)) if revision < floor.min(cluster.revision) => {
                format!("it was set back from revision {floor} to {revision}")
            }
            (None, _) => {
                cluster.id = Some(id);
                cluster.revision = cluster.revision.max(revision.unwrap_or(0));
                return Ok(());
            }
        };
        *cluster = Cluster { id: Some(id), revision: revision.unwrap_or(0) };
        drop(cluster);
        self.0.epoch.send_modify(|epoch| *epoch += 1);
        Err(why)
    }

    /// Whether those who watch `prefix` were last told of another epoch than this; they are told now.
    fn is_news(&self, prefix: &str, epoch: u64) -> bool {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(prefix.to_owned(), epoch).is_some_and(|last| last != epoch)
    }

    /// A watch told of this revision.
    fn reached(&self, revision: i64) {
        let mut cluster = self.cluster();
        cluster.revision = cluster.revision.max(revision);
    }
}

/// Between two attempts at what is insisted on.
const BACKOFF: Duration = Duration::from_millis(200);
/// One attempt of several: a paused member costs this much.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks for a lease.
fn grant(
    ttl: Duration,
) -> impl Fn(
    Client,
) -> std::pin::Pin<Box<dyn Future<Output = Result<etcd_client::LeaseGrantResponse, etcd_client::Error>> + Send>> {
    let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    move |mut c| Box::pin(async move { c.lease_grant(seconds, None).await })
}

/// A connection with these files that a member answered over. The handshake alone proves nothing: TLS 1.3 refuses a
/// client certificate only afterwards.
async fn try_out(member: &Member, new: Arc<Loaded>) -> Result<member::Link, Fault> {
    let link = member.dial(Some(new)).await.map_err(Fault::Dial)?;
    match link.client.clone().status().await {
        Ok(_) => Ok(link),
        Err(e) => Err(Fault::Rpc(e, link.trace)),
    }
}
