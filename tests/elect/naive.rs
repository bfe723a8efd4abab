//! The oracle must fail an elector that deserves it, or it proves nothing.

use std::time::Duration;

use rustix::process::Signal;

use crate::elector::{Elector, Profile};
use crate::group::{Cluster, Group};
use crate::network::{Cut, skipped, within};

/// A naive leader to whom `fault` happens for as long as it takes another to lead: there are two then.
fn overlaps(group: &Group<'_>, fault: impl FnOnce(usize), heal: impl FnOnce(usize)) {
    group.start();
    let leader = group.settle().unwrap_or_else(|| panic!("nobody leads\n{}", group.logs()));
    assert!(group.oracle.history().is_clean(), "a start without faults is clean");
    fault(leader);
    within(Duration::from_secs(40), "another leads as well", || !group.oracle.history().overlaps.is_empty());
    heal(leader);
    within(Duration::from_secs(40), "the first one notices", || {
        group.oracle.history().overlaps.iter().all(|o| o.lasted.is_some())
    });
}

#[test]
fn the_oracle_fails_the_naive_elector_when_its_leader_is_frozen() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new(Duration::from_millis(500));
    let group = cluster.group(Elector::Naive, Profile::named("plain"));
    let signal = |node: usize, s| group.nodes[node].signal(s);
    overlaps(&group, |n| signal(n, Signal::STOP), |n| signal(n, Signal::CONT));
}

#[test]
fn the_oracle_fails_the_naive_elector_when_its_leader_is_cut_off() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new(Duration::from_millis(500));
    let group = cluster.group(Elector::Naive, Profile::named("plain"));
    let host = |node: usize| &group.nodes[node].plan.host;
    overlaps(&group, |n| host(n).cut(Cut::Drop), |n| host(n).heal());
}
