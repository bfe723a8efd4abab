//! The joiner's member of etcd: added as a learner, started, promoted once it has caught up. Whatever was done before is
//! read from the member list and from the disk, so that it can be killed anywhere and run again.

use std::net::SocketAddr;
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use crate::apply::event::{Event, Sink};
use crate::apply::peers::Peers;
use crate::apply::perform::etcd_client;
use crate::apply::record::Ledger;
use crate::apply::turn::Turn;
use crate::apply::wait::interrupted;
use crate::apply::{ETCD_UNIT, Outcome, Run, peers, stamp};
use crate::error::{Error, Result};
use crate::etcd::membership::{self, Disk, Joiner, Member, Next, Refusal};
use crate::etcd::reply::Reply;
use crate::host::clock::{self, Stopwatch, Waited};
use crate::host::{Host, fault, observe};
use crate::state::PhaseId;
use crate::state::observed::JoiningMember;

/// etcd refuses every change for 5 s after a promotion; an operator waits this long for it at most.
const UNHEALTHY: Duration = Duration::from_secs(60);
/// How long another host's learner is waited for.
const OTHERS: Duration = Duration::from_secs(300);
/// A learner whose log has not moved for this long is not catching up.
const STALLED: Duration = Duration::from_secs(120);
const EVERY: Duration = Duration::from_millis(200);
/// Behind by no more entries than this, three looks in a row, it has caught up: promoted earlier, it would keep all
/// writes waiting (2.97 s were measured with 400 MB to go).
const CAUGHT_UP: u64 = 100;
const LOOKS: u32 = 3;
/// A start fails when another host was added meanwhile: then the list is read again.
const STARTS: u32 = 5;

/// A way through the table of what a joiner may find.
pub(super) struct Membership<'a, 'm> {
    pub run: &'a mut Run<'m>,
    pub peers: &'a Peers,
    pub turn: &'a Turn,
    pub replace: bool,
}

/// What a look at the own member says.
enum Look {
    CaughtUp,
    Gone,
}

impl Membership<'_, '_> {
    /// Makes this host a voter, or tells whose learner comes first. Whoever waits for that must not have the turn: that
    /// host needs it.
    ///
    /// # Errors
    /// What is in the way; an own learner that never ran is removed again.
    pub(super) fn vote(&mut self, host: &mut Host, outcome: &mut Outcome, sink: Sink<'_>) -> Result<Option<Member>> {
        let done = self.steps(host, outcome, sink);
        if done.is_err() {
            self.withdraw(host, sink);
        }
        done
    }

    fn steps(&mut self, host: &mut Host, outcome: &mut Outcome, sink: Sink<'_>) -> Result<Option<Member>> {
        let (mut refused, mut starts) = (None::<Stopwatch>, 0);
        loop {
            if clock::interrupted() {
                return Err(interrupted("joining the etcd cluster"));
            }
            let (client, members) = self.peers.voter(sink)?;
            let disk = self.disk(host)?;
            match membership::join(self.joiner(&self.url()), &members, disk, &self.peers.healthy()) {
                Next::SetAside => self.set_aside(host, sink)?,
                Next::Clear => {
                    host.unit_stop(ETCD_UNIT)?;
                    host.retire(&self.data_dir().join("member"), None)?;
                }
                Next::Add => {
                    self.note(host, None, None)?;
                    self.turn.check(client, "this host is not added to etcd")?;
                    match client.add_learner(&self.url()) {
                        Ok(id) => {
                            refused = None;
                            fault::point("member.added");
                            self.note(host, Some(id), None)?;
                            outcome.changed.push(format!("add learner {} at {}", self.name(), self.url()));
                            sink(Event::Note(&format!("added to etcd as the learner {id:x}")));
                        }
                        Err(
                            reply @ (Reply::Unhealthy | Reply::TooManyLearners | Reply::Listed | Reply::Unknown(_)),
                        ) => {
                            let since = refused.get_or_insert_with(Stopwatch::start).elapsed();
                            if since >= UNHEALTHY {
                                return Err(reply.error("add this member"));
                            }
                            let condition = match &reply {
                                Reply::Unhealthy => "etcd to take another member: it pauses for 5 s after each",
                                Reply::TooManyLearners => "etcd to take another member: it has a learner",
                                _ => "etcd to say whether this host is a member: its answer was lost",
                            };
                            sink(Event::Waiting { condition, since });
                            clock::sleep(EVERY);
                        }
                        Err(reply) => return Err(reply.error("add this member")),
                    }
                }
                Next::Await(other) => return Ok(Some(other)),
                Next::Start { id, initial_cluster } => {
                    starts += 1;
                    self.note(host, Some(id), Some(initial_cluster))?;
                    fault::point("member.noted");
                    if let Err(error) = self.run.phase(PhaseId::Etcd, host, outcome, sink) {
                        let never_ran = matches!(self.disk(host)?, Disk::Empty | Disk::Remains);
                        if never_ran && starts < STARTS && !clock::interrupted() {
                            host.unit_stop(ETCD_UNIT)?;
                            continue;
                        }
                        return Err(error);
                    }
                    if let Look::CaughtUp = self.catch_up(host, id, sink)?
                        && self.promote(id, outcome, sink)?
                    {
                        return Ok(None);
                    }
                }
                Next::Remove { id, why } => {
                    sink(Event::Note(&format!("the entry {id:x} of this host is removed: {why}")));
                    host.unit_stop(ETCD_UNIT)?;
                    self.turn.check(client, "this host's old entry is not removed")?;
                    match client.remove(id) {
                        Ok(()) | Err(Reply::NotFound | Reply::Unknown(_)) => {}
                        Err(reply) => return Err(reply.error("remove this host's old entry")),
                    }
                    self.set_aside(host, sink)?;
                }
                Next::Refuse(refusal) => return Err(self.refused(refusal)),
            }
        }
    }

