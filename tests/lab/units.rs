//! Units as processes: started, healed, stopped.

use std::fs;
use std::process::{Command, Stdio};

use hamaster::host::Units;
use hamaster::host::supervisor::socket::Phase;
use rustix::process::Signal;

use crate::supervised::{HAMASTER, Lab, eventually, is_gone, kill, runs, signal};

#[test]
fn a_unit_is_started_restarted_and_stopped_and_its_words_are_kept() {
    let lab = Lab::new();
    assert_eq!(lab.units.state("one.service").unwrap(), Default::default(), "nobody knows it yet");
    assert!(lab.units.start("one.service").is_err());

    lab.unit("one.service", "trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.05; done", "");
    let state = lab.units.state("one.service").unwrap();
    assert!(state.loaded && !state.active && !state.failed && state.pid.is_none(), "{state:?}");

    lab.units.start("one.service").unwrap();
    let first = lab.unit_runs("one.service");
    lab.log_says("one", "hello");
    lab.units.start("one.service").unwrap();
    assert_eq!(lab.unit_runs("one.service"), first, "starting what runs changes nothing");

    lab.units.restart("one.service").unwrap();
    let second = eventually("another process runs", || Some(lab.unit_runs("one.service")).filter(|&pid| pid != first));
    assert!(!runs(first));
    assert!(lab.log("one").contains("bye"), "it was asked to end, not killed");
    // Before its first word it has not set its trap.
    eventually("the second says hello", || (lab.log("one").matches("hello").count() == 2).then_some(()));

    lab.units.stop("one.service").unwrap();
    assert!(!runs(second), "stop waits until it is down");
    let state = lab.units.state("one.service").unwrap();
    assert!(!state.active && !state.failed, "{state:?}");
    let last = lab.units.logs("one.service", 3);
    assert!(last.len() == 3 && last.iter().any(|l| l == "bye"), "{last:?}");
    lab.units.stop("one.service").unwrap();
}

#[test]
fn restart_policies_are_those_of_systemd() {
    let lab = Lab::new();
    let quick = "RestartSec=50ms";
    lab.unit("fails.service", "exec sleep 1000", &format!("Restart=on-failure\n{quick}"));
    lab.unit("always.service", "exec sleep 1000", &format!("Restart=always\n{quick}"));
    lab.unit("never.service", "exec sleep 1000", "");
    for unit in ["fails.service", "always.service", "never.service"] {
        lab.units.start(unit).unwrap();
    }
    // kill -9 is healed, where it should be.
    for unit in ["fails.service", "always.service"] {
        let pid = lab.unit_runs(unit);
        kill(pid);
        eventually("it was restarted", || Some(lab.unit_runs(unit)).filter(|&new| new != pid));
    }
    kill(lab.unit_runs("never.service"));
    eventually("it failed", || lab.units.state("never.service").unwrap().failed.then_some(()));
    // A clean end is followed by a start only with `always`: a removed etcd member ends cleanly and must stay down.
    let (ends, comes_back) = (lab.unit_runs("fails.service"), lab.unit_runs("always.service"));
    signal(ends, Signal::TERM);
    signal(comes_back, Signal::TERM);
    eventually("it was restarted", || Some(lab.unit_runs("always.service")).filter(|&new| new != comes_back));
    is_gone(ends);
    let state = lab.units.state("fails.service").unwrap();
    assert!(!state.active && !state.failed, "{state:?}");
}

#[test]
fn a_crash_loop_is_told_and_ends_with_a_new_start() {
    let lab = Lab::new();
    lab.unit("broken.service", "echo cannot open the door >&2; exit 3", "Restart=always\nRestartSec=20ms");
    lab.units.start("broken.service").unwrap();
    eventually("it counts as failed", || lab.units.state("broken.service").unwrap().failed.then_some(()));
    assert!(lab.units.logs("broken.service", 50).iter().any(|l| l == "cannot open the door"));
    let report = lab.report().units.into_iter().find(|u| u.name == "broken.service").unwrap();
    assert!(report.restarts >= 2, "{report:?}");
    assert!(report.phase == Phase::Running || report.problem.unwrap().contains("exit status: 3"));

    lab.unit("broken.service", "exec sleep 1000", "Restart=always\nRestartSec=20ms");
    assert!(!lab.units.state("broken.service").unwrap().needs_reload, "only the script changed");
    lab.units.restart("broken.service").unwrap();
    lab.unit_runs("broken.service");
    assert!(!lab.units.state("broken.service").unwrap().failed);
}

