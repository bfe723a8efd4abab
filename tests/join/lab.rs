//! A lab of the test's own.

use std::fs;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use hamaster::etcd::client::Client;
use hamaster::host::processes::Supervised;
use hamaster::host::supervisor::home::Home;
use hamaster::spec::layout::Layout;
use hamaster::spec::{Node, ThisNode};

use super::writer::{self, Writer};

pub struct Lab {
    dir: tempfile::TempDir,
    masters: usize,
    /// Where its etcd is, if not on PATH.
    programs: Option<PathBuf>,
}

impl Lab {
    pub fn new(masters: usize) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), masters, programs: None }
    }

    /// With the etcd in `programs`.
    pub fn with(programs: PathBuf, masters: usize) -> Self {
        let mut lab = Self::new(masters);
        lab.programs = Some(programs);
        lab
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("lab")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hamaster"));
        command.arg("lab").args(words).arg("--dir").arg(self.path());
        // Etcd is what these tests are about; five masters' kube-apiservers would leave it no processor.
        command.env_remove("KUBEBUILDER_ASSETS").env_remove("KUBE_BIN_DIR");
        if let Some(programs) = &self.programs {
            command.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
        }
        command
    }

    fn up_command(&self) -> Command {
        let mut command = self.command(&["up"]);
        command.args(["--masters", &self.masters.to_string()]);
        command
    }

    fn said(output: &Output) -> String {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    pub fn lab(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", Self::said(&output));
        Self::said(&output)
    }

    pub fn fails(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(!output.status.success(), "{words:?}: {}", Self::said(&output));
        Self::said(&output)
    }

    /// Brings it up; what it said about changes.
    pub fn up(&self) -> String {
        let output = self.up_command().output().unwrap();
        assert!(output.status.success(), "{}", Self::said(&output));
        let said = String::from_utf8(output.stderr).unwrap();
        said.lines().last().unwrap_or_default().to_owned()
    }

    /// Brings it up and is killed at `point`. False when it is done without coming there.
    pub fn killed_at(&self, point: &str) -> bool {
        self.killed(self.up_command(), point)
    }

    /// Does something else and is killed at `point`. False when it is done without coming there.
    pub fn killed_doing(&self, words: &[&str], point: &str) -> bool {
        self.killed(self.command(words), point)
    }

    fn killed(&self, mut command: Command, point: &str) -> bool {
        let output = command.env("HAMASTER_CRASH_AT", point).output().unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{point}: {}", Self::said(&output));
        killed
    }

    fn address(&self, master: &str) -> IpAddr {
        let marker: serde_json::Value =
            serde_json::from_slice(&fs::read(self.path().join(".hamaster-lab")).unwrap()).unwrap();
        let IpAddr::V4(first) = marker["address"].as_str().unwrap().parse().unwrap() else { panic!() };
        let [a, b, c, _] = first.octets();
        IpAddr::from([a, b, c, master[1..].parse().unwrap()])
    }

    fn prefix(&self, master: &str) -> PathBuf {
        self.path().join(master)
    }

    pub fn writer(&self) -> Writer {
        Writer::start(&self.prefix("m1"), self.address("m1"))
    }

    /// The first master's member, which stays throughout.
    pub fn client(&self) -> Client {
        self.client_of("m1")
    }

    /// A master as its own commands know it.
    pub fn this(&self, master: &str) -> ThisNode {
        let ip = self.address(master);
        ThisNode {
            node: Node { name: master.to_owned(), ip },
            loopback: ip,
            layout: Layout::below(self.prefix(master)),
        }
    }

    /// Any master's, with the first one's certificate.
    pub fn client_of(&self, master: &str) -> Client {
        writer::client(&self.prefix("m1"), self.address(master))
    }

    /// Where a master's member is reached by the others, whether there is such a master or not.
    pub fn peer_url(&self, master: &str) -> String {
        format!("https://{}:2380", self.address(master))
    }

    /// Goes on beside the test. What it says, it says to the file [`Running::said`] reads.
    pub fn spawn(&self, words: &[&str]) -> Running {
        let log = self.dir.path().join("spawned.log");
        let file = fs::File::create(&log).unwrap();
        let mut command = self.command(words);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Running { child: command.spawn().unwrap(), log }
    }

    fn supervised(&self, master: &str) -> Supervised {
        Supervised::of(&Home::find(&self.path()).unwrap().unwrap().master(master).unwrap())
    }

    /// All processes of a master are gone at once (SIGKILL), whatever other command is at work on the lab.
    pub fn cut_power(&self, master: &str) {
        assert!(self.supervised(master).kill().unwrap(), "{master} does not run");
    }

    /// They are started again.
    pub fn power(&self, master: &str) {
        self.supervised(master).launch(Path::new(env!("CARGO_BIN_EXE_hamaster"))).unwrap();
    }

    /// What etcd does on a master: `running`, `exited` and so on.
    pub fn etcd_phase(&self, master: &str) -> String {
        let report = self.supervised(master).report().unwrap().unwrap();
        let unit = report.units.iter().find(|u| u.name == "etcd.service").unwrap();
        serde_json::to_value(unit.phase).unwrap().as_str().unwrap().to_owned()
    }

    /// Makes `master` the leader of etcd.
    pub fn lead(&self, master: &str) {
        let heir = self.client_of(master).lag().unwrap().member_id;
        until("it leads", || {
            let members = self.client().members().unwrap();
            let leader = self.client().lag().unwrap().leader;
            if leader == heir {
                return true;
            }
            // Nobody leads for a moment now and then.
            if let Some(leads) = members.iter().find(|m| m.id == leader) {
                let _ = self.client_of(&leads.name).move_leader(heir);
            }
            false
        });
    }

    /// Names of the members, and whether they vote.
    pub fn members(&self) -> Vec<(String, bool)> {
        let mut members: Vec<_> =
            self.client().members().unwrap().into_iter().map(|m| (m.name, !m.is_learner)).collect();
        members.sort();
        members
    }

    /// A majority may not depend on one of these.
    pub fn voters_that_never_ran(&self) -> Vec<String> {
        let members = self.client().members().unwrap();
        members.into_iter().filter(|m| !m.is_learner && !m.has_started()).map(|m| m.shown()).collect()
    }

    pub fn cluster_id(&self, master: &str) -> String {
        writer::client(&self.prefix("m1"), self.address(master)).status().unwrap().cluster_id
    }

    pub fn file(&self, master: &str, path: &str) -> Option<String> {
        fs::read_to_string(self.prefix(master).join(path)).ok()
    }

    pub fn wipe(&self, master: &str, path: &str) {
        let dir: &Path = &self.prefix(master).join(path);
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir(dir).unwrap();
    }
}

/// A command at work.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// It says `words`, and goes on.
    pub fn awaits(&mut self, words: &str) {
        until(words, || {
            let ended = self.child.try_wait().unwrap();
            let said = self.said();
            assert!(ended.is_none(), "it ended without saying `{words}`: {said}");
            said.contains(words)
        });
    }

    pub fn succeeds(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}", self.said());
    }
}

/// Liveness only.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < end, "{what}: never");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--purge"]).output();
    }
}
