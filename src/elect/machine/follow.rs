//! Those who do not lead: joining the queue, waiting, and what the head of the queue may do.

use std::time::Duration;

use super::state::{Acquisition, Ask, Held, Pending, Phase, Standing, State, Why};
use super::{HOLD_BACK, Machine, QUEUE_KEY_LIFE};
use crate::elect::event::{Count, Effect, Exit, Interest};
use crate::elect::instant::Instant;
use crate::elect::record::{LeaseId, PROTOCOL, Term, TermState};
use crate::elect::status::Transition;
use crate::elect::timing::with_drift;
use crate::elect::txn::{self, Answer};
use crate::elect::view::{Key, Versioned, View};

/// Whose turn it is.
enum Turn {
    Mine,
    /// Mine, unless the heir takes it before.
    From(Instant),
    Other,
}

impl Machine {
    /// Not in the queue: leaves it for good, or joins it.
    pub(super) fn idle(&mut self, now: Instant, out: &mut Vec<Effect>) -> bool {
        if self.terminating {
            // The lease goes with the process, and the key in the queue with the lease.
            self.exit(now, Exit::Clean, out);
            return false;
        }
        self.watch(Interest::Group, out);
        let Some(lease) = self.lease else { return false };
        if (self.state == State::Idle { leftover: true }) {
            self.send(now, Ask::Dequeue, txn::dequeue(lease), out);
            return false;
        }
        if self.reading || self.view.is_none() || self.find_twin(now, 0, out) || self.give_back_foundling(now, out) {
            return false;
        }
        if self.fitness != Some(Ok(())) {
            return false;
        }
        if now < self.embargo {
            self.at(self.embargo, now);
            return false;
        }
        let candidate = self.candidate();
        let txn = txn::enqueue(lease, &candidate);
        self.send(now, Ask::Enqueue { lease, candidate }, txn, out);
        false
    }

    /// In the queue.
    pub(super) fn queued(&mut self, now: Instant, out: &mut Vec<Effect>) -> bool {
        let State::Queued { lease, create, acquiring } = &self.state else { return false };
        let (lease, create, in_doubt) = (*lease, *create, acquiring.is_some());
        if self.terminating && self.pending.is_none() {
            // Other groups of the process may take their time: whoever is next here need not wait for them.
            self.send(now, Ask::Dequeue, txn::dequeue(lease), out);
            self.exit(now, Exit::Clean, out);
            return false;
        }
        if self.lease != Some(lease) && !in_doubt {
            self.enter(now, State::Idle { leftover: false });
            return true;
        }
        if self.reading {
            return false;
        }
        let Some(view) = &self.view else { return false };
        let own = view.candidates.get(&lease);
        // Deleted by hand, or with a lease we do not know lost yet: without the key there is no place in the queue.
        if own.is_none_or(|c| c.create != create) {
            if !in_doubt {
                self.enter(now, State::Idle { leftover: false });
                return true;
            }
            // An acquisition in doubt went through, as the leader key then tells, or can no more: it compares this key.
            if self.pending.is_none() {
                let seen = view.clone();
                self.acquired(now, now, Answer::Refused(seen), out);
                if matches!(self.state, State::Queued { .. }) {
                    self.enter(now, State::Idle { leftover: false });
                }
                return true;
            }
        }
        if self.fitness != Some(Ok(())) && !in_doubt {
            self.enter(now, State::Idle { leftover: true });
            return true;
        }
        let outdated = self.bias_unsaid || own.is_some_and(|c| c.value.as_ref() != Some(&self.candidate()));
        if self.find_twin(now, create, out) {
            return false;
        }
        if outdated && self.pending.is_none() && now >= self.retry_at && !in_doubt {
            let candidate = self.candidate();
            let txn = txn::update(lease, create, &candidate);
            self.send(now, Ask::Update { candidate }, txn, out);
        }
        let turn = self.turn(now, lease);
        let wanted = self.wanted(lease, &turn);
        if self.interest != Some(wanted) {
            self.watch(wanted, out);
            return false;
        }
        match turn {
            Turn::Mine => self.head(now, lease, create, out),
            Turn::From(then) => self.at(then, now),
            Turn::Other => {}
        }
        false
    }