#[test]
fn a_changed_unit_file_waits_for_a_reload() {
    let lab = Lab::new();
    lab.unit("one.service", "echo first; exec sleep 1000", "");
    lab.units.start("one.service").unwrap();
    lab.log_says("one", "first");
    fs::create_dir(lab.home.layout().unit("one.service.d")).unwrap();
    let other = lab.script(&lab.dir.path().join("other.sh"), "echo second $SECOND; exec sleep 1000");
    let text = format!("[Service]\nEnvironment=\"SECOND=a b\"\nExecStart=\nExecStart=/bin/sh {}\n", other.display());
    fs::write(lab.home.layout().unit("one.service.d/10-other.conf"), text).unwrap();
    assert!(lab.units.state("one.service").unwrap().needs_reload);
    lab.units.restart("one.service").unwrap();
    eventually("restarted as it was", || (lab.log("one").matches("first").count() == 2).then_some(()));
    lab.units.reload().unwrap();
    assert!(!lab.units.state("one.service").unwrap().needs_reload);
    lab.units.restart("one.service").unwrap();
    lab.log_says("one", "second a b");
}

#[test]
fn what_ignores_sigterm_is_killed_with_all_its_children() {
    let lab = Lab::new();
    let script = "trap '' TERM; sleep 1000 & echo child $!; while :; do sleep 1000; done";
    lab.unit("stubborn.service", script, "TimeoutStopSec=200ms");
    lab.units.start("stubborn.service").unwrap();
    let pid = lab.unit_runs("stubborn.service");
    let child = eventually("its child is known", || {
        lab.log("stubborn").lines().find_map(|l| l.strip_prefix("child ")?.parse().ok())
    });
    assert!(runs(child));
    lab.units.stop("stubborn.service").unwrap();
    assert!(!runs(pid));
    is_gone(child);
}

#[test]
fn what_a_dead_process_leaves_behind_is_ended() {
    let lab = Lab::new();
    let script = "trap '' TERM; sleep 1000 & echo child $!; trap - TERM; while :; do sleep 0.05; done";
    lab.unit("parent.service", script, "");
    lab.units.start("parent.service").unwrap();
    let child = eventually("its child is known", || {
        lab.log("parent").lines().find_map(|l| l.strip_prefix("child ")?.parse().ok())
    });
    lab.units.stop("parent.service").unwrap();
    is_gone(child);
}

#[test]
fn a_unit_gets_a_clean_environment_and_its_own_variables() {
    let lab = Lab::at_rest();
    let file = lab.dir.path().join("etcd.env");
    fs::write(&file, "# comment\nFROM_FILE=\"a \\\"b\\\"\"\nWINS=file\n").unwrap();
    fs::write(
        lab.home.layout().unit("env.service"),
        format!(
            "[Unit]\nExecStart=/bin/false\n[Service]\n# a comment\nEnvironment=ONE=1 'TWO=2 %% 3' WINS=unit\n\
             EnvironmentFile={}\nEnvironmentFile=-/nonexistent/file\n\
             ExecStart=/bin/sh -c \"env | sort; printf '<%%s>\\\\n' \\\"$$@\\\"; exec sleep 1000\" sh \\\n  # between\n  \
             ${{FROM_FILE}} $TWO \"x\\x41y\"\n",
            file.display()
        ),
    )
    .unwrap();
    // What a shell exports must not reach etcd: it reads every ETCD_ variable.
    let mut supervisor = Command::new(HAMASTER)
        .args(["lab", "supervise"])
        .arg(lab.home.dir())
        .env("ETCD_NAME", "from-the-shell")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the supervisor answers", || lab.units.report().unwrap());
    lab.units.start("env.service").unwrap();
    lab.log_says("env", "<xAy>");
    let log = lab.log("env");
    for line in ["ONE=1", "TWO=2 % 3", "FROM_FILE=a \"b\"", "WINS=file", "<a \"b\">", "<2>", "<%>", "<3>"] {
        assert!(log.lines().any(|l| l == line), "{line} is not in {log}");
    }
    assert!(!log.contains("from-the-shell"), "{log}");
    drop(lab);
    assert!(supervisor.wait().unwrap().success());
}

#[test]
fn a_log_is_cut_before_it_fills_the_disk() {
    let lab = Lab::new();
    lab.unit("loud.service", "head -c 9000000 /dev/zero | tr '\\0' x; echo; echo end; exec sleep 1000", "");
    lab.units.start("loud.service").unwrap();
    let path = lab.home.log("loud");
    eventually("the old part is set aside", || {
        path.with_extension("log.1").exists().then_some(()).filter(|()| fs::metadata(&path).unwrap().len() < 8 << 20)
    });
}
