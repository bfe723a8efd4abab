//! One supervised process: started, watched, restarted after a pause, stopped, frozen.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::log::Log;
use super::notify::{Notify, Word};
use super::orphans::{self, Alive};
use super::socket::{Phase, ProcessReport};
use super::unit_file::Restart;

/// A run this long ends a row of crashes.
const SETTLED: Duration = Duration::from_secs(10);
/// This many short runs in a row count as failed, although the next start is due.
const CRASH_LOOP: u32 = 3;

/// What to run, resolved anew at each start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invocation {
    pub(super) command: Argv,
    /// Run when the process has ended, however it did.
    pub(super) stop_post: Option<Argv>,
    pub(super) environment: BTreeMap<String, String>,
    /// Where it says that it is ready.
    pub(super) notify: Option<PathBuf>,
    /// How long it may be silent, and what ends it then.
    pub(super) watchdog: Option<(Duration, Signal)>,
}

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Argv {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

/// When to start again and how long to wait at a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) restart: Restart,
    /// Pause before the first restart; doubled with each crash in a row, up to `longest_pause`.
    pub(super) pause: Duration,
    pub(super) longest_pause: Duration,
    /// From SIGTERM to SIGKILL.
    pub(super) stop_timeout: Duration,
    /// A clean end is what was wanted, and counts as running.
    pub(super) remains: bool,
}

impl Policy {
    fn pause_after(&self, crashes: u32) -> Duration {
        let doubled = self.pause.saturating_mul(1 << crashes.saturating_sub(1).min(20));
        doubled.min(self.longest_pause).max(self.pause)
    }
}

/// Puts a child between the supervisor and its program, see [`crate::host::bound::run_bound`].
#[derive(Debug, Clone)]
pub(super) struct Launcher {
    /// `hamaster run-bound`
    pub(super) shim: Vec<OsString>,
    /// `PATH` of the children.
    pub(super) path: OsString,
    /// `HOME` of the children.
    pub(super) home: OsString,
}

/// A process and the wish that it runs.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    log: Log,
    wanted: bool,
    started: bool,
    state: State,
    restarts: u32,
    crashes: u32,
    problem: Option<String>,
}

#[derive(Debug)]
enum State {
    Down,
    Up(Running),
    /// SIGTERM was sent; SIGKILL follows at the given time, once.
    Stopping(Running, Option<Instant>),
    /// It has ended and `ExecStopPost=` runs, until the first time at most; if wanted, it is restarted at the second.
    Cleaning(Running, Instant, Instant),
    /// It has done its work.
    Done,
    /// Restarted at the given time.
    Pausing(Instant),
}

#[derive(Debug)]
struct Running {
    child: Child,
    alive: Option<Alive>,
    since: Instant,
    what: Invocation,
    notify: Option<Notify>,
    ready: bool,
    /// When the watchdog was last fed.
    fed: Instant,
    status: Option<String>,
    frozen: bool,
}

impl Running {
    fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            // It may just have exited, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Asks it to end; a frozen process would not hear.
    fn terminate(&mut self) {
        self.signal(Signal::TERM);
        self.freeze(false);
    }

    fn freeze(&mut self, on: bool) {
        self.signal(if on { Signal::STOP } else { Signal::CONT });
        self.frozen = on;
    }

    /// Takes in what it said.
    fn listen(&mut self, now: Instant) {
        for word in self.notify.iter().flat_map(Notify::words) {
            match word {
                Word::Ready => (self.ready, self.fed) = (true, now),
                Word::Alive => self.fed = now,
                Word::Trigger => self.fed = self.since,
                Word::Status(status) => self.status = Some(status),
            }
        }
    }

    /// The signal due to a process whose watchdog was not fed in time.
    fn silent(&self, now: Instant) -> Option<Signal> {
        let (patience, signal) = self.what.watchdog?;
        (self.ready && now.duration_since(self.fed) > patience).then_some(signal)
    }

    /// The exit status once it is over. What is left of its group is ended first, while the unreaped leader still
    /// keeps the group's number from being given to somebody else.
    fn reap(&mut self) -> Option<ExitStatus> {
        let pid = Pid::from_raw(self.child.id().cast_signed())?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), look).ok().flatten()?;
        self.signal(Signal::KILL);
        self.child.wait().ok()
    }
}

impl Process {
    pub(super) fn new(name: String, log: Log) -> Self {
        Self { name, log, wanted: false, started: false, state: State::Down, restarts: 0, crashes: 0, problem: None }
    }

