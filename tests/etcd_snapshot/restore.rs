//! Restoring: every key comes back, nothing is overwritten, and a killed run is finished by the next.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::cluster::{Cluster, Said};

/// A master with keys in its etcd, its snapshot, and a write after it.
fn saved() -> (Cluster, String, BTreeMap<String, String>) {
    let cluster = Cluster::one();
    for n in 0..50 {
        cluster.put(0, &format!("/k/{n}"), &format!("value {n}"));
    }
    let keys = cluster.keys(0);
    let path = cluster.dir().join("s.hamaster").display().to_string();
    cluster.hamaster(0, &["etcd", "snapshot", "save", &path]).ok();
    cluster.put(0, "/k/late", "lost");
    (cluster, path, keys)
}

fn asides(cluster: &Cluster) -> Vec<String> {
    let names = fs::read_dir(cluster.root(0).join("var/lib")).unwrap().map(|e| e.unwrap().file_name());
    names.map(|n| n.to_string_lossy().into_owned()).filter(|n| n.starts_with("etcd.before-")).collect()
}

#[test]
fn every_key_comes_back_in_a_cluster_of_its_own() {
    let (mut cluster, path, keys) = saved();
    let id = |c: &Cluster| -> serde_json::Value {
        let out = c.etcdctl(0, &["endpoint", "status", "-w", "json"]).ok().out;
        serde_json::from_str::<serde_json::Value>(&out).unwrap()[0]["Status"]["header"]["cluster_id"].clone()
    };
    let before = id(&cluster);
    let restore = ["etcd", "snapshot", "restore", &path, "--yes", "--set-aside"];
    cluster.hamaster(0, &restore).refused(4, "etcd runs on");
    cluster.stop(0);
    cluster.hamaster(0, &restore[..5]).refused(4, "holds the data of a member");
    let said = cluster.hamaster(0, &restore).ok();
    assert!(said.err.contains("etcd.before-"), "{said:?}");
    cluster.start_alone(0);
    assert_eq!(cluster.keys(0), keys);
    assert_ne!(id(&cluster), before, "old peers must not talk to it");
    let record = fs::read_to_string(cluster.root(0).join("var/lib/hamaster/record.json")).unwrap();
    let shown = format!("{:x}", id(&cluster).as_u64().unwrap());
    assert!(record.contains(&shown), "{shown} in {record}");
    // The old data is all there.
    let [aside] = &asides(&cluster)[..] else { panic!("one directory aside") };
    assert!(cluster.root(0).join("var/lib").join(aside).join("member/wal").exists());
    assert!(!cluster.data(0).join(".hamaster-restore").exists());
}

#[test]
fn killed_at_every_point_and_run_again_it_ends_at_the_same() {
    let (mut cluster, path, keys) = saved();
    cluster.stop(0);
    let restore = ["etcd", "snapshot", "restore", &path, "--yes", "--set-aside"];
    let mut killed = 0;
    for point in 1.. {
        // The data of the last round is what is set aside in this one.
        let aside = asides(&cluster).len();
        let mut command = cluster.command(0, &restore);
        let said = Said::of(command.env("HAMASTER_CRASH_AT", point.to_string()).output().unwrap());
        if said.code == Some(0) {
            break;
        }
        assert_eq!(said.signal, Some(9), "{said:#?}");
        killed += 1;
        // One of the two is always whole: in its place or aside.
        let whole = |dir: &Path| dir.join("member/snap/db").exists() && dir.join("member/wal").exists();
        let safe =
            whole(&cluster.data(0)) || asides(&cluster).iter().any(|a| whole(&cluster.root(0).join("var/lib").join(a)));
        assert!(safe, "after {said:?}");
        cluster.hamaster(0, &restore).ok();
        assert!(!cluster.data(0).join(".hamaster-restore").exists());
        assert_eq!(asides(&cluster).len().min(aside + 2).max(aside), asides(&cluster).len(), "{said:?}");
        let db = cluster.data(0).join("member/snap/db");
        assert!(db.exists(), "{said:?}");
    }
    assert!(killed > 15, "only {killed} points");
    cluster.start_alone(0);
    assert_eq!(cluster.keys(0), keys);
}

#[test]
fn a_bare_host_gets_all_that_init_needs() {
    let (mut cluster, path, keys) = saved();
    cluster.stop(0);
    let (root, kept) = (cluster.root(0), cluster.dir().join("kept"));
    let key = cluster.dir().join("key");
    fs::copy(root.join("etc/hamaster/snapshot.key"), &key).unwrap();
    fs::rename(&root, &kept).unwrap();
    fs::create_dir_all(root.join("var/lib")).unwrap();
    let key = key.display().to_string();
    cluster.hamaster(0, &["etcd", "snapshot", "restore", &path, "--yes", "--key-file", &key]).ok();
    for secret in
        ["etc/kubernetes/pki/ca.key", "etc/kubernetes/pki/sa.key", "etc/kubernetes/pki/encryption-config.yaml"]
    {
        assert_eq!(fs::read(root.join(secret)).unwrap(), fs::read(kept.join(secret)).unwrap(), "{secret}");
    }
    // init issues what is missing from what came back, and takes the data for its own.
    cluster.hamaster(0, &["init", "--yes", "--ignore-preflight=all"]).ok();
    let unit = fs::read_to_string(root.join("etc/systemd/system/etcd.service")).unwrap();
    assert!(unit.contains("--initial-cluster-state=existing"), "{unit}");
    cluster.start_alone(0);
    assert_eq!(cluster.keys(0), keys);
}

#[test]
fn another_clusters_host_is_refused_before_anything_is_touched() {
    let (mut cluster, path, keys) = saved();
    cluster.stop(0);
    let root = cluster.root(0);
    let sa = root.join("etc/kubernetes/pki/sa.key");
    fs::copy(root.join("etc/kubernetes/pki/ca.key"), &sa).unwrap();
    let restore = ["etcd", "snapshot", "restore", &path, "--yes", "--set-aside"];
    cluster.hamaster(0, &restore).refused(4, "sa.key: is not the one in the snapshot");
    assert!(asides(&cluster).is_empty());
    cluster.hamaster(0, &[&restore[..], &["--data-only"]].concat()).ok();
    cluster.start_alone(0);
    assert_eq!(cluster.keys(0), keys);
}

#[test]
fn a_failed_restore_leaves_the_old_data_in_its_place() {
    let (mut cluster, path, _) = saved();
    cluster.stop(0);
    // A tool that reads no database.
    let bin = cluster.dir().join("bin");
    fs::create_dir(&bin).unwrap();
    let tool = bin.join("etcdctl");
    fs::write(&tool, "#!/bin/sh\ncase \"$*\" in version) exit 0;; *--help*) exit 0;; esac\necho broken >&2; exit 1\n")
        .unwrap();
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = cluster.command(0, &["etcd", "snapshot", "restore", &path, "--yes", "--set-aside"]);
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    Said::of(command.output().unwrap()).refused(1, "broken");
    assert!(asides(&cluster).is_empty());
    cluster.start_alone(0);
    assert_eq!(cluster.keys(0)["/k/late"], "lost");
}
