//! What leading means on a host: a file appears and goes, a program runs, a unit is started and stopped.
//!
//! One [`Payload`], one thread. It may block, so it holds nothing that the daemon waits for; what it does is bounded
//! by the instants it is given, on the boot-time clock. [`fence`] does the same stop without a thread, a store or a
//! lease: at boot, and after a daemon that died.

mod bell;
mod bounded;
mod confirm;
mod cri;
mod descendants;
mod exec;
mod family;
mod file;
mod hook;
mod ladder;
mod line;
mod manifest;
mod process;
mod source;
mod unit;
mod watch;
mod worker;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::exec::ExecAction;
use self::file::FileAction;
use self::hook::{Environment, Term};
use self::ladder::{Bounds, Climb, Rung};
use self::line::{Failed, Line};
use self::unit::UnitAction;
use self::worker::Worker;
use super::config::{self, Group, Unfenceable};
use super::instant::Instant;
use super::record::Token;
use super::timing::Timing;
use crate::error::{Error, Result};
use crate::host::clock::boottime;
use crate::state::Digest;

/// Between two looks at something that should come about soon.
const LOOK: Duration = Duration::from_millis(250);

/// What all payloads of a process have in common.
#[derive(Debug, Clone)]
pub struct Setting {
    /// When nothing else helps.
    pub on_unfenceable: Unfenceable,
    /// Takes a `b` to reboot: `/proc/sysrq-trigger`.
    pub sysrq: PathBuf,
    /// `systemctl`, by name or path.
    pub systemctl: PathBuf,
    /// This program: what runs while leading is first this program, to be bound to the daemon's life.
    pub program: PathBuf,
}

impl Setting {
    /// The usual one.
    ///
    /// # Errors
    /// When the path of this program cannot be found.
    pub fn new(on_unfenceable: Unfenceable) -> Result<Self> {
        let program =
            std::env::current_exe().map_err(|e| Error::apply("cannot find the path of this program").cause(e))?;
        Ok(Self {
            on_unfenceable,
            sysrq: PathBuf::from("/proc/sysrq-trigger"),
            systemctl: PathBuf::from("systemctl"),
            program,
        })
    }

    /// Reboots at once, without a sync: whatever is on its way to a disk may be the problem.
    #[allow(clippy::disallowed_methods)] // floor 3: writes to the kernel
    fn reboot(&self) {
        let _ = std::fs::write(&self.sysrq, "b");
    }
}

/// What became of an order, and what happens by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadEvent {
    /// The payload is started and its hook ran; or it failed, and nothing is left of it.
    Started(Result<(), String>),
    /// The payload is confirmed dead; or it is not, and it is still tried. The latter once for each rung of the ladder.
    Stopped(Result<(), String>),
    /// What ran while leading ended by itself, with this status; `None`: by a signal.
    Ended(Option<i32>),
    /// Whether this node could lead; told at first and when it changes, while not started.
    Fitness(Result<(), String>),
    /// A change of the source was applied, or one of the destination undone.
    Synced,
    /// The source changed to something that cannot be applied; the old content stays. Once for each mistake.
    SourceInvalid(String),
}

/// The payload of one group. Dropped, everything stays as it is, but what runs under it as a child.
#[derive(Debug)]
pub struct Payload {
    line: Arc<Line>,
    timing: Timing,
}

impl Payload {
    /// The payload of `group`, not started, whatever is there. `tell` is called from its thread.
    ///
    /// # Errors
    /// When the system has no thread or descriptor to spare.
    pub fn spawn(group: &Group, on_unfenceable: Unfenceable, tell: Box<dyn Fn(PayloadEvent) + Send>) -> Result<Self> {
        Self::spawn_in(group, &Setting::new(on_unfenceable)?, tell)
    }

