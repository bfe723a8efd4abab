//! The lab's supervisor on real processes: shell scripts as units and as containers, and a real etcd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // tests act on files, processes and time

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hamaster::error::Kind;
use hamaster::host::Units;
use hamaster::host::processes::Supervised;
use hamaster::host::supervisor::home::Home;
use hamaster::host::supervisor::socket::{Phase, PodReport, Reply, Report, Request, ask};
use hamaster::host::supervisor::unit_file::{UnitFile, expand};
use hamaster::host::supervisor::{await_end, loopback};
use hamaster::lab;
use proptest::prelude::*;
use rustix::process::{Pid, Signal, kill_process};

const HAMASTER: &str = env!("CARGO_BIN_EXE_hamaster");

/// A lab of its own, stopped when the test ends, however it ends.
struct Lab {
    home: Home,
    units: Supervised,
    dir: tempfile::TempDir,
}

impl Lab {
    /// Its directory and a running supervisor; no master in it.
    fn new() -> Self {
        let lab = Self::at_rest();
        lab.units.launch(Path::new(HAMASTER)).unwrap();
        lab
    }

    fn at_rest() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Deeper than a socket address can say.
        let home = Home::claim(&dir.path().join("deep".repeat(30)), "127.0.9.9".parse().unwrap()).unwrap();
        fs::create_dir_all(home.layout().unit("")).unwrap();
        fs::create_dir_all(home.layout().manifests()).unwrap();
        Self { units: Supervised::of(&home), home, dir }
    }

    /// Writes a unit whose process runs `script`.
    fn unit(&self, name: &str, script: &str, settings: &str) {
        let script = self.script(&self.dir.path().join(format!("{name}.sh")), script);
        let text = format!("[Service]\nExecStart={}\n{settings}\n", script.display());
        fs::write(self.home.layout().unit(name), text).unwrap();
    }

    fn script(&self, path: &Path, body: &str) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_owned()
    }

    /// A program that pods of this lab find.
    fn program(&self, name: &str, body: &str) {
        let bin = self.dir.path().join("bin");
        self.script(&bin.join(name), body);
        let dirs = vec![bin, "/usr/bin".into(), "/bin".into()];
        assert_eq!(ask(&self.home, &Request::Search { dirs }).unwrap(), Reply::Done);
    }

    /// Puts a manifest in place as everybody should: written beside, then renamed.
    fn manifest(&self, file: &str, command: &[&str]) {
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": file.trim_end_matches(".yaml") },
            "spec": { "containers": [{ "name": "main", "image": "none", "command": command }] },
        });
        let dir = self.home.layout().manifests();
        fs::write(dir.join(format!(".{file}")), pod.to_string()).unwrap();
        fs::rename(dir.join(format!(".{file}")), dir.join(file)).unwrap();
    }

    fn report(&self) -> Report {
        self.units.report().unwrap().expect("the supervisor runs")
    }

    fn pod(&self, name: &str) -> Option<PodReport> {
        self.report().pods.into_iter().find(|p| p.name == name)
    }

    /// The process of a pod's only container, once it runs.
    fn pod_runs(&self, name: &str) -> u32 {
        eventually(&format!("pod {name} runs"), || {
            let container = self.pod(name)?.containers.into_iter().next()?;
            (container.phase == Phase::Running).then_some(container.pid?)
        })
    }

    fn unit_runs(&self, name: &str) -> u32 {
        eventually(&format!("{name} runs"), || {
            let state = self.units.state(name).unwrap();
            state.active.then_some(state.pid?)
        })
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.home.log(name)).unwrap_or_default()
    }

    fn log_says(&self, name: &str, text: &str) {
        eventually(&format!("the log of {name} says {text}"), || self.log(name).contains(text).then_some(()));
    }

    /// Kills the supervisor the hard way and waits for its end.
    fn kill_supervisor(&self) {
        kill(self.report().pid);
        eventually("the supervisor is gone", || self.units.report().unwrap().is_none().then_some(()));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.units.shut_down();
        let _ = await_end(&self.home, Duration::from_secs(60));
    }
}

