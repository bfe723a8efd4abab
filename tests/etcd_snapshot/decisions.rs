//! What is decided without asking anybody: which snapshots go, and when a majority may be given up.

use hamaster::etcd::Lag;
use hamaster::etcd::membership::Member;
use hamaster::etcd::overview::overview;
use hamaster::etcd::recovery::{Refusal, Voter, judge};
use hamaster::etcd::snapshot::{Checker, file_name, outdated};

#[test]
fn the_oldest_of_this_node_go_and_nothing_else() {
    let own: Vec<String> = (1..=5).map(|d| file_name("m1", &format!("2026010{d}T030000"))).collect();
    let mut names: Vec<&str> = own.iter().map(String::as_str).collect();
    names.extend(["m10-20200101T000000.hamaster", "m1-x-20200101T000000.hamaster", "m1-20200101T000000.hamaster.old"]);
    names.extend(["m1-before-upgrade.hamaster", "lost+found", ".m1-20200101T000000.hamaster"]);
    names.reverse();
    assert_eq!(outdated("m1", &names, 3), [own[1].as_str(), own[0].as_str()]);
    assert!(outdated("m1", &names, 5).is_empty());
    assert_eq!(outdated("m1-x", &names, 0), ["m1-x-20200101T000000.hamaster"]);
}

#[test]
fn the_checksum_is_found_however_the_bytes_come() {
    let content: Vec<u8> = (0..10_000).map(|i| (i % 251) as u8).collect();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    let good = [content.as_slice(), sum.as_ref()].concat();
    let fits = |bytes: &[u8], step: usize| {
        let mut checker = Checker::default();
        bytes.chunks(step).for_each(|c| checker.update(c));
        checker.finish().sum_fits
    };
    for step in [1, 7, 31, 32, 33, 4096, 20_000] {
        assert!(fits(&good, step), "{step}");
        assert!(!fits(&good[..good.len() - 1], step) && !fits(&good[1..], step), "{step}");
    }
    assert!(!fits(b"", 1) && !fits(&[0; 32], 1));
}

fn voter(name: &str, own: bool, alive: bool, serves: bool, index: Option<u64>) -> Voter {
    Voter { name: name.into(), own, alive, serves, index }
}

#[test]
fn a_majority_that_lives_or_may_return_is_never_given_up() {
    let me = voter("m1", true, true, false, Some(10));
    let dead = |n: &str| voter(n, false, false, false, None);
    let loss = judge(&[me.clone(), dead("m2"), dead("m3")], false).unwrap();
    assert_eq!((loss.members, loss.voters, loss.unknown.len()), (vec!["m2".into(), "m3".into()], 3, 2));

    let serving = voter("m2", false, true, true, Some(9));
    assert_eq!(judge(&[me.clone(), serving, dead("m3")], true), Err(Refusal::Works { by: "m2".into() }));
    let electing = voter("m2", false, true, false, None);
    let refused = judge(&[me.clone(), electing.clone(), dead("m3")], true);
    assert_eq!(refused, Err(Refusal::MayReturn { alive: vec!["m1".into(), "m2".into()], quorum: 2 }));
    // A member of one that runs is only slow.
    assert!(matches!(judge(std::slice::from_ref(&me), false), Err(Refusal::MayReturn { .. })));
    assert!(judge(&[voter("m1", true, false, false, None)], false).is_ok());
}

#[test]
fn the_survivor_with_the_newest_log_goes_on() {
    let dead = |n: &str| voter(n, false, false, false, None);
    let five = |own: Option<u64>, other: Option<u64>| {
        [
            voter("m1", true, true, false, own),
            voter("m2", false, true, false, other),
            dead("m3"),
            dead("m4"),
            dead("m5"),
        ]
    };
    assert!(judge(&five(Some(10), Some(10)), false).is_ok());
    assert!(judge(&five(Some(11), Some(10)), false).is_ok());
    let newer = Err(Refusal::NewerElsewhere { name: "m2".into() });
    assert_eq!(judge(&five(Some(9), Some(10)), false), newer);
    assert_eq!(judge(&five(None, Some(1)), false), newer, "it cannot be compared, so it may be newer");
    assert!(judge(&five(Some(9), Some(10)), true).is_ok(), "a snapshot is what it is");
}

#[test]
fn how_many_more_may_fail() {
    let member = |id, learner| Member {
        id,
        name: format!("m{id}"),
        peer_urls: vec![],
        client_urls: vec![],
        is_learner: learner,
    };
    let lag = |id, leader, applied| {
        Some(Lag {
            cluster_id: String::new(),
            member_id: id,
            leader,
            is_learner: false,
            index: applied,
            applied,
            db_size: 1 << 20,
            errors: vec![],
        })
    };
    let three = |b: Option<Lag>, c: Option<Lag>| {
        overview(&[(member(1, false), lag(1, 1, 50)), (member(2, false), b), (member(3, false), c)], vec![])
    };
    let all = three(lag(2, 1, 50), lag(3, 1, 20));
    assert_eq!((all.healthy, all.voters, all.can_lose, all.is_well()), (3, 3, Some(1), true));
    assert_eq!((all.members[0].leader, all.members[2].lag), (true, Some(30)));
    let one_down = three(lag(2, 1, 50), None);
    assert_eq!((one_down.can_lose, one_down.is_well()), (Some(0), false));
    // It answers, but knows no leader.
    assert_eq!(three(lag(2, 0, 50), None).can_lose, None);
    let learner = overview(&[(member(1, false), lag(1, 1, 9)), (member(2, true), lag(2, 1, 9))], vec![]);
    assert_eq!((learner.voters, learner.can_lose), (1, Some(0)));
    let alarm = overview(&[(member(1, false), lag(1, 1, 9))], vec!["NOSPACE on member 1".into()]);
    assert!(!alarm.is_well() && alarm.members[0].alarms == ["NOSPACE"]);
}
