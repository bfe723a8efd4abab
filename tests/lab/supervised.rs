//! A supervisor of the test's own, and ways to look at what it runs.

use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hamaster::error::Kind;
use hamaster::host::Units;
use hamaster::host::processes::Supervised;
use hamaster::host::supervisor::await_end;
use hamaster::host::supervisor::home::Home;
use hamaster::host::supervisor::socket::{Phase, PodReport, Reply, Report, Request, ask};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const HAMASTER: &str = env!("CARGO_BIN_EXE_hamaster");

/// A lab of its own, stopped when the test ends, however it ends.
pub(crate) struct Lab {
    pub(crate) home: Home,
    pub(crate) units: Supervised,
    pub(crate) dir: tempfile::TempDir,
}

impl Lab {
    /// Its directory and a running supervisor; no master in it.
    pub(crate) fn new() -> Self {
        let lab = Self::at_rest();
        lab.units.launch(Path::new(HAMASTER)).unwrap();
        lab
    }

    pub(crate) fn at_rest() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Deeper than a socket address can say.
        let home = Home::claim(&dir.path().join("deep".repeat(30)), "127.0.9.9".parse().unwrap(), 1).unwrap();
        fs::create_dir_all(home.layout().unit("")).unwrap();
        fs::create_dir_all(home.layout().manifests()).unwrap();
        Self { units: Supervised::of(&home), home, dir }
    }

    /// Writes a unit whose process runs `script`.
    pub(crate) fn unit(&self, name: &str, script: &str, settings: &str) {
        let script = self.script(&self.dir.path().join(format!("{name}.sh")), script);
        let text = format!("[Service]\nExecStart=/bin/sh {}\n{settings}\n", script.display());
        fs::write(self.home.layout().unit(name), text).unwrap();
    }

    pub(crate) fn script(&self, path: &Path, body: &str) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Renamed into place: a script that is being started cannot be written to.
        let new = path.with_extension("new");
        fs::write(&new, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
        path.to_owned()
    }

    /// A program that pods of this lab find.
    pub(crate) fn program(&self, name: &str, body: &str) {
        let bin = self.dir.path().join("bin");
        self.script(&bin.join(name), body);
        let dirs = vec![bin, "/usr/bin".into(), "/bin".into()];
        assert_eq!(ask(&self.home, &Request::Search { dirs }).unwrap(), Reply::Done);
    }

    /// Puts a manifest in place as everybody should: written beside, then renamed.
    pub(crate) fn manifest(&self, file: &str, command: &[&str]) {
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": file.trim_end_matches(".yaml") },
            "spec": { "containers": [{ "name": "main", "image": "none", "command": command }] },
        });
        let dir = self.home.layout().manifests();
        fs::write(dir.join(format!(".{file}")), pod.to_string()).unwrap();
        fs::rename(dir.join(format!(".{file}")), dir.join(file)).unwrap();
    }

    pub(crate) fn report(&self) -> Report {
        self.units.report().unwrap().expect("the supervisor runs")
    }

    pub(crate) fn pod(&self, name: &str) -> Option<PodReport> {
        self.report().pods.into_iter().find(|p| p.name == name)
    }

    /// The process of a pod's only container, once it runs.
    pub(crate) fn pod_runs(&self, name: &str) -> u32 {
        eventually(&format!("pod {name} runs"), || {
            let container = self.pod(name)?.containers.into_iter().next()?;
            (container.phase == Phase::Running).then_some(container.pid?)
        })
    }

    pub(crate) fn unit_runs(&self, name: &str) -> u32 {
        eventually(&format!("{name} runs"), || {
            let state = self.units.state(name).unwrap();
            state.active.then_some(state.pid?)
        })
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.home.log(name)).unwrap_or_default()
    }

    pub(crate) fn log_says(&self, name: &str, text: &str) {
        eventually(&format!("the log of {name} says {text}"), || self.log(name).contains(text).then_some(()));
    }

    /// Kills the supervisor the hard way and waits for its end.
    pub(crate) fn kill_supervisor(&self) {
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
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "still not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// State and start ticks in /proc; `None` when it is gone or only waits to be reaped.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (fields[0] != "Z").then(|| fields[19].parse().unwrap())
}

pub(crate) fn runs(pid: u32) -> bool {
    start_ticks(pid).is_some()
}

pub(crate) fn is_gone(pid: u32) {
    eventually(&format!("process {pid} is gone"), || (!runs(pid)).then_some(()));
}

pub(crate) fn kind<T: Debug>(result: hamaster::error::Result<T>) -> Kind {
    result.unwrap_err().kind()
}
