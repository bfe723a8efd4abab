//! What every master serves: the door at which hosts ask to be admitted, and the keeper, which has this master follow
//! the cluster's spec.
//!
//! One thread has the connections and never waits for a disk or for etcd; another, the desk, asks both and decides; the
//! keeper is a third.

mod certificate;
mod desk;
mod door;
mod join;
mod keeper;
mod names;
pub mod refusals;
mod report;
mod signing;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::clock::{self, boottime};
use crate::host::journal::Journal;
use crate::host::notify::Notify;
use crate::host::signals::{Asked, Signals};
use crate::host::{Host, NoUnits};
use crate::spec::{ClusterSpec, ThisNode};
use certificate::Certificate;
use desk::Desk;
use door::Door;
use join::Pages;
use keeper::Keeper;

/// How long the keeper may take to end: less than what the unit is given.
const GRACE: Duration = Duration::from_secs(8);

/// Serves joiners on `listen` until SIGTERM or SIGINT, for the master `this` of the cluster of `spec`.
///
/// # Errors
/// When it cannot begin: certificates are missing or do not fit, the address is taken.
pub fn run(this: ThisNode, spec: &ClusterSpec, listen: SocketAddr) -> Result<()> {
    let log = Log::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::apply("cannot start the daemon").cause(e))?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let notify = Notify::from_env();
        let certificate = Certificate::load(Host::new("/", Box::new(NoUnits))?, this.layout.clone())?;
        let name = this.node.name.clone();
        let keeper = Keeper::start(this.clone(), spec, log.clone())?;
        let pages = Pages::new(Desk::open(this, spec, log.clone())?, log.clone());
        let mut door = Door::open(listen, certificate, pages, log.clone()).await?;
        notify.ready();
        notify.status(&format!("{name} serves joiners on {listen}"));
        log.say(None, &format!("{name} serves joiners on {listen}"));
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Terminate => break,
                    Asked::Reload | Asked::Resign => {}
                },
                () = door.attend() => {}
            }
        }
        notify.stopping();
        clock::interrupt();
        door.close().await;
        // In the middle of a change it stops between two steps.
        let deadline = tokio::time::Instant::now() + GRACE;
        while keeper.as_ref().is_some_and(|k| !k.has_ended()) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        log.say(None, "ended");
        log.close();
        Ok(())
    })
}

/// The journal, for both threads. `None` at the end, when the last lines are waited for.
#[derive(Debug, Clone)]
struct Log(Arc<Mutex<Option<Journal>>>);

impl Log {
    fn new() -> Result<Self> {
        let journal = Journal::new("serve", std::io::stderr());
        let journal = journal.map_err(|e| Error::apply("cannot start the journal").cause(e))?;
        Ok(Self(Arc::new(Mutex::new(Some(journal)))))
    }

    /// What must be known later: who was given the cluster's keys.
    fn say(&self, from: Option<IpAddr>, line: &str) {
        if let Some(journal) = self.lock().as_ref() {
            journal.say(&shown(from), line);
        }
    }

    /// What others can make it say: no more of it than a person would read.
    fn trouble(&self, from: Option<IpAddr>, line: &str) {
        if let Some(journal) = self.lock().as_mut() {
            journal.trouble(boottime(), &shown(from), line);
        }
    }

    /// Waits for the last lines to be taken; the desk may be busy yet.
    fn close(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Journal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(from: Option<IpAddr>) -> String {
    from.map(|ip| ip.to_canonical().to_string()).unwrap_or_default()
}
