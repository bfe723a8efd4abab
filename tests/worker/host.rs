//! An image that becomes a worker.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hamaster::token::Token;

use crate::master::{HAMASTER, Master};

pub(crate) struct Host {
    dir: tempfile::TempDir,
    pub(crate) name: String,
    ip: String,
}

/// A finished run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) said: String,
}

impl Host {
    pub(crate) fn new(name: &str, number: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("img/etc")).unwrap();
        Self { dir, name: name.to_owned(), ip: format!("192.0.2.{number}") }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("img")
    }

    pub(crate) fn path(&self, absolute: &str) -> PathBuf {
        self.root().join(absolute.trim_start_matches('/'))
    }

    pub(crate) fn read(&self, absolute: &str) -> String {
        fs::read_to_string(self.path(absolute)).unwrap_or_else(|e| panic!("{absolute}: {e}"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(HAMASTER);
        command.arg("--root").arg(self.root()).args(args).stdin(Stdio::null());
        command
    }

    /// `hamaster --root IMAGE …`
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(&self.command(args).output().unwrap())
    }

    fn join_command(&self, m1: &Master, token: &Token) -> Command {
        let file = self.dir.path().join("token");
        fs::write(&file, token.reveal().as_str()).unwrap();
        let mut command = self.command(&["join", &m1.ip.to_string(), "--worker", "--yes", "--ignore-preflight", "all"]);
        command.args(["--name", &self.name, "--advertise-ip", &self.ip, "--token-file"]).arg(file);
        command
    }

    pub(crate) fn join(&self, m1: &Master, token: &Token) -> Run {
        Run::of(&self.join_command(m1, token).output().unwrap())
    }

    /// Joins, or so it would.
    pub(crate) fn dry_run(&self, m1: &Master, token: &Token) -> Run {
        Run::of(&self.join_command(m1, token).arg("--dry-run").output().unwrap())
    }

    /// Joins and is killed at `point`. False when it is done without coming there.
    pub(crate) fn killed_at(&self, point: &str, m1: &Master, token: &Token) -> bool {
        let run = Run::of(&self.join_command(m1, token).env("HAMASTER_CRASH_AT", point).output().unwrap());
        assert!(run.signal == Some(9) || run.code == Some(0), "{point}: {run:#?}");
        run.signal == Some(9)
    }

    /// Mode and content of each file.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        walk(&self.root(), &self.root(), &mut found);
        found
    }

    /// The certificate in `file`, as openssl shows it.
    pub(crate) fn shown(&self, file: &str) -> String {
        openssl(
            &["x509", "-noout", "-subject", "-issuer", "-ext", "extendedKeyUsage,subjectAltName", "-in"],
            self,
            file,
        )
    }

    /// Whether the cluster's CA, as this host has it, vouches for `file`, for `purpose`.
    pub(crate) fn verifies(&self, purpose: &str, file: &str) -> bool {
        let ca = self.path("/etc/kubernetes/pki/ca.crt");
        let mut command = Command::new("openssl");
        command.args(["verify", "-purpose", purpose, "-CAfile"]).arg(ca).arg(self.path(file));
        command.output().unwrap().status.success()
    }
}

fn openssl(args: &[&str], host: &Host, file: &str) -> String {
    let out = Command::new("openssl").args(args).arg(host.path(file)).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            walk(root, &path, found);
        } else {
            let mode = path.symlink_metadata().unwrap().permissions().mode() & 0o7777;
            let inside = Path::new("/").join(path.strip_prefix(root).unwrap());
            found.insert(inside, (mode, fs::read(&path).unwrap_or_default()));
        }
    }
}

impl Run {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}
