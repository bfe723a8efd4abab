//! Those who lead: renewing, fencing in time, letting go only of what is dead.

use super::Machine;
use super::state::{Ask, Held, Pending, Phase, Standing, State, Why};
use crate::elect::event::{Count, Effect, Exit, Interest, Unfit};
use crate::elect::instant::Instant;
use crate::elect::record::{Term, TermState};
use crate::elect::status::Transition;
use crate::elect::timing::with_drift;
use crate::elect::txn::{self, Answer};
use crate::elect::view::rank;

impl Machine {
    /// Holds the key.
    pub(super) fn lead(&mut self, now: Instant, out: &mut Vec<Effect>) -> bool {
        let State::Leading { held, phase } = &self.state else { return false };
        let (held, phase) = (held.clone(), *phase);
        if now >= held.deadline {
            return self.fence(now, "deadline", false, out);
        }
        if held.verify_by.is_some_and(|by| now >= by) {
            return self.fence(now, "anomaly", false, out);
        }
        if self.is_lost(&held) {
            return self.fence(now, "lost", true, out);
        }
        self.watch(Interest::Group, out);
        if phase == Phase::Installing && now >= held.deadline.before(self.me.timing.removal()) {
            return self.fence(now, "late", false, out);
        }
        if let Some(why) = self.wish(now, &held) {
            self.release(now, why, out);
            return true;
        }
        self.at(held.deadline, now);
        if let Some(by) = held.verify_by {
            self.at(by, now);
        }
        self.renew(now, &held, out);
        false
    }

    /// Whether a watch or a read shows the key deleted, or someone else's.
    fn is_lost(&self, held: &Held) -> bool {
        let Some(view) = self.view.as_ref().filter(|v| v.leader_at > held.token) else { return false };
        view.leader.as_ref().is_none_or(|l| l.create != held.token)
    }

    fn renew(&mut self, now: Instant, held: &Held, out: &mut Vec<Effect>) {
        if now < held.next_renewal {
            return self.at(held.next_renewal, now);
        }
        let beat = held.beat + 1;
        let txn = txn::renew(held.token, &self.leader_record(held.term, beat));
        self.send(now, Ask::Renew { beat }, txn, out);
    }

    /// Why this leader should let go of its own accord, if it should.
    fn wish(&mut self, now: Instant, held: &Held) -> Option<Why> {
        if self.terminating {
            return Some(Why { heir: self.next_in_queue(), ..Why::new("terminated") });
        }
        if self.paused() {
            // A wish is for now: it must not come true when the pause ends.
            self.resigning = false;
            return None;
        }
        let next = self.next_in_queue();
        if self.resigning {
            self.resigning = false;
            if next.is_some() {
                return Some(Why { heir: next, ..Why::new("resigned") });
            }
        }
        let wished = self.view.as_ref().and_then(|v| v.transfer.as_ref()).and_then(|t| t.value.clone());
        if let Some(wished) = wished {
            let heir = match wished.to {
                None => next.clone(),
                Some(id) => self.is_waiting(&id).then_some(id),
            };
            if heir.is_some() {
                return Some(Why { heir, transferred: true, ..Why::new("transfer") });
            }
        }
        let settled = held.began + self.me.min_term;
        if let (Some(Err(Unfit::Health(_))), Some(_)) = (&self.fitness, &next) {
            if now >= settled {
                return Some(Why { heir: next, strike: true, ..Why::new("health") });
            }
            self.at(settled, now);
        }
        self.better(now, settled).map(|heir| Why { heir: Some(heir), ..Why::new("preempted") })
    }

    /// A candidate of higher rank that has waited long enough.
    fn better(&mut self, now: Instant, settled: Instant) -> Option<String> {
        let after = self.me.preempt_after?;
        let mine = (self.bias, self.me.priority);
        let view = self.view.as_ref()?;
        let best = view.queue().first().and_then(|(l, c)| Some((*l, c.value.clone()?)));
        let Some((lease, best)) = best.filter(|(_, best)| rank(best) > mine) else {
            self.rival = None;
            return None;
        };
        let since = match self.rival {
            Some((seen, since)) if seen == lease => since,
            _ => now,
        };
        self.rival = Some((lease, since));
        let from = (since + after).max(settled);
        if now >= from {
            return Some(best.who.id);
        }
        self.at(from, now);
        None
    }

