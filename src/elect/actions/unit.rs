//! A systemd unit that runs while this node leads.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::hook::Term;
use super::ladder::Rung;
use super::line::{Failed, Line};
use super::{Action, LOOK, PayloadEvent, Setting};
use crate::elect::instant::Instant;
use crate::host::clock::boottime;
use crate::host::command::{self, Output};

/// For a call that only talks to the service manager.
const CALL: Duration = Duration::from_secs(2);
/// A unit that is not active this long after it was started failed. A stop ends the wait.
const START: Duration = Duration::from_secs(30);
/// Before the same is asked of the service manager again.
const AGAIN: Duration = Duration::from_secs(1);
/// Whether the unit still runs, or is there at all, is looked at this often.
const REGULAR: Duration = Duration::from_secs(10);

/// The unit of one group.
pub(super) struct UnitAction {
    name: String,
    systemctl: PathBuf,
    running: bool,
    /// What was last asked of the service manager, and when.
    asked: Option<(Rung, Instant)>,
    next: Instant,
}

impl UnitAction {
    pub(super) fn new(name: &str, setting: &Setting) -> Self {
        let systemctl = setting.systemctl.clone();
        Self { name: name.to_owned(), systemctl, running: false, asked: None, next: Instant::BOOT }
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<Output, String> {
        let arguments = [arguments, &["--", &self.name]].concat();
        match command::run(&self.systemctl.to_string_lossy(), &arguments, CALL) {
            Ok(out) if out.success() => Ok(out),
            Ok(out) => Err(format!("`systemctl {}` failed: {}", arguments.join(" "), out.stderr.trim())),
            Err(e) => Err(e.to_string()),
        }
    }

    fn show(&self, property: &str) -> Result<String, String> {
        let out = self.systemctl(&["show", "-p", property])?;
        let value = out.stdout.lines().find_map(|l| l.strip_prefix(property)?.strip_prefix('='));
        value.map(str::to_owned).ok_or_else(|| format!("systemctl does not know {property} of {}", self.name))
    }

    fn fitness(&self) -> Result<(), String> {
        match self.show("LoadState")?.as_str() {
            "loaded" => Ok(()),
            other => Err(format!("{} is {other}", self.name)),
        }
    }
}

impl Action for UnitAction {
    fn tidy(&mut self) {}

    fn start(&mut self, _term: &Term, line: &Line) -> Result<(), Failed> {
        self.asked = None;
        let deadline = boottime() + START;
        let mut started = false;
        loop {
            match self.show("ActiveState").map_err(Failed::Why)?.as_str() {
                "active" | "reloading" => break,
                "failed" if started => return Err(Failed::Why(format!("{} failed", self.name))),
                _ if boottime() >= deadline => return Err(Failed::Why(format!("{} does not start", self.name))),
                _ if started => {}
                _ if boottime() >= line.until() => {
                    return Err(Failed::Why("the lease ran out before the unit could be started".to_owned()));
                }
                _ => {
                    self.systemctl(&["start", "--no-block"]).map_err(Failed::Why)?;
                    started = true;
                }
            }
            line.pause(LOOK)?;
        }
        self.running = true;
        self.next = boottime() + REGULAR;
        Ok(())
    }

    fn stop(&mut self, rung: Rung, _overdue: bool) -> Result<(), String> {
        self.running = false;
        let now = boottime();
        let due = self.asked.is_none_or(|(asked, at)| asked < rung || (rung > Rung::Ask && now.since(at) >= AGAIN));
        let state = self.show("ActiveState")?;
        if matches!(state.as_str(), "inactive" | "failed") {
            // A job to start it may still be queued; stopping takes it away.
            if self.asked.is_some() || self.show("LoadState")? == "not-found" {
                self.asked = None;
                return Ok(());
            }
        }
        if due {
            self.asked = Some((rung, now));
            self.systemctl(&["stop", "--no-block"])?;
            if rung > Rung::Ask {
                self.systemctl(&["kill", "-s", "KILL"])?;
            }
        }
        Err(format!("{} is {state}", self.name))
    }

    fn tend(&mut self, _line: &Line) -> Vec<PayloadEvent> {
        let now = boottime();
        if now < self.next {
            return vec![];
        }
        self.next = now + REGULAR;
        if !self.running {
            return vec![PayloadEvent::Fitness(self.fitness())];
        }
        if self.show("ActiveState").is_ok_and(|state| matches!(state.as_str(), "inactive" | "failed")) {
            self.running = false;
            return vec![PayloadEvent::Ended(None)];
        }
        vec![]
    }

    fn next(&self) -> Instant {
        self.next
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
