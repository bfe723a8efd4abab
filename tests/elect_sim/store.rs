//! etcd: keys with revisions, leases, a history that watches read, transactions of the real protocol.

use std::collections::BTreeMap;

use hamaster::elect::event::Interest;
use hamaster::elect::record::LeaseId;
use hamaster::elect::txn::{Answer, Compare, Op, Txn};
use hamaster::elect::view::{Change, Key, View};

#[derive(Debug, Clone)]
struct Item {
    bytes: Vec<u8>,
    create: i64,
    modified: i64,
    lease: Option<LeaseId>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    pub(crate) revision: i64,
    items: BTreeMap<Key, Item>,
    history: Vec<Change>,
    /// Leases and when they end.
    leases: BTreeMap<LeaseId, u64>,
    granted: i64,
}

impl Store {
    /// Runs a transaction: all or nothing, at one new revision.
    pub(crate) fn run(&mut self, txn: &Txn) -> Answer {
        let holds = txn.when.iter().all(|compare| match *compare {
            Compare::Create(key, revision) => self.items.get(&key).map_or(0, |i| i.create) == revision,
            Compare::Modified(key, revision) => self.items.get(&key).map_or(0, |i| i.modified) == revision,
        });
        if !holds {
            return Answer::Refused(self.view());
        }
        let lost = |op: &Op| matches!(op, Op::Put(_, _, Some(lease)) if !self.leases.contains_key(lease));
        if txn.then.iter().any(lost) {
            // "requested lease not found": an error, which says nothing to who asked.
            return Answer::Unknown;
        }
        self.revision += 1;
        for op in &txn.then {
            match op {
                Op::Put(key, bytes, lease) => self.write(*key, bytes.clone(), *lease),
                Op::Delete(key) => self.erase(*key),
            }
        }
        Answer::Done { revision: self.revision }
    }

    /// An operator's write.
    pub(crate) fn put(&mut self, key: Key, bytes: &[u8]) {
        self.revision += 1;
        self.write(key, bytes.to_vec(), None);
    }

    /// An operator's deletion of one key or several.
    pub(crate) fn delete(&mut self, keys: &[Key]) {
        self.revision += 1;
        keys.iter().for_each(|key| self.erase(*key));
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.items.keys().copied().collect()
    }

    pub(crate) fn has(&self, key: Key) -> bool {
        self.items.contains_key(&key)
    }

    fn write(&mut self, key: Key, bytes: Vec<u8>, lease: Option<LeaseId>) {
        let create = self.items.get(&key).map_or(self.revision, |i| i.create);
        self.history.push(Change { key, bytes: Some(bytes.clone()), create, modified: self.revision });
        self.items.insert(key, Item { bytes, create, modified: self.revision, lease });
    }

    fn erase(&mut self, key: Key) {
        if self.items.remove(&key).is_some() {
            self.history.push(Change { key, bytes: None, create: 0, modified: self.revision });
        }
    }

    /// A linearizable read of the group.
    pub(crate) fn view(&self) -> View {
        let keys: Vec<_> = self
            .items
            .iter()
            .map(|(key, i)| Change { key: *key, bytes: Some(i.bytes.clone()), create: i.create, modified: i.modified })
            .collect();
        View::new(self.revision, &keys)
    }

    /// What a watch tells that knows everything up to `cursor`.
    pub(crate) fn since(&self, cursor: i64, interest: Interest) -> Vec<Change> {
        let from = self.history.partition_point(|c| c.modified <= cursor);
        let wanted = |key: Key| match interest {
            Interest::Group => true,
            Interest::Queue { own, before } => {
                matches!(key, Key::Transfer | Key::Pause) || key == Key::Candidate(own) || key == Key::Candidate(before)
            }
        };
        self.history[from..].iter().filter(|c| wanted(c.key)).cloned().collect()
    }

    pub(crate) fn grant(&mut self, until: u64) -> LeaseId {
        self.granted += 1;
        let lease = LeaseId(0x1000 + self.granted);
        self.leases.insert(lease, until);
        lease
    }

    /// False when there is no such lease any more.
    pub(crate) fn keep_alive(&mut self, lease: LeaseId, until: u64) -> bool {
        self.leases.get_mut(&lease).map(|end| *end = until).is_some()
    }

    /// Ends the lease, and with it its keys.
    pub(crate) fn revoke(&mut self, lease: LeaseId) {
        let keys: Vec<_> = self.items.iter().filter(|(_, i)| i.lease == Some(lease)).map(|(k, _)| *k).collect();
        if self.leases.remove(&lease).is_some() && !keys.is_empty() {
            self.delete(&keys);
        }
    }

    pub(crate) fn expired(&self, now: u64) -> Vec<LeaseId> {
        self.leases.iter().filter(|(_, end)| **end <= now).map(|(lease, _)| *lease).collect()
    }

    /// Ids of leases are random: none comes twice, even where `other` held before what this one holds.
    pub(crate) fn after(self, other: &Self) -> Self {
        Self { granted: other.granted, ..self }
    }

    /// A new leader of etcd starts every lease anew.
    pub(crate) fn renew_leases(&mut self, until: u64) {
        self.leases.values_mut().for_each(|end| *end = until);
    }
}
