//! What becomes of everything when the supervisor is killed, doubled or robbed of its directory.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use hamaster::host::Units;
use hamaster::lab;

use crate::supervised::{HAMASTER, Lab, is_gone, runs, start_ticks};

#[test]
fn nothing_outlives_a_killed_supervisor_and_the_next_one_heals() {
    let lab = Lab::new();
    lab.unit("etcd.service", "exec sleep 1000", "Restart=on-failure");
    lab.unit("off.service", "exec sleep 1000", "");
    lab.program("sh", "exec sleep 1000");
    lab.manifest("pod.yaml", &["sleep", "1000"]);
    for unit in ["etcd.service", "off.service"] {
        lab.units.enable(unit, true).unwrap();
        lab.units.start(unit).unwrap();
    }
    lab.units.enable("off.service", false).unwrap();
    let (etcd, off, pod) = (lab.unit_runs("etcd.service"), lab.unit_runs("off.service"), lab.pod_runs("pod"));
    lab.kill_supervisor();
    [etcd, off, pod].into_iter().for_each(is_gone);

    lab.units.launch(Path::new(HAMASTER)).unwrap();
    assert_ne!(lab.unit_runs("etcd.service"), etcd);
    assert_ne!(lab.pod_runs("pod"), pod);
    let state = lab.units.state("off.service").unwrap();
    assert!(!state.active && !state.enabled, "only enabled units start with the supervisor: {state:?}");
}

#[test]
fn an_orphan_is_ended_by_the_next_supervisor_and_nobody_else_is() {
    let lab = Lab::at_rest();
    let sleeper = || Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
    let (orphan, mut stranger) = (sleeper(), sleeper());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    // The stranger has the number of one that ran earlier, not its start time.
    let pids = serde_json::json!({ "boot": boot.trim(), "processes": [
        { "pid": orphan.id(), "start": start_ticks(orphan.id()).unwrap() },
        { "pid": stranger.id(), "start": start_ticks(stranger.id()).unwrap() - 1 },
    ]});
    fs::create_dir_all(lab.home.dir().join("run/m1")).unwrap();
    fs::write(lab.home.dir().join("run/m1/pids.json"), pids.to_string()).unwrap();
    lab.units.launch(Path::new(HAMASTER)).unwrap();
    assert!(!runs(orphan.id()), "ended before the supervisor answers");
    assert!(runs(stranger.id()));
    stranger.kill().unwrap();
    for mut child in [orphan, stranger] {
        child.wait().unwrap();
    }
}

#[test]
fn a_lab_has_one_supervisor_and_two_labs_do_not_mix() {
    let (one, two) = (Lab::new(), Lab::new());
    let second = Command::new(HAMASTER).args(["lab", "supervise"]).arg(one.home.dir()).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("has a supervisor already"), "{second:?}");
    for lab in [&one, &two] {
        lab.unit("etcd.service", "exec sleep 1000", "");
        lab.units.start("etcd.service").unwrap();
    }
    let (first, other) = (one.unit_runs("etcd.service"), two.unit_runs("etcd.service"));
    assert_ne!(first, other);
    assert!(lab::down(one.home.dir(), false).unwrap().stopped);
    assert!(!runs(first));
    assert_eq!(two.unit_runs("etcd.service"), other);
    assert!(!lab::down(one.home.dir(), false).unwrap().stopped, "down twice is fine");
}

#[test]
fn a_supervisor_whose_directory_is_gone_ends_everything() {
    let lab = Lab::new();
    lab.unit("etcd.service", "exec sleep 1000", "");
    lab.units.start("etcd.service").unwrap();
    let (supervisor, etcd) = (lab.report().pid, lab.unit_runs("etcd.service"));
    fs::remove_dir_all(lab.home.dir()).unwrap();
    is_gone(etcd);
    is_gone(supervisor);
}
