//! Whose turn it is: one at a time changes its master, or the members of etcd. The lock of the whole cluster.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::apply::event::{Event, Sink};
use crate::apply::members::Members;
use crate::apply::wait::interrupted;
use crate::error::{Error, Result};
use crate::etcd::client::Client;
use crate::etcd::keys;
use crate::host::clock::{self, Stopwatch};
use crate::host::{Host, NoUnits};
use crate::spec::{Node, ThisNode};

/// How long an operator's command waits for its turn: longer than a keeper that died keeps it.
const PATIENCE: Duration = Duration::from_secs(900);
const EVERY: Duration = Duration::from_millis(500);
/// The turn of a command that was killed ends by itself after this. Run again, it need not wait.
const LIFE: Duration = Duration::from_secs(60);

/// Held by the one at work.
pub struct Turn {
    lease: i64,
    /// Dropped, it ends the renewals.
    renewing: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Who has the turn, when it is not whoever asked.
pub type Holder = String;

impl Turn {
    /// Takes the turn for `name`, or says whose it is. A turn that was its own already, before it was killed, is its own
    /// again. It ends by itself `life` after its holder died. `renewal` makes what asks etcd meanwhile, and the lease
    /// `other` is kept alive with it. `lost` is called when the turn has ended all the same.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub fn take(
        members: &mut Members,
        name: &str,
        life: Duration,
        renewal: impl FnOnce() -> Result<Members> + Send + 'static,
        other: Option<i64>,
        lost: fn(),
    ) -> Result<std::result::Result<Self, Holder>> {
        let lease = match members.ask(|c| c.record(keys::TURN))? {
            Some(held) if held.value == name.as_bytes() && members.ask(|c| c.keep_alive(held.lease))? => held.lease,
            Some(held) => return Ok(Err(String::from_utf8_lossy(&held.value).into_owned())),
            None => {
                let lease = members.ask(|c| c.grant(life))?;
                if !members.ask(|c| c.create_on(keys::TURN, name.as_bytes(), lease))? {
                    // Another was faster; or it was created by a call whose answer was lost, and goes with its lease.
                    members.ask(|c| c.revoke(lease))?;
                    return Ok(Err("another master".to_owned()));
                }
                lease
            }
        };
        let (renewing, ended) = channel();
        let leases: Vec<i64> = std::iter::once(lease).chain(other).collect();
        let every = life / 6;
        let renew = move || renewal().map_or((), |members| renew(members, &leases, every, &ended, lost));
        let thread = std::thread::Builder::new().name("turn".into()).spawn(renew);
        let thread = thread.map_err(|e| Error::apply("cannot keep the turn").cause(e))?;
        Ok(Ok(Self { lease, renewing: Some(renewing), thread: Some(thread) }))
    }

    /// What it is on: who changes something that is only for whoever has the turn compares it in that very change.
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// Refuses for whoever was suspended for so long that the turn is another's: then `what` is not done.
    ///
    /// # Errors
    /// When it is, or etcd does not answer.
    pub fn check(&self, client: &Client, what: &str) -> Result<()> {
        match client.record(keys::TURN)? {
            Some(held) if held.lease == self.lease => Ok(()),
            _ => Err(Error::conflict(format!("{what}: it took so long that another had the turn"))
                .hint("hamaster master list    # as it is now; then the same command again")),
        }
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When etcd does not answer: it ends by itself.
    pub fn release(self, members: &mut Members) -> Result<()> {
        let lease = self.lease;
        drop(self);
        members.ask(|c| c.revoke(lease))
    }
}

/// Where operators' commands wait for their turn.
pub struct Line {
    members: Members,
    this: ThisNode,
    masters: Vec<Node>,
    name: String,
}

impl Line {
    /// For `what` is to be done from `this` host to the cluster of `masters`.
    ///
    /// # Errors
    /// When this host's files cannot be reached.
    pub fn new(this: &ThisNode, masters: Vec<Node>, what: &str) -> Result<Self> {
        let name = format!("{} ({what})", this.node.name);
        let members = Members::new(Host::new("/", Box::new(NoUnits))?, this.clone(), &masters);
        Ok(Self { members, this: this.clone(), masters, name })
    }

