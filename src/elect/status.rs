//! What a candidate says of itself: the status file, `elect status`, and what a process started anew may adopt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::instant::Instant;
use super::record::Token;

/// One group as this process sees it. Readers compare [`Status::deadline_ns`] with their own boot-time clock: the file
/// of a process that died says for ever what it said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// `elect-status/1`
    pub schema: String,
    /// The group.
    pub group: String,
    /// This candidate.
    pub id: String,
    /// `cleaning`, `idle`, `queued`, `head`, `adopting`, `installing`, `leading`, `fencing`, `fenced`, `releasing` or
    /// `ended`.
    pub state: String,
    /// It leads, and may until the deadline.
    pub is_leader: bool,
    /// Its fencing token, from acquiring until it is confirmed dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Number of its term.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The boot that the two times belong to.
    pub boot_id: String,
    /// The process.
    pub nonce: String,
    /// Its lease for the queue, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// s: when the last successful renewal was sent, in nanoseconds of the boot-time clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewed_at_ns: Option<u64>,
    /// s + F: until then it leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ns: Option<u64>,
    /// Who leads, as far as it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// How many wait.
    pub candidates: usize,
    /// Its place among them, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// When it came into this state, in nanoseconds of the boot-time clock.
    pub since_ns: u64,
    /// It could lead.
    pub eligible: bool,
    /// Why it could not, or what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It does not join the queue before, after leaderships that failed, in nanoseconds of the boot-time clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back_until_ns: Option<u64>,
    /// The operator paused the group.
    pub paused: bool,
    /// Its payload could not be stopped.
    pub unfenced: bool,
    /// The last change of leadership it took part in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Transition>,
}

/// A change of leadership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// Why: `silence`, `released`, `transfer`, `health`, `deadline`, `lost`, …
    pub cause: String,
    /// When, in nanoseconds of the boot-time clock.
    pub at_ns: u64,
    /// From learning that there is no leader, or from the last sign of life of the old one, to the own manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
}

/// Leadership of an earlier life of this process, on this boot, whose deadline had not passed when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Create revision of the leader key.
    pub token: i64,
    /// Number of the term.
    pub term: u64,
    /// Its nonce; the new process goes on under it.
    pub nonce: String,
    /// s + F of the earlier life.
    pub deadline: Instant,
}

impl Status {
    /// The value of [`Status::schema`].
    pub const SCHEMA: &str = "elect-status/1";

    /// What can be adopted at `now` in the boot `boot_id`; nothing of a process that was about to let go.
    pub fn adoptable(&self, boot_id: &str, now: Instant) -> Option<Stored> {
        let deadline = Instant::from_nanos(self.deadline_ns?);
        (self.schema == Self::SCHEMA && self.is_leader && self.boot_id == boot_id && now < deadline).then_some(())?;
        Some(Stored { token: self.token?.revision, term: self.term?, nonce: self.nonce.clone(), deadline })
    }

    /// s + F of an earlier life on this boot that was not seen to end well: others wait for its payload's end.
    pub fn unfinished(&self, boot_id: &str) -> Option<Instant> {
        self.deadline_ns.filter(|_| self.boot_id == boot_id).map(Instant::from_nanos)
    }

    /// How long it may still lead at `now`; zero if it does not, or the status is from another boot.
    pub fn left(&self, boot_id: &str, now: Instant) -> Duration {
        match self.deadline_ns {
            Some(deadline) if self.is_leader && self.boot_id == boot_id => Instant::from_nanos(deadline).since(now),
            _ => Duration::ZERO,
        }
    }
}