/// Polls until there is a value. The bound only ends a test that is broken.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "still not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// State and start ticks in /proc; `None` when it is gone or only waits to be reaped.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (fields[0] != "Z").then(|| fields[19].parse().unwrap())
}

fn runs(pid: u32) -> bool {
    start_ticks(pid).is_some()
}

fn is_gone(pid: u32) {
    eventually(&format!("process {pid} is gone"), || (!runs(pid)).then_some(()));
}

fn kind<T: Debug>(result: hamaster::error::Result<T>) -> Kind {
    result.unwrap_err().kind()
}

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
    let text = format!("[Service]\nEnvironment=\"SECOND=a b\"\nExecStart=\nExecStart={}\n", other.display());
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
fn pods_follow_their_manifests() {
    let lab = Lab::new();
    lab.program("apiserver", "echo started as \"$@\"; exec sleep 1000");
    let path = "/usr/local/bin/apiserver";
    lab.manifest("a.yaml", &[path, "--colour=$(NONE)", "--price=$$5"]);
    let first = lab.pod_runs("a");
    lab.log_says("a.main", "started as --colour=$(NONE) --price=$5");

    // The same again is no change, a dot file is no manifest.
    lab.manifest("a.yaml", &[path, "--colour=$(NONE)", "--price=$$5"]);
    fs::write(lab.home.layout().manifests().join(".b.yaml"), "not yet").unwrap();
    lab.manifest("c.yaml", &[path]);
    lab.pod_runs("c");
    assert_eq!(lab.pod_runs("a"), first);
    assert_eq!(lab.report().pods.len(), 2);

    lab.manifest("a.yaml", &[path, "--colour=red"]);
    eventually("a new process runs", || Some(lab.pod_runs("a")).filter(|&pid| pid != first));
    assert!(!runs(first));
    lab.log_says("a.main", "started as --colour=red");

    let last = lab.pod_runs("a");
    fs::remove_file(lab.home.layout().manifests().join("a.yaml")).unwrap();
    is_gone(last);
    eventually("the pod is forgotten", || lab.pod("a").is_none().then_some(()));
    lab.pod_runs("c");
}

#[test]
fn a_pod_is_never_there_twice() {
    let lab = Lab::new();
    let mark = lab.dir.path().join("running");
    // Takes its time to end; a second one beside it would find the directory there.
    let body = format!(
        "mkdir {0} || {{ echo TWICE; exec sleep 1000; }}\ntrap 'sleep 0.6; rmdir {0}; exit 0' TERM\necho up \"$@\"\n\
         while :; do sleep 0.05; done",
        mark.display()
    );
    lab.program("slow", &body);
    for round in ["1", "2", "3"] {
        lab.manifest("slow.yaml", &["slow", round]);
        lab.log_says("slow.main", &format!("up {round}"));
    }
    fs::remove_file(lab.home.layout().manifests().join("slow.yaml")).unwrap();
    eventually("the pod is forgotten", || lab.pod("slow").is_none().then_some(()));
    assert!(!lab.log("slow.main").contains("TWICE") && !mark.exists());
}

#[test]
fn a_missing_program_and_a_broken_manifest_are_shown_and_hurt_nobody() {
    let lab = Lab::new();
    lab.program("works", "exec sleep 1000");
    lab.manifest("missing.yaml", &["/usr/local/bin/no-such-kube-apiserver"]);
    lab.manifest("works.yaml", &["works"]);
    let dir = lab.home.layout().manifests();
    fs::write(dir.join("broken.yaml"), "kind: Pod\nmetadata: [").unwrap();
    fs::write(dir.join("evil.yaml"), "{kind: Pod, metadata: {name: ../../x}, spec: {containers: []}}").unwrap();
    lab.pod_runs("works");
    let problem = eventually("the missing program is told", || lab.pod("missing")?.containers[0].problem.clone());
    assert_eq!(problem, "no program no-such-kube-apiserver on PATH or in KUBEBUILDER_ASSETS");
    for file in ["broken.yaml", "evil.yaml"] {
        assert!(lab.pod(file).unwrap().problem.is_some(), "{file}");
    }
    lab.program("no-such-kube-apiserver", "exec sleep 1000");
    lab.pod_runs("missing");
    fs::write(
        dir.join("broken.yaml"),
        "{kind: Pod, metadata: {name: mended}, spec: {containers: [{name: main, command: [works]}]}}",
    )
    .unwrap();
    lab.pod_runs("mended");
}

