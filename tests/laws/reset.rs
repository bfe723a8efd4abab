//! `reset` takes back exactly what is ours, whenever it is killed, and lists what stays.

use hamaster::host::systemd::parse_show;
use hamaster::plan::reset::{ResetScope, plan};
use hamaster::plan::{Action, Run};
use hamaster::state::observed::{ContentFact, Observed, PathFact, PathKind, Record, Stamp};
use rustix::process::Signal;

use crate::common::{Image, Said, Tree, count_points, points, said, try_all};

fn made() -> (Image, Tree) {
    let image = Image::new();
    image.put("/etc/kubernetes/theirs", "not ours", 0o600);
    image.put("/etc/hamaster/elect.yaml", "the operator's\n", 0o640);
    let before = image.tree();
    image.init(&["--adopt"]).expect(0);
    (image, before)
}

#[test]
fn purge_leaves_the_host_as_it_was() {
    let (image, before) = made();
    assert_ne!(image.tree().0.len(), before.0.len());
    let said = image.run(&["reset", "--yes", "--purge"]).expect(0);
    image.tree().assert_is(&before, &said.to_string());
    image.run(&["reset", "--yes", "--purge"]).expect_nothing_to_do();
}

#[test]
fn what_cannot_be_made_again_is_moved_aside_and_listed() {
    let (image, before) = made();
    image.put("/var/lib/etcd/member/wal", "the data", 0o600);
    let key = image.read("/etc/kubernetes/pki/ca.key");
    let said = image.run(&["reset", "--yes"]).expect(0);
    let tree = image.tree();
    let kept: Vec<_> = tree.0.keys().filter(|p| p.to_string_lossy().contains("hamaster-kept-")).cloned().collect();
    for name in ["ca.crt", "ca.key", "sa.key", "sa.pub", "encryption-config.yaml", "wal"] {
        let path = kept.iter().find(|p| p.ends_with(name)).unwrap_or_else(|| panic!("{name} is lost: {kept:?}"));
        assert!(name == "wal" || said.has(path.to_str().unwrap()), "{} is not listed: {said}", path.display());
    }
    assert_eq!(image.read(kept.iter().find(|p| p.ends_with("ca.key")).unwrap().to_str().unwrap()), key);
    // Besides what was moved aside and the backup, which is listed, the host is as it was.
    assert!(said.has("/var/lib/hamaster/backup"), "{said}");
    let mut rest = tree.without("/var/lib/hamaster");
    rest.0.retain(|p, _| !p.to_string_lossy().contains("hamaster-kept-"));
    rest.assert_is(&before, "reset without purge");
}

#[test]
fn a_reset_killed_anywhere_can_be_run_again() {
    let reset = |image: &Image, at: u64| -> Said {
        said(image.command(&["reset", "--yes", "--purge"]).env("HAMASTER_CRASH_AT", at.to_string()))
    };
    let killed = |said: &Said| said.signal == Some(Signal::KILL.as_raw());
    let total = count_points(|n| killed(&reset(&made().0, n)));
    try_all(points(total, 16), |n| {
        let (image, before) = made();
        assert!(killed(&reset(&image, n)), "point {n} was not reached");
        let said = image.run(&["reset", "--yes", "--purge"]).expect(0);
        image.tree().assert_is(&before, &format!("reset killed at {n}, then run again: {said}"));
    });
}

/// Between a file and the record of it, the file is ours already: nobody edited it.
#[test]
fn a_change_killed_between_a_file_and_its_record_is_nobody_s_edit() {
    let change = |image: &Image, at: u64| {
        let point = format!("fs.write.renamed:{at}");
        image.init_with("HAMASTER_CRASH_AT", &point, &["--adopt", "--lb-ip=203.0.113.99"])
    };
    let killed = |said: &Said| said.signal == Some(Signal::KILL.as_raw());
    let total = count_points(|n| killed(&change(&made().0, n)));
    try_all(points(total, 24), |n| {
        let (image, before) = made();
        assert!(killed(&change(&image, n)), "point {n} was not reached");
        let said = image.run(&["reset", "--yes", "--purge"]).expect(0);
        image.tree().assert_is(&before, &format!("a change killed at {n}, then reset: {said}"));
    });
}

