//! One group's election as a pure machine: events and a time go in, effects come out.
//!
//! ```text
//!            ┌─────────► Cleaning ─────► Idle ◄───────────────┬───────────────┐
//!  start ────┤        remove, confirm     │ fit, lease        │ refused       │ released
//!            │                            ▼                   │               │
//!            │              ┌────────► Queued ──► head ──► acquire            │
//!            │              │  key gone   ▲     silence for B: take           │
//!            │              └─────────────┘                   │ done          │
//!            │ own leadership,                                ▼               │
//!            └─ deadline ahead ─► Leading: adopting ─► installing ─► active ─► Releasing
//!                                    │ s + F, key lost, anomaly   ▲ renewed
//!                                    ▼                            │
//!                                 Fencing ────── dead ────────► Fenced ───► Idle
//! ```
//!
//! **Promised**: for one group no two nodes have the manifest, nor a running payload, at the same instant, as long as
//! clock *rates* differ by at most ρ, a frozen process is killed within W by something outside it (systemd's watchdog),
//! removal and stop keep their bounds, and etcd is linearizable. No wall clock, no network, no etcd outage and no etcd
//! lease clock enters into it.
//!
//! **Not promised**: anything about a host that is frozen as a whole without its boot-time clock running on (a virtual
//! machine stopped with kvm-clock). When it resumes past its deadline the old payload runs until it is fenced, at most
//! `h + 2o + f + K` later; [`Count::OverlapRisk`](super::event::Count::OverlapRisk) says so. Only a resource that compares fencing tokens closes that.
//!
//! Why it is safe: a renewal was *sent* at `s`, and its holder is done by `s + B` on its own clock. A successor learned
//! of that renewal at `t ≥ s`, waits `B(1+ρ)`, and takes over by a transaction that compares the revision of that very
//! renewal: a later one makes it fail.

mod follow;
mod lead;
mod report;
mod state;

use std::collections::VecDeque;
use std::time::Duration;

use super::event::{Effect, Event, Exit, Interest, RequestId, Unfit};
use super::instant::Instant;
use super::record::{Candidate, Identity, Leader, LeaseId, PROTOCOL, Term};
use super::status::{Stored, Transition};
use super::timing::Timing;
use super::txn::{Answer, Txn};
use super::view::{Change, Key, View};
use state::{Ask, Held, Pending, Phase, Standing, State, Why};

/// How long others hold back for the heir whom a releasing leader named.
pub const HOLD_BACK: Duration = Duration::from_secs(2);
/// A key in the queue whose owner is dead is gone after this long: the lease's 15 s, once more if etcd elects a leader
/// meanwhile, which gives every lease its full time again, and a grace.
pub const QUEUE_KEY_LIFE: Duration = Duration::from_secs(35);
/// The first back-off after a failed leadership; it doubles up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// The longest back-off.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// Failed leaderships are forgotten after this long.
const MEMORY: Duration = Duration::from_secs(600);
/// So many leaderships may be lost to others' faults within [`MEMORY`] before a node backs off.
const FORGIVEN: usize = 5;
/// The first pause between two attempts; it doubles up to h/2.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// Who this candidate is and how it plays.
#[derive(Debug, Clone)]
pub struct Me {
    /// The group.
    pub group: String,
    /// The process.
    pub who: Identity,
    /// Its numbers.
    pub timing: Timing,
    /// 0 to 99: higher goes first.
    pub priority: u8,
    /// A leader hands over to a waiting candidate of higher rank after it has waited this long; `None`: never.
    pub preempt_after: Option<Duration>,
    /// A leader does not resign for health or rank before it has led this long. Default 30 s.
    pub min_term: Duration,
    /// End after the first leadership.
    pub once: bool,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    me: Me,
    state: State,
    since: Instant,
    view: Option<View>,
    standing: Standing,
    interest: Option<Interest>,
    /// What was known when a read said less.
    overtaken: Option<i64>,
    /// A read was asked for and has not come: nothing is decided on what may be stale.
    reading: bool,
    lease: Option<LeaseId>,
    fitness: Option<Result<(), Unfit>>,
    bias: i8,
    /// The own key in the queue does not say so yet.
    bias_unsaid: bool,
    pending: Option<Pending>,
    retry_at: Instant,
    retry_pause: Duration,
    next_id: RequestId,
    largest_bound: Duration,
    /// Nobody is succeeded before: the store is another one, what it says of terms may be old.
    quarantine: Instant,
    /// No place in the queue before: back-off.
    embargo: Instant,
    /// Failed leaderships of the last minutes.
    strikes: VecDeque<Instant>,
    terminating: bool,
    resigning: bool,
    unfenced: Option<String>,
    /// Another process seems to use this identity: its key and since when.
    twin: Option<(LeaseId, Instant)>,
    /// A leader under this identity: its last renewal and when it was seen.
    twin_leader: Option<(i64, Instant)>,
    /// Last sign of life of the leader that is being taken over.
    silent_since: Option<Instant>,
    /// From when nobody led, as far as this one knows.
    gap_from: Instant,
    /// A candidate of higher rank and since when it waits.
    rival: Option<(LeaseId, Instant)>,
    cluster_id: u64,
    alarm: Option<Instant>,
    last: Option<Transition>,
}

