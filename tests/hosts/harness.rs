//! The harness itself: a host boots, keeps its disk through a power cut, and leaves nothing on the machine.

use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, traces, within};
use crate::tree::Tree;

/// Returns once etcd says it is ready.
const PLAIN_ETCD: [&str; 4] = ["systemd-run", "--service-type=notify", "/usr/bin/etcd", "--data-dir=/var/lib/plain"];

#[test]
fn etcd_on_a_host_keeps_what_was_written_through_a_power_cut() {
    let Some(lab) = Lab::new() else { return };
    let mut host = lab.machine("m1", 11);
    host.boot();
    assert_eq!(host.ok(&["hostname"]).trim(), "m1");
    assert!(host.ok(&["ip", "-4", "addr", "show", "eth0"]).contains(&host.ip().to_string()));
    host.ok(&PLAIN_ETCD);
    host.ok(&["etcdctl", "put", "greeting", "hello"]);

    host.power_off();
    host.boot();
    assert!(!host.succeeds(&["etcdctl", "--command-timeout=1s", "get", "greeting"]), "a transient unit is gone");
    host.ok(&PLAIN_ETCD);
    assert_eq!(host.ok(&["etcdctl", "get", "--print-value-only", "greeting"]).trim(), "hello");
}

#[test]
fn hosts_reach_each_other() {
    let Some(lab) = Lab::new() else { return };
    let (mut one, mut two) = (lab.machine("m1", 11), lab.machine("m2", 12));
    one.boot();
    two.boot();
    one.ok(&["systemd-run", "systemd-socket-activate", "--listen=7000", "/bin/true"]);
    let knock = ["bash", "-c", "exec 3<>/dev/tcp/192.0.2.11/7000"];
    within(Duration::from_secs(20), "the other host answers", || two.succeeds(&knock));
}

#[test]
fn a_tree_shows_each_kind_of_change() {
    let Some(lab) = Lab::new() else { return };
    let host = lab.machine("m1", 11);
    host.write("/etc/kept", "same", 0o644);
    let before = Tree::of(&host);
    let differs = || Tree::of(&host) != before;
    assert!(!differs());
    host.write("/etc/kept", "same", 0o600);
    assert!(differs(), "mode");
    host.write("/etc/kept", "SAME", 0o644);
    assert!(differs(), "content");
    host.write("/etc/kept", "same", 0o644);
    assert!(!differs());
    std::os::unix::fs::chown(host.path("/etc/kept"), Some(1), None).unwrap();
    assert!(differs(), "owner");
    std::fs::remove_file(host.path("/etc/kept")).unwrap();
    assert!(differs(), "absence");
    assert!(before.has("/etc/kept") && !Tree::of(&host).has("/etc/kept"));
}

#[test]
fn nothing_is_left_behind() {
    let Some(lab) = Lab::new() else { return };
    let mut host = lab.machine("m1", 11);
    host.boot();
    assert!(traces().len() > 4, "{:?}", traces());
    drop(host);
    drop(lab);
    assert_eq!(traces(), Vec::<String>::new());
}

/// A run that is killed cannot clean up; the next one does it. The victim is this very test in a process of its own.
#[test]
fn the_next_run_sweeps_up_after_a_killed_one() {
    const VICTIM: &str = "HAMTEST_VICTIM";
    if std::env::var_os(VICTIM).is_some() {
        let lab = Lab::new().unwrap();
        let mut host = lab.machine("m1", 11);
        host.boot();
        std::process::abort();
    }
    if Lab::new().is_none() {
        return;
    }
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", "harness::the_next_run_sweeps_up_after_a_killed_one"]).env(VICTIM, "1");
    assert!(!victim.output().unwrap().status.success());
    assert!(traces().iter().any(|t| t.starts_with("process")), "the victim's host outlives it: {:?}", traces());
    drop(Lab::new());
    assert_eq!(traces(), Vec::<String>::new());
}
