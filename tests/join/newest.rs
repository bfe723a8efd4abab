//! The same with a newer etcd than Debian 12 has: members of 3.5 and later answer otherwise where they refuse.
//!
//! Needs `ETCD_NEWEST_DIR` (`.ci/test` sets it where `.ci/etcd` could fetch one); without it the test is skipped.

use std::path::PathBuf;

use crate::lab::Lab;

#[test]
fn masters_join_die_and_leave_with_the_newest_etcd() {
    let Some(programs) = std::env::var_os("ETCD_NEWEST_DIR").map(PathBuf::from) else {
        eprintln!("SKIPPED: ETCD_NEWEST_DIR is not set; .ci/test sets it");
        return;
    };
    let lab = Lab::with(programs, 3);
    assert!(lab.killed_at("join.imported:1"));
    assert!(!lab.client().status().unwrap().version.starts_with("3.4."), "it is not the newer one");
    let writer = lab.writer();
    for point in ["member.added:1", "member.noted:1", "unit.started:1", "member.promoted:1", "etcd.sealed:1"] {
        assert!(lab.killed_at(point), "{point} was not come by");
        assert_eq!(lab.voters_that_never_ran(), Vec::<String>::new(), "killed at {point}");
    }
    lab.up();
    writer.ends("1 -> 3 voters, a joiner killed 5 times");
    let voters = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), true)).collect::<Vec<_>>();
    assert_eq!(lab.members(), voters(&["m1", "m2", "m3"]));

    lab.lead("m2");
    let writer = lab.writer();
    lab.lab(&["remove", "m2"]);
    writer.ends("the leader leaves, 3 -> 2");
    let writer = lab.writer();
    lab.lab(&["add"]);
    writer.ends("2 -> 3 voters");
    assert_eq!(lab.members(), voters(&["m1", "m2", "m3"]));
    // A voter that died is removed, and its replacement joins.
    lab.cut_power("m3");
    lab.lab(&["remove", "m3"]);
    lab.lab(&["add"]);
    assert_eq!(lab.members(), voters(&["m1", "m2", "m3"]));
}
