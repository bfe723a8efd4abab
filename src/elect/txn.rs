//! The transactions of the protocol, as data: whoever runs them, etcd or a simulation of it, adds nothing.

use super::record::{Candidate, Leader, LeaseId, Term};
use super::view::{Key, View};

/// What must hold for a transaction to happen. A key that is absent has revision 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compare {
    /// The key was created by this revision.
    Create(Key, i64),
    /// The key was last written by this revision.
    Modified(Key, i64),
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// Writes a key, on a lease if one is named.
    Put(Key, Vec<u8>, Option<LeaseId>),
    /// Deletes a key.
    Delete(Key),
}

/// All of `then` if all of `when` holds; otherwise nothing, and the group is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Txn {
    /// Compares.
    pub when: Vec<Compare>,
    /// Writes.
    pub then: Vec<Op>,
}

/// What comes back, exactly once for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It happened, at this revision.
    Done {
        /// Of the store after it.
        revision: i64,
    },
    /// A compare did not hold; the group as it is.
    Refused(View),
    /// No answer, or one that leaves it open. It may have happened, or happen later.
    Unknown,
}

/// Joins the queue.
pub fn enqueue(lease: LeaseId, me: &Candidate) -> Txn {
    Txn {
        when: vec![Compare::Create(Key::Candidate(lease), 0)],
        then: vec![Op::Put(Key::Candidate(lease), json(me), Some(lease))],
    }
}

/// Says something new of itself, at the same place in the queue.
pub fn update(lease: LeaseId, create: i64, me: &Candidate) -> Txn {
    Txn {
        when: vec![Compare::Create(Key::Candidate(lease), create)],
        then: vec![Op::Put(Key::Candidate(lease), json(me), Some(lease))],
    }
}

/// Leaves the queue.
pub fn dequeue(lease: LeaseId) -> Txn {
    Txn { when: vec![], then: vec![Op::Delete(Key::Candidate(lease))] }
}

/// Notes that the group has no term: its wait begins with this write. What is not there has no revision to compare, so
/// who was cut off could not tell that someone led, and was deleted with all keys, since it looked.
pub fn mark(lease: LeaseId, create: i64, term: &Term) -> Txn {
    Txn {
        when: vec![
            Compare::Create(Key::Leader, 0),
            Compare::Create(Key::Candidate(lease), create),
            Compare::Create(Key::Term, 0),
        ],
        then: vec![Op::Put(Key::Term, json(term), None)],
    }
}

/// Becomes leader. The compare of the own candidate key keeps out who lost its lease without knowing (a phantom), that
/// of `term` whoever does not know how the last leader ended.
pub fn acquire(lease: LeaseId, create: i64, term_modified: i64, leader: &Leader, term: &Term) -> Txn {
    Txn {
        when: vec![
            Compare::Create(Key::Leader, 0),
            Compare::Create(Key::Candidate(lease), create),
            Compare::Modified(Key::Term, term_modified),
        ],
        then: vec![
            Op::Put(Key::Leader, json(leader), None),
            Op::Put(Key::Term, json(term), None),
            Op::Delete(Key::Candidate(lease)),
        ],
    }
}

/// Says that the silent leader last heard at revision `modified` is dead. Had it renewed since, the compare fails.
pub fn take(modified: i64, term_modified: i64, term: &Term) -> Txn {
    Txn {
        when: vec![Compare::Modified(Key::Leader, modified), Compare::Modified(Key::Term, term_modified)],
        then: vec![Op::Delete(Key::Leader), Op::Put(Key::Term, json(term), None)],
    }
}

/// Goes on leading. A write, not a keep-alive: it needs quorum and ownership, every time.
pub fn renew(token: i64, leader: &Leader) -> Txn {
    Txn { when: vec![Compare::Create(Key::Leader, token)], then: vec![Op::Put(Key::Leader, json(leader), None)] }
}

/// Lets go, after the payload's death was confirmed. The operator's wish for a transfer is fulfilled with it.
pub fn release(token: i64, term: &Term, transferred: bool) -> Txn {
    let mut then = vec![Op::Delete(Key::Leader), Op::Put(Key::Term, json(term), None)];
    if transferred {
        then.push(Op::Delete(Key::Transfer));
    }
    Txn { when: vec![Compare::Create(Key::Leader, token)], then }
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // These are structs of strings and numbers: they always encode.
    serde_json::to_vec(value).unwrap_or_default()
}