    fn next_in_queue(&self) -> Option<String> {
        let view = self.view.as_ref()?;
        view.queue().into_iter().find_map(|(_, c)| c.value.as_ref().map(|c| c.who.id.clone()))
    }

    fn is_waiting(&self, id: &str) -> bool {
        self.view
            .as_ref()
            .is_some_and(|v| v.candidates.values().any(|c| c.value.as_ref().is_some_and(|c| c.who.id == id)))
    }

    /// Stops the payload against its will: it must be gone by s + L and dead by s + B.
    pub(super) fn fence(&mut self, now: Instant, trigger: &'static str, lost: bool, out: &mut Vec<Effect>) -> bool {
        let State::Leading { held, .. } = &self.state else { return false };
        let held = held.clone();
        let (gone, dead) = self.bounds(&held);
        if now > gone {
            out.push(Effect::Count(Count::OverlapRisk(now.since(gone))));
        }
        out.push(Effect::Count(Count::Fence(trigger)));
        let ago = now.since(held.s).as_secs_f64();
        out.push(Effect::Say(format!("fences: {trigger}, last renewed {ago:.1} s ago, token {}", held.token)));
        out.push(Effect::Stop { gone, dead });
        self.note(now, trigger);
        self.gap_from = now;
        self.enter(now, State::Fencing { held, lost });
        true
    }

    /// Lets go of its own accord: stops the payload first.
    pub(super) fn release(&mut self, now: Instant, why: Why, out: &mut Vec<Effect>) {
        let State::Leading { held, .. } = &self.state else { return };
        let held = held.clone();
        let (gone, dead) = self.bounds(&held);
        let to = why.heir.as_deref().map_or_else(String::new, |heir| format!(", heir {heir}"));
        out.push(Effect::Say(format!("lets go: {}{to}, token {}", why.cause, held.token)));
        out.push(Effect::Stop { gone, dead });
        self.enter(now, State::Releasing { held, why, stopped: false, dead });
    }

    /// s + L and s + B, by the deadline: an adopted leadership has that of its earlier life.
    fn bounds(&self, held: &Held) -> (Instant, Instant) {
        let timing = &self.me.timing;
        let gone = held.deadline + timing.watchdog() + timing.removal();
        (gone, gone + timing.stop())
    }

    pub(super) fn started(&mut self, now: Instant, result: Result<(), String>, out: &mut Vec<Effect>) {
        let State::Leading { held, phase } = &mut self.state else { return };
        match result {
            Ok(()) if *phase == Phase::Installing => {
                *phase = Phase::Active;
                let (term, token) = (held.term, held.token);
                let took = now.since(self.gap_from);
                if let Some(last) = &mut self.last {
                    last.at_ns = now.as_nanos();
                    last.took_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
                }
                let took = took.as_secs_f64();
                out.push(Effect::Say(format!("leads: term {term}, token {token}, without a leader for {took:.3} s")));
            }
            Ok(()) => {}
            Err(why) => {
                out.push(Effect::Say(format!("cannot start the payload: {why}")));
                self.release(now, Why { strike: true, ..Why::new("start failed") }, out);
            }
        }
    }

    pub(super) fn stopped(&mut self, now: Instant, result: Result<(), String>, out: &mut Vec<Effect>) {
        if let Err(why) = result {
            // Never let go of what may live: the key stays, nobody succeeds sooner than s + B.
            if now < self.dead_by() {
                out.push(Effect::Say(format!("the payload is not dead yet: {why}")));
            } else {
                out.push(Effect::Say(format!("CANNOT stop the payload: {why}")));
                self.unfenced = Some(why);
            }
            return;
        }
        self.unfenced = None;
        match &mut self.state {
            State::Cleaning { .. } => {
                self.enter(now, State::Idle { leftover: false });
            }
            State::Fencing { held, lost } => {
                let (held, lost) = (held.clone(), *lost);
                out.push(Effect::Say(format!("fenced: the payload of token {} is dead", held.token)));
                self.strike(now, false);
                if lost { self.lost(now, out) } else { self.enter(now, State::Fenced { held }) }
            }
            State::Releasing { stopped, .. } => *stopped = true,
            _ => {}
        }
    }

