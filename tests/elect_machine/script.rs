//! A stage for one machine: a store that answers at once, a payload that obeys at once, a clock that is turned by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use hamaster::elect::event::{Effect, Event, Exit};
use hamaster::elect::instant::Instant;
use hamaster::elect::machine::{Machine, Me};
use hamaster::elect::record::{Candidate, Identity, Leader, LeaseId, PROTOCOL, Term, TermState};
use hamaster::elect::status::{Status, Stored};
use hamaster::elect::timing::{Timing, Wanted};
use hamaster::elect::txn::{Answer, Compare, Op, Txn};
use hamaster::elect::view::{Change, Key, View};

const OWN: LeaseId = LeaseId(1);
/// A candidate of higher rank leads after this long.
pub(crate) const RIVAL: Duration = Duration::from_secs(100);

pub(crate) fn timing() -> Timing {
    Timing::new(Wanted::new(Duration::from_secs(10), Duration::from_millis(4500))).unwrap()
}

pub(crate) fn at(millis: u64) -> Instant {
    Instant::from_nanos((1_000_000 + millis) * 1_000_000)
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn identity(id: &str) -> Identity {
    Identity {
        id: id.into(),
        machine_id: format!("machine-{id}"),
        boot_id: "boot".into(),
        nonce: format!("nonce-{id}"),
    }
}

pub(crate) fn candidate(id: &str) -> Candidate {
    Candidate { who: Identity { nonce: "other".into(), ..identity(id) }, priority: 0, bias: 0 }
}

pub(crate) struct Script {
    pub(crate) now: Instant,
    pub(crate) machine: Machine,
    pub(crate) store: Store,
    pub(crate) effects: Vec<Effect>,
    pub(crate) payload_hangs: bool,
}

impl Script {
    pub(crate) fn new(id: &str) -> Self {
        Self::with(id, None, None)
    }

    pub(crate) fn adopting(id: &str, stored: Stored) -> Self {
        Self::with(id, Some(stored), None)
    }

    /// An earlier life led until `deadline`, and nobody saw it end.
    pub(crate) fn unfinished(id: &str, deadline: Instant) -> Self {
        Self::with(id, None, Some(deadline))
    }

    fn with(id: &str, stored: Option<Stored>, unfinished: Option<Instant>) -> Self {
        let me = Me {
            group: "g".into(),
            who: identity(id),
            timing: timing(),
            priority: 0,
            preempt_after: Some(RIVAL),
            min_term: Duration::from_secs(30),
            once: false,
        };
        let machine = Machine::new(me, stored, unfinished);
        Self { now: at(0), machine, store: Store::new(), effects: vec![], payload_hangs: false }
    }

    pub(crate) fn boot(&mut self) {
        self.step(Event::Tick);
        self.step(Event::Lease(Some(OWN)));
        self.step(Event::Fitness(Ok(())));
        self.settle();
    }

    pub(crate) fn status(&self) -> Status {
        self.machine.status()
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        self.effects.iter().find_map(|e| match e {
            Effect::Exit(exit) => Some(*exit),
            _ => None,
        })
    }

    /// By when the file was to be gone and the payload dead, in the last order to stop.
    pub(crate) fn ordered_stop(&self) -> (Instant, Instant) {
        let stop = |e: &Effect| match e {
            Effect::Stop { gone, dead } => Some((*gone, *dead)),
            _ => None,
        };
        self.effects.iter().rev().find_map(stop).unwrap()
    }

    pub(crate) fn last_renewal(&self) -> Instant {
        Instant::from_nanos(self.status().renewed_at_ns.unwrap())
    }

    /// One event and what follows from it without time passing.
    pub(crate) fn step(&mut self, event: Event) {
        let mut todo = vec![event];
        while !todo.is_empty() {
            let effects = self.machine.step(self.now, todo.remove(0));
            for effect in effects {
                todo.extend(self.answer(&effect));
                self.effects.push(effect);
            }
        }
    }

    fn answer(&mut self, effect: &Effect) -> Option<Event> {
        match effect {
            Effect::Send { id, txn, .. } => Some(Event::Answered(*id, self.store.run(txn))),
            Effect::Watch(_) => (!self.store.silent).then(|| Event::Seen(self.store.view())),
            Effect::Start { .. } => Some(Event::Started(Ok(()))),
            Effect::Stop { .. } if !self.payload_hangs => Some(Event::Stopped(Ok(()))),
            _ => None,
        }
    }

    /// Tells of everything in the store that changed since it was told last.
    pub(crate) fn deliver(&mut self) {
        let changes = std::mem::take(&mut self.store.untold);
        changes.into_iter().for_each(|change| self.step(Event::Changed(change)));
    }

    pub(crate) fn deliver_only(&mut self, keys: &[Key]) {
        self.store.untold.retain(|change| keys.contains(&change.key));
        self.deliver();
    }

    pub(crate) fn settle(&mut self) {
        self.step(Event::Tick);
    }

    /// Lets time pass, tick by tick, up to `then`. What others write meanwhile is not told.
    pub(crate) fn until(&mut self, then: Instant) {
        while let Some(wake) = self.machine.wake().filter(|wake| *wake <= then) {
            self.now = wake;
            self.step(Event::Tick);
        }
        self.now = then;
        self.step(Event::Tick);
    }
}

/// A store without a network. Writes of the script count as untold, those of the machine do not.
pub(crate) struct Store {
    keys: BTreeMap<Key, (Vec<u8>, i64, i64)>,
    revision: i64,
    untold: Vec<Change>,
    /// Answers nothing, does nothing.
    pub(crate) silent: bool,
    /// Does so many transactions without answering.
    pub(crate) swallow: u32,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { keys: BTreeMap::new(), revision: 40, untold: vec![], silent: false, swallow: 0 }
    }

    pub(crate) fn own(&self) -> LeaseId {
        OWN
    }

    pub(crate) fn lead(&mut self, id: &str, revision: i64) {
        self.lead_with_bound(id, revision, timing().bound());
    }

    pub(crate) fn lead_with_bound(&mut self, id: &str, revision: i64, bound: Duration) {
        self.revision = revision - 1;
        let leader =
            Leader { protocol: PROTOCOL, who: candidate(id).who, term: 1, beat: 0, lease: timing().lease(), bound };
        self.put(Key::Leader, &serde_json::to_vec(&leader).unwrap());
        let term = Term { bound, largest_bound: bound, ..self.blank(TermState::Held) };
        self.put(Key::Term, &serde_json::to_vec(&term).unwrap());
        self.untold.clear();
    }

    fn blank(&self, state: TermState) -> Term {
        Term {
            number: 1,
            holder: "a".into(),
            nonce: "nonce-a".into(),
            state,
            cause: "test".into(),
            heir: None,
            bound: timing().bound(),
            largest_bound: timing().bound(),
        }
    }

    pub(crate) fn renew(&mut self) {
        let mut leader = self.leader().unwrap();
        leader.beat += 1;
        self.put(Key::Leader, &serde_json::to_vec(&leader).unwrap());
    }

    pub(crate) fn released(&mut self) {
        self.put(Key::Term, &serde_json::to_vec(&self.blank(TermState::Released)).unwrap());
    }

    pub(crate) fn release(&mut self) {
        self.delete(Key::Leader);
        self.released();
    }

    pub(crate) fn release_to(&mut self, heir: &str) {
        self.delete(Key::Leader);
        let term = Term { heir: Some(heir.into()), ..self.blank(TermState::Released) };
        self.put(Key::Term, &serde_json::to_vec(&term).unwrap());
    }

    pub(crate) fn leader(&self) -> Option<Leader> {
        self.keys.get(&Key::Leader).map(|(bytes, ..)| serde_json::from_slice(bytes).unwrap())
    }

    pub(crate) fn candidate(&self, lease: LeaseId) -> Candidate {
        serde_json::from_slice(&self.keys[&Key::Candidate(lease)].0).unwrap()
    }

    pub(crate) fn term(&self) -> Term {
        serde_json::from_slice(&self.keys[&Key::Term].0).unwrap()
    }

    pub(crate) fn put_candidate(&mut self, lease: i64, candidate: &Candidate) {
        self.put(Key::Candidate(LeaseId(lease)), &serde_json::to_vec(candidate).unwrap());
    }

    pub(crate) fn put(&mut self, key: Key, bytes: &[u8]) {
        self.revision += 1;
        let change = self.write(key, Some(bytes.to_vec()));
        self.untold.push(change);
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.revision += 1;
        let change = self.write(key, None);
        self.untold.push(change);
    }

    fn write(&mut self, key: Key, bytes: Option<Vec<u8>>) -> Change {
        let modified = self.revision;
        let create = self.keys.get(&key).map_or(modified, |(_, create, _)| *create);
        match bytes {
            Some(bytes) => {
                self.keys.insert(key, (bytes.clone(), create, modified));
                Change { key, bytes: Some(bytes), create, modified }
            }
            None => {
                self.keys.remove(&key);
                Change { key, bytes: None, create: 0, modified }
            }
        }
    }

    pub(crate) fn view(&self) -> View {
        let changes: Vec<Change> = self
            .keys
            .iter()
            .map(|(key, (bytes, create, modified))| Change {
                key: *key,
                bytes: Some(bytes.clone()),
                create: *create,
                modified: *modified,
            })
            .collect();
        View::new(self.revision, &changes)
    }

    pub(crate) fn run(&mut self, txn: &Txn) -> Answer {
        if self.silent {
            return Answer::Unknown;
        }
        let holds = |compare: &Compare| match compare {
            Compare::Create(key, revision) => self.keys.get(key).map_or(0, |k| k.1) == *revision,
            Compare::Modified(key, revision) => self.keys.get(key).map_or(0, |k| k.2) == *revision,
        };
        if !txn.when.iter().all(holds) {
            return Answer::Refused(self.view());
        }
        self.revision += 1;
        for op in &txn.then {
            match op {
                Op::Put(key, bytes, _) => self.write(*key, Some(bytes.clone())),
                Op::Delete(key) => self.write(*key, None),
            };
        }
        if let Some(left) = self.swallow.checked_sub(1) {
            self.swallow = left;
            return Answer::Unknown;
        }
        Answer::Done { revision: self.revision }
    }
}
