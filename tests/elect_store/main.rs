//! The store against real etcd: what it may say after a fault, and what it must never say.
#![allow(clippy::disallowed_methods, reason = "tests are effects")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calls;
mod etcd;
mod proxy;
mod refusals;
mod session;
mod watching;

use std::time::Duration;

use hamaster::elect::event::Interest;
use hamaster::elect::record::{Identity, Leader};
use hamaster::elect::store::{Store, StoreEvent, WatchHandle};
use hamaster::elect::txn::{self, Answer, Compare, Op, Txn};
use hamaster::elect::view::Key;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

pub(crate) const GROUP: &str = "scheduler";
/// o: long enough for a busy machine, short enough to rotate.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(700);
/// Liveness only: a test that fails fails after this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("the test took too long") });
    runtime.shutdown_background();
}

pub(crate) fn leader(beat: u64) -> Leader {
    let text = |t: &str| t.to_owned();
    let who = Identity { id: text("m1"), machine_id: text("m"), boot_id: text("b"), nonce: text("n") };
    Leader { protocol: 1, who, term: 1, beat, lease: Duration::from_secs(10), bound: Duration::from_secs(15) }
}

/// Creates the leader key.
pub(crate) fn lead(beat: u64) -> Txn {
    let put = txn::renew(0, &leader(beat)).then;
    Txn { when: vec![Compare::Create(Key::Leader, 0)], then: put }
}

/// Writes whatever is there.
pub(crate) fn beat(n: u64) -> Txn {
    Txn { when: vec![], then: txn::renew(0, &leader(n)).then }
}

pub(crate) fn nop() -> Txn {
    Txn { when: vec![], then: vec![Op::Delete(Key::Pause)] }
}

/// Tries until it happened; returns the revision and the number of attempts.
pub(crate) async fn done(store: &Store, txn: &Txn) -> (i64, u32) {
    for attempt in 1.. {
        match store.run(GROUP, txn, ATTEMPT).await {
            Answer::Done { revision } => return (revision, attempt),
            Answer::Unknown => {}
            Answer::Refused(view) => panic!("refused: {view:?}"),
        }
    }
    unreachable!()
}

pub(crate) struct Watching {
    pub(crate) events: UnboundedReceiver<StoreEvent>,
    _handle: WatchHandle,
}

impl Watching {
    pub(crate) fn new(store: &Store, interest: Interest, silence: Duration) -> Self {
        let (tell, events) = unbounded_channel();
        Self { events, _handle: store.watch(GROUP, interest, silence, tell) }
    }

    pub(crate) async fn next(&mut self) -> StoreEvent {
        self.events.recv().await.unwrap()
    }

    /// Waits until the watch told of the leader's `beat`; a leader that vanishes meanwhile is a failure.
    pub(crate) async fn beat(&mut self, beat: u64) {
        loop {
            let leader = match self.next().await {
                StoreEvent::Seen(view) => view.leader.expect("the leader key is there").value,
                StoreEvent::Changed(c) if c.key == Key::Leader => {
                    Some(serde_json::from_slice(&c.bytes.expect("it was never deleted")).unwrap())
                }
                StoreEvent::Replaced => panic!("it is the same cluster"),
                _ => continue,
            };
            if leader.is_some_and(|l: Leader| l.beat == beat) {
                return;
            }
        }
    }
}
