//! The election's protocol as a model, checked in every order of events up to a depth.
//!
//! Three candidates with the transactions of `elect::txn` against a store of a few lines. Each step is one thing that
//! can happen: a clock ticks, a transaction is sent, happens or is answered, a manifest appears or goes; and the
//! faults: an answer is lost and the transaction happens later or never, a process or its host dies, is paused or
//! resigns, a lease of the queue is lost, etcd restarts, the operator deletes and overwrites keys. A slow clock loses
//! every fifth tick, so that ρ is a quarter here.
//!
//! What the model takes for granted is what the specification assumes of a host: a manifest is gone by s + L and its
//! payload dead by s + B, whoever sees to it. What it leaves out: two nodes with different times *and* an operator who
//! deletes both `leader` and `term`; then nothing tells how long a leader that is cut off may live.
//!
//! `HAMASTER_MODEL_DEPTH` adds to the depth, `HAMASTER_MODEL_FAULTS` sets how many faults a run may have. Worth it
//! with `--release` only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests are effects")]

mod model;
mod node;
mod recovery;
mod store;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use model::{Bug, Election};
use node::Times;
use store::NODES;

/// A payload that takes a while to die.
const POD: Times = Times { fence: 2, lease: 3, bound: 4 };
/// A plain file, and in a hurry.
const FILE: Times = Times { fence: 1, lease: 2, bound: 2 };

fn election() -> Election {
    Election { bug: Bug::None, times: [POD; NODES], faults: 2, operator: false, slow_leader: false, recovery: false }
}

fn number(name: &str) -> Option<u8> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Checks all properties up to `depth`, and prints what that took.
fn check(name: &str, election: Election, depth: usize) {
    let depth = depth + usize::from(number("HAMASTER_MODEL_DEPTH").unwrap_or(0));
    let faults = number("HAMASTER_MODEL_FAULTS").unwrap_or(election.faults);
    let start = Instant::now();
    let checked = Election { faults, ..election }.checker().threads(2).target_max_depth(depth).spawn_bfs().join();
    eprintln!(
        "{name}: {} states ({} with repeats) to depth {}, at most {faults} faults, in {:.1?}",
        checked.unique_state_count(),
        checked.state_count(),
        checked.max_depth(),
        start.elapsed()
    );
    for property in checked.model().properties().iter().filter(|p| p.expectation.discovery_is_failure()) {
        checked.assert_no_discovery(property.name);
    }
}

/// Expects that a planted bug breaks `property`, and prints how.
fn finds(bug: Bug, property: &'static str, election: Election) {
    let first = HasDiscoveries::AnyOf([property].into());
    let checked = Election { bug, ..election }.checker().threads(2).finish_when(first).spawn_bfs().join();
    let path = checked.assert_any_discovery(property);
    let steps: Vec<_> = path.into_actions().iter().map(|a| format!("{a:?}")).collect();
    eprintln!(
        "{bug:?} breaks `{property}` after {} of {} states: {}",
        steps.len(),
        checked.unique_state_count(),
        steps.join(" ")
    );
}

#[test]
fn safe_with_different_times() {
    check("different times", Election { times: [POD, FILE, FILE], faults: 0, ..election() }, 19);
}

#[test]
fn safe_with_a_fault() {
    check("a fault", Election { faults: 1, slow_leader: true, ..election() }, 16);
}

#[test]
fn safe_from_an_operator() {
    check("operator", Election { operator: true, ..election() }, 9);
}

#[test]
fn one_leads_again() {
    check("recovery", Election { operator: true, recovery: true, ..election() }, 6);
}

#[test]
fn finds_a_deadline_from_receipt() {
    finds(Bug::FenceFromReceipt, "S1: one manifest", Election { faults: 0, slow_leader: true, ..election() });
}

#[test]
fn finds_a_successor_with_its_own_bound() {
    let times = [POD, FILE, FILE];
    finds(Bug::OwnBound, "S1: one manifest", Election { times, faults: 0, slow_leader: true, ..election() });
}

#[test]
fn finds_a_takeover_that_compares_nothing() {
    finds(Bug::TakeUncompared, "S1: one manifest", Election { faults: 0, slow_leader: true, ..election() });
}

/// It breaks no S1: the leader key alone excludes. But a node that was gone for long would lead out of turn.
#[test]
fn finds_a_phantom() {
    finds(Bug::Phantom, "who leads was in the queue", Election { faults: 1, ..election() });
}
