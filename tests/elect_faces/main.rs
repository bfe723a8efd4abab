//! What the election daemon shows: metrics, pages over HTTP, lines in the journal, the service manager, files in /run.
#![allow(clippy::disallowed_methods, reason = "tests are effects")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod exposition;
mod journal;
mod notify;
mod pages;
mod predecessor;
mod runtime_dir;

use hamaster::elect::record::Token;
use hamaster::elect::status::Status;

/// A leader of `group` until `deadline_s` of the boot-time clock.
fn leader(group: &str, deadline_s: u64) -> Status {
    Status {
        state: "leading".to_owned(),
        is_leader: true,
        token: Some(Token { cluster_id: 0xabc, revision: 42 }),
        term: Some(7),
        deadline_ns: Some(deadline_s * 1_000_000_000),
        leader: Some("m1".to_owned()),
        position: None,
        ..waiting(group)
    }
}

/// The second of three that wait while m2 leads.
fn waiting(group: &str) -> Status {
    Status {
        schema: Status::SCHEMA.to_owned(),
        group: group.to_owned(),
        id: "m1".to_owned(),
        state: "queued".to_owned(),
        is_leader: false,
        token: None,
        term: None,
        boot_id: "boot".to_owned(),
        nonce: "n".to_owned(),
        lease: None,
        renewed_at_ns: None,
        deadline_ns: None,
        leader: Some("m2".to_owned()),
        candidates: 3,
        position: Some(2),
        since_ns: 0,
        eligible: true,
        reason: None,
        held_back_until_ns: None,
        paused: false,
        unfenced: false,
        last: None,
    }
}
