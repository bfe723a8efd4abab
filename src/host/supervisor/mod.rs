//! What stands in for systemd and the kubelet in a lab: one background process that runs unit files and static pods.
//!
//! It is one loop on one thread. Clients reach it over a socket in the lab's directory; what it runs dies with it.
#![allow(clippy::disallowed_methods)] // floor 3: files, processes and the clock are its job

pub mod home;
pub mod log;
pub mod loopback;
mod notify;
mod orphans;
mod process;
pub mod programs;
mod relay;
pub mod socket;
mod static_pods;
pub mod unit_file;
mod units;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use home::{Home, Lock};
use log::Log;
use orphans::Alive;
use process::Launcher;
use relay::Relay;
use socket::{Reply, Report, Request};
use static_pods::StaticPods;
use units::Units;

/// How often processes are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often manifests are read.
const SCAN: Duration = Duration::from_millis(200);

/// Runs `master` of the lab at `dir` until it is told to shut down or its directory is gone. `program` is this program: children
/// are started through its `run-bound`.
///
/// # Errors
/// When there is no lab, another supervisor runs it, or its socket cannot be made.
pub fn run(dir: &Path, master: &str, program: &Path) -> Result<()> {
    // Fails only for a process that leads a group already, and then it has a session of its own.
    let _ = rustix::process::setsid();
    // systemd's default. The command that started this one may have a stricter one.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let home = Home::find(dir)?.ok_or_else(|| Error::usage(format!("there is no lab at {}", dir.display())))?;
    let home = home.master(master)?;
    let Some(_lock) = home.supervisor_lock()? else {
        return Err(Error::conflict(format!("{master} of the lab at {} has a supervisor already", dir.display())));
    };
    orphans::end(&home)?;
    let relay = Relay::start(&home)?;
    // Before anything runs: by this the others' relays know what is ours.
    orphans::record(&home, &[])
        .map_err(|e| Error::apply(format!("cannot write {}", home.pids().display())).cause(e))?;
    let (inbox, requests) = channel();
    socket::listen(&home, inbox)
        .map_err(|e| Error::apply(format!("cannot listen on {}", home.socket().display())).cause(e))?;
    let now = Instant::now();
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    let mut supervisor = Supervisor {
        log: Log::at(home.supervisor_log()),
        units: Units::boot(&home, now),
        pods: StaticPods::new(&home),
        launcher: Launcher {
            shim: vec![program.into(), OsString::from("run-bound")],
            path: variable("PATH"),
            home: variable("HOME"),
        },
        search: programs::search_dirs(),
        relay,
        since: now,
        next_scan: now,
        written: vec![],
        ending: false,
        home,
    };
    supervisor.log.note(&format!("supervisor started as process {}", std::process::id()));
    supervisor.run(&requests);
    // Before the lock goes: who finds that free must not reach us any more.
    let _ = std::fs::remove_file(supervisor.home.socket());
    supervisor.log.note("supervisor ended");
    Ok(())
}

/// Waits until no supervisor runs the lab and ends what it left behind; the lock it gives keeps the next one out.
///
/// # Errors
/// When one still runs after `patience`.
pub fn await_end(home: &Home, patience: Duration) -> Result<Lock> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(lock) = home.supervisor_lock()? {
            orphans::end(home)?;
            return Ok(lock);
        }
        if Instant::now() > deadline {
            return Err(Error::apply(format!("the lab at {} did not stop in {patience:?}", home.dir().display()))
                .hint(format!("tail {}", home.supervisor_log().display())));
        }
        std::thread::sleep(TICK);
    }
}

struct Supervisor {
    home: Home,
    log: Log,
    units: Units,
    pods: StaticPods,
    launcher: Launcher,
    search: Vec<PathBuf>,
    /// `None` for a lab's only master.
    relay: Option<Relay>,
    since: Instant,
    next_scan: Instant,
    /// Processes as last written down.
    written: Vec<Alive>,
    ending: bool,
}

impl Supervisor {
    fn run(&mut self, requests: &Receiver<(Request, Sender<Reply>)>) {
        loop {
            match requests.recv_timeout(TICK) {
                Ok((request, answer)) => {
                    let reply = self.answer(request, Instant::now());
                    // A client that no longer listens changes nothing.
                    let _ = answer.send(reply);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.ending = true,
            }
            if self.tick(Instant::now()) {
                return;
            }
        }
    }

    fn answer(&mut self, request: Request, now: Instant) -> Reply {
        let done = |result: Result<(), String>| result.map_or_else(Reply::Refused, |()| Reply::Done);
        match request {
            Request::State { unit } => Reply::State(self.units.state(&unit, now)),
            Request::Report => Reply::Report(Report {
                pid: std::process::id(),
                uptime_seconds: now.duration_since(self.since).as_secs(),
                partitioned: self.relay.as_ref().map(Relay::partitioned).unwrap_or_default(),
                units: self.units.report(now),
                pods: self.pods.report(now),
            }),
            Request::Stop { unit } => {
                self.units.stop(&unit, now);
                Reply::Done
            }
            Request::Shutdown => {
                self.ending = true;
                Reply::Done
            }
            _ if self.ending => Reply::Refused("the lab is shutting down".to_owned()),
            Request::Reload => {
                self.units.reload();
                Reply::Done
            }
            Request::Enable { unit, on } => done(self.units.enable(&unit, on)),
            Request::Start { unit } => done(self.units.start(&unit, now)),
            Request::Restart { unit } => done(self.units.restart(&unit, now)),
            Request::Freeze { on } => {
                self.units.freeze(on);
                self.pods.freeze(on);
                Reply::Done
            }
            Request::Search { dirs } => {
                if self.search != dirs {
                    self.search = dirs;
                    self.pods.retry(now);
                }
                Reply::Done
            }
        }
    }

    /// One look at everything; true when it is over.
    fn tick(&mut self, now: Instant) -> bool {
        if now >= self.next_scan {
            self.next_scan = now + SCAN;
            // Somebody removed the lab under us: nobody could ever reach this process again.
            if !self.home.socket().exists() {
                self.ending = true;
            }
            if let Some(relay) = &self.relay {
                relay.look();
            }
            if !self.ending && self.units.let_pods_run() {
                self.pods.scan(now);
            }
            self.log.cut();
        }
        // Pods first: an apiserver without its etcd only fills its log.
        let pods_down = self.ending && self.pods.stop_all(now);
        if pods_down {
            self.units.stop_all(now);
        }
        self.units.tick(&self.launcher, &self.search, now);
        self.pods.tick(&self.launcher, &self.search, now);
        self.write_down();
        pods_down && self.units.all_down()
    }

    fn write_down(&mut self) {
        let running: Vec<Alive> = self.units.alive().chain(self.pods.alive()).collect();
        if running != self.written {
            match orphans::record(&self.home, &running) {
                Ok(()) => self.written = running,
                Err(e) if !self.ending => self.log.note(&format!("cannot write {}: {e}", self.home.pids().display())),
                Err(_) => {}
            }
        }
    }
}