    /// Told to end, but the payload cannot be stopped: after its bound the process ends and leaves the key as it is.
    pub(super) fn give_up(&mut self, now: Instant, out: &mut Vec<Effect>) -> bool {
        if !self.terminating || self.unfenced.is_none() {
            return false;
        }
        let dead = self.dead_by();
        if now >= dead {
            self.exit(now, Exit::Unfenced, out);
            return true;
        }
        self.at(dead, now);
        false
    }

    /// When the payload that is being stopped should be dead.
    fn dead_by(&self) -> Instant {
        match &self.state {
            State::Fencing { held, .. } => self.bounds(held).1,
            // As it was ordered: renewals go on meanwhile and move the bounds of the leadership.
            State::Releasing { dead, .. } | State::Cleaning { dead, .. } => *dead,
            _ => self.since + self.me.timing.removal() + self.me.timing.stop(),
        }
    }

    /// The payload is dead; if the key is still its own and etcd answers again, the same leadership goes on.
    pub(super) fn fenced(&mut self, now: Instant, out: &mut Vec<Effect>) -> bool {
        let State::Fenced { held } = &self.state else { return false };
        let held = held.clone();
        if self.is_lost(&held) {
            self.lost(now, out);
            return true;
        }
        if self.terminating {
            let (_, dead) = self.bounds(&held);
            self.enter(now, State::Releasing { held, why: Why::new("terminated"), stopped: true, dead });
            return true;
        }
        let until = held.deadline.before(self.me.timing.removal());
        if now < until && held.verify_by.is_none() {
            out.push(Effect::Say(format!("leads again under token {}: nobody took over", held.token)));
            out.push(Effect::Count(Count::Transition("resumed")));
            self.note(now, "resumed");
            out.push(Effect::Start { token: held.token, until });
            self.enter(now, State::Leading { held, phase: Phase::Installing });
            return true;
        }
        self.renew(now, &Held { next_renewal: now, ..held }, out);
        false
    }

    /// Gives the key back, once the payload is dead.
    pub(super) fn releasing(&mut self, now: Instant, out: &mut Vec<Effect>) -> bool {
        let State::Releasing { held, why, stopped, dead } = &self.state else { return false };
        let (held, why, stopped, dead) = (held.clone(), why.clone(), *stopped, *dead);
        if !stopped {
            if self.give_up(now, out) {
                return false;
            }
            // Others must not take over while the payload still takes its time to end.
            if now < held.deadline && !self.is_lost(&held) {
                self.renew(now, &held, out);
            }
            return false;
        }
        if self.is_lost(&held) {
            self.done(now, &why, out);
            return true;
        }
        // Nobody can be told: after s + B it makes no difference any more.
        if self.terminating && now >= dead {
            self.exit(now, Exit::Unreleased, out);
            return false;
        }
        if self.terminating {
            self.at(dead, now);
        }
        let term = self.released(held.term, &why);
        let txn = txn::release(held.token, &term, why.transferred);
        if self.pending.as_ref().is_some_and(|p| matches!(p.ask, Ask::Renew { .. })) {
            // Whatever becomes of the renewal, the release is guarded by its own compare.
            self.pending = None;
        }
        self.send(now, Ask::Release { term }, txn, out);
        false
    }

    /// The record of a term that ended well.
    pub(super) fn released(&self, number: u64, why: &Why) -> Term {
        Term {
            number,
            holder: self.me.who.id.clone(),
            nonce: self.me.who.nonce.clone(),
            state: TermState::Released,
            cause: why.cause.to_owned(),
            heir: why.heir.clone(),
            bound: self.me.timing.bound(),
            largest_bound: self.largest_bound,
        }
    }

    pub(super) fn lead_answered(&mut self, now: Instant, pending: Pending, answer: Answer, out: &mut Vec<Effect>) {
        match (pending.ask, answer) {
            (Ask::Renew { beat }, Answer::Done { .. }) => {
                out.push(Effect::Count(Count::Renewed(now.since(pending.sent))));
                self.renewed(pending.sent, beat, out);
            }
            (Ask::Renew { .. }, Answer::Unknown) => out.push(Effect::Count(Count::RenewalFailed)),
            (Ask::Renew { .. }, Answer::Refused(_)) => self.refused(now, out),
            (Ask::Release { term }, Answer::Done { revision }) => {
                self.left(now, revision, &term);
                if let State::Releasing { why, .. } = &self.state {
                    let why = why.clone();
                    self.done(now, &why, out);
                }
            }
            (Ask::Release { .. }, Answer::Refused(_)) => {
                if let State::Releasing { why, .. } = &self.state {
                    let why = why.clone();
                    self.done(now, &why, out);
                }
            }
            _ => {}
        }
    }

