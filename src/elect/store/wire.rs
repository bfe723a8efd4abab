//! The protocol's data as etcd speaks it, and back.

use etcd_client::{
    Compare, CompareOp, DeleteResponse, EventType, GetOptions, GetResponse, KeyValue, LeaseGrantResponse, PutOptions,
    PutResponse, ResponseHeader, TxnOp, TxnOpResponse, TxnResponse, WatchStream,
};

use crate::elect::record::LeaseId;
use crate::elect::txn::{self, Answer, Op, Txn};
use crate::elect::view::{Change, Key, View};

/// The transaction; its other branch reads the group, so that a refusal says how things are.
pub(super) fn txn(prefix: &str, txn: &Txn) -> etcd_client::Txn {
    let when: Vec<Compare> = txn
        .when
        .iter()
        .map(|compare| match *compare {
            txn::Compare::Create(key, at) => Compare::create_revision(key.path(prefix), CompareOp::Equal, at),
            txn::Compare::Modified(key, at) => Compare::mod_revision(key.path(prefix), CompareOp::Equal, at),
        })
        .collect();
    let then: Vec<TxnOp> = txn
        .then
        .iter()
        .map(|op| match op {
            Op::Put(key, value, lease) => {
                let lease = lease.map(|LeaseId(id)| PutOptions::new().with_lease(id));
                TxnOp::put(key.path(prefix), value.clone(), lease)
            }
            Op::Delete(key) => TxnOp::delete(key.path(prefix), None),
        })
        .collect();
    let read = TxnOp::get(prefix, Some(GetOptions::new().with_prefix()));
    etcd_client::Txn::new().when(when).and_then(then).or_else([read])
}

/// What an answer to [`txn`] means. One without the parts it must have leaves it open.
pub(super) fn answer(prefix: &str, response: &TxnResponse) -> Answer {
    let Some(header) = response.header() else { return Answer::Unknown };
    if response.succeeded() {
        return Answer::Done { revision: header.revision() };
    }
    match response.op_responses().as_slice() {
        [TxnOpResponse::Get(read)] => Answer::Refused(view(prefix, header.revision(), read.kvs())),
        _ => Answer::Unknown,
    }
}

/// The group as a range read at `revision` shows it; keys that are not ours are passed over.
pub(super) fn view(prefix: &str, revision: i64, kvs: &[KeyValue]) -> View {
    let keys: Vec<Change> = kvs.iter().filter_map(|kv| put(prefix, kv)).collect();
    View::new(revision, &keys)
}

fn put(prefix: &str, kv: &KeyValue) -> Option<Change> {
    Some(Change {
        key: key(prefix, kv)?,
        bytes: Some(kv.value().to_vec()),
        create: kv.create_revision(),
        modified: kv.mod_revision(),
    })
}

/// What a watch tells.
pub(super) fn change(prefix: &str, event: &etcd_client::Event) -> Option<Change> {
    let kv = event.kv()?;
    match event.event_type() {
        EventType::Put => put(prefix, kv),
        EventType::Delete => {
            Some(Change { key: key(prefix, kv)?, bytes: None, create: 0, modified: kv.mod_revision() })
        }
    }
}

fn key(prefix: &str, kv: &KeyValue) -> Option<Key> {
    Key::parse(prefix, std::str::from_utf8(kv.key()).ok()?)
}

/// The header of an answer: which cluster spoke, at which revision.
pub(super) trait Headed {
    /// Cluster id and, where the answer went through consensus, revision.
    fn stands(&self) -> Option<(u64, Option<i64>)>;
}

fn linear(header: Option<&ResponseHeader>) -> Option<(u64, Option<i64>)> {
    header.map(|h| (h.cluster_id(), Some(h.revision())))
}

macro_rules! linear {
    ($($response:ty),*) => { $(impl Headed for $response {
        fn stands(&self) -> Option<(u64, Option<i64>)> { linear(self.header()) }
    })* };
}

linear!(TxnResponse, GetResponse, PutResponse, DeleteResponse);

impl Headed for LeaseGrantResponse {
    fn stands(&self) -> Option<(u64, Option<i64>)> {
        self.header().map(|h| (h.cluster_id(), None))
    }
}

impl Headed for WatchStream {
    fn stands(&self) -> Option<(u64, Option<i64>)> {
        None
    }
}

/// Answers that are yes or no.
impl Headed for bool {
    fn stands(&self) -> Option<(u64, Option<i64>)> {
        None
    }
}