/// The timer's, which no run has in the record.
#[test]
fn snapshots_and_their_key_are_kept_aside_or_purged() {
    for purge in [false, true] {
        let (image, before) = made();
        image.put("/var/lib/hamaster/snapshots/m1-20261122T170301.hamaster", "sealed", 0o600);
        image.put("/etc/hamaster/snapshot.key", "key", 0o600);
        let said = image.run(if purge { &["reset", "--yes", "--purge"] } else { &["reset", "--yes"] }).expect(0);
        assert!(!image.has("/var/lib/hamaster/snapshots") && !image.has("/etc/hamaster/snapshot.key"), "{said}");
        assert_eq!(said.has("snapshot.key: opens, or is, a snapshot"), !purge, "{said}");
        if purge {
            image.tree().assert_is(&before, &said.to_string());
        }
    }
}

/// It opens those that are in another place.
#[test]
fn the_key_of_snapshots_that_stay_is_not_purged() {
    let (image, _) = made();
    image.put("/etc/hamaster/snapshot.key", "key", 0o600);
    let said = image.run(&["reset", "--yes", "--purge"]).expect(0);
    assert!(!image.has("/etc/hamaster/snapshot.key"), "{said}");
    assert!(said.has("snapshot.key: opens, or is, a snapshot"), "{said}");
}

/// The daemon's copies are not in the record: what is still the same as on standby is ours, what was edited is not.
#[test]
fn an_elected_manifest_goes_and_one_that_was_edited_stays() {
    let (image, before) = made();
    let source = image.read("/etc/kubernetes/standby/kube-scheduler.yaml");
    image.put("/etc/kubernetes/manifests/kube-scheduler.yaml", &source, 0o600);
    image.put("/etc/kubernetes/manifests/kube-controller-manager.yaml", "edited: true\n", 0o600);
    let said = image.run(&["reset", "--yes", "--purge"]).expect(0);
    assert!(!image.has("/etc/kubernetes/manifests/kube-scheduler.yaml"), "{said}");
    assert!(said.has("kube-controller-manager.yaml: changed since it was elected"), "{said}");
    assert_eq!(image.read("/etc/kubernetes/manifests/kube-controller-manager.yaml"), "edited: true\n");
    image.tree().without("/etc/kubernetes/manifests").assert_is(&before, &said.to_string());
}

/// After a reboot without a quorum an etcd is `activating` for as long as it lives: neither active nor failed.
#[test]
fn a_unit_that_is_about_to_run_is_stopped_before_its_data_is_moved() {
    let data = std::path::PathBuf::from("/var/lib/etcd");
    let unit = |was_active| {
        let stamp = Stamp { was_active, ..Stamp::default() };
        let units = [("etcd.service".to_owned(), stamp)].into();
        let record = Record { units, data_dir: Some(data.clone()), ..Record::default() };
        let dir =
            PathFact { kind: PathKind::Dir, mode: 0o700, uid: 0, gid: 0, digest: None, content: ContentFact::Opaque };
        let starting = parse_show("LoadState=loaded\nActiveState=activating\nSubState=start\n");
        let units = [("etcd.service".to_owned(), starting)].into();
        Observed { record, units, paths: [(data.clone(), dir)].into(), ..Observed::default() }
    };
    let kept = std::path::PathBuf::from("/var/lib/hamaster-kept");
    let scope = |runs| ResetScope {
        manifests: "/etc/kubernetes/manifests".into(),
        standby: "/etc/kubernetes/standby".into(),
        kept_data: kept.join("etcd"),
        kept: kept.clone(),
        state: "/var/lib/hamaster".into(),
        record: "/var/lib/hamaster/record.json".into(),
        backup: "/var/lib/hamaster/backup".into(),
        snapshots: Some("/var/lib/hamaster/snapshots".into()),
        snapshot_key: "/etc/hamaster/snapshot.key".into(),
        purge: false,
        runs,
    };
    let stop = |steps: &[Action]| steps.iter().position(|s| matches!(s, Action::SetUnit { run: Run::Stop, .. }));
    let moved = |steps: &[Action]| steps.iter().position(|s| matches!(s, Action::RetireData { .. })).unwrap();
    let steps = plan(&unit(false), &scope(true)).steps;
    assert!(stop(&steps).is_some_and(|at| at < moved(&steps)), "{steps:?}");
    // What ran before hamaster came goes on, and nothing runs in an image.
    let goes_on = plan(&unit(true), &scope(true));
    assert_eq!(stop(&goes_on.steps), None);
    // A member leaves before its certificates go, whether its etcd is stopped or started again.
    assert!(goes_on.until_stop_of("etcd.service").0.is_empty(), "{goes_on:?}");
    let stops = plan(&unit(false), &scope(true));
    assert!(stop(stops.until_stop_of("etcd.service").1) == Some(0), "{stops:?}");
    assert_eq!(stop(&plan(&unit(false), &scope(false)).steps), None);
}