    /// First of the queue: takes over a silent leader, or a vacant place.
    fn head(&mut self, now: Instant, lease: LeaseId, create: i64, out: &mut Vec<Effect>) {
        if self.paused() || self.give_back_foundling(now, out) {
            return;
        }
        let Some(view) = &self.view else { return };
        let term = view.term_modified();
        match self.standing {
            Standing::Unknown => {}
            // A newer version may have other rules; only the operator can say that its leader is dead.
            Standing::Held { .. } if self.leader_now().is_some_and(|l| l.protocol > PROTOCOL) => {}
            Standing::Held { modified, learned } => {
                let from = (learned + with_drift(self.patience())).max(self.quarantine);
                if now < from {
                    return self.at(from, now);
                }
                self.silent_since = Some(learned);
                let record = self.next_term(TermState::Taken, "silence");
                self.send(now, Ask::Take { term: record.clone() }, txn::take(modified, term, &record), out);
            }
            // Whoever led last may still run: its time begins when this is written.
            Standing::Vacant { term_modified: 0, .. } => {
                let bound = self.largest_bound;
                let term = Term::unknown(bound);
                self.send(now, Ask::Mark { term: term.clone() }, txn::mark(lease, create, &term), out);
            }
            Standing::Vacant { learned, .. } => {
                let wait = self.vacancy();
                let from = (learned + with_drift(wait)).max(self.quarantine);
                if now < from {
                    return self.at(from, now);
                }
                if !wait.is_zero() && self.pending.is_none() && now >= self.retry_at {
                    out.push(Effect::Count(Count::Suspicious));
                }
                self.acquire(now, lease, create, learned, out);
            }
        }
    }

    fn acquire(&mut self, now: Instant, lease: LeaseId, create: i64, learned: Instant, out: &mut Vec<Effect>) {
        let cause = match self.term_now().map(|t| t.state) {
            Some(TermState::Released) => "released",
            Some(TermState::Taken) => "silence",
            _ => "vacant",
        };
        let record = self.next_term(TermState::Held, cause);
        let leader = self.leader_record(record.number, 0);
        let seen = self.view.as_ref().map_or(0, View::term_modified);
        let txn = txn::acquire(lease, create, seen, &leader, &record);
        if !self.send(now, Ask::Acquire, txn, out) {
            return;
        }
        let gap_from = self.silent_since.unwrap_or(learned);
        if let State::Queued { acquiring, .. } = &mut self.state {
            let first_sent = acquiring.as_ref().map_or(now, |a| a.first_sent);
            *acquiring = Some(Acquisition { first_sent, leader, term: record, cause, gap_from });
        }
    }

