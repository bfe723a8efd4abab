//! etcd, as far as the protocol sees it: keys with the revisions that created and last wrote them, and transactions.

use std::collections::BTreeMap;
use std::time::Duration;

use hamaster::elect::record::{Candidate, Identity, Leader, LeaseId, PROTOCOL, Term, TermState};
use hamaster::elect::txn::{Compare, Op, Txn};
use hamaster::elect::view::{Key, Versioned, View};

/// How many candidates there are.
pub(crate) const NODES: usize = 3;

/// What a record says, without the names. Counters that no compare reads (beats, term numbers) are left out, so that
/// states differ only where the protocol can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Leader {
        node: u8,
        incarnation: u8,
        bound: u8,
    },
    Term {
        state: TermState,
        bound: u8,
    },
    Candidate,
    /// An operator's hand.
    Junk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    pub(crate) create: u8,
    pub(crate) modified: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Store {
    pub(crate) revision: u8,
    pub(crate) leader: Option<Entry>,
    pub(crate) term: Option<Entry>,
    pub(crate) candidates: [Option<Entry>; NODES],
}

impl Store {
    fn slot(&mut self, key: Key) -> &mut Option<Entry> {
        match key {
            Key::Leader => &mut self.leader,
            Key::Term => &mut self.term,
            Key::Candidate(LeaseId(node)) => &mut self.candidates[node as usize],
            Key::Transfer | Key::Pause => panic!("the model has no operator's wishes"),
        }
    }

    /// Runs a transaction of the real protocol; false when a compare refused it.
    pub(crate) fn run(&mut self, txn: &Txn) -> bool {
        let holds = txn.when.iter().all(|compare| match *compare {
            Compare::Create(key, revision) => self.slot(key).map_or(0, |e| e.create) == small(revision),
            Compare::Modified(key, revision) => self.slot(key).map_or(0, |e| e.modified) == small(revision),
        });
        if holds {
            self.revision += 1;
            let revision = self.revision;
            for op in &txn.then {
                match op {
                    Op::Put(key, bytes, _) => {
                        let value = read(*key, bytes);
                        let slot = self.slot(*key);
                        let create = slot.map_or(revision, |e| e.create);
                        *slot = Some(Entry { value, create, modified: revision });
                    }
                    Op::Delete(key) => *self.slot(*key) = None,
                }
            }
        }
        holds
    }

    /// What a linearizable read of the group shows.
    pub(crate) fn view(&self) -> View {
        let leader = self.leader.map(|entry| versioned(entry, leader(entry.value)));
        let term = self.term.map(|entry| versioned(entry, term(entry.value)));
        let candidates = (0..NODES).filter_map(|node| {
            let waiter = versioned(self.candidates[node]?, Some(candidate(node)));
            Some((LeaseId(node as i64), waiter))
        });
        View {
            revision: self.revision.into(),
            leader_at: self.leader.map_or(self.revision, |e| e.modified).into(),
            leader,
            term,
            candidates: candidates.collect::<BTreeMap<_, _>>(),
            ..View::default()
        }
    }
}

fn versioned<T>(entry: Entry, value: Option<T>) -> Versioned<T> {
    Versioned { value, create: entry.create.into(), modified: entry.modified.into() }
}

fn small(revision: i64) -> u8 {
    revision.try_into().unwrap()
}

pub(crate) fn ticks(n: u8) -> Duration {
    Duration::from_secs(n.into())
}

fn identity(node: usize, incarnation: u8) -> Identity {
    Identity {
        id: node.to_string(),
        machine_id: node.to_string(),
        boot_id: String::new(),
        nonce: incarnation.to_string(),
    }
}

pub(crate) fn candidate(node: usize) -> Candidate {
    Candidate { who: identity(node, 0), priority: 0, bias: 0 }
}

pub(crate) fn leader(value: Value) -> Option<Leader> {
    let Value::Leader { node, incarnation, bound } = value else { return None };
    let who = identity(node.into(), incarnation);
    Some(Leader { protocol: PROTOCOL, who, term: 0, beat: 0, lease: ticks(bound), bound: ticks(bound) })
}

pub(crate) fn term(value: Value) -> Option<Term> {
    let Value::Term { state, bound } = value else { return None };
    Some(Term {
        number: 0,
        holder: String::new(),
        nonce: String::new(),
        state,
        cause: String::new(),
        heir: None,
        bound: ticks(bound),
        largest_bound: ticks(bound),
    })
}

/// Bytes of the real records back to what they say.
fn read(key: Key, bytes: &[u8]) -> Value {
    let bound = |d: Duration| u8::try_from(d.as_secs()).unwrap();
    match key {
        Key::Leader => serde_json::from_slice::<Leader>(bytes).map_or(Value::Junk, |l| Value::Leader {
            node: l.who.id.parse().unwrap(),
            incarnation: l.who.nonce.parse().unwrap(),
            bound: bound(l.bound),
        }),
        Key::Term => serde_json::from_slice::<Term>(bytes)
            .map_or(Value::Junk, |t| Value::Term { state: t.state, bound: bound(t.bound) }),
        _ => Value::Candidate,
    }
}
