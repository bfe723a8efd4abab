//! A lost majority: refused while it lives, and one master goes on when it does not.

use crate::cluster::Cluster;

fn three() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.start_all();
    for n in 0..20 {
        cluster.put(0, &format!("/k/{n}"), "v");
    }
    cluster
}

#[test]
fn the_status_counts_what_may_fail_and_a_quorum_is_never_given_up() {
    let mut cluster = three();
    let said = cluster.hamaster(0, &["etcd", "status"]).ok();
    assert!(said.out.contains("3 of 3 voters are well; can lose 1 more"), "{said:?}");
    for name in ["m0", "m1", "m2"] {
        assert_eq!(said.out.lines().filter(|l| l.contains(name)).count(), 1, "{said:?}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&cluster.hamaster(0, &["-o", "json", "etcd", "status"]).ok().out).unwrap();
    assert_eq!(json["schema"], "hamaster/v1/etcd-status");
    assert_eq!(json["members"].as_array().unwrap().iter().filter(|m| m["leader"] == true).count(), 1);
    cluster.hamaster(0, &["etcd", "recover", "--yes"]).refused(4, "has a quorum");

    cluster.stop(2);
    // Until the rest has a leader again, nobody can say.
    crate::cluster::within("two of three agree", || {
        let said = cluster.hamaster(0, &["etcd", "status"]);
        assert_eq!(said.code, Some(4), "{said:?}");
        said.out.contains("2 of 3 voters are well; can lose 0 more")
    });
    cluster.hamaster(0, &["etcd", "recover", "--yes"]).refused(4, "has a quorum");
    assert!(cluster.snapshots(0).is_empty(), "nothing was touched");
}

#[test]
fn the_last_of_three_goes_on_alone_with_everything() {
    let mut cluster = three();
    crate::cluster::within("the first has all", || cluster.keys(0).len() == 20);
    let keys = cluster.keys(0);
    cluster.stop(1);
    cluster.stop(2);
    crate::cluster::within("it knows that it is alone", || {
        let said = cluster.hamaster(0, &["etcd", "status"]);
        said.out.contains("no quorum")
    });
    // Without --yes nobody is asked, and nothing happens.
    let said = cluster.hamaster(0, &["etcd", "recover"]).refused(2, "--yes");
    assert!(said_loss(&said.err), "{said:?}");
    assert!(cluster.snapshots(0).is_empty());
    // Below another root hamaster stops nothing: what is there is saved, from the member that still answers.
    cluster.hamaster(0, &["etcd", "recover", "--yes"]).refused(4, "etcd still runs");
    let saved = cluster.snapshots(0).remove(0).display().to_string();
    let said = cluster.hamaster(0, &["etcd", "snapshot", "verify", &saved]).ok();
    assert!(said.out.contains("its checksum fits"), "{said:?}");

    cluster.stop(0);
    // Killed between the old data and the new, and again before the record.
    for (point, code) in [("member.moved", 9), ("restore.recorded", 9)] {
        let mut command = cluster.command(0, &["etcd", "recover", "--yes"]);
        let said = crate::cluster::Said::of(command.env("HAMASTER_CRASH_AT", format!("{point}:1")).output().unwrap());
        assert_eq!(said.signal, Some(code), "{said:#?}");
        if point == "member.moved" {
            // The host boots: etcd starts on what is not there, fails, and leaves an empty database.
            let left = cluster.data(0).join("member/snap");
            std::fs::create_dir_all(&left).unwrap();
            std::fs::write(left.join("db"), [0; 4096]).unwrap();
        }
    }
    let said = cluster.hamaster(0, &["etcd", "recover", "--yes"]).ok();
    assert!(said.err.contains("interrupted"), "{said:?}");
    cluster.start_alone(0);
    assert_eq!(cluster.keys(0), keys);
    let members = cluster.etcdctl(0, &["member", "list"]).ok().out;
    assert_eq!(members.lines().count(), 1, "{members}");
    // It takes another as a cluster of one does.
    cluster
        .etcdctl(0, &["member", "add", "m1", "--learner", &format!("--peer-urls=https://{}:2380", cluster.ip(1))])
        .ok();
}

fn said_loss(err: &str) -> bool {
    err.contains("what will be lost") && err.contains("m1, m2 of 3 voters are forgotten")
}

#[test]
fn a_snapshot_brings_back_a_master_whose_own_data_is_lost() {
    let mut cluster = three();
    let path = cluster.dir().join("s.hamaster").display().to_string();
    cluster.hamaster(0, &["etcd", "snapshot", "save", &path]).ok();
    let keys = cluster.keys(0);
    (0..3).for_each(|i| cluster.stop(i));
    std::fs::remove_dir_all(cluster.data(0).join("member")).unwrap();
    cluster.hamaster(0, &["etcd", "recover", "--yes"]).refused(4, "this master has no data");
    let said = cluster.hamaster(0, &["etcd", "recover", "--yes", "--from", &path]).ok();
    assert!(said.err.contains("every write since"), "{said:?}");
    cluster.start_alone(0);
    assert_eq!(cluster.keys(0), keys);
}

#[test]
fn a_survivor_with_newer_data_is_named() {
    let mut cluster = three();
    // The third falls behind, then is one of two that answer; the other has all.
    cluster.stop(2);
    // It may have been the leader.
    cluster.healthy(0);
    cluster.put(0, "/k/newer", "v");
    cluster.stop(1);
    // m0 answers and m2 is down: from m2 it is m0 that must go on.
    let said = cluster.hamaster(2, &["etcd", "recover", "--yes"]);
    said.refused(4, "m0 has newer data than this master");
}
