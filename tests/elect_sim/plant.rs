//! Mistakes planted around the real machine, which has none of them: the simulation must find each.

use std::time::Duration;

use hamaster::elect::event::Event;
use hamaster::elect::record::{Leader, Term};
use hamaster::elect::timing::Timing;
use hamaster::elect::txn::{Answer, Compare, Op, Txn};
use hamaster::elect::view::{Key, View};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// The deadline counts from a renewal's answer: the machine's clock is set back by as long as that took.
    FenceFromReceipt,
    /// A successor waits its own B: the machine is shown records that say so.
    OwnBound,
    /// A takeover does not compare the leader's revision: the compare is lost on the way.
    TakeUncompared,
    /// Neither an acquisition nor the mark before it compares the own candidate key: likewise.
    Phantom,
}

impl Bug {
    /// What etcd is asked in place of `txn`.
    pub(crate) fn spoil(self, txn: &Txn) -> Txn {
        let mut txn = txn.clone();
        match self {
            Bug::TakeUncompared if txn.then.contains(&Op::Delete(Key::Leader)) => {
                txn.when.retain(|c| !matches!(c, Compare::Modified(Key::Leader, _)));
            }
            Bug::Phantom if matches!(txn.then.first(), Some(Op::Put(Key::Leader | Key::Term, ..))) => {
                txn.when.retain(|c| !matches!(c, Compare::Create(Key::Candidate(_), _)));
            }
            _ => {}
        }
        txn
    }

    /// What a machine with these times hears in place of `event`.
    pub(crate) fn distort(self, event: Event, timing: &Timing) -> Event {
        if self != Bug::OwnBound {
            return event;
        }
        let own = timing.bound();
        match event {
            Event::Seen(view) => Event::Seen(falsify(view, own)),
            Event::Answered(id, Answer::Refused(view)) => Event::Answered(id, Answer::Refused(falsify(view, own))),
            Event::Changed(mut change) => {
                change.bytes = change.bytes.map(|bytes| match change.key {
                    Key::Leader => rewrite(bytes, |leader: &mut Leader| leader.bound = own),
                    Key::Term => rewrite(bytes, |term: &mut Term| (term.bound, term.largest_bound) = (own, own)),
                    _ => bytes,
                });
                Event::Changed(change)
            }
            other => other,
        }
    }
}

fn falsify(mut view: View, own: Duration) -> View {
    if let Some(leader) = view.leader.as_mut().and_then(|l| l.value.as_mut()) {
        leader.bound = own;
    }
    if let Some(term) = view.term.as_mut().and_then(|t| t.value.as_mut()) {
        (term.bound, term.largest_bound) = (own, own);
    }
    view
}

fn rewrite<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: Vec<u8>, change: impl FnOnce(&mut T)) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<T>(&bytes) else { return bytes };
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}