    pub(super) fn follow_answered(&mut self, now: Instant, pending: Pending, answer: Answer, out: &mut Vec<Effect>) {
        match (pending.ask, answer) {
            (Ask::Enqueue { lease, candidate }, Answer::Done { revision }) => {
                let value = serde_json::to_vec(&candidate).unwrap_or_default();
                self.wrote(now, revision, Key::Candidate(lease), Some((value, revision)));
                self.enter(now, State::Queued { lease, create: revision, acquiring: None });
            }
            // The key is there: an earlier attempt went through after all.
            (Ask::Enqueue { lease, .. }, Answer::Refused(view)) => match view.candidates.get(&lease) {
                Some(own) => {
                    let create = own.create;
                    self.enter(now, State::Queued { lease, create, acquiring: None });
                }
                None => self.retry_at = now + super::FIRST_RETRY,
            },
            (Ask::Update { candidate }, Answer::Done { revision }) => {
                self.bias_unsaid = candidate != self.candidate();
                if let State::Queued { lease, create, .. } = self.state {
                    let value = serde_json::to_vec(&candidate).unwrap_or_default();
                    self.wrote(now, revision, Key::Candidate(lease), Some((value, create)));
                }
            }
            // The key is gone, or another: back to the end of the queue.
            (Ask::Update { .. }, Answer::Refused(_)) if !self.in_doubt() => {
                self.enter(now, State::Idle { leftover: false })
            }
            (Ask::Dequeue, Answer::Done { .. }) => self.enter(now, State::Idle { leftover: false }),
            (Ask::Mark { term }, Answer::Done { revision }) => {
                let value = serde_json::to_vec(&term).unwrap_or_default();
                self.wrote(now, revision, Key::Term, Some((value, revision)));
            }
            (Ask::Take { term }, Answer::Done { revision }) => {
                self.took(now, revision, &term, out);
            }
            (Ask::Acquire, answer) => self.acquired(now, pending.sent, answer, out),
            (Ask::Release { term }, Answer::Done { revision }) => self.left(now, revision, &term),
            _ => {}
        }
    }

    fn in_doubt(&self) -> bool {
        matches!(&self.state, State::Queued { acquiring: Some(_), .. })
    }

    /// The silent leader's key is gone.
    fn took(&mut self, now: Instant, revision: i64, term: &Term, out: &mut Vec<Effect>) {
        if let Standing::Held { learned, .. } = self.standing {
            let silent = now.since(learned);
            out.push(Effect::Count(Count::TakeoverDelay(silent)));
            let who = self.leader_now().map_or_else(|| "the leader".to_owned(), |l| l.who.id.clone());
            out.push(Effect::Say(format!("{who} was silent for {:.1} s and is taken over", silent.as_secs_f64())));
        }
        self.left(now, revision, term);
    }

    /// An own write ended a leadership.
    pub(super) fn left(&mut self, now: Instant, revision: i64, term: &Term) {
        self.wrote(now, revision, Key::Leader, None);
        let value = serde_json::to_vec(term).unwrap_or_default();
        self.wrote(now, revision, Key::Term, Some((value, revision)));
    }

    /// The answer to an acquisition.
    fn acquired(&mut self, now: Instant, sent: Instant, answer: Answer, out: &mut Vec<Effect>) {
        let State::Queued { lease, acquiring, .. } = &mut self.state else { return };
        let lease = *lease;
        let (acquisition, token) = match (acquiring.take(), answer) {
            (Some(a), Answer::Done { revision }) => (Acquisition { first_sent: sent, ..a }, revision),
            (Some(a), Answer::Refused(view)) => {
                let ours = |l: &&Versioned<_>| l.value.as_ref() == Some(&a.leader);
                // An earlier attempt went through: it counts from when the first was sent.
                let Some(token) = view.leader.as_ref().filter(ours).map(|l| l.create) else { return };
                (a, token)
            }
            (kept, _) => {
                *acquiring = kept;
                return;
            }
        };
        let encode = |value: Result<Vec<u8>, serde_json::Error>| value.unwrap_or_default();
        let Acquisition { first_sent: s, leader, term, cause, gap_from } = acquisition;
        self.wrote(now, token, Key::Leader, Some((encode(serde_json::to_vec(&leader)), token)));
        self.wrote(now, token, Key::Term, Some((encode(serde_json::to_vec(&term)), token)));
        self.wrote(now, token, Key::Candidate(lease), None);
        self.silent_since = None;
        let timing = self.me.timing;
        let held = Held {
            token,
            term: leader.term,
            beat: 0,
            s,
            deadline: s + timing.fence(),
            began: now,
            next_renewal: s + timing.renew(),
            verify_by: None,
        };
        out.push(Effect::Count(Count::Transition(cause)));
        out.push(Effect::Say(format!("acquired: term {}, token {token}, cause {cause}", leader.term)));
        self.gap_from = gap_from;
        self.last = Some(Transition { cause: cause.into(), at_ns: now.as_nanos(), took_ms: None });
        let until = held.deadline.before(timing.removal());
        self.enter(now, State::Leading { held, phase: Phase::Installing });
        if now < until {
            out.push(Effect::Start { token, until });
        }
    }