    /// Waits until the own member is as far as the others.
    fn catch_up(&self, host: &Host, id: u64, sink: Sink<'_>) -> Result<Look> {
        let own = etcd_client(host, &self.run.master.this)?;
        let (mut close, mut furthest, mut moved) = (0, 0, Stopwatch::start());
        let label = std::cell::RefCell::new("the learner to answer".to_owned());
        let look = || {
            let state = host.units().state(ETCD_UNIT).unwrap_or_default();
            if state.failed {
                return Poll::Ready(Ok(Look::Gone));
            }
            if moved.elapsed() > STALLED {
                let what = label.borrow().clone();
                return Poll::Ready(Err(Error::apply(format!("still waiting for {what}: nothing moved for 120 s"))
                    .hint(host.units().log_command(ETCD_UNIT))));
            }
            // In this order: one that is silent keeps the question for seconds, and the log grows meanwhile.
            let (Some(ahead), Ok(lag)) = (self.peers.ahead(), own.lag()) else {
                close = 0;
                return Poll::Pending;
            };
            if lag.member_id != id {
                let message = format!("etcd here is the member {:x} and should be {id:x}", lag.member_id);
                return Poll::Ready(Err(Error::conflict(message).hint("hamaster reset")));
            }
            if lag.applied > furthest {
                (furthest, moved) = (lag.applied, Stopwatch::start());
            }
            let behind = ahead.index.saturating_sub(lag.applied);
            let [here, there] = [&lag, &ahead].map(|lag| lag.db_size as f64 / 1e6);
            *label.borrow_mut() = format!(
                "the learner to catch up: {behind} of {} entries to go, {here:.1} of {there:.1} MB here",
                ahead.index
            );
            close = if behind <= CAUGHT_UP { close + 1 } else { 0 };
            if close >= LOOKS { Poll::Ready(Ok(Look::CaughtUp)) } else { Poll::Pending }
        };
        let day = Duration::from_secs(24 * 3600);
        match clock::poll(day, EVERY, look, |since| sink(Event::Waiting { condition: &label.borrow(), since })) {
            Waited::Ready(look) => look,
            Waited::TimedOut | Waited::Interrupted => Err(interrupted("waiting for the learner to catch up")),
        }
    }

    /// Makes the learner a voter. False when the list must be looked at again.
    fn promote(&self, id: u64, outcome: &mut Outcome, sink: Sink<'_>) -> Result<bool> {
        let watch = Stopwatch::start();
        loop {
            let (client, members) = self.peers.voter(sink)?;
            let Some(me) = members.iter().find(|m| m.id == id) else { return Ok(false) };
            if !me.is_learner {
                fault::point("member.promoted");
                return Ok(true);
            }
            membership::promote(&members, &self.peers.healthy()).map_err(|r| self.refused(r))?;
            self.turn.check(client, "the learner is not promoted")?;
            match client.promote(id) {
                Ok(()) => outcome.changed.push(format!("promote {} to a voter", self.name())),
                Err(Reply::NotInSync) => return Ok(false),
                Err(Reply::NotLearner) => {}
                Err(Reply::Unknown(_)) if watch.elapsed() < UNHEALTHY => {}
                Err(Reply::Unhealthy | Reply::NotEnoughStarted) if watch.elapsed() < UNHEALTHY => {
                    sink(Event::Waiting { condition: "etcd to promote the learner", since: watch.elapsed() });
                }
                Err(reply) => return Err(reply.error("promote this member")),
            }
            clock::sleep(EVERY);
        }
    }

