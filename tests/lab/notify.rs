//! Units that speak: ready, alive, silent; what is run after them, and before the kubelet.

use std::fs;

use hamaster::host::Units;
use hamaster::host::supervisor::socket::{Phase, ProcessReport};

use crate::supervised::{Lab, eventually, is_gone, kill, runs};

fn report(lab: &Lab, unit: &str) -> ProcessReport {
    lab.report().units.into_iter().find(|u| u.name == unit).unwrap()
}

#[test]
fn a_unit_that_notifies_is_active_once_it_says_so() {
    let lab = Lab::new();
    let go = lab.dir.path().join("go");
    let script = format!(
        "systemd-notify --status=warming\nwhile [ ! -e {} ]; do sleep 0.02; done\nsystemd-notify --ready\nexec sleep 1000",
        go.display()
    );
    lab.unit("slow.service", &script, "Type=notify");
    lab.units.start("slow.service").unwrap();
    eventually("its status is shown", || (report(&lab, "slow.service").status? == "warming").then_some(()));
    assert_eq!(report(&lab, "slow.service").phase, Phase::Starting);
    assert!(!lab.units.state("slow.service").unwrap().active);
    fs::write(go, "").unwrap();
    lab.unit_runs("slow.service");
    assert_eq!(report(&lab, "slow.service").phase, Phase::Running);
}

#[test]
fn a_silent_unit_is_ended_and_started_anew_even_if_it_is_frozen() {
    let lab = Lab::new();
    let script = "systemd-notify --ready; while :; do systemd-notify WATCHDOG=1; sleep 0.1; done";
    let settings = "Type=notify\nWatchdogSec=1s\nWatchdogSignal=SIGKILL\nRestart=always";
    lab.unit("fed.service", script, settings);
    lab.unit("hungry.service", "systemd-notify --ready; exec sleep 1000", settings);
    for unit in ["fed.service", "hungry.service"] {
        lab.units.start(unit).unwrap();
    }
    let (fed, hungry) = (lab.unit_runs("fed.service"), lab.unit_runs("hungry.service"));
    for _ in 0..2 {
        let before = report(&lab, "hungry.service").restarts;
        eventually("silence is punished", || (report(&lab, "hungry.service").restarts > before).then_some(()));
    }
    is_gone(hungry);
    assert_eq!(lab.unit_runs("fed.service"), fed, "who speaks is left alone");

    lab.units.freeze(true).unwrap();
    is_gone(fed);
    eventually("another runs, and not frozen", || {
        (report(&lab, "fed.service").phase == Phase::Running && runs(report(&lab, "fed.service").pid?)).then_some(())
    });
}

#[test]
fn what_comes_after_a_unit_is_run_however_it_ended_and_waited_for() {
    let lab = Lab::new();
    let (post, marks) = (lab.dir.path().join("post.sh"), lab.dir.path().join("marks"));
    lab.script(&post, &format!("sleep 0.3; echo post >> {}", marks.display()));
    let settings = format!("Restart=always\nRestartSec=10ms\nExecStopPost=/bin/sh {}", post.display());
    lab.unit("one.service", &format!("echo run >> {}; exec sleep 1000", marks.display()), &settings);
    let marks = || fs::read_to_string(&marks).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    lab.units.start("one.service").unwrap();
    eventually("it runs", || (marks() == "run").then_some(()));
    kill(lab.unit_runs("one.service"));
    eventually("it runs again, after its post", || (marks() == "run post run").then_some(()));
    lab.unit_runs("one.service");
    lab.units.stop("one.service").unwrap();
    assert_eq!(marks(), "run post run post", "stop waits for it");
}

#[test]
fn pods_wait_for_what_comes_before_the_kubelet() {
    let lab = Lab::at_rest();
    let (go, fenced) = (lab.dir.path().join("go"), lab.dir.path().join("fenced"));
    let script = lab.script(
        &lab.dir.path().join("fence.sh"),
        &format!("while [ ! -e {} ]; do sleep 0.02; done; echo > {}", go.display(), fenced.display()),
    );
    let text = format!(
        "[Unit]\nBefore=kubelet.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh {}\n",
        script.display()
    );
    fs::write(lab.home.layout().unit("fence.service"), text).unwrap();
    fs::write(lab.home.dir().join("m1/enabled.json"), "[\"fence.service\"]").unwrap();
    lab.manifest("pod.yaml", &["pod"]);
    lab.units.launch(std::path::Path::new(crate::supervised::HAMASTER)).unwrap();
    lab.program("pod", &format!("test -e {} && echo after; exec sleep 1000", fenced.display()));
    eventually("the fence works", || report(&lab, "fence.service").pid);
    assert!(lab.report().pods.is_empty());
    fs::write(go, "").unwrap();
    lab.pod_runs("pod");
    lab.log_says("pod.main", "after");
    let state = lab.units.state("fence.service").unwrap();
    assert!(state.active && !state.failed && state.pid.is_none(), "{state:?}");
    assert_eq!(report(&lab, "fence.service").phase, Phase::Done);
}
