//! One lease, kept alive: the candidate's place in the queue hangs on it, its leadership does not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Client, Error};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use super::watch::backoff;
use super::{Op, Store, StoreEvent, grant};
use crate::elect::instant::Instant;
use crate::elect::record::LeaseId;
use crate::host::clock::boottime;

/// Dropping it lets the lease run out; [`close`](Self::close) gives it back.
pub struct SessionHandle {
    store: Store,
    task: JoinHandle<()>,
    lease: Held,
}

type Held = Arc<Mutex<Option<LeaseId>>>;

impl SessionHandle {
    /// The lease, if there is one.
    pub fn lease(&self) -> Option<LeaseId> {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back a predecessor's lease, in the background: its place in the queue ends with it. If no member answers
    /// it runs out by itself.
    pub fn revoke(&self, lease: LeaseId) {
        give_back(&self.store, lease);
    }

    /// Gives the lease back. The process that ends waits for it, at most a second; then the lease runs out by itself.
    pub async fn close(&self) {
        self.task.abort();
        if let Some(lease) = self.lease() {
            let _ = self.store.revoke(lease, LAST).await;
        }
    }
}

/// How long a process that ends waits for [`SessionHandle::close`].
const LAST: Duration = Duration::from_secs(1);
/// How long a lease nobody uses is tried to be revoked; nobody waits for it.
const LEFTOVER: Duration = Duration::from_secs(15);

fn give_back(store: &Store, lease: LeaseId) {
    let store = store.clone();
    tokio::spawn(async move { store.revoke(lease, LEFTOVER).await });
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn spawn(store: Store, ttl: Duration, tell: UnboundedSender<StoreEvent>) -> SessionHandle {
    store.0.health.listen(tell.clone());
    let lease = Held::default();
    let task = tokio::spawn(hold(store.clone(), ttl, lease.clone(), tell));
    SessionHandle { store, task, lease }
}

async fn hold(store: Store, ttl: Duration, held: Held, tell: UnboundedSender<StoreEvent>) {
    let set = |lease: Option<LeaseId>| {
        *held.lock().unwrap_or_else(PoisonError::into_inner) = lease;
        tell.send(StoreEvent::Lease(lease)).is_ok()
    };
    let mut failures = 0;
    loop {
        let asked = boottime();
        let Ok((_, granted)) = store.attempt(Op::Grant, ttl / 5, grant(ttl)).await else {
            backoff(failures).await;
            failures += 1;
            continue;
        };
        failures = 0;
        // etcd may grant longer than was asked, never shorter.
        let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(0)).max(Duration::from_secs(1));
        if !set(Some(LeaseId(granted.id()))) {
            return;
        }
        store.learn_version(ttl / 10).await;
        let end = keep(&store, granted.id(), ttl, asked).await;
        if !set(None) {
            return;
        }
        if end == End::Silence {
            // It may live on: a new leader of etcd gives every lease its full time again.
            give_back(&store, LeaseId(granted.id()));
        }
    }
}

#[derive(PartialEq)]
enum End {
    /// etcd says it is gone.
    Gone,
    /// Its time passed by the own clock without an answer.
    Silence,
}

/// Keeps the lease alive until it is lost.
async fn keep(store: &Store, id: i64, ttl: Duration, granted: Instant) -> End {
    let mut epoch = store.0.epoch.subscribe();
    let mut renewed = granted;
    let mut failures = 0;
    loop {
        if failures == 0 {
            // Another cluster does not know the lease: that shows at once.
            let _ = tokio::time::timeout(ttl / 3, epoch.changed()).await;
            store.refresh(ttl / 10).await;
        } else {
            backoff(failures - 1).await;
        }
        let asked = boottime();
        if asked.since(renewed) >= ttl {
            return End::Silence;
        }
        // A fresh stream each time: an open one to a frozen member says nothing for ever.
        let call = move |mut c: Client| async move {
            match c.lease_keep_alive(id).await {
                Ok(_) => Ok(true),
                Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                Err(e) => Err(e),
            }
        };
        match store.attempt(Op::KeepAlive, ttl / 10, call).await {
            Ok((_, true)) => (renewed, failures) = (asked, 0),
            Ok((_, false)) => return End::Gone,
            Err(_) => failures += 1,
        }
    }
}
