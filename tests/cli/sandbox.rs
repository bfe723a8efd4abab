//! A directory of its own, the binary run in it, and a picture of every byte below it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) const HAMASTER: &str = env!("CARGO_BIN_EXE_hamaster");

/// A node that exists nowhere, below the root `img`; whatever the image lacks is accepted.
pub(crate) const INIT: [&str; 10] =
    ["init", "--root", "img", "--name", "m1", "--advertise-ip", "192.0.2.11", "--ignore-preflight", "all", "--yes"];

/// What is on the disk: mode and content of each path, the target of each link.
pub(crate) type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

pub(crate) struct Sandbox(tempfile::TempDir);

/// A finished run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    /// An empty directory with an empty root `img` in it.
    pub(crate) fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(sandbox.path("img/etc")).unwrap();
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, its directories too.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The program, with nothing of the caller's environment that could change what it does.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).env("HOME", self.0.path()).env_remove("XDG_STATE_HOME");
        command.env_remove("NO_COLOR").stdin(Stdio::null());
        command
    }

    pub(crate) fn run<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let mut command = self.command(HAMASTER);
        command.args(args.into_iter().map(|a| a.as_ref().to_owned()));
        Run::of(command.output().unwrap())
    }

    /// A shell command that must succeed; its output.
    pub(crate) fn sh(&self, script: &str) -> String {
        let run = Run::of(self.command("bash").args(["-euc", script]).env("HAMASTER", HAMASTER).output().unwrap());
        assert_eq!(run.code, 0, "{script}\n{run:#?}");
        run.stdout
    }

    /// Runs `init` below the root with more arguments and expects it done.
    pub(crate) fn init(&self, more: &[&str]) -> Run {
        self.run(INIT.iter().chain(more)).expect(0)
    }

    /// A refusal: this exit code, these words in the error, this hint, and not one byte moved.
    pub(crate) fn refuses(&self, args: &[&str], code: i32, message: &str, hint: &str) {
        let before = self.tree();
        let run = self.run(args).expect(code);
        let mut lines = run.stderr.lines().skip_while(|l| !l.starts_with("error: "));
        assert!(lines.next().is_some(), "no error line: {run:#?}");
        assert!(run.stderr.contains(message), "`{message}` is not said: {}", run.stderr);
        let hints: Vec<&str> = run.stderr.lines().filter_map(|l| l.trim_start().strip_prefix("hint: ")).collect();
        assert!(hints.iter().any(|h| h.contains(hint)), "no hint `{hint}`: {}", run.stderr);
        assert!(run.stdout.is_empty(), "an error is no result: {run:#?}");
        assert_eq!(self.tree(), before, "something was touched: {args:?}");
    }

    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        walk(self.0.path(), &mut tree);
        tree
    }
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

fn walk(dir: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_dir() {
            walk(&path, tree);
            vec![]
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        tree.insert(path, (meta.permissions().mode(), content));
    }
}

/// Whether the test runs as root; what needs it says that it is skipped.
pub(crate) fn root_or_skip(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED, needs root: {what}");
    }
    root
}
