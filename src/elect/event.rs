//! What happens to the machine and what it wants done. Neither knows of sockets, files or processes.

use std::time::Duration;

use super::instant::Instant;
use super::record::LeaseId;
use super::txn::{Answer, Txn};
use super::view::{Change, View};

/// Names one request; its answer carries it back.
pub type RequestId = u64;

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed; asked for by `Machine::wake`, harmless at any other moment.
    Tick,
    /// The group as a linearizable read shows it: the answer to [`Effect::Watch`], and again after a watch was lost.
    Seen(View),
    /// A watched key changed.
    Changed(Change),
    /// The store is another one than before (restored, wiped): what was known of revisions is void. A `Seen` follows.
    Replaced,
    /// The answer to [`Effect::Send`].
    Answered(RequestId, Answer),
    /// This process's lease for the queue; `None`: lost, another one will be granted.
    Lease(Option<LeaseId>),
    /// Whether this node may lead: the source parses, the destination can be written, health checks pass (after
    /// fall and rise were counted). The text says why not.
    Fitness(Result<(), Unfit>),
    /// [`Effect::Start`] is done: the manifest is visible, start hooks ran. Or it failed, and nothing is left of it.
    Started(Result<(), String>),
    /// [`Effect::Stop`] is done: manifest and payload are confirmed gone. Or they could not be, and it still tries.
    Stopped(Result<(), String>),
    /// The payload ended by itself (`--exec`).
    Ended,
    /// This host's clock or boot looks wrong, or the process was not run for a while: trust nothing older.
    Anomaly(String),
    /// Whether this process leads another group that this one should keep apart from (−1) or together with (1).
    Bias(i8),
    /// SIGUSR1: let another lead.
    Resign,
    /// SIGTERM: let go and end.
    Terminate,
}

/// Why a node may not lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// A health check: while leading it resigns if another is fit.
    Health(String),
    /// Source or destination: who leads goes on with what it has.
    Payload(String),
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Run a transaction on one member, then the next at the next attempt; answer within the time, or
    /// [`Answer::Unknown`].
    Send {
        /// Comes back with the answer.
        id: RequestId,
        /// What to run.
        txn: Txn,
        /// o: the attempt is given up after this long.
        within: Duration,
    },
    /// Look at these keys from now on, in place of what was looked at. Read first: [`Event::Seen`], then changes.
    Watch(Interest),
    /// Install the manifest, run start hooks. Not after `until`: checked right before it becomes visible. What is
    /// there already, and is the same, stays untouched.
    Start {
        /// Fencing token: create revision of the leader key.
        token: i64,
        /// s + F − f.
        until: Instant,
    },
    /// The payload may stay until here: a new renewal.
    Extend {
        /// s + F − f.
        until: Instant,
    },
    /// Remove the manifest, confirm the payload dead. Tries for ever, up the fencing ladder.
    Stop {
        /// The manifest must be gone by then.
        gone: Instant,
        /// And the payload dead by then.
        dead: Instant,
    },
    /// For the journal: one line for each transition.
    Say(String),
    /// For the metrics.
    Count(Count),
    /// The process can end, all is released.
    Exit(Exit),
}

/// Which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interest {
    /// Head of the queue, leader, or not in the queue yet: the whole group.
    Group,
    /// One who waits: its own key, its predecessor's, and `ctl/`.
    Queue {
        /// The own lease.
        own: LeaseId,
        /// The one before it in the queue.
        before: LeaseId,
    },
}

/// Things worth a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Count {
    /// Became leader; ended being it.
    Transition(&'static str),
    /// Began to fence, and why.
    Fence(&'static str),
    /// A renewal went unanswered.
    RenewalFailed,
    /// A renewal was answered after this long.
    Renewed(Duration),
    /// The leader key vanished though nobody let go of it.
    Suspicious,
    /// Clock, boot or scheduling looked wrong.
    Anomaly,
    /// Woke up past the deadline by this much: another may have led meanwhile.
    OverlapRisk(Duration),
    /// After this long without the leader, this one took over.
    TakeoverDelay(Duration),
}

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Released, exit code 0.
    Clean,
    /// Another process uses this identity, exit code 3.
    Duplicate,
    /// The payload is dead, but etcd could not be told; after s + B that makes no difference. Exit code 4.
    Unreleased,
    /// The payload could not be stopped; the key is left as it is. Exit code 7.
    Unfenced,
    /// Leadership was lost and there is no next time (`--once`), exit code 6.
    Lost,
}
