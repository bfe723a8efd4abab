//! A cluster that grows and shrinks while members die, leave and never come.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hamaster::apply::leave::{Departure, depart};
use hamaster::apply::peers::Peers;
use hamaster::apply::perform::etcd_tls;
use hamaster::apply::turn::Line;
use hamaster::etcd::keys;
use hamaster::host::{Host, NoUnits};

use crate::lab::{Lab, until};

fn voters(names: &[&str]) -> Vec<(String, bool)> {
    names.iter().map(|name| ((*name).to_owned(), true)).collect()
}

/// As many masters, all voters.
fn of(masters: usize) -> Lab {
    let lab = Lab::new(masters);
    lab.up();
    lab
}

#[test]
fn from_one_master_to_five_and_back_to_three_under_load() {
    let lab = of(1);
    for (words, left) in [
        (&["add"][..], &["m1", "m2"][..]),
        (&["add"], &["m1", "m2", "m3"]),
        (&["add"], &["m1", "m2", "m3", "m4"]),
        (&["add"], &["m1", "m2", "m3", "m4", "m5"]),
        (&["remove", "m3"], &["m1", "m2", "m4", "m5"]),
        (&["remove", "m5"], &["m1", "m2", "m4"]),
    ] {
        let writer = lab.writer();
        lab.lab(words);
        writer.ends(&format!("lab {} -> {} voters", words.join(" "), left.len()));
        assert_eq!(lab.members(), voters(left));
    }
    let said = lab.lab(&["up"]);
    assert!(said.contains("nothing to do"), "{said}");
    // One more takes the number that is free, with nothing of the one who had it.
    lab.lab(&["add"]);
    assert_eq!(lab.members(), voters(&["m1", "m2", "m3", "m4"]));
}

#[test]
fn the_leader_of_etcd_leaves_under_load_and_is_killed_while_it_does() {
    let lab = of(3);
    lab.lead("m2");
    let writer = lab.writer();
    lab.lab(&["remove", "m2"]);
    writer.ends("the leader leaves, 3 -> 2");
    assert_eq!(lab.members(), voters(&["m1", "m3"]));
    lab.lab(&["add"]);
    lab.lead("m3");
    let writer = lab.writer();
    for point in ["leader.moved:1", "member.removed:1", "master.unregistered:1"] {
        assert!(lab.killed_doing(&["remove", "m3"], point), "{point} was not come by");
        if point == "leader.moved:1" {
            lab.lead("m3");
            assert!(lab.killed_doing(&["remove", "m3"], point));
        }
    }
    lab.lab(&["remove", "m3"]);
    writer.ends("the leader leaves and is killed three times, 3 -> 2");
    assert_eq!(lab.members(), voters(&["m1", "m2"]));
    let spec = lab.client().spec().unwrap().unwrap().spec;
    assert!(!spec.contains("name: m3"), "{spec}");
}

#[test]
fn a_voter_that_dies_before_the_learner_is_added_holds_the_join_up_until_it_is_back() {
    let lab = of(3);
    let writer = lab.writer();
    let mut join = lab.spawn(&["add"]);
    until("m4 begins", || lab.file("m4", "var/lib/hamaster/joining.json").is_some());
    lab.cut_power("m3");
    // etcd 3.4 adds nobody while a voter is away.
    join.awaits("waiting for etcd to take another member");
    assert_eq!(lab.members(), voters(&["m1", "m2", "m3"]));
    lab.power("m3");
    join.succeeds();
    writer.ends("a voter is killed before the learner is added");
    assert_eq!(lab.members(), voters(&["m1", "m2", "m3", "m4"]));
    // The newcomer can be cut off like those who were there from the first.
    lab.lab(&["partition", "m4"]);
    until("m4 hears of no leader", || lab.client_of("m4").lag().is_ok_and(|lag| lag.leader == 0));
    lab.lab(&["heal", "m4"]);
    until("m4 hears of one", || lab.client_of("m4").lag().is_ok_and(|lag| lag.leader != 0));
}

#[test]
fn the_leader_dies_once_the_learner_is_added_and_the_join_is_done_without_it() {
    let lab = of(3);
    lab.lead("m3");
    let writer = lab.writer();
    let join = lab.spawn(&["add"]);
    until("a learner", || lab.client().members().is_ok_and(|all| all.iter().any(|m| m.is_learner)));
    lab.cut_power("m3");
    join.succeeds();
    writer.ends("etcd's leader is killed once the learner is added");
    assert_eq!(lab.members(), voters(&["m1", "m2", "m3", "m4"]));
    lab.power("m3");
    until("m3 is back", || lab.client_of("m3").lag().is_ok_and(|lag| lag.leader != 0));
    let said = lab.lab(&["up"]);
    assert!(said.contains("nothing to do"), "{said}");
}

#[test]
fn a_learner_that_never_comes_is_waited_for_and_others_join_once_it_is_removed() {
    let lab = of(1);
    let ghost = lab.client().add_learner(&lab.peer_url("m5")).unwrap();
    let writer = lab.writer();
    let mut join = lab.spawn(&["add"]);
    join.awaits("waiting for another host's learner");
    assert!(join.said().contains(&lab.peer_url("m5")), "{}", join.said());
    assert_eq!(lab.members().len(), 2, "nobody else is added");
    // What `hamaster master remove ID` asks etcd for.
    lab.client().remove(ghost).unwrap();
    join.succeeds();
    writer.ends("a learner never comes");
    assert_eq!(lab.members(), voters(&["m1", "m2"]));
}

