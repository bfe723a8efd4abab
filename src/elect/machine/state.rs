//! The states, and what a machine remembers in them.

use crate::elect::event::RequestId;
use crate::elect::instant::Instant;
use crate::elect::record::{Candidate, Leader, LeaseId, Term};
use crate::elect::status::Stored;

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Not begun.
    New { stored: Option<Stored>, unfinished: Option<Instant> },
    /// What an earlier life left is removed and confirmed dead.
    Cleaning { dead: Instant, unfinished: Option<Instant> },
    /// Not in the queue. `leftover`: its key may still be there.
    Idle { leftover: bool },
    /// In the queue under a lease. `acquiring`: an acquisition was sent, first at this time.
    Queued { lease: LeaseId, create: i64, acquiring: Option<Acquisition> },
    /// It holds the leader key.
    Leading { held: Held, phase: Phase },
    /// The payload is being stopped, against its will. `lost`: the key is not its own any more.
    Fencing { held: Held, lost: bool },
    /// The payload is dead, the key may still be its own.
    Fenced { held: Held },
    /// The payload is being stopped, or is, and the key is given back.
    Releasing { held: Held, why: Why, stopped: bool, dead: Instant },
    /// [`Effect::Exit`] was said. `unfinished`: the deadline of what could not be stopped.
    Ended { unfinished: Option<Instant> },
}

/// How far a leader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// An earlier life's payload runs; one renewal must show that the key is still its own.
    Adopting,
    /// The payload is being started.
    Installing,
    /// The payload runs.
    Active,
}

/// Leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) token: i64,
    pub(super) term: u64,
    pub(super) beat: u64,
    /// When the last successful renewal was sent.
    pub(super) s: Instant,
    /// s + F.
    pub(super) deadline: Instant,
    pub(super) began: Instant,
    pub(super) next_renewal: Instant,
    /// After an anomaly: a renewal sent since must succeed by then.
    pub(super) verify_by: Option<Instant>,
}

/// An acquisition that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acquisition {
    pub(super) first_sent: Instant,
    pub(super) leader: Leader,
    pub(super) term: Term,
    pub(super) cause: &'static str,
    /// From when the gap counts.
    pub(super) gap_from: Instant,
}

/// Why a leader lets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) cause: &'static str,
    pub(super) heir: Option<String>,
    pub(super) transferred: bool,
    /// Counts as a failure: back off.
    pub(super) strike: bool,
}

/// What is known of the leader key, and since when nothing newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Unknown,
    Held { modified: i64, learned: Instant },
    Vacant { term_modified: i64, learned: Instant },
}

/// The request in flight; there is at most one.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) sent: Instant,
    pub(super) ask: Ask,
}

#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// With what is written: this process may wish to say something else by the time it is answered.
    Enqueue {
        lease: LeaseId,
        candidate: Candidate,
    },
    Update {
        candidate: Candidate,
    },
    Dequeue,
    Mark {
        term: Term,
    },
    Take {
        term: Term,
    },
    Acquire,
    Renew {
        beat: u64,
    },
    Release {
        term: Term,
    },
}

impl Why {
    pub(super) fn new(cause: &'static str) -> Self {
        Self { cause, heir: None, transferred: false, strike: false }
    }
}
