//! Three masters: a quorum that is killed, paused and cut, and comes back.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hamaster::error::Kind;
use hamaster::host::supervisor::socket::{Phase, Report};
use hamaster::lab::{self, Fault};

use crate::supervised::{HAMASTER, eventually, is_gone, kind, runs};

/// A lab of three; nothing of it is left, however the test ends.
pub(crate) struct Fleet {
    dir: PathBuf,
    parent: tempfile::TempDir,
}

impl Fleet {
    pub(crate) fn up() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let fleet = Self { dir: parent.path().join("lab of 3"), parent };
        fleet.hamaster("up", &["--masters", "3"]);
        fleet
    }

    /// `hamaster lab VERB` as an operator runs it; it must succeed.
    pub(crate) fn hamaster(&self, verb: &str, arguments: &[&str]) -> String {
        let output = self.command(verb, arguments);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{verb} {arguments:?}: {text}");
        text
    }

    fn command(&self, verb: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(HAMASTER);
        command.args(["lab", verb]).args(arguments).arg("--dir").arg(&self.dir);
        // No Kubernetes: what is tested is who runs, not what.
        command.env_remove("KUBEBUILDER_ASSETS").env_remove("KUBE_BIN_DIR").output().unwrap()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn status(&self) -> lab::Status {
        lab::status(&self.dir).unwrap()
    }

    pub(crate) fn report(&self, master: usize) -> Report {
        self.status().masters[master - 1].supervisor.clone().expect("it runs")
    }

    pub(crate) fn path(&self, master: usize, inside: &str) -> PathBuf {
        self.dir.join(format!("m{master}")).join(inside)
    }

    /// etcdctl at one master, with the certificate the lab's own command names.
    fn etcdctl(&self, master: usize, arguments: &str) -> Result<String, String> {
        let status = self.status();
        let (start, rest) = status.commands[0].split_once("--endpoints ").unwrap();
        let (_, credentials) = rest.split_once(' ').unwrap();
        let credentials = credentials.split(" get ").next().unwrap();
        let endpoint = format!("https://{}:2379", status.masters[master - 1].address);
        let command = format!("{start} --command-timeout 3s --endpoints {endpoint} {credentials} {arguments}");
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn all_healthy(&self) {
        eventually("every member is healthy", || self.status().is_healthy().then_some(()));
    }

    fn etcd(&self, master: usize) -> u32 {
        self.report(master).units.iter().find(|u| u.name == "etcd.service").unwrap().pid.unwrap()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = lab::down(&self.dir, true);
        let _ = &self.parent;
    }
}

#[test]
fn three_masters_come_up_once_and_go_without_a_trace() {
    let fleet = Fleet::up();
    let members = fleet.etcdctl(1, "member list").unwrap();
    assert_eq!(members.matches(", started, ").count(), 3, "{members}");
    assert!(fleet.status().is_healthy());
    assert!(fleet.hamaster("up", &[]).contains("nothing to do"));
    assert!(fleet.hamaster("up", &["--masters", "3"]).contains("nothing to do"));

    // The cluster's secrets are the same on each, a master's own are not.
    let same = |file: &str| (1..=3).map(|m| fs::read(fleet.path(m, file)).unwrap()).collect::<BTreeSet<_>>().len() == 1;
    for file in ["ca.crt", "ca.key", "front-proxy-ca.key", "sa.key", "sa.pub", "encryption-config.yaml"] {
        assert!(same(&format!("etc/kubernetes/pki/{file}")), "{file}");
    }
    assert!(same("etc/etcd/pki/ca.key") && !same("etc/etcd/pki/peer.key"));

    let other = lab::up(&fleet.dir, Some(1), Path::new(HAMASTER), |_| Ok(()));
    assert_eq!(kind(other), Kind::Conflict, "a lab of three does not become one of one");

    let pids: Vec<u32> = (1..=3).flat_map(|m| [fleet.report(m).pid, fleet.etcd(m)]).collect();
    assert!(pids.iter().all(|&pid| runs(pid)));
    fleet.hamaster("down", &["--purge"]);
    pids.into_iter().for_each(|pid| assert!(!runs(pid)));
    assert!(!fleet.dir.exists());
}

#[test]
fn a_master_is_killed_and_started_paused_and_resumed() {
    let fleet = Fleet::up();
    let before = [fleet.report(2).pid, fleet.etcd(2)];
    fleet.hamaster("kill", &["m2"]);
    before.into_iter().for_each(is_gone);
    assert!(fleet.status().masters[1].supervisor.is_none());
    eventually("two are a quorum", || fleet.etcdctl(1, "put while two-are-left").ok());
    assert!(fleet.hamaster("kill", &["m2"]).contains("already"));
    assert_eq!(kind(lab::inflict(&fleet.dir, "m2", Fault::Pause, Path::new(HAMASTER))), Kind::Apply);

    assert!(!fleet.hamaster("start", &["m2"]).contains("already"));
    fleet.all_healthy();
    let value = eventually("it answers", || fleet.etcdctl(2, "get while").ok());
    assert!(value.contains("two-are-left"), "it caught up");
    assert!(fleet.hamaster("start", &["m2"]).contains("already"));

    let frozen = fleet.etcd(3);
    fleet.hamaster("pause", &["m3"]);
    assert_eq!(state(frozen), 'T');
    let etcd = |fleet: &Fleet| fleet.report(3).units.into_iter().find(|u| u.name == "etcd.service").unwrap();
    assert_eq!(etcd(&fleet).phase, Phase::Frozen);
    fleet.etcdctl(3, "get while").unwrap_err();
    fleet.hamaster("resume", &["m3"]);
    fleet.all_healthy();
    assert_eq!(fleet.etcd(3), frozen, "it is the same process");

    // Whoever is paused can still be stopped.
    fleet.hamaster("pause", &["m1"]);
    fleet.hamaster("down", &[]);
    assert!(!runs(frozen));
}

/// The state of a process in /proc.
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[test]
fn a_partition_cuts_both_ways_and_heals() {
    let fleet = Fleet::up();
    eventually("it can be written to", || fleet.etcdctl(1, "put a whole").ok());
    fleet.hamaster("partition", &["m1"]);
    assert!(fleet.status().masters[0].partitioned);
    // The operator reaches everybody, m1 only itself: it has no quorum, the others have.
    eventually("m1 has lost its quorum", || (!fleet.status().masters[0].etcd_healthy).then_some(()));
    eventually("the others have one", || fleet.etcdctl(2, "put a cut").ok());
    fleet.etcdctl(1, "put a never").unwrap_err();
    let stale = fleet.etcdctl(1, "get a --consistency=s --print-value-only").unwrap();
    assert_eq!(stale.trim(), "whole", "nothing has reached it");
    assert!(fleet.hamaster("partition", &["m1"]).contains("already"));

    // A partition is in the network: a restart of a master changes nothing.
    fleet.hamaster("kill", &["m2"]);
    fleet.hamaster("start", &["m2"]);
    eventually("the others have a quorum again", || fleet.etcdctl(2, "put a cut-still").ok());
    assert!(!fleet.status().masters[0].etcd_healthy);

    fleet.hamaster("heal", &["m1"]);
    fleet.all_healthy();
    let value = eventually("m1 answers", || fleet.etcdctl(1, "get a --print-value-only").ok());
    assert_eq!(value.trim(), "cut-still");

    assert_eq!(kind(lab::inflict(&fleet.dir, "m4", Fault::Kill, Path::new(HAMASTER))), Kind::Usage);
}
