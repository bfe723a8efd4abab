//! Saving under load, and what verify refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cluster::Cluster;

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_snapshot_under_a_writer_is_private_whole_and_verified() {
    let cluster = Cluster::one();
    let done = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                cluster.put(0, &format!("/k/{n}"), &format!("value {n}"));
                n += 1;
            }
            n
        });
        crate::cluster::within("the writer writes", || !cluster.keys(0).is_empty());
        let said = cluster.hamaster(0, &["etcd", "snapshot", "save"]).ok();
        assert!(said.err.contains("keep a copy"), "{said:?}");
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    assert!(written > 0);
    let [snapshot] = &cluster.snapshots(0)[..] else { panic!("one snapshot") };
    let key = cluster.root(0).join("etc/hamaster/snapshot.key");
    assert_eq!((mode(snapshot), mode(&key)), (0o600, 0o600));
    let said = cluster.hamaster(0, &["etcd", "snapshot", "verify", &snapshot.display().to_string()]).ok();
    assert!(said.out.contains("opens whole; its checksum fits"), "{said:?}");
    // Three CAs and the service account key.
    assert!(said.out.contains("4 keys fit"), "{said:?}");
    // Nothing secret is readable in it.
    let sealed = fs::read(snapshot).unwrap();
    for secret in [&b"PRIVATE KEY"[..], b"value 0", b"cluster.yaml", b"etcd.db"] {
        assert!(!sealed.windows(secret.len()).any(|w| w == secret), "{}", String::from_utf8_lossy(secret));
    }
}

#[test]
fn verify_refuses_what_was_changed_cut_or_sealed_with_another_key() {
    let cluster = Cluster::one();
    let path = cluster.dir().join("good.hamaster");
    let (good, key) = (path.display().to_string(), cluster.dir().join("key").display().to_string());
    cluster.hamaster(0, &["etcd", "snapshot", "save", &good, "--key-file", &key]).ok();
    let sealed = fs::read(&path).unwrap();
    let bad = cluster.dir().join("bad.hamaster");
    let verify = |key: &str| {
        let path = bad.display().to_string();
        cluster.hamaster(0, &["etcd", "snapshot", "verify", &path, "--key-file", key])
    };
    for at in [0, 19, 30, 60, sealed.len() / 2, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[at] ^= 4;
        fs::write(&bad, changed).unwrap();
        verify(&key).refused(4, "cannot be opened");
        fs::write(&bad, &sealed[..at]).unwrap();
        verify(&key).refused(4, "cannot be opened");
    }
    fs::write(&bad, &sealed).unwrap();
    verify(&key).ok();
    let other = cluster.dir().join("other").display().to_string();
    let second = cluster.dir().join("second.hamaster").display().to_string();
    cluster.hamaster(0, &["etcd", "snapshot", "save", &second, "--key-file", &other]).ok();
    verify(&other).refused(4, "another key");
    // An existing snapshot is never overwritten.
    cluster.hamaster(0, &["etcd", "snapshot", "save", &good, "--key-file", &key]).refused(4, "exists already");
    assert_eq!(fs::read(&path).unwrap(), sealed);
}

#[test]
fn a_key_that_is_not_its_certificates_is_found() {
    let cluster = Cluster::one();
    let root = cluster.root(0);
    fs::copy(root.join("etc/etcd/pki/ca.key"), root.join("etc/kubernetes/pki/ca.key")).unwrap();
    cluster.hamaster(0, &["etcd", "snapshot", "save"]).ok();
    let snapshot = cluster.snapshots(0).remove(0).display().to_string();
    let said = cluster.hamaster(0, &["etcd", "snapshot", "verify", &snapshot]);
    said.refused(4, "/etc/kubernetes/pki/ca.key: it is the key of another one");
}

#[test]
fn a_key_shown_once_opens_it_from_standard_input() {
    let cluster = Cluster::one();
    let path = cluster.dir().join("s").display().to_string();
    let said = cluster.hamaster(0, &["etcd", "snapshot", "save", &path, "--new-key"]).ok();
    let key = said.out.trim_end();
    assert!(!key.contains(char::is_whitespace), "nothing else is on standard output");
    assert!(!cluster.root(0).join("etc/hamaster/snapshot.key").exists());
    cluster.hamaster(0, &["etcd", "snapshot", "verify", &path]).refused(2, "nobody can be asked");
    let file = cluster.dir().join("typed");
    fs::write(&file, key).unwrap();
    let mut verify = cluster.command(0, &["etcd", "snapshot", "verify", &path, "--key-file", "-"]);
    verify.stdin(fs::File::open(&file).unwrap());
    crate::cluster::Said::of(verify.output().unwrap()).ok();
}

#[test]
fn killed_while_it_saves_it_leaves_nothing_by_that_name_and_saves_the_next_time() {
    let cluster = Cluster::one();
    let points = ["snapshot.begun", "snapshot.filled", "snapshot.synced", "snapshot.named"];
    for point in points {
        let path = cluster.dir().join(point);
        let args = ["etcd", "snapshot", "save", &path.display().to_string()];
        let mut command = cluster.command(0, &args);
        let said = crate::cluster::Said::of(command.env("HAMASTER_CRASH_AT", format!("{point}:1")).output().unwrap());
        assert_eq!(said.signal, Some(9), "{said:?}");
        assert_eq!(path.exists(), point == "snapshot.named", "{point}");
        if path.exists() {
            cluster.hamaster(0, &["etcd", "snapshot", "verify", &path.display().to_string()]).ok();
        } else {
            cluster.hamaster(0, &args).ok();
        }
    }
    let left: Vec<_> = fs::read_dir(cluster.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().starts_with('.')), "{left:?}");
    // A full disk: said, and nothing left.
    let path = cluster.dir().join("full").display().to_string();
    let mut command = cluster.command(0, &["etcd", "snapshot", "save", &path]);
    let said = crate::cluster::Said::of(command.env("HAMASTER_FAIL_AT", "snapshot.filled:1").output().unwrap());
    said.refused(1, "cannot write");
    assert!(!cluster.dir().join("full").exists());
}

#[test]
fn the_timers_run_keeps_the_newest() {
    let cluster = Cluster::one();
    let yaml = cluster.root(0).join("etc/hamaster/cluster.yaml");
    let text = fs::read_to_string(&yaml).unwrap();
    assert!(text.contains("keep: 8"), "{text}");
    fs::write(&yaml, text.replace("keep: 8", "keep: 2")).unwrap();
    let dir = cluster.root(0).join("var/lib/hamaster/snapshots");
    fs::create_dir_all(&dir).unwrap();
    for name in ["m0-20200101T000000.hamaster", "m0-20210101T000000.hamaster", "mine.hamaster"] {
        fs::write(dir.join(name), "old").unwrap();
    }
    cluster.hamaster(0, &["etcd", "snapshot", "save", "--rotate"]).ok();
    let names: Vec<String> =
        cluster.snapshots(0).iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert!(names.len() == 3 && names[0] == "m0-20210101T000000.hamaster" && names[2] == "mine.hamaster", "{names:?}");
}
