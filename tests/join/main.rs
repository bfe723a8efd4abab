//! Masters that join and leave: killed at every step and run again, with real etcd and a writer that must lose nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods)] // a test acts on files, processes and time
#![allow(unreachable_pub, reason = "modules of a test binary")]

mod lab;
mod members;
mod newest;
mod writer;

use lab::Lab;

/// Where a joiner is killed, in the order it comes there: `NAME:N` is the Nth point of that name in its process.
const POINTS: [&str; 13] = [
    "join.imported:1",
    "join.imported:7",
    "join.bundle:1",
    "step:1",
    "step:4",
    "member.added:1",
    "member.noted:1",
    "unit.started:1",
    "member.promoted:1",
    "etcd.sealed:1",
    "join.registered:1",
    "step:6",
    "join.done:1",
];

#[test]
fn a_joiner_killed_at_every_step_is_a_voter_in_the_end_and_nothing_is_lost() {
    let lab = Lab::new(3);
    // The first master makes its cluster, and the second is killed before it has anything.
    assert!(lab.killed_at("join.imported:1"));
    let writer = lab.writer();
    let mut passed = vec![];
    // Each run goes on where the one before was killed; what lies behind it by then is passed without a word.
    for point in POINTS {
        if !lab.killed_at(point) {
            passed.push(point);
        }
        assert_eq!(lab.voters_that_never_ran(), Vec::<String>::new(), "killed at {point}");
    }
    assert_eq!(passed, Vec::<&str>::new(), "not come by");
    lab.up();
    let (written, lost, longest) = writer.end();
    println!(
        "killed {} times: {written} writes, {lost} lost, longest gap {:.2} s",
        POINTS.len() + 1,
        longest.as_secs_f64()
    );
    assert_eq!(lost, 0);
    assert_eq!(lab.members(), [("m1", true), ("m2", true), ("m3", true)].map(|(n, v)| (n.to_owned(), v)));
    assert_eq!(lab.up().trim(), "nothing to do", "a second run");
}

#[test]
fn a_joiner_killed_after_each_single_step_is_a_voter_in_the_end() {
    let lab = Lab::new(1);
    lab.up();
    let writer = lab.writer();
    let mut kills = 0;
    while lab.killed_doing(&["add"], "step.changed:1") {
        kills += 1;
        assert!(kills < 200, "it does not come to an end");
        assert_eq!(lab.voters_that_never_ran(), Vec::<String>::new(), "killed {kills} times");
    }
    assert!(kills > 20, "{kills}");
    writer.ends(&format!("a joiner is killed after each of {kills} steps"));
    assert_eq!(lab.members(), [("m1", true), ("m2", true)].map(|(n, v)| (n.to_owned(), v)));
}

#[test]
fn a_host_in_the_middle_of_a_join_never_makes_a_cluster_of_its_own() {
    let lab = Lab::new(2);
    for point in ["join.bundle:1", "member.added:1", "member.noted:1"] {
        assert!(lab.killed_at(point), "{point}");
        let unit = lab.file("m2", "etc/systemd/system/etcd.service");
        assert!(unit.is_none_or(|text| text.contains("--initial-cluster-state=existing")), "{point}");
    }
    // Whatever it is started with now, its cluster is the first one's.
    lab.up();
    assert_eq!(lab.members(), [("m1", true), ("m2", true)].map(|(n, v)| (n.to_owned(), v)));
}

#[test]
fn a_voter_whose_disk_is_lost_is_not_started_again() {
    let lab = Lab::new(3);
    lab.up();
    lab.lab(&["kill", "m3"]);
    lab.wipe("m3", "var/lib/etcd");
    // The record says that it was a member: etcd itself must not make a new cluster of it, whatever is tried.
    let said = lab.fails(&["up"]);
    assert!(said.contains("m3") || said.contains("etcd"), "{said}");
    let id = |lab: &Lab| lab.cluster_id("m1");
    let before = id(&lab);
    assert_eq!(lab.members().len(), 3);
    assert_eq!(id(&lab), before);
}
