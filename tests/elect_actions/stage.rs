//! One payload on a stage of its own: directories, a group, and what the payload tells.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use hamaster::elect::actions::{Payload, PayloadEvent, Setting, fence_in};
use hamaster::elect::config::{self, Confirm, FileKind, FilePayload, Group, Unfenceable, Update};
use hamaster::elect::instant::Instant;
use hamaster::elect::record::Token;
use hamaster::elect::timing::{Timing, Wanted};
use hamaster::host::clock::boottime;
use tempfile::TempDir;

/// Only reached when something hangs.
pub(crate) const NEVER: Duration = Duration::from_secs(60);
pub(crate) const TOKEN: Token = Token { cluster_id: 0xab, revision: 7 };

pub(crate) fn pod(name: &str, note: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: kube-system\n  annotations: {{note: '{note}'}}\n\
         spec:\n  containers:\n  - name: main\n    image: example.test/x:1\n"
    )
}

pub(crate) fn timing(stop: Duration) -> Timing {
    Timing::new(Wanted::new(Duration::from_secs(5), stop)).unwrap()
}

pub(crate) fn later() -> Instant {
    boottime() + Duration::from_secs(3600)
}

pub(crate) fn group(name: &str, payload: config::Payload, stop: Duration) -> Group {
    Group {
        name: name.to_owned(),
        payload,
        on_start: None,
        on_stop: None,
        spread: vec![],
        together: vec![],
        timing: timing(stop),
    }
}

pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Runs a command that must succeed.
pub(crate) fn sh(script: &str) {
    let status = std::process::Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

pub(crate) struct Stage {
    pub(crate) dir: TempDir,
    pub(crate) setting: Setting,
    pub(crate) group: Group,
    running: Option<(Payload, Receiver<PayloadEvent>)>,
}

impl Stage {
    /// A file group: `standby/x.yaml` to `etc/manifests/x.yaml`, the source holding a pod `x`.
    pub(crate) fn file(kind: FileKind, confirm: Confirm, stop: Duration) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("standby")).unwrap();
        fs::create_dir_all(dir.path().join("etc/manifests")).unwrap();
        fs::write(dir.path().join("standby/x.yaml"), pod("x", "first")).unwrap();
        let payload = config::Payload::File(FilePayload {
            source: dir.path().join("standby/x.yaml"),
            dest: dir.path().join("etc/manifests/x.yaml"),
            kind,
            confirm,
            cri_socket: Some(dir.path().join("cri.sock")),
            annotate_token: false,
            update: Update::Restart,
        });
        Self::of(dir, payload, stop)
    }

    /// A plain file, confirmed by its absence.
    pub(crate) fn plain() -> Self {
        Self::file(FileKind::File, Confirm::None, Duration::ZERO)
    }

    /// A pod that nobody asks after.
    pub(crate) fn pod() -> Self {
        Self::file(FileKind::Pod, Confirm::None, Duration::ZERO)
    }

    pub(crate) fn of(dir: TempDir, payload: config::Payload, stop: Duration) -> Self {
        let mut setting = Setting::new(Unfenceable::Alarm).unwrap();
        setting.program = PathBuf::from(env!("CARGO_BIN_EXE_hamaster"));
        setting.sysrq = dir.path().join("sysrq");
        setting.systemctl = dir.path().join("systemctl");
        let name = format!("g{}", dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.'));
        Self { group: group(&name, payload, stop), dir, setting, running: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("standby/x.yaml")
    }

    pub(crate) fn dest(&self) -> PathBuf {
        self.path("etc/manifests/x.yaml")
    }

    pub(crate) fn file_payload(&mut self) -> &mut FilePayload {
        match &mut self.group.payload {
            config::Payload::File(file) => file,
            other => panic!("{other:?}"),
        }
    }

    /// An executable script below the stage.
    pub(crate) fn script(&self, name: &str, body: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn payload(&mut self) -> &Payload {
        let (setting, group) = (&self.setting, &self.group);
        let (payload, _) = self.running.get_or_insert_with(|| {
            let (tell, told) = channel();
            let tell = move |event| drop(tell.send(event));
            (Payload::spawn_in(group, setting, Box::new(tell)).unwrap(), told)
        });
        payload
    }

    /// The next event, but for fitness.
    pub(crate) fn next(&mut self) -> PayloadEvent {
        loop {
            match self.event(NEVER) {
                Some(PayloadEvent::Fitness(_)) => {}
                Some(event) => return event,
                None => panic!("nothing came"),
            }
        }
    }

    /// The next event within `within`.
    pub(crate) fn event(&mut self, within: Duration) -> Option<PayloadEvent> {
        self.payload();
        match self.running.as_ref().unwrap().1.recv_timeout(within) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the worker ended"),
        }
    }

    /// Starts and waits for it.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.payload().start(TOKEN, later());
        self.started()
    }

    /// Starts what is confirmed dead by a file at `dead`.
    pub(crate) fn start_unconfirmed(&mut self, dead: &Path) {
        fs::write(dead, "").unwrap();
        self.start().unwrap();
        fs::remove_file(dead).unwrap();
    }

    pub(crate) fn started(&mut self) -> Result<(), String> {
        match self.next() {
            PayloadEvent::Started(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// Orders a stop with the group's bounds.
    pub(crate) fn order_stop(&mut self) {
        let timing = self.group.timing;
        let gone = boottime() + timing.removal();
        self.payload().stop(gone, gone + timing.stop());
    }

    /// Stops and waits for the confirmation; what was told before it.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        self.order_stop();
        self.stopped()
    }

    pub(crate) fn stopped(&mut self) -> Vec<String> {
        let mut missed = vec![];
        loop {
            match self.next() {
                PayloadEvent::Stopped(Ok(())) => return missed,
                PayloadEvent::Stopped(Err(why)) => missed.push(why),
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn fence(&self, within: Duration) -> hamaster::error::Result<()> {
        let (gone, dead) = self.group.timing.stop_by(None, boottime());
        fence_in(&self.group, &self.setting, gone, dead, within)
    }
}

/// Waits until `ready`.
pub(crate) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let watch = hamaster::host::clock::Stopwatch::start();
    while !ready() {
        assert!(watch.elapsed() < NEVER, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