    /// Whose turn it is, by the queue and by what the last leader wished.
    fn turn(&self, now: Instant, lease: LeaseId) -> Turn {
        let Some(view) = &self.view else { return Turn::Other };
        let queue = view.queue();
        let named = |id: &str| queue.iter().any(|(_, c)| c.value.as_ref().is_some_and(|c| c.who.id == id));
        if let (Standing::Vacant { learned, .. }, Some(term)) = (self.standing, self.term_now())
            && let Some(heir) = term.heir.as_deref().filter(|heir| term.state == TermState::Released && named(heir))
            && now < learned + HOLD_BACK
        {
            return if heir == self.me.who.id {
                Turn::Mine
            } else {
                self.first_from(&queue, lease, learned + HOLD_BACK)
            };
        }
        match queue.first() {
            Some((first, _)) if *first == lease => Turn::Mine,
            _ => Turn::Other,
        }
    }

    fn first_from(
        &self,
        queue: &[(LeaseId, &Versioned<crate::elect::record::Candidate>)],
        lease: LeaseId,
        then: Instant,
    ) -> Turn {
        // Behind the heir, the next one must be ready should the heir not come.
        let mut others =
            queue.iter().filter(|(_, c)| c.value.as_ref().is_some_and(|c| Some(c.who.id.as_str()) != self.heir()));
        if others.next().is_some_and(|(first, _)| *first == lease) { Turn::From(then) } else { Turn::Other }
    }

    fn heir(&self) -> Option<&str> {
        self.term_now()?.heir.as_deref()
    }

    /// What to look at: the whole group as long as it may be this one's turn next.
    fn wanted(&self, lease: LeaseId, turn: &Turn) -> Interest {
        let Some(view) = &self.view else { return Interest::Group };
        let wished = view.transfer.as_ref().and_then(|t| t.value.as_ref()).and_then(|t| t.to.as_ref());
        if !matches!(turn, Turn::Other) || wished == Some(&self.me.who.id) {
            return Interest::Group;
        }
        if let Some(Interest::Queue { before, .. }) = self.interest {
            // Who watches its predecessor only does not know the others: it reads them when that one is gone.
            // One that lost rank meanwhile is no predecessor, and would wait for this one.
            let queue = view.queue();
            let place = |of| queue.iter().position(|(l, _)| *l == of);
            return if place(before).is_some_and(|b| place(lease).is_none_or(|own| b < own)) {
                Interest::Queue { own: lease, before }
            } else {
                Interest::Group
            };
        }
        let queue = view.queue();
        let place = queue.iter().position(|(l, _)| *l == lease).unwrap_or(0);
        match place.checked_sub(1).and_then(|before| queue.get(before)) {
            Some((before, _)) => Interest::Queue { own: lease, before: *before },
            None => Interest::Group,
        }
    }

    /// B of the leader that is silent. A leader of this very host and identity, from before it was rebooted, is dead:
    /// two intervals show that no clone of the host goes by its name.
    fn patience(&self) -> Duration {
        let me = &self.me.who;
        if self
            .leader_now()
            .is_some_and(|l| l.who.id == me.id && l.who.machine_id == me.machine_id && l.who.boot_id != me.boot_id)
        {
            return self.me.timing.renew() * 2;
        }
        let term = self.term_now().filter(|t| t.state == TermState::Held).map(|t| t.bound);
        let leader = self.leader_now().map(|l| l.bound);
        leader.max(term).unwrap_or(self.largest_bound)
    }