    fn renewed(&mut self, sent: Instant, beat: u64, out: &mut Vec<Effect>) {
        let timing = self.me.timing;
        let (held, phase) = match &mut self.state {
            State::Leading { held, phase } => (held, Some(phase)),
            State::Fencing { held, .. } | State::Fenced { held } | State::Releasing { held, .. } => (held, None),
            _ => return,
        };
        held.beat = beat;
        held.s = sent;
        held.deadline = sent + timing.fence();
        held.next_renewal = sent + timing.renew();
        held.verify_by = None;
        let (token, until) = (held.token, held.deadline.before(timing.removal()));
        match phase {
            Some(phase) if *phase == Phase::Adopting => {
                *phase = Phase::Active;
                out.push(Effect::Say(format!("adopted: still leads under token {token}")));
                out.push(Effect::Start { token, until });
            }
            Some(_) => out.push(Effect::Extend { until }),
            None => {}
        }
    }

    /// A renewal was answered: the key is not its own.
    fn refused(&mut self, now: Instant, out: &mut Vec<Effect>) {
        match &mut self.state {
            State::Leading { .. } => _ = self.fence(now, "lost", true, out),
            State::Fencing { lost, .. } => *lost = true,
            State::Fenced { .. } => self.lost(now, out),
            _ => {}
        }
    }

    /// The payload is dead and the key is not its own any more.
    fn lost(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if self.me.once && !self.terminating {
            self.exit(now, Exit::Lost, out);
        } else {
            self.enter(now, State::Idle { leftover: false });
        }
    }

    /// A leadership ended well.
    fn done(&mut self, now: Instant, why: &Why, out: &mut Vec<Effect>) {
        out.push(Effect::Count(Count::Transition(why.cause)));
        out.push(Effect::Say(format!("released: {}", why.cause)));
        self.note(now, why.cause);
        if why.strike {
            self.strike(now, true);
        }
        if self.terminating {
            self.exit(now, Exit::Clean, out);
        } else if self.me.once {
            self.exit(now, Exit::Lost, out);
        } else {
            self.enter(now, State::Idle { leftover: false });
        }
    }

    /// This host looks wrong: only an answer to a question asked from now on counts.
    pub(super) fn anomaly(&mut self, now: Instant, what: &str, out: &mut Vec<Effect>) {
        out.push(Effect::Count(Count::Anomaly));
        let State::Leading { held, .. } = &mut self.state else { return };
        held.verify_by = Some(now + self.me.timing.attempt());
        held.next_renewal = now;
        self.pending = None;
        self.retry_at = now;
        out.push(Effect::Say(format!("{what}: asks etcd whether it still leads")));
    }

    fn note(&mut self, at: Instant, cause: &str) {
        self.last = Some(Transition { cause: cause.into(), at_ns: at.as_nanos(), took_ms: None });
    }

    /// What was known of revisions is void, and so is the place in the queue.
    pub(super) fn replaced(&mut self, now: Instant, out: &mut Vec<Effect>) {
        out.push(Effect::Say("etcd holds other data than before: what it says of leaders may be old".into()));
        (self.view, self.standing, self.overtaken) = (None, Standing::Unknown, None);
        self.quarantine = now + with_drift(self.largest_bound);
        self.uproot(now, out);
    }

    /// The store is another one: neither a place in the queue nor a token means anything there. Revisions begin anew,
    /// and the key of another leader may have been created by the very revision that is this one's token.
    fn uproot(&mut self, now: Instant, out: &mut Vec<Effect>) {
        self.pending = None;
        match &mut self.state {
            State::Leading { .. } => _ = self.fence(now, "replaced", true, out),
            State::Fencing { lost, .. } => *lost = true,
            State::Releasing { held, stopped: false, .. } => {
                let held = held.clone();
                self.enter(now, State::Fencing { held, lost: true });
            }
            State::Queued { .. } | State::Fenced { .. } | State::Releasing { .. } => {
                self.enter(now, State::Idle { leftover: false });
            }
            State::New { .. } | State::Cleaning { .. } | State::Idle { .. } | State::Ended { .. } => {}
        }
    }
}
