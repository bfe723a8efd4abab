//! Whoever has a good token is given what is the cluster's, once and again; and no more hosts than it was made for.

use std::fs;
use std::net::IpAddr;
use std::sync::Barrier;

use hamaster::admission::{self, Bytes};
use hamaster::error::Kind;
use hamaster::state::Secret;

use crate::master::{Master, request};

#[test]
fn a_good_token_is_worth_the_cluster_s_files() {
    let m1 = Master::new();
    let token = m1.token(&[]);
    let asked = request(&token, "m2");
    let welcome = m1.ask(&asked).unwrap();

    assert_eq!(welcome.spec, fs::read_to_string(m1.layout().cluster_yaml()).unwrap());
    assert_eq!(welcome.cluster_id, m1.client().status().unwrap().cluster_id);
    let masters: Vec<_> = welcome.masters.iter().map(|m| (m.name.as_str(), m.ip)).collect();
    assert_eq!(masters, [("m1", IpAddr::V4(m1.ip))]);

    // Every file, by the bytes this master has, and none that is its own.
    let shared = admission::shared(&m1.spec());
    assert_eq!(welcome.files.iter().map(|f| (f.path.clone(), f.mode)).collect::<Vec<_>>(), shared);
    for file in &welcome.files {
        let here = fs::read(m1.layout().path(&file.path)).unwrap();
        assert!(file.content.0.expose() == here, "{}", file.path.display());
    }
    let given: Vec<_> = welcome.files.iter().map(|f| f.path.to_str().unwrap()).collect();
    for key in ["/etc/kubernetes/pki/ca.key", "/etc/etcd/pki/ca.key", "/etc/kubernetes/pki/sa.key"] {
        assert!(given.contains(&key), "{key}");
    }
    assert!(!given.iter().any(|f| f.contains("server") || f.contains("hamaster.")), "{given:?}");
    m1.logged(&format!("admitted m2 at {} as a master", request(&token, "m2").ip));

    // It comes again: the same, and nothing more is used.
    let before = m1.client().token(&token.id).unwrap().unwrap();
    assert_eq!((before.stored.uses, before.stored.bearers.len()), (0, 1));
    let again = m1.ask(&asked).unwrap();
    assert_eq!(again.files.len(), welcome.files.len());
    assert_eq!(m1.client().token(&token.id).unwrap().unwrap().record, before.record);

    // Nobody else comes in its name, nor in another.
    let other = admission::Request { attempt: Bytes(Secret::new(b"another attempt".to_vec())), ..asked };
    assert_eq!(m1.ask(&other).unwrap_err().kind(), Kind::Refused);
    m1.logged("used by another host of this name");
    assert_eq!(m1.ask(&request(&token, "m3")).unwrap_err().kind(), Kind::Refused);
    m1.logged("used up");

    let listed = m1.tokens();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0]["usesLeft"], &listed[0]["usedBy"][0]), (&0.into(), &"m2".into()));
}

#[test]
fn of_hosts_that_race_for_one_use_exactly_one_wins() {
    let m1 = Master::new();
    for round in 0..5 {
        let token = m1.token(&["--uses", "1"]);
        let start = Barrier::new(3);
        let (m1, start, token) = (&m1, &start, &token);
        let won = std::thread::scope(|scope| {
            let racer = |n: u32| {
                scope.spawn(move || {
                    let asked = request(token, &format!("r{round}-{n}"));
                    start.wait();
                    m1.ask(&asked).is_ok()
                })
            };
            let racers: Vec<_> = (0..3).map(racer).collect();
            racers.into_iter().map(|r| r.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
        let left = m1.client().token(&token.id).unwrap().unwrap().stored;
        assert_eq!((left.uses, left.bearers.len()), (0, 1));
    }
}

/// Two doors of one cluster: only etcd knows who was faster.
#[test]
fn two_masters_that_admit_at_once_admit_no_more_than_the_token_allows() {
    let m1 = Master::new();
    let mut m2 = Master::dormant(Some(&m1));
    share(&m1, &m2);
    m2.start();
    for round in 0..5 {
        let token = m1.token(&["--uses", "2"]);
        let start = Barrier::new(4);
        let (doors, start, token) = ([&m1, &m2], &start, &token);
        let won = std::thread::scope(|scope| {
            let racer = |n: usize| {
                scope.spawn(move || {
                    let asked = request(token, &format!("r{round}-{n}"));
                    start.wait();
                    doors[n % 2].ask(&asked).is_ok()
                })
            };
            let racers: Vec<_> = (0..4).map(racer).collect();
            racers.into_iter().map(|r| r.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(won, 2);
    }
}

/// m2 has no member that answers: its door asks m1's.
#[test]
fn a_door_whose_own_member_does_not_answer_asks_another_master_s() {
    let m1 = Master::new();
    let mut m2 = Master::dormant(Some(&m1));
    share(&m1, &m2);
    m2.start();
    let token = m1.token(&[]);
    let welcome = m2.ask(&request(&token, "m3")).unwrap();
    let ca = welcome.files.iter().find(|f| f.path.ends_with("kubernetes/pki/ca.key")).unwrap();
    assert!(ca.content.0.expose() == fs::read(m1.layout().path(&ca.path)).unwrap());
}

/// m2 knows of m1, and has what m1 would have given it.
fn share(m1: &Master, m2: &Master) {
    for (path, _) in admission::shared(&m1.spec()) {
        fs::copy(m1.layout().path(&path), m2.layout().path(&path)).unwrap();
    }
    let mut spec = m1.spec();
    spec.masters.extend(m2.spec().masters);
    fs::write(m2.layout().cluster_yaml(), hamaster::spec::file::to_yaml(&spec)).unwrap();
}