#[test]
fn a_crashing_container_is_restarted_ever_more_slowly() {
    let lab = Lab::new();
    let starts = lab.dir.path().join("starts");
    lab.program("crashes", &format!("date +%s%N >> {}; exit 1", starts.display()));
    lab.manifest("crashes.yaml", &["crashes"]);
    let times: Vec<u64> = eventually("it was started three times", || {
        let text = fs::read_to_string(&starts).ok()?;
        let times: Vec<u64> = text.lines().filter_map(|l| l.parse().ok()).collect();
        (times.len() >= 3).then_some(times)
    });
    // Pauses of one and two seconds lie between; slower is the machine, faster would be wrong.
    assert!(times[1] - times[0] > 900_000_000, "{times:?}");
    assert!(times[2] - times[1] > 1_900_000_000, "{times:?}");
    eventually("the crashes are told", || {
        let container = lab.pod("crashes")?.containers.remove(0);
        (container.restarts >= 2 && container.problem? == "exit status: 1").then_some(())
    });
}

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
    let (mut orphan, mut stranger) = (sleeper(), sleeper());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    // The stranger has the number of one that ran earlier, not its start time.
    let pids = serde_json::json!({ "boot": boot.trim(), "processes": [
        { "pid": orphan.id(), "start": start_ticks(orphan.id()).unwrap() },
        { "pid": stranger.id(), "start": start_ticks(stranger.id()).unwrap() - 1 },
    ]});
    fs::create_dir_all(lab.home.dir().join("run")).unwrap();
    fs::write(lab.home.dir().join("run/pids.json"), pids.to_string()).unwrap();
    lab.units.launch(Path::new(HAMASTER)).unwrap();
    assert!(!runs(orphan.id()), "ended before the supervisor answers");
    assert!(runs(stranger.id()));
    stranger.kill().unwrap();
    (orphan.wait().unwrap(), stranger.wait().unwrap());
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

#[test]
fn foreign_directories_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    let drive = |_: &lab::Lab| Ok(());
    assert_eq!(kind(lab::up(dir.path(), Path::new(HAMASTER), drive)), Kind::Conflict);
    assert_eq!(kind(lab::down(dir.path(), true)), Kind::Conflict);
    assert_eq!(kind(lab::status(dir.path())), Kind::Conflict);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["thesis.tex"]);

    let absent = dir.path().join("absent");
    assert_eq!(lab::down(&absent, true).unwrap(), lab::Down { stopped: false, purged: false });
    assert!(!absent.exists());
}

/// A real etcd, without TLS, as the only unit of a lab.
fn write_etcd(lab: &lab::Lab) -> hamaster::error::Result<()> {
    let ip = lab.this.loopback;
    let data = lab.this.layout.path("/var/lib/etcd");
    let text = format!(
        "[Service]\nType=notify\nUser=etcd\nRestart=on-failure\nRestartSec=1s\nExecStart=etcd --name=m1 \
         \"--data-dir={}\" --listen-client-urls=http://{ip}:2379 --advertise-client-urls=http://{ip}:2379 \
         --listen-peer-urls=http://{ip}:2380 --initial-advertise-peer-urls=http://{ip}:2380 \
         --initial-cluster=m1=http://{ip}:2380 --listen-metrics-urls=http://{ip}:2381\n",
        data.display()
    );
    let path = lab.this.layout.unit("etcd.service");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    lab.units.enable("etcd.service", true)?;
    lab.units.start("etcd.service")
}

