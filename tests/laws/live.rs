//! The laws where something runs: a lab with a real etcd, killed, broken and interrupted on its way up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hamaster::host::processes::Supervised;
use hamaster::host::supervisor::home::Home;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::{HAMASTER, Said, Tree, points, said, try_all};
use crate::secrets::secrets;

/// A lab that is down when the test ends, however it ends.
struct Lab {
    dir: TempDir,
    /// First on `PATH`.
    bin: PathBuf,
}

impl Lab {
    fn new() -> Self {
        let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        Self { dir, bin }
    }

    /// A lab whose etcd says a version and otherwise runs `script`.
    fn with_etcd(script: &str) -> Self {
        let lab = Self::new();
        let etcd = lab.bin.join("etcd");
        let version = "case \"$*\" in *--version*) echo 'etcd Version: 3.4.23'; exit 0;; esac";
        fs::write(&etcd, format!("#!/bin/sh\n{version}\n{script}\n")).unwrap();
        fs::set_permissions(&etcd, fs::Permissions::from_mode(0o755)).unwrap();
        lab
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("lab")
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(HAMASTER);
        let path = std::env::var("PATH").unwrap();
        command.args(["lab", verb, "--dir"]).arg(self.home()).env("PATH", format!("{}:{path}", self.bin.display()));
        // The laws are about the master's files and its etcd; the control plane has tests of its own.
        command.env_remove("KUBEBUILDER_ASSETS").env_remove("KUBE_BIN_DIR");
        command
    }

    fn up(&self) -> Said {
        said(&mut self.command("up"))
    }

    /// `up` that is killed at a point.
    fn killed_at(&self, point: &str) -> bool {
        let said = said(self.command("up").env("HAMASTER_CRASH_AT", point));
        let killed = said.signal == Some(Signal::KILL.as_raw());
        assert!(killed || said.code == Some(0), "at {point}: {said}");
        killed
    }

    /// The master's files, without what services write and the supervisor keeps.
    fn files(&self) -> Tree {
        Tree::of(&self.home().join("m1")).without("/var/log").without("/log").without("/enabled.json")
    }

    /// Nothing is left of a first `up` that failed, and nothing of it would start again.
    fn assert_untouched(&self, said: &str) {
        assert_eq!(self.files().0.keys().collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "{said}");
        let enabled = fs::read_to_string(self.home().join("m1/enabled.json")).unwrap_or_default();
        assert!(!enabled.contains("etcd"), "{enabled}");
    }

    /// Command lines of every process that names this lab.
    fn processes(&self) -> Vec<String> {
        let name = self.home().display().to_string();
        let dirs = fs::read_dir("/proc").unwrap().flatten();
        let lines = dirs.filter_map(|d| fs::read(d.path().join("cmdline")).ok());
        lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " ")).filter(|l| l.contains(&name)).collect()
    }

    /// What `etcdctl` with the health check's certificate says.
    fn etcdctl(&self, args: &[&str]) -> String {
        let home = Home::find(&self.home()).unwrap().unwrap();
        let pki = home.layout().etcd_pki();
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints=https://{}:2379", home.node().unwrap().ip));
        command.arg("--cacert").arg(pki.join("ca.crt"));
        command.arg("--cert").arg(pki.join("hamaster.crt")).arg("--key").arg(pki.join("hamaster.key"));
        said(command.args(args)).expect(0).out
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command("down").output();
    }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The member's cluster as etcd itself and as our record name it.