    /// Wants it to run; a pause before a restart is cut short.
    pub(super) fn start(&mut self, now: Instant) {
        if !self.wanted {
            (self.restarts, self.crashes, self.problem) = (0, 0, None);
        }
        (self.wanted, self.started) = (true, true);
        if matches!(self.state, State::Down | State::Pausing(_)) {
            self.state = State::Pausing(now);
        }
    }

    /// Does not wait for the end of a pause.
    pub(super) fn retry(&mut self, now: Instant) {
        if matches!(self.state, State::Pausing(_)) {
            self.state = State::Pausing(now);
        }
    }

    /// Wants it to run anew.
    pub(super) fn restart(&mut self, policy: &Policy, now: Instant) {
        self.stop(policy, now);
        self.start(now);
    }

    /// Wants it down.
    pub(super) fn stop(&mut self, policy: &Policy, now: Instant) {
        self.wanted = false;
        self.state = match std::mem::replace(&mut self.state, State::Down) {
            State::Up(mut running) => {
                running.terminate();
                State::Stopping(running, Some(now + policy.stop_timeout))
            }
            State::Down | State::Pausing(_) | State::Done => State::Down,
            stopping => stopping,
        };
    }

    /// Freezes what runs, or thaws it.
    pub(super) fn freeze(&mut self, on: bool) {
        if let State::Up(running) | State::Stopping(running, _) | State::Cleaning(running, ..) = &mut self.state {
            running.freeze(on);
        }
    }

    /// It was never started.
    pub(super) fn is_untouched(&self) -> bool {
        !self.started
    }

    /// Nothing of it runs, and nothing will by itself.
    pub(super) fn is_down(&self) -> bool {
        matches!(self.state, State::Down | State::Done)
    }

    /// It runs and has said so where it should, or it has done its work.
    pub(super) fn is_active(&self) -> bool {
        match &self.state {
            State::Up(running) => running.ready,
            State::Done => true,
            _ => false,
        }
    }

    pub(super) fn alive(&self) -> Option<Alive> {
        self.running().and_then(|r| r.alive)
    }

    fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Up(running) | State::Stopping(running, _) | State::Cleaning(running, ..) => Some(running),
            _ => None,
        }
    }

    /// Follows what happened and does what is due. `resolve` says what to run, or why that is not possible.
    pub(super) fn tick(
        &mut self,
        policy: &Policy,
        launcher: &Launcher,
        now: Instant,
        resolve: impl FnOnce() -> Result<Invocation, String>,
    ) {
        self.state = match std::mem::replace(&mut self.state, State::Down) {
            State::Up(mut running) => match running.reap() {
                None => {
                    running.listen(now);
                    if now.duration_since(running.since) >= SETTLED {
                        self.crashes = 0;
                    }
                    self.watched(running, policy, now)
                }
                Some(status) => {
                    let next = self.ended(status, policy, now);
                    self.clean_up(running, next, policy, launcher, now)
                }
            },
            State::Stopping(mut running, kill_at) => match running.reap() {
                Some(status) => {
                    self.log.note(&format!("{} stopped, {status}", self.name));
                    let next = if self.wanted { State::Pausing(now) } else { State::Down };
                    self.clean_up(running, next, policy, launcher, now)
                }
                None if kill_at.is_some_and(|at| now >= at) => {
                    self.log.note(&format!("{} did not stop in {:?}: killed", self.name, policy.stop_timeout));
                    running.signal(Signal::KILL);
                    State::Stopping(running, None)
                }
                None => State::Stopping(running, kill_at),
            },
            State::Cleaning(mut running, kill_at, again) => match running.reap() {
                Some(_) if self.wanted => State::Pausing(again),
                Some(_) => State::Down,
                None => {
                    if now >= kill_at {
                        running.signal(Signal::KILL);
                    }
                    State::Cleaning(running, kill_at, again)
                }
            },
            other => other,
        };
        if matches!(self.state, State::Pausing(until) if now >= until) {
            self.state = match resolve().and_then(|what| self.launch(what, launcher, now)) {
                Ok(running) => State::Up(running),
                Err(why) => self.crashed(why, policy, now),
            };
        }
        self.log.cut();
    }

    /// Ends it if it has been silent for too long.
    fn watched(&mut self, mut running: Running, policy: &Policy, now: Instant) -> State {
        let Some(signal) = running.silent(now) else { return State::Up(running) };
        self.log.note(&format!("{}: silent for longer than its watchdog allows", self.name));
        running.signal(signal);
        self.problem = Some("it was silent for longer than its watchdog allows".to_owned());
        self.wanted = policy.restart != Restart::No;
        self.restarts += u32::from(self.wanted);
        // Once: the signal is on its way.
        running.what.watchdog = None;
        State::Stopping(running, Some(now + policy.stop_timeout))
    }

    /// What is run after the process has ended comes before `next`.
    fn clean_up(&mut self, ended: Running, next: State, policy: &Policy, launcher: &Launcher, now: Instant) -> State {
        let Some(command) = ended.what.stop_post.clone() else { return next };
        let again = if let State::Pausing(at) = next { at } else { now };
        let what = Invocation { command, stop_post: None, notify: None, watchdog: None, ..ended.what.clone() };
        match self.launch(what, launcher, now) {
            Ok(running) => State::Cleaning(running, now + policy.stop_timeout, again),
            Err(why) => {
                self.log.note(&why);
                next
            }
        }
    }

    fn ended(&mut self, status: ExitStatus, policy: &Policy, now: Instant) -> State {
        // systemd.service(5): these signals are clean exits of a service.
        let clean = status.success()
            || status.signal().is_some_and(|s| {
                [Signal::HUP, Signal::INT, Signal::TERM, Signal::PIPE].iter().any(|clean| clean.as_raw() == s)
            });
        let again = match policy.restart {
            Restart::No => false,
            Restart::OnFailure => !clean,
            Restart::Always => true,
        };
        if again {
            self.restarts += 1;
            return self.crashed(status.to_string(), policy, now);
        }
        self.log.note(&format!("{} ended, {status}", self.name));
        self.wanted = false;
        if clean && policy.remains {
            return State::Done;
        }
        self.problem = (!clean).then(|| status.to_string());
        State::Down
    }

    fn crashed(&mut self, why: String, policy: &Policy, now: Instant) -> State {
        self.crashes += 1;
        let pause = policy.pause_after(self.crashes);
        // The same reason over and over says nothing new.
        if self.problem.as_ref() != Some(&why) || self.restarts > 0 {
            self.log.note(&format!("{}: {why}; next start in {pause:?}", self.name));
        }
        self.problem = Some(why);
        State::Pausing(now + pause)
    }

    fn launch(&self, what: Invocation, launcher: &Launcher, now: Instant) -> Result<Running, String> {
        let Argv { program, arguments } = &what.command;
        let failed = |e: std::io::Error| format!("cannot start {}: {e}", program.display());
        let output = self.log.open().map_err(failed)?;
        let [shim, shim_arguments @ ..] = launcher.shim.as_slice() else { return Err("no launcher".to_owned()) };
        let notify = what.notify.as_deref().map(Notify::listen).transpose().map_err(failed)?;
        let mut command = Command::new(shim);
        command
            .args(shim_arguments)
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--")
            .arg(program)
            .args(arguments)
            // Like systemd: a clean environment. An ETCD_NAME of the operator's shell must not reach etcd.
            .env_clear()
            .env("PATH", &launcher.path)
            .env("HOME", &launcher.home)
            .envs(&what.environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .process_group(0);
        if let Some(notify) = &notify {
            command.env("NOTIFY_SOCKET", notify.address());
        }
        if let Some((patience, _)) = what.watchdog {
            command.env("WATCHDOG_USEC", patience.as_micros().to_string());
        }
        let child = command.spawn().map_err(failed)?;
        let alive = orphans::alive(child.id());
        self.log.note(&format!("{} started as process {}", self.name, child.id()));
        let ready = notify.is_none();
        Ok(Running { child, alive, since: now, what, notify, ready, fed: now, status: None, frozen: false })
    }

    pub(super) fn failed(&self) -> bool {
        match self.state {
            State::Down => self.problem.is_some(),
            State::Up(_) | State::Pausing(_) | State::Cleaning(..) => self.crashes >= CRASH_LOOP,
            State::Stopping(..) | State::Done => false,
        }
    }

    pub(super) fn report(&self, now: Instant) -> ProcessReport {
        let phase = match &self.state {
            State::Down if self.problem.is_some() => Phase::Failed,
            State::Down => Phase::Stopped,
            State::Up(running) | State::Stopping(running, _) if running.frozen => Phase::Frozen,
            State::Up(running) if !running.ready => Phase::Starting,
            State::Up(_) => Phase::Running,
            State::Done => Phase::Done,
            State::Stopping(..) | State::Cleaning(..) => Phase::Stopping,
            State::Pausing(_) => Phase::Waiting,
        };
        ProcessReport {
            name: self.name.clone(),
            phase,
            pid: self.running().map(|r| r.child.id()),
            restarts: self.restarts,
            uptime_seconds: match &self.state {
                State::Up(running) => Some(now.duration_since(running.since).as_secs()),
                _ => None,
            },
            problem: if phase == Phase::Running { None } else { self.problem.clone() },
            status: self.running().and_then(|r| r.status.clone()),
            log: self.log.path().to_owned(),
        }
    }
}