    /// How long a vacancy must last before it is one: not at all if the last leader said it was done, or was waited for.
    fn vacancy(&self) -> Duration {
        match self.term_now() {
            Some(term) if term.state == TermState::Held => term.bound,
            Some(_) => Duration::ZERO,
            None => self.largest_bound,
        }
    }

    fn next_term(&self, state: TermState, cause: &str) -> Term {
        let last = self.term_now();
        let number = last.map_or(0, |t| t.number);
        match state {
            // It stays the term of the one that was taken over.
            TermState::Taken => Term {
                number,
                holder: self.leader_now().map_or_else(String::new, |l| l.who.id.clone()),
                nonce: self.leader_now().map_or_else(String::new, |l| l.who.nonce.clone()),
                state,
                cause: cause.to_owned(),
                heir: None,
                bound: self.patience(),
                largest_bound: self.largest_bound,
            },
            _ => Term {
                number: number.saturating_add(1),
                holder: self.me.who.id.clone(),
                nonce: self.me.who.nonce.clone(),
                state,
                cause: cause.to_owned(),
                heir: None,
                bound: self.me.timing.bound(),
                largest_bound: self.largest_bound,
            },
        }
    }

    /// The leader key is this process's own, but it does not lead: an acquisition that nobody waited for any more
    /// went through, or a fenced leader forgot its key. Nothing runs, so it is given back.
    fn give_back_foundling(&mut self, now: Instant, out: &mut Vec<Effect>) -> bool {
        if self.in_doubt() {
            return false;
        }
        let Some(token) = self.view.as_ref().and_then(|v| v.leader.as_ref()).map(|l| l.create) else { return false };
        let Some((number, own)) = self.leader_now().map(|l| (l.term, l.who.nonce == self.me.who.nonce)) else {
            return false;
        };
        if !own {
            return false;
        }
        if now < self.quarantine {
            // Restored from a backup: whoever led since then may still run.
            self.at(self.quarantine, now);
            return true;
        }
        let term = self.released(number, &Why::new("unused"));
        self.send(now, Ask::Release { term: term.clone() }, txn::release(token, &term, false), out);
        true
    }

    /// Another living process under this identity: the one that came later ends. True while it is not sure.
    fn find_twin(&mut self, now: Instant, own: i64, out: &mut Vec<Effect>) -> bool {
        let Some(view) = &self.view else { return false };
        let me = &self.me.who;
        let leader = view.leader.as_ref().and_then(|l| Some((l.modified, l.value.as_ref()?)));
        if let Some((modified, leader)) = leader.filter(|(_, l)| l.who.id == me.id && l.who.nonce != me.nonce) {
            match self.twin_leader {
                // It renewed: it lives.
                Some((seen, _)) if seen < modified => {
                    self.exit(now, Exit::Duplicate, out);
                    return true;
                }
                Some((_, since)) if now >= since + leader.lease / 2 => {}
                Some((_, since)) => {
                    self.at(since + leader.lease / 2, now);
                    return own == 0;
                }
                None => {
                    self.twin_leader = Some((modified, now));
                    self.at(now + leader.lease / 2, now);
                    return own == 0;
                }
            }
        }
        let twin = view.candidates.iter().find(|(_, c)| {
            c.value.as_ref().is_some_and(|v| v.who.id == me.id && v.who.nonce != me.nonce)
                && (own == 0 || c.create < own)
        });
        let Some((lease, _)) = twin else {
            self.twin = None;
            return false;
        };
        let lease = *lease;
        let since = match self.twin {
            Some((seen, since)) if seen == lease => since,
            _ => {
                out.push(Effect::Say(format!("another process is in the queue as `{}`: is it alive?", me.id)));
                self.twin = Some((lease, now));
                now
            }
        };
        // A dead one's key goes with its lease.
        let proven = since + QUEUE_KEY_LIFE;
        if now >= proven {
            self.exit(now, Exit::Duplicate, out);
        } else {
            self.at(proven, now);
        }
        true
    }
}