#[test]
fn who_was_removed_while_it_was_down_stays_out_and_joins_anew() {
    let lab = of(3);
    let id = lab.client_of("m3").lag().unwrap().member_id;
    let writer = lab.writer();
    lab.cut_power("m3");
    until("it is removed", || lab.client().remove(id).is_ok());
    lab.power("m3");
    until("etcd ends on it", || !["starting", "running"].contains(&lab.etcd_phase("m3").as_str()));
    assert_eq!(lab.members(), voters(&["m1", "m2"]));
    lab.lab(&["remove", "m3"]);
    lab.lab(&["add"]);
    writer.ends("a master is removed while it is down, and joins anew");
    assert_eq!(lab.members(), voters(&["m1", "m2", "m3"]));
    assert_ne!(lab.client_of("m3").lag().unwrap().member_id, id);
}

/// Leaves at `dir` what a member of some other cluster does.
fn another_life(dir: &Path) {
    let url = "unix://localhost:0";
    let mut etcd = Command::new("etcd")
        .args(["--name=other", "--listen-client-urls", url, "--advertise-client-urls", url])
        .args(["--listen-peer-urls", "unix://localhost:1", "--initial-advertise-peer-urls", "http://localhost:1"])
        .args(["--initial-cluster=other=http://localhost:1", "--data-dir"])
        .arg(dir)
        .current_dir(dir.parent().unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("a log", || dir.join("member/wal/0000000000000000-0000000000000000.wal").exists());
    until("a database", || dir.join("member/snap/db").exists());
    etcd.kill().unwrap();
    etcd.wait().unwrap();
}

#[test]
fn data_of_another_cluster_is_refused_and_left_alone() {
    let lab = of(1);
    let cluster = lab.cluster_id("m1");
    let writer = lab.writer();
    assert!(lab.killed_doing(&["add"], "join.imported:1"));
    let data = lab.path().join("m2/var/lib/etcd");
    std::fs::create_dir_all(&data).unwrap();
    another_life(&data);
    let log = || std::fs::read(data.join("member/wal/0000000000000000-0000000000000000.wal")).unwrap();
    let before = log();
    let said = lab.fails(&["add"]);
    assert!(said.contains("nothing was touched") && said.contains("which is not hamaster's"), "{said}");
    assert!(log() == before && lab.members().len() == 1, "{said}");
    // As the hint says.
    std::fs::rename(data.join("member"), lab.path().join("theirs")).unwrap();
    lab.lab(&["add"]);
    writer.ends("a host with another cluster's data joins once it is moved");
    assert_eq!(lab.members(), voters(&["m1", "m2"]));
    assert_eq!(lab.cluster_id("m2"), cluster);
}

/// `hamaster master remove m2` for a member that is gone already, as of one that was killed or suspended in the middle.
#[test]
fn the_spec_loses_only_who_is_no_member_and_only_in_its_turn() {
    let lab = of(2);
    let (this, client) = (lab.this("m1"), lab.client());
    let tls = etcd_tls(&Host::new("/", Box::new(NoUnits)).unwrap(), &this).unwrap();
    let peers = Peers::new([this.node.ip].into_iter(), &tls, &lab.cluster_id("m1")).unwrap();
    let gone = Departure { id: 0, name: "m2".to_owned() };
    let unregister = |lapses: bool| {
        let mut line = Line::new(&this, vec![this.node.clone()], "removes m2").unwrap();
        line.holding(&mut |_| {}, |turn, sink| {
            if lapses {
                client.revoke(turn.lease()).unwrap();
                assert!(
                    client.create_on(keys::TURN, b"m2 (join)", client.grant(Duration::from_secs(60)).unwrap()).unwrap()
                );
            }
            depart(&gone, &peers, None, turn, sink)
        })
    };
    let named = || client.spec().unwrap().unwrap().spec.contains("name: m2");
    let report = format!("{}m2", keys::MASTERS);
    assert!(client.put_if_absent(&report, b"{}").unwrap());

    let error = unregister(false).unwrap_err();
    assert!(error.message().contains("m2 is a member of etcd") && named(), "{error}");
    let id = lab.client_of("m2").lag().unwrap().member_id;
    until("it is removed", || client.remove(id).is_ok());
    let error = unregister(true).unwrap_err();
    assert!(error.message().contains("another had the turn") && named(), "{error}");
    assert!(client.record(&report).unwrap().is_some());
    client.revoke(client.record(keys::TURN).unwrap().unwrap().lease).unwrap();
    // A command of this host that was killed is not waited for.
    assert!(client.create_on(keys::TURN, b"m1 (join)", client.grant(Duration::from_secs(600)).unwrap()).unwrap());
    unregister(false).unwrap();
    assert!(!named() && client.record(&report).unwrap().is_none());
    unregister(false).unwrap();
}