    /// [`Payload::spawn`] with other ways to reach the machine.
    ///
    /// # Errors
    /// As [`Payload::spawn`].
    pub fn spawn_in(group: &Group, setting: &Setting, tell: Box<dyn Fn(PayloadEvent) + Send>) -> Result<Self> {
        let line = Arc::new(Line::new()?);
        let worker = Worker {
            action: action(group, setting),
            line: Arc::clone(&line),
            tell,
            setting: setting.clone(),
            environment: Environment { group: group.name.clone(), term: None },
            on_start: group.on_start.clone(),
            on_stop: group.on_stop.clone(),
            timing: group.timing,
            fitness: None,
        };
        std::thread::Builder::new()
            .name(format!("payload {}", group.name))
            .spawn(move || worker.run())
            .map_err(|e| Error::apply(format!("cannot start a thread for group {}", group.name)).cause(e))?;
        Ok(Self { line, timing: group.timing })
    }

    /// Starts it under `token`; nothing becomes visible after `until` (s + F − f). What runs already, and is the same,
    /// is left alone. The start hook runs each time: it is to find, or make, the same state.
    pub fn start(&self, token: Token, until: Instant) {
        let deadline = until + self.timing.removal();
        self.line.start(Term { token, lease: self.timing.lease(), deadline }, until);
    }

    /// A newer `until`.
    pub fn extend(&self, until: Instant) {
        self.line.extend(until);
    }

    /// Stops it: what is being started is given up, its file is gone by `gone` and it is dead by `dead`, or it is
    /// tried on, for ever. A second call moves the instants.
    pub fn stop(&self, gone: Instant, dead: Instant) {
        self.line.stop(Bounds { gone, dead });
    }

    /// Of the file that is installed; as of the last event that was told.
    pub fn digest(&self) -> Option<Digest> {
        self.line.digest()
    }

    /// Counts up as long as the thread does something: at least every few hundred milliseconds while it starts or
    /// stops, every ten seconds otherwise.
    pub fn progress(&self) -> u64 {
        self.line.progress()
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.line.quit();
    }
}

/// Stops the payload of `group` wherever it comes from, and leaves no thread behind. Needs nothing but this host: no
/// store, no lease. Its file should be gone by `gone` and what ran of it dead by `dead`; whoever waits for it gives up
/// `margin` later.
///
/// # Errors
/// When it is not confirmed dead by then.
pub fn fence(group: &Group, gone: Instant, dead: Instant, margin: Duration) -> Result<()> {
    // Who fences at boot and reboots because of it never gets any further.
    fence_in(group, &Setting::new(Unfenceable::Alarm)?, gone, dead, margin)
}

/// [`fence`] with other ways to reach the machine.
///
/// # Errors
/// As [`fence`].
pub fn fence_in(group: &Group, setting: &Setting, gone: Instant, dead: Instant, margin: Duration) -> Result<()> {
    let line = Line::new()?;
    let mut action = action(group, setting);
    action.tidy();
    let (bounds, limit) = (Bounds { gone, dead }, dead + margin);
    let environment = Environment { group: group.name.clone(), term: None };
    let climb = Climb { setting, environment: &environment, on_stop: group.on_stop.as_deref(), bell: line.bell() };
    climb
        .up(action.as_mut(), || bounds, drop, || boottime() >= limit)
        .map_err(|why| Error::conflict(format!("group {} is not fenced: it may still run here", group.name)).cause(why))
}

/// One kind of payload. Every call is bounded, except `start`, which gives way to orders.
trait Action: Send {
    /// Removes what a killed process left behind and nobody wants.
    fn tidy(&mut self);
    /// Makes it run; what runs already stays.
    fn start(&mut self, term: &Term, line: &Line) -> Result<(), Failed>;
    /// One step towards its end; `Ok` once that is confirmed. `overdue`: its file should be gone by now.
    fn stop(&mut self, rung: Rung, overdue: bool) -> Result<(), String>;
    /// Looks after it in between.
    fn tend(&mut self, line: &Line) -> Vec<PayloadEvent>;
    /// When to look after it next at the latest.
    fn next(&self) -> Instant;
    /// Of what it installed, if that is a file.
    fn digest(&self) -> Option<Digest> {
        None
    }
    /// Can be read when it is to be looked after.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

fn action(group: &Group, setting: &Setting) -> Box<dyn Action> {
    match &group.payload {
        config::Payload::File(file) => Box::new(FileAction::new(file, group.timing, setting)),
        config::Payload::Exec { argv } => Box::new(ExecAction::new(argv, &group.name, setting)),
        config::Payload::Unit { name } => Box::new(UnitAction::new(name, setting)),
    }
}
