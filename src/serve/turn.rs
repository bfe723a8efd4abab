//! Whose turn it is: of all masters' keepers one changes its host at a time.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::members::Members;
use crate::error::{Error, Result};
use crate::etcd::keys;

/// The turn of a master that died ends by itself after this. Long: a master that is only slow, or cut off while etcd has
/// no majority, must not have company, and an operator has time to look.
const LIFE: Duration = Duration::from_secs(600);
/// How often it is kept alive.
const RENEWAL: Duration = Duration::from_secs(30);

/// Held by the one keeper at work.
pub(super) struct Turn {
    lease: i64,
    /// Dropped, it ends the renewals.
    renewing: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Turn {
    /// Takes the turn for the master `name`, or says whose it is. A turn that this master had when its keeper died is its
    /// own. `renewal` makes what asks etcd meanwhile, and the lease `other` is kept alive with it.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub(super) fn take(
        members: &mut Members,
        name: &str,
        renewal: impl FnOnce() -> Result<Members> + Send + 'static,
        other: Option<i64>,
    ) -> Result<std::result::Result<Self, String>> {
        let mut lease = members.ask(|c| c.grant(LIFE))?;
        if !members.ask(|c| c.create_on(keys::TURN, name.as_bytes(), lease))? {
            // Unanswered, it may have been created by the first of two attempts.
            let held = members.ask(|c| c.record(keys::TURN))?;
            let holder = held.as_ref().map(|h| String::from_utf8_lossy(&h.value).into_owned());
            match held {
                Some(held) if held.value == name.as_bytes() => {
                    if held.lease != lease {
                        members.ask(|c| c.revoke(lease))?;
                    }
                    lease = held.lease;
                }
                _ => {
                    members.ask(|c| c.revoke(lease))?;
                    return Ok(Err(holder.unwrap_or_else(|| "another master".to_owned())));
                }
            }
        }
        let (renewing, ended) = channel();
        let leases: Vec<i64> = std::iter::once(lease).chain(other).collect();
        let renew = move || renewal().map_or((), |members| renew(members, &leases, &ended));
        let thread = std::thread::Builder::new().name("turn".into()).spawn(renew);
        let thread = thread.map_err(|e| Error::apply("cannot keep the turn").cause(e))?;
        Ok(Ok(Self { lease, renewing: Some(renewing), thread: Some(thread) }))
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When etcd does not answer: it ends by itself.
    pub(super) fn release(self, members: &mut Members) -> Result<()> {
        let lease = self.lease;
        drop(self);
        members.ask(|c| c.revoke(lease))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.renewing.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn renew(mut members: Members, leases: &[i64], ended: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(RENEWAL) {
        for lease in leases {
            // Asked again in time: it lives for many renewals.
            let _ = members.ask(|c| c.keep_alive(*lease));
        }
    }
}