#[test]
fn up_heals_whatever_happened_to_a_real_etcd() {
    let parent = tempfile::tempdir().unwrap();
    let dir = &parent.path().join("a lab");
    let up = || lab::up(dir, Path::new(HAMASTER), write_etcd).unwrap().1;
    let healthy = |what: &str| eventually(what, || Some(lab::status(dir).unwrap()).filter(|s| s.etcd_healthy));
    let pid = |status: &lab::Status| status.supervisor.as_ref().unwrap().units[0].pid.unwrap();
    struct Down<'a>(&'a Path);
    impl Drop for Down<'_> {
        fn drop(&mut self) {
            let _ = lab::down(self.0, true);
        }
    }
    let _down = Down(dir);

    let address = up().address;
    let first = healthy("etcd is healthy");
    // The second `up` changes nothing, a second lab gets an address of its own.
    up();
    assert_eq!(pid(&healthy("etcd is healthy")), pid(&first));
    assert_ne!(loopback::free().unwrap(), address);

    kill(pid(&first));
    eventually("another etcd runs", || {
        lab::status(dir).unwrap().supervisor?.units[0].pid.filter(|&new| new != pid(&first))
    });
    let second = healthy("etcd is healthy again");

    kill(second.supervisor.as_ref().unwrap().pid);
    is_gone(pid(&second));
    let status = lab::status(dir).unwrap();
    assert!(status.supervisor.is_none() && !status.etcd_healthy && status.etcd_problem.is_some());
    assert_eq!(up().address, address);
    healthy("etcd is healthy after its supervisor was killed");

    assert!(lab::down(dir, false).unwrap().stopped);
    assert!(dir.join("cluster.yaml").exists());
    // Somebody else took the address meanwhile.
    let other = TcpListener::bind((address, 2379)).unwrap();
    assert_eq!(kind(lab::up(dir, Path::new(HAMASTER), write_etcd)), Kind::Refused);
    drop(other);
    up();
    healthy("etcd is healthy after a down");
    assert_eq!(lab::down(dir, true).unwrap(), lab::Down { stopped: true, purged: true });
    assert!(!dir.exists());
}

#[test]
fn only_one_command_works_on_a_lab_at_a_time() {
    let parent = tempfile::tempdir().unwrap();
    let dir = &parent.path().join("lab");
    let outcome = lab::up(dir, Path::new(HAMASTER), |_| {
        assert_eq!(kind(lab::up(dir, Path::new(HAMASTER), |_| Ok(()))), Kind::Conflict);
        assert_eq!(kind(lab::down(dir, true)), Kind::Conflict);
        Ok(())
    });
    lab::down(dir, true).unwrap();
    outcome.unwrap();
}

/// As systemd.syntax(7) allows it: quoted, with escapes, percent and dollar signs doubled.
fn quoted(word: &str) -> String {
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '%' => out.push_str("%%"),
            '$' => out.push_str("$$"),
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

proptest! {
    #[test]
    fn a_command_line_is_read_as_it_was_meant(words in prop::collection::vec("[^\u{0}]{0,12}", 1..5)) {
        let line: Vec<String> = words.iter().map(|w| quoted(w)).collect();
        let unit = UnitFile::parse(&format!("[Service]\nExecStart=/bin/true {}", line.join(" \\\n  "))).unwrap();
        let read = expand(&unit.exec, &BTreeMap::from([("a".to_owned(), "wrong".to_owned())]));
        prop_assert_eq!(&read[1..], &words[..]);
    }

    #[test]
    fn no_unit_file_ends_the_supervisor(text in "(\\[Service\\]\n)?((ExecStart|Environment|RestartSec|TimeoutStopSec)=[^\n]{0,20}\n){0,4}") {
        let _ = UnitFile::parse(&text);
    }
}