fn cluster(lab: &Lab) -> (String, String) {
    let record = fs::read_to_string(lab.home().join("m1/var/lib/hamaster/record.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let status: serde_json::Value = serde_json::from_str(&lab.etcdctl(&["endpoint", "status", "-w", "json"])).unwrap();
    let id = status[0]["Status"]["header"]["cluster_id"].as_u64().unwrap();
    (format!("{id:x}"), record["etcd"]["clusterId"].as_str().unwrap().to_owned())
}

#[test]
fn a_first_master_killed_at_any_step_becomes_the_same() {
    let total = {
        let uncut = Lab::new();
        let said = uncut.up().expect(0);
        let line = said.err.lines().find_map(|l| l.strip_suffix(" changes")).map(|n| n.trim().parse::<u64>());
        line.unwrap_or_else(|| panic!("{said}")).unwrap()
    };
    // From the first step that runs something on; the ones before are files only.
    let later = 8;
    try_all(points(later, later).into_iter().map(|n| total - later + n).collect(), |n| {
        healed(&format!("step:{n}"));
    });
}

#[test]
fn killed_around_the_birth_of_the_cluster_it_is_still_one_cluster() {
    // After etcd was told to start; when the record says sealed; and each of the last writes.
    for point in ["unit.started:1", "etcd.sealed:1", "etcd.put:1"] {
        healed(point);
    }
}

/// Kills `up` at a point, runs it again, and looks at what came of it.
fn healed(point: &str) {
    let lab = Lab::new();
    assert!(lab.killed_at(point), "{point} was not reached");
    let said = lab.up().expect(0);
    assert!(said.out.contains("healthy"), "{point}: {said}");
    let (is, recorded) = cluster(&lab);
    assert_eq!(is, recorded, "{point}: sealed to another cluster");
    assert_eq!(lab.etcdctl(&["member", "list"]).lines().count(), 1, "{point}");
    let keys = lab.etcdctl(&["get", "--prefix", "/hamaster/v1/spec", "-w", "json"]);
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    assert!(keys["kvs"].as_array().unwrap().iter().all(|k| k["version"] == 1), "{point}: registered twice: {keys}");
    assert!(fs::read_to_string(lab.home().join("m1/etc/systemd/system/etcd.service")).unwrap().contains("existing"));
    let files = lab.files().without("/var/lib/etcd");
    let said = lab.up().expect(0);
    assert!(said.err.contains("nothing to do"), "{point}: {said}");
    lab.files().without("/var/lib/etcd").assert_is(&files, point);
    assert_eq!(files.temporaries(), Vec::<&PathBuf>::new(), "{point}");
}

#[test]
fn an_etcd_that_exits_is_told_with_its_last_words_and_undone() {
    let lab = Lab::with_etcd("echo 'panic: the disk is full of eels' >&2; exit 1");
    let said = lab.up().expect(1);
    assert!(said.err.contains("full of eels"), "no log lines: {said}");
    assert!(said.err.contains("it started and exited") && said.err.contains("hint: "), "{said}");
    lab.assert_untouched(&said.to_string());
    nothing_runs(&lab);
}

#[test]
fn an_interrupted_wait_is_undone() {
    for signal in [Signal::INT, Signal::TERM] {
        let lab = Lab::with_etcd("exec sleep 1000");
        let output = lab.dir.path().join("output");
        let file = fs::File::create(&output).unwrap();
        let mut command = lab.command("up");
        command.stdout(file.try_clone().unwrap()).stderr(file).stdin(Stdio::null()).process_group(0);
        let mut child = command.spawn().unwrap();
        let unit = lab.home().join("m1/etc/systemd/system/etcd.service");
        eventually("etcd is waited for", || unit.exists() && runs(&lab));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        let text = fs::read_to_string(&output).unwrap();
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(text.contains("interrupted while waiting for etcd.service") && text.contains("hint: "), "{text}");
        lab.assert_untouched(&text);
        nothing_runs(&lab);
    }
}

/// Whether etcd's unit has a process.
fn runs(lab: &Lab) -> bool {
    let Ok(Some(home)) = Home::find(&lab.home()) else { return false };
    Supervised::of(&home).report().ok().flatten().is_some_and(|r| r.units.iter().any(|u| u.pid.is_some()))
}

/// Of a lab that could not be made nothing but its supervisor may be left, and `down` ends that.
fn nothing_runs(lab: &Lab) {
    assert!(!runs(lab), "{:?}", lab.processes());
    said(&mut lab.command("down")).expect(0);
    eventually("everything has ended", || lab.processes().is_empty());
}

#[test]
fn no_argument_of_a_process_is_a_secret() {
    let lab = Lab::new();
    let said = lab.up().expect(0);
    let all = secrets(&Tree::of(Path::new(&lab.home().join("m1"))).without("/var/lib/etcd"));
    assert!(all.len() > 20, "only {} secrets are known", all.len());
    let lines = lab.processes();
    assert!(lines.iter().any(|l| l.contains("etcd")), "{lines:?}");
    for secret in all {
        assert!(!lines.iter().any(|l| l.contains(&secret)) && !said.has(&secret), "a secret is shown");
    }
}
