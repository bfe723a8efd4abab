//! A lab of the test's own.

use std::fs;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::writer::{self, Writer};

pub struct Lab {
    dir: tempfile::TempDir,
    masters: usize,
}

impl Lab {
    pub fn new(masters: usize) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), masters }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("lab")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hamaster"));
        command.arg("lab").args(words).arg("--dir").arg(self.path());
        if words == ["up"] {
            command.args(["--masters", &self.masters.to_string()]);
        }
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
        let output = self.command(&["up"]).output().unwrap();
        assert!(output.status.success(), "{}", Self::said(&output));
        let said = String::from_utf8(output.stderr).unwrap();
        said.lines().last().unwrap_or_default().to_owned()
    }

    /// Brings it up and is killed at `point`. False when it is done without coming there.
    pub fn killed_at(&self, point: &str) -> bool {
        let output = self.command(&["up"]).env("HAMASTER_CRASH_AT", point).output().unwrap();
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

    fn client(&self) -> hamaster::etcd::client::Client {
        writer::client(&self.prefix("m1"), self.address("m1"))
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

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--purge"]).output();
    }
}
