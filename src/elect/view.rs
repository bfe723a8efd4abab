//! What one candidate knows of a group's keys, and the order of those who wait.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::record::{Candidate, Leader, LeaseId, Pause, Term, Transfer};

/// A key below the group's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `leader`
    Leader,
    /// `term`
    Term,
    /// `c/<lease>`
    Candidate(LeaseId),
    /// `ctl/transfer`
    Transfer,
    /// `ctl/pause`
    Pause,
}

/// Where everything of the election lies. The group's name and a slash follow.
pub const PREFIX: &str = "/hamaster/elect/";

impl Key {
    /// The key in etcd; `prefix` is [`prefix`] of the group.
    pub fn path(self, prefix: &str) -> String {
        match self {
            Key::Leader => format!("{prefix}leader"),
            Key::Term => format!("{prefix}term"),
            Key::Candidate(lease) => format!("{prefix}c/{lease}"),
            Key::Transfer => format!("{prefix}ctl/transfer"),
            Key::Pause => format!("{prefix}ctl/pause"),
        }
    }

    /// Reads what [`Key::path`] writes; `None` for a key that is not ours.
    pub fn parse(prefix: &str, path: &str) -> Option<Self> {
        match path.strip_prefix(prefix)? {
            "leader" => Some(Key::Leader),
            "term" => Some(Key::Term),
            "ctl/transfer" => Some(Key::Transfer),
            "ctl/pause" => Some(Key::Pause),
            rest => LeaseId::parse(rest.strip_prefix("c/")?).map(Key::Candidate),
        }
    }
}

/// The prefix of a group's keys.
pub fn prefix(group: &str) -> String {
    format!("{PREFIX}{group}/")
}

/// A value as etcd has it. `None` stands for what does not read: an operator's hand, or a newer version's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Versioned<T> {
    /// The value.
    pub value: Option<T>,
    /// Revision that created the key.
    pub create: i64,
    /// Revision that last wrote it.
    pub modified: i64,
}

/// One key as it was read or as a watch tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// Its bytes; `None`: deleted.
    pub bytes: Option<Vec<u8>>,
    /// Revision that created it; 0 when it is deleted.
    pub create: i64,
    /// Revision of this change.
    pub modified: i64,
}

/// A group's keys at one revision, as far as this candidate looks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct View {
    /// Revision of the read it began with. Changes do not move it: those of different keys may come out of order.
    pub revision: i64,
    /// Revision from which `leader` is so.
    pub leader_at: i64,
    /// `leader`
    pub leader: Option<Versioned<Leader>>,
    /// `term`
    pub term: Option<Versioned<Term>>,
    /// Those who wait.
    pub candidates: BTreeMap<LeaseId, Versioned<Candidate>>,
    /// `ctl/transfer`
    pub transfer: Option<Versioned<Transfer>>,
    /// `ctl/pause`
    pub pause: Option<Versioned<Pause>>,
}

impl View {
    /// What a read of the whole group at `revision` says.
    pub fn new(revision: i64, keys: &[Change]) -> Self {
        let mut view = Self::default();
        keys.iter().for_each(|key| view.apply(key));
        Self { revision, leader_at: revision, ..view }
    }

    /// Takes in one change; an older one than what is known is ignored.
    pub fn apply(&mut self, change: &Change) {
        if change.modified <= self.revision.max(self.known(change.key)) {
            return;
        }
        match change.key {
            Key::Leader => (self.leader, self.leader_at) = (versioned(change), change.modified),
            Key::Term => self.term = versioned(change),
            Key::Transfer => self.transfer = versioned(change),
            Key::Pause => self.pause = versioned(change),
            Key::Candidate(lease) => match versioned(change) {
                Some(value) => _ = self.candidates.insert(lease, value),
                None => _ = self.candidates.remove(&lease),
            },
        }
    }

    fn known(&self, key: Key) -> i64 {
        match key {
            Key::Leader => Some(self.leader_at),
            Key::Term => self.term.as_ref().map(|v| v.modified),
            Key::Transfer => self.transfer.as_ref().map(|v| v.modified),
            Key::Pause => self.pause.as_ref().map(|v| v.modified),
            Key::Candidate(lease) => self.candidates.get(&lease).map(|v| v.modified),
        }
        .unwrap_or(0)
    }

    /// Those who wait, the first to lead first. What does not read comes last: it cannot lead.
    pub fn queue(&self) -> Vec<(LeaseId, &Versioned<Candidate>)> {
        let mut queue: Vec<_> = self.candidates.iter().map(|(lease, c)| (*lease, c)).collect();
        queue.sort_by_key(|(lease, c)| (Reverse(c.value.as_ref().map(rank)), c.create, *lease));
        queue
    }

    /// Revision of the last change of `term`, 0 when there is none: what a transaction compares with.
    pub fn term_modified(&self) -> i64 {
        self.term.as_ref().map_or(0, |t| t.modified)
    }
}

/// What goes before the order of arrival: higher leads first.
pub fn rank(candidate: &Candidate) -> (i8, u8) {
    (candidate.bias, candidate.priority)
}

fn versioned<T: DeserializeOwned>(change: &Change) -> Option<Versioned<T>> {
    change.bytes.as_ref().map(|bytes| Versioned {
        value: serde_json::from_slice(bytes).ok(),
        create: change.create,
        modified: change.modified,
    })
}