impl Machine {
    /// A machine at rest; the first [`Machine::step`] begins. With `stored` it goes on under that nonce. `unfinished`:
    /// the deadline of an earlier life's leadership, if nobody saw it end.
    pub fn new(mut me: Me, stored: Option<Stored>, unfinished: Option<Instant>) -> Self {
        if let Some(stored) = &stored {
            me.who.nonce.clone_from(&stored.nonce);
        }
        let largest_bound = me.timing.bound();
        Self {
            me,
            state: State::New { stored, unfinished },
            since: Instant::BOOT,
            view: None,
            standing: Standing::Unknown,
            interest: None,
            overtaken: None,
            reading: false,
            lease: None,
            fitness: None,
            bias: 0,
            bias_unsaid: false,
            pending: None,
            retry_at: Instant::BOOT,
            retry_pause: FIRST_RETRY,
            next_id: 1,
            largest_bound,
            quarantine: Instant::BOOT,
            embargo: Instant::BOOT,
            strikes: VecDeque::new(),
            terminating: false,
            resigning: false,
            unfenced: None,
            twin: None,
            twin_leader: None,
            silent_since: None,
            gap_from: Instant::BOOT,
            rival: None,
            cluster_id: 0,
            alarm: None,
            last: None,
        }
    }

    /// Takes in what happened at `now` and says what to do about it. Requests count as sent at `now`.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        let mut out = vec![];
        self.alarm = None;
        self.begin(now, &mut out);
        self.absorb(now, event, &mut out);
        // Each pass changes the state or asks for time; a chain is a few long.
        while self.act(now, &mut out) {}
        out
    }

    /// When it wants an [`Event::Tick`] at the latest.
    pub fn wake(&self) -> Option<Instant> {
        self.alarm
    }

    /// The etcd cluster's id, for the fencing token.
    pub fn set_cluster(&mut self, id: u64) {
        self.cluster_id = id;
    }

    /// Leads, or has asked to.
    pub fn is_reaching(&self) -> bool {
        matches!(&self.state, State::Leading { .. } | State::Queued { acquiring: Some(_), .. })
    }

    /// Nothing of its own runs, and nothing is asked for.
    pub fn is_at_rest(&self) -> bool {
        matches!(&self.state, State::Idle { .. } | State::Queued { acquiring: None, .. } | State::Ended { .. })
    }

    /// The payload is to be on its way out, or the daemon waits for its end.
    pub fn is_stopping(&self) -> bool {
        let stops = matches!(&self.state, State::Cleaning { .. } | State::Fencing { .. });
        stops || matches!(&self.state, State::Releasing { stopped: false, .. })
    }

    /// The payload is being stopped because leadership is in doubt.
    pub fn is_fencing(&self) -> bool {
        matches!(&self.state, State::Fencing { .. })
    }

    /// As last told by [`Event::Bias`].
    pub fn bias(&self) -> i8 {
        self.bias
    }

    /// Whether the payload may run and nothing is overdue: a daemon for which this is false is to be killed.
    pub fn is_sound(&self, now: Instant) -> bool {
        !matches!(&self.state, State::Leading { held, .. } if now >= held.deadline)
    }

    fn begin(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let State::New { stored, unfinished } = &mut self.state else { return };
        let unfinished = *unfinished;
        match stored.take().filter(|stored| now < stored.deadline) {
            Some(stored) => {
                out.push(Effect::Say(format!("goes on leading under token {}, if etcd agrees", stored.token)));
                let held = Held {
                    token: stored.token,
                    term: stored.term,
                    beat: 0,
                    s: stored.deadline.before(self.me.timing.fence()),
                    deadline: stored.deadline,
                    began: now,
                    next_renewal: now,
                    verify_by: None,
                };
                self.enter(now, State::Leading { held, phase: Phase::Adopting });
            }
            None => {
                let (gone, dead) = self.me.timing.stop_by(unfinished, now);
                out.push(Effect::Stop { gone, dead });
                self.enter(now, State::Cleaning { dead, unfinished });
            }
        }
        self.watch(Interest::Group, out);
    }

    fn absorb(&mut self, now: Instant, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Tick => {}
            Event::Seen(view) => {
                self.reading = false;
                let known = self.view.as_ref().map(|known| known.leader_at);
                // The one after it began later and cannot be: then the data is another, though nobody noticed.
                let overtaken = if self.see(now, view) { None } else { known };
                if overtaken.is_some() && self.overtaken == overtaken {
                    self.replaced(now, out);
                } else {
                    self.overtaken = overtaken;
                }
            }
            Event::Changed(change) => self.change(now, &change),
            Event::Replaced => {
                self.replaced(now, out);
                self.reading = true;
            }
            Event::Answered(id, answer) => self.answered(now, id, answer, out),
            Event::Lease(lease) => self.lease = lease,
            Event::Fitness(fitness) => {
                if self.fitness.as_ref() != Some(&fitness) {
                    match &fitness {
                        Ok(()) => out.push(Effect::Say("is fit to lead".into())),
                        Err(Unfit::Health(why) | Unfit::Payload(why)) => {
                            out.push(Effect::Say(format!("is not fit to lead: {why}")));
                        }
                    }
                }
                self.fitness = Some(fitness);
            }
            Event::Started(result) => self.started(now, result, out),
            Event::Stopped(result) => self.stopped(now, result, out),
            Event::Ended => {
                if let State::Leading { .. } = self.state {
                    self.release(now, Why { strike: true, ..Why::new("ended") }, out);
                }
            }
            Event::Anomaly(what) => self.anomaly(now, &what, out),
            Event::Bias(bias) => self.lean(bias),
            Event::Resign => self.resigning = matches!(self.state, State::Leading { .. }),
            Event::Terminate => self.terminating = true,
        }
    }

    /// One decision; true if there may be another.
    fn act(&mut self, now: Instant, out: &mut Vec<Effect>) -> bool {
        match &self.state {
            State::New { .. } | State::Ended { .. } => false,
            State::Cleaning { .. } | State::Fencing { .. } => self.give_up(now, out),
            State::Idle { .. } => self.idle(now, out),
            State::Queued { .. } => self.queued(now, out),
            State::Leading { .. } => self.lead(now, out),
            State::Fenced { .. } => self.fenced(now, out),
            State::Releasing { .. } => self.releasing(now, out),
        }
    }

    /// Takes a new bias into account at once, before others know of it.
    fn lean(&mut self, bias: i8) {
        if bias == self.bias {
            return;
        }
        (self.bias, self.bias_unsaid) = (bias, true);
        let State::Queued { lease, .. } = self.state else { return };
        let own = self.view.as_mut().and_then(|v| v.candidates.get_mut(&lease)).and_then(|c| c.value.as_mut());
        if let Some(own) = own {
            own.bias = bias;
        }
    }

    /// False for a read that was overtaken by an own write: it says less than what is known.
    fn see(&mut self, now: Instant, mut view: View) -> bool {
        if self.view.as_ref().is_some_and(|known| known.leader_at > view.revision) {
            self.interest = None;
            return false;
        }
        // One from before the own place in the queue does not know of it.
        if let State::Queued { lease, create, .. } = &self.state
            && view.revision < *create
            && let Some(own) = self.view.as_mut().and_then(|known| known.candidates.remove(lease))
        {
            view.candidates.insert(*lease, own);
        }
        self.view = Some(view);
        self.observe(now);
        true
    }

    fn change(&mut self, now: Instant, change: &Change) {
        if let Some(view) = &mut self.view {
            view.apply(change);
            self.observe(now);
        }
    }

    /// Notes what the view says of the leader, and since when it says so.
    fn observe(&mut self, now: Instant) {
        let Some(view) = &self.view else { return };
        let published = [
            view.leader.as_ref().and_then(|l| l.value.as_ref()).map(|l| l.bound),
            view.term.as_ref().and_then(|t| t.value.as_ref()).map(|t| t.bound.max(t.largest_bound)),
        ];
        self.largest_bound = published.into_iter().flatten().fold(self.largest_bound, Duration::max);
        let standing = match &view.leader {
            Some(leader) => Standing::Held { modified: leader.modified, learned: now },
            None => Standing::Vacant { term_modified: view.term_modified(), learned: now },
        };
        self.standing = match (self.standing, standing) {
            (Standing::Held { modified: a, .. }, Standing::Held { modified: b, .. }) if a == b => self.standing,
            (Standing::Vacant { term_modified: a, .. }, Standing::Vacant { term_modified: b, .. }) if a == b => {
                self.standing
            }
            (_, Standing::Held { .. }) => {
                // It lives: nobody is being taken over.
                self.silent_since = None;
                standing
            }
            _ => standing,
        };
    }

    fn enter(&mut self, now: Instant, state: State) {
        (self.state, self.since) = (state, now);
        (self.retry_at, self.retry_pause) = (now, FIRST_RETRY);
        self.unfenced = None;
    }

    fn exit(&mut self, now: Instant, exit: Exit, out: &mut Vec<Effect>) {
        // Whoever comes after this process must know of a payload that may still run.
        let unfinished = match &self.state {
            _ if exit != Exit::Unfenced => None,
            State::Cleaning { unfinished, .. } => unfinished.or(Some(now)),
            State::Fencing { held, .. } | State::Releasing { held, .. } => Some(held.deadline),
            _ => None,
        };
        self.enter(now, State::Ended { unfinished });
        out.push(Effect::Exit(exit));
    }

    fn watch(&mut self, interest: Interest, out: &mut Vec<Effect>) {
        if self.interest != Some(interest) {
            self.interest = Some(interest);
            self.reading = true;
            out.push(Effect::Watch(interest));
        }
    }

    /// Sends, unless a request is in flight or the last one failed a moment ago.
    fn send(&mut self, now: Instant, ask: Ask, txn: Txn, out: &mut Vec<Effect>) -> bool {
        if self.pending.is_some() || now < self.retry_at {
            self.at(self.retry_at, now);
            return false;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.pending = Some(Pending { id, sent: now, ask });
        out.push(Effect::Send { id, txn, within: self.me.timing.attempt() });
        true
    }

    /// Asks to be woken at `when`, if that is ahead.
    fn at(&mut self, when: Instant, now: Instant) {
        if when > now && self.alarm.is_none_or(|alarm| when < alarm) {
            self.alarm = Some(when);
        }
    }

    fn answered(&mut self, now: Instant, id: RequestId, answer: Answer, out: &mut Vec<Effect>) {
        // An answer to a question of an earlier state: whatever it says is guarded by its own compares.
        let Some(pending) = self.pending.take_if(|p| p.id == id) else { return };
        if matches!(self.state, State::Ended { .. }) {
            return;
        }
        match &answer {
            Answer::Unknown => {
                // Spread by the nonce, so that many candidates do not come back in step.
                let spread = self.me.who.nonce.bytes().fold(id, |h, b| h.wrapping_mul(31).wrapping_add(b.into())) % 50;
                let pause = self.retry_pause;
                self.retry_at = now + pause * (75 + u32::try_from(spread).unwrap_or(0)) / 100;
                self.retry_pause = (pause * 2).min((self.me.timing.renew() / 2).max(FIRST_RETRY));
            }
            Answer::Done { .. } => (self.retry_at, self.retry_pause) = (now, FIRST_RETRY),
            Answer::Refused(view) => {
                (self.retry_at, self.retry_pause) = (now, FIRST_RETRY);
                self.see(now, view.clone());
            }
        }
        match self.state {
            State::Leading { .. } | State::Fencing { .. } | State::Fenced { .. } | State::Releasing { .. } => {
                self.lead_answered(now, pending, answer, out);
            }
            _ => self.follow_answered(now, pending, answer, out),
        }
    }

    /// Writes of this candidate are known before a watch tells of them.
    fn wrote(&mut self, now: Instant, revision: i64, key: Key, value: Option<(Vec<u8>, i64)>) {
        let (bytes, create) = value.map_or((None, 0), |(bytes, create)| (Some(bytes), create));
        self.change(now, &Change { key, bytes, create, modified: revision });
    }

    fn candidate(&self) -> Candidate {
        Candidate { who: self.me.who.clone(), priority: self.me.priority, bias: self.bias }
    }

    fn leader_record(&self, term: u64, beat: u64) -> Leader {
        let timing = &self.me.timing;
        let who = self.me.who.clone();
        Leader { protocol: PROTOCOL, who, term, beat, lease: timing.lease(), bound: timing.bound() }
    }

    fn paused(&self) -> bool {
        self.view.as_ref().is_some_and(|v| v.pause.is_some())
    }

    fn leader_now(&self) -> Option<&Leader> {
        self.view.as_ref()?.leader.as_ref()?.value.as_ref()
    }

    fn term_now(&self) -> Option<&Term> {
        self.view.as_ref()?.term.as_ref()?.value.as_ref()
    }

    /// A leadership that ended badly. What the node itself is to blame for makes it wait at once, longer each time;
    /// what may be etcd's or the network's does when it happens again and again.
    fn strike(&mut self, now: Instant, own_fault: bool) {
        self.strikes.retain(|at| now.since(*at) < MEMORY);
        self.strikes.push_back(now);
        let forgiven = if own_fault { 1 } else { FORGIVEN };
        let Some(doubled) = self.strikes.len().checked_sub(forgiven) else { return };
        let doubled = u32::try_from(doubled).unwrap_or(u32::MAX).min(5);
        self.embargo = now + (FIRST_BACKOFF * 2u32.pow(doubled)).min(LONGEST_BACKOFF);
    }
}