    /// Whether etcd answers, so that there are turns.
    pub fn is_open(&mut self) -> bool {
        self.members.ask(|c| c.record(keys::TURN)).is_ok()
    }

    /// Does `work` when it is its turn.
    ///
    /// # Errors
    /// Those of `work`; when the turn does not come in 15 minutes, or a signal does.
    pub fn during<T>(&mut self, sink: Sink<'_>, work: impl FnOnce(Sink<'_>) -> Result<T>) -> Result<T> {
        self.holding(sink, |_, sink| work(sink))
    }

    /// As [`Line::during`], for `work` that must know whether it is its turn still: suspended for a minute, it is not.
    ///
    /// # Errors
    /// As [`Line::during`].
    pub fn holding<T>(&mut self, sink: Sink<'_>, work: impl FnOnce(&Turn, Sink<'_>) -> Result<T>) -> Result<T> {
        let turn = self.wait(sink)?;
        let done = work(&turn, sink);
        if turn.release(&mut self.members).is_err() {
            sink(Event::Note("etcd did not take the cluster's lock back: it ends by itself within a minute"));
        }
        done
    }

    /// Takes the turn from a master that is dead, as whoever removes it says.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub fn dismiss(&mut self, master: &str) -> Result<()> {
        self.revoke(|holder| holder.split(" (").next() == Some(master)).map(drop)
    }

    /// Ends the turn of whom `is_it` says. False when there is none.
    fn revoke(&mut self, is_it: impl Fn(&str) -> bool) -> Result<bool> {
        match self.members.ask(|c| c.record(keys::TURN))? {
            Some(held) if is_it(&String::from_utf8_lossy(&held.value)) => {
                self.members.ask(|c| c.revoke(held.lease)).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    fn wait(&mut self, sink: Sink<'_>) -> Result<Turn> {
        let deadline = Stopwatch::start();
        // Who asks has this host to itself: another command of it that has the turn was killed. (Its keeper has no "(".)
        let (mine, name) = (format!("{} (", self.this.node.name), self.name.clone());
        // What etcd says here, it says below again.
        let _ = self.revoke(|holder| holder.starts_with(&mine) && holder != name);
        loop {
            let (this, masters) = (self.this.clone(), self.masters.clone());
            let renewal = move || Ok(Members::new(Host::new("/", Box::new(NoUnits))?, this, &masters));
            let said = match Turn::take(&mut self.members, &self.name, LIFE, renewal, None, stop) {
                Ok(Ok(turn)) => return Ok(turn),
                Ok(Err(holder)) => Ok(holder),
                Err(e) => Err(e),
            };
            let condition = match &said {
                Ok(holder) => format!("{holder} to be done: one at a time changes the cluster"),
                Err(_) => "etcd to give the turn".to_owned(),
            };
            sink(Event::Waiting { condition: &condition, since: deadline.elapsed() });
            if clock::interrupted() {
                return Err(interrupted(&format!("waiting for {condition}")));
            }
            if deadline.elapsed() >= PATIENCE {
                return Err(said.map_or_else(
                    |e| e,
                    |holder| {
                        Error::conflict(format!("{holder} changes the cluster, and one at a time may"))
                            .hint("hamaster status    # how far it is")
                    },
                ));
            }
            clock::sleep(EVERY);
        }
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

/// A command that was suspended for so long does not go on beside whoever has the turn now.
fn stop() {
    clock::interrupt_for("it took so long that another may have the turn");
}

fn renew(mut members: Members, leases: &[i64], every: Duration, ended: &Receiver<()>, lost: fn()) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(every) {
        for (n, lease) in leases.iter().enumerate() {
            // Asked again in time: it lives for several renewals.
            if let (0, Ok(false)) = (n, members.ask(|c| c.keep_alive(*lease))) {
                lost();
            }
        }
    }
}
