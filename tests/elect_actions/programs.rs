//! Programs and units that run while leading, and end with everything they started.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hamaster::elect::actions::PayloadEvent;
use hamaster::elect::config::Payload;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::stage::{Stage, wait_for};

fn stage(body: &str, stop: Duration) -> Stage {
    let mut stage = Stage::of(TempDir::new().unwrap(), Payload::Exec { argv: vec![] }, stop);
    let script = stage.script("payload", &body.replace("DIR", stage.dir.path().to_str().unwrap()));
    stage.group.payload = Payload::Exec { argv: vec![script, "argument".to_owned()] };
    stage
}

fn pid(path: &Path) -> Pid {
    let mut pid = None;
    wait_for("a pid", || {
        pid = fs::read_to_string(path).ok().and_then(|s| s.trim().parse().ok()).and_then(Pid::from_raw);
        pid.is_some()
    });
    pid.unwrap()
}

fn lives(pid: Pid) -> bool {
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // A zombie whose parent does not reap it is dead enough.
    test_kill_process(pid).is_ok() && state.is_ok_and(|s| !s.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

#[test]
fn a_program_learns_its_term_and_ends_when_asked() {
    let mut stage = stage(
        "echo $1 $HAMASTER_GROUP $HAMASTER_STATE $HAMASTER_TOKEN $HAMASTER_LEASE > DIR/env; echo $$ > DIR/pid; exec sleep 1000",
        Duration::from_secs(60),
    );
    stage.start().unwrap();
    let pid = pid(&stage.path("pid"));
    // Again, as after a re-read: it runs already.
    stage.start().unwrap();
    assert!(lives(pid));
    assert_eq!(stage.stop(), [""; 0], "SIGTERM is enough");
    assert!(!lives(pid));
    let name = &stage.group.name;
    assert_eq!(fs::read_to_string(stage.path("env")).unwrap(), format!("argument {name} start ab:7 5000\n"));
}

#[test]
fn a_tree_that_hides_and_ignores_is_killed_whole() {
    let mut stage = stage(
        "trap '' TERM
         setsid sh -c 'echo $$ > DIR/daemon; trap \"\" TERM; while :; do sleep 1000; done' &
         (setsid env -i sh -c 'echo $$ > DIR/bare; exec sleep 1000' &)
         echo $$ > DIR/pid; while :; do sleep 1000; done",
        Duration::from_millis(600),
    );
    stage.start().unwrap();
    let mut family = vec![pid(&stage.path("pid")), pid(&stage.path("daemon"))];
    let bare = pid(&stage.path("bare"));
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", bare.as_raw_nonzero())).unwrap();
    if cgroup.contains("hamaster-elect-") {
        family.push(bare);
    } else {
        eprintln!("no cgroup can be made here: a process that drops its environment gets away");
        kill_process(bare, Signal::KILL).unwrap();
    }
    assert!(family.iter().all(|p| lives(*p)));
    let missed = stage.stop();
    assert!(missed.len() <= 1, "{missed:?}");
    assert!(family.iter().all(|p| !lives(*p)));
}

#[test]
fn its_own_end_is_told_with_its_status() {
    let mut stage = stage("exit 7", Duration::from_secs(1));
    stage.start().unwrap();
    assert_eq!(stage.next(), PayloadEvent::Ended(Some(7)));
    stage.stop();
}

#[test]
fn a_program_that_is_not_there_is_no_start() {
    let mut stage = stage("", Duration::from_secs(1));
    stage.group.payload = Payload::Exec { argv: vec!["/no/such/program".to_owned()] };
    assert!(stage.start().unwrap_err().contains("/no/such/program"));
}

#[test]
fn a_program_dies_with_a_daemon_that_is_killed() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("pid");
    let script = format!(
        "{} run-bound --parent $$ -- sh -c 'echo $$ > {}; exec sleep 1000' & wait",
        env!("CARGO_BIN_EXE_hamaster"),
        file.display()
    );
    let mut daemon = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    let pid = pid(&file);
    assert!(lives(pid));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    wait_for("its death", || !lives(pid));
}

#[test]
fn what_a_dead_daemon_left_is_fenced_and_a_living_ones_is_not() {
    let stage = stage("", Duration::from_secs(1));
    let orphan = |mark: &str, group: &str| {
        let mut command = Command::new("sleep");
        command
            .arg("1000")
            .env("HAMASTER_GROUP", group)
            .env("HAMASTER_EXEC", mark)
            .stdin(Stdio::null())
            .process_group(0);
        command.spawn().unwrap()
    };
    let mut left = orphan("999999999-1", &stage.group.name);
    let mut other_group = orphan("999999999-1", "another");
    // Of a daemon that lives: this test's parent stands in for it.
    let parent = std::os::unix::process::parent_id();
    let stat = fs::read_to_string(format!("/proc/{parent}/stat")).unwrap();
    let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
    let mut living = orphan(&format!("{parent}-{started}"), &stage.group.name);
    // The environment of a child is its program's only after exec.
    for child in [&left, &other_group, &living] {
        wait_for("exec", || {
            fs::read(format!("/proc/{}/environ", child.id()))
                .is_ok_and(|e| e.windows(13).any(|w| w == b"HAMASTER_EXEC"))
        });
    }
    stage.fence(Duration::from_secs(4)).unwrap();
    assert!(left.wait().is_ok());
    for child in [&mut other_group, &mut living] {
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// `systemctl` as far as it is used here; the unit's state is a file.
fn unit_stage(stop: Duration) -> Stage {
    let payload = Payload::Unit { name: "x.service".to_owned() };
    let stage = Stage::of(TempDir::new().unwrap(), payload, stop);
    stage.script(
        "systemctl",
        &"cd DIR; for last; do :; done; test $last = x.service || exit 9
          case $1 in
          show) case $3 in ActiveState) echo ActiveState=$(cat state);; LoadState) echo LoadState=loaded;; esac;;
          start) echo $* >> log; echo active > state;;
          stop) echo $* >> log; test -e stubborn || echo inactive > state;;
          kill) echo $* >> log; echo failed > state;;
          esac"
            .replace("DIR", stage.dir.path().to_str().unwrap()),
    );
    fs::write(stage.path("state"), "inactive").unwrap();
    stage
}

#[test]
fn a_unit_is_started_and_stopped() {
    let mut stage = unit_stage(Duration::from_secs(60));
    stage.start().unwrap();
    stage.start().unwrap();
    stage.stop();
    let log = fs::read_to_string(stage.path("log")).unwrap();
    assert_eq!(log, "start --no-block -- x.service\nstop --no-block -- x.service\n", "an active unit is adopted");
}

#[test]
fn a_unit_that_does_not_stop_is_killed() {
    let mut stage = unit_stage(Duration::from_millis(500));
    fs::write(stage.path("stubborn"), "").unwrap();
    stage.start().unwrap();
    let missed = stage.stop();
    assert_eq!(missed.len(), 1, "{missed:?}");
    assert!(fs::read_to_string(stage.path("log")).unwrap().contains("kill -s KILL -- x.service"));
}