    /// An own learner that never ran blocks all others' joins: taken back when the join gives up. It may be one that was
    /// added by a call whose answer was lost.
    fn withdraw(&self, host: &Host, sink: Sink<'_>) {
        let own = self.recorded(host).ok().flatten();
        let Ok((client, members)) = self.peers.voter(&mut |_| {}) else { return };
        let url = self.url();
        let never_ran = |m: &&Member| (Some(m.id) == own || m.has_url(&url)) && m.is_learner && !m.has_started();
        if members.iter().find(never_ran).is_some_and(|m| client.remove(m.id).is_ok()) {
            sink(Event::Note("its learner, which never ran, is taken back"));
        }
    }

    fn set_aside(&self, host: &mut Host, sink: Sink<'_>) -> Result<()> {
        let from = self.data_dir();
        let to = from.with_file_name(format!(
            "{}.old-{}",
            from.file_name().unwrap_or_default().display(),
            stamp(self.run.started)
        ));
        host.unit_stop(ETCD_UNIT)?;
        if host.retire(&from, Some(&to))? {
            sink(Event::Note(&format!("data of another life is in {} now", host.shown(&to).display())));
        }
        Ok(())
    }

    fn disk(&self, host: &Host) -> Result<Disk> {
        let member = self.data_dir().join("member");
        let logs = host.list(&member.join("wal"))?.unwrap_or_default();
        if logs.iter().any(|name| Path::new(name).extension().is_some_and(|e| e == "wal")) {
            return Ok(Disk::Data { member: self.recorded(host)? });
        }
        Ok(if host.is_vacant(&member)? { Disk::Empty } else { Disk::Remains })
    }

    /// The id that this host's member was last known by.
    fn recorded(&self, host: &Host) -> Result<Option<u64>> {
        let record = observe::record(host, &self.run.master.this.layout.record())?;
        let id = record.joining.and_then(|j| j.member_id).or(record.etcd.map(|m| m.member_id));
        Ok(id.and_then(|id| u64::from_str_radix(&id, 16).ok()))
    }

    /// Notes what the member's unit must say. Once it has run its list is not looked at any more and stays as it is.
    fn note(&self, host: &mut Host, id: Option<u64>, initial_cluster: Option<String>) -> Result<()> {
        let layout = &self.run.master.this.layout;
        let mut ledger = Ledger::new(layout, observe::record(host, &layout.record())?);
        let known = ledger.record.joining.take().and_then(|j| j.initial_cluster);
        let ran = matches!(self.disk(host)?, Disk::Data { .. });
        let joining = JoiningMember {
            member_id: id.map(|id| format!("{id:x}")),
            initial_cluster: if ran { known.or(initial_cluster) } else { initial_cluster },
        };
        ledger.record.joining = Some(joining);
        ledger.save(host)
    }

    fn joiner<'j>(&'j self, url: &'j str) -> Joiner<'j> {
        Joiner { name: self.name(), peer_url: url, replace: self.replace }
    }

    fn name(&self) -> &str {
        &self.run.master.this.node.name
    }

    fn url(&self) -> String {
        format!("https://{}", SocketAddr::new(self.run.master.this.node.ip, 2380))
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.run.master.this.layout.path(&self.run.master.spec.etcd.data_dir)
    }

    fn refused(&self, refusal: Refusal) -> Box<Error> {
        peers::refused(self.name(), refusal)
    }
}

/// Waits until another host's learner votes or is gone.
///
/// # Errors
/// When it stays a learner for minutes; when the members cannot be asked.
pub(super) fn wait_for(other: &Member, peers: &Peers, sink: Sink<'_>) -> Result<()> {
    let label = format!("another host's learner, {} at {}", other.shown(), other.peer_urls.join(", "));
    let look = || match peers.voter(&mut |_| {}) {
        Ok((_, members)) if members.iter().any(|m| m.id == other.id && m.is_learner) => Poll::Pending,
        other => Poll::Ready(other.map(drop)),
    };
    match clock::poll(OTHERS, EVERY, look, |since| sink(Event::Waiting { condition: &label, since })) {
        Waited::Ready(done) => done,
        Waited::Interrupted => Err(interrupted(&format!("waiting for {label}"))),
        Waited::TimedOut => Err(Error::apply(format!("still waiting for {label}"))
            .cause("etcd takes one learner at a time, and this one never became a voter")
            .hint(format!("hamaster master remove {}    # on a master, if that host will not come", other.shown()))),
    }
}
