//! A program that runs while this node leads, with everything it starts.
//!
//! It is bound to the daemon's life by the kernel, so there is nothing to adopt after a crash; what it left behind is
//! found by [`Family`] and killed before anything new is started.
#![allow(clippy::disallowed_methods)] // floor 3: processes

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::family::{EXEC, Family};
use super::hook::{Environment, Term};
use super::ladder::Rung;
use super::line::{Failed, Line};
use super::process::Process;
use super::{Action, LOOK, PayloadEvent, Setting};
use crate::elect::instant::Instant;
use crate::host::clock::boottime;
use crate::host::supervisor::programs;

/// Whether the program is still there is looked at this often while it does not run.
const REGULAR: Duration = Duration::from_secs(10);

/// The program of one group.
pub(super) struct ExecAction {
    argv: Vec<String>,
    group: String,
    /// This program: becomes `argv` once it is bound to us.
    shim: PathBuf,
    family: Family,
    process: Option<Process>,
    /// SIGTERM was sent.
    asked: bool,
    next: Instant,
}

impl ExecAction {
    pub(super) fn new(argv: &[String], group: &str, setting: &Setting) -> Self {
        Self {
            argv: argv.to_owned(),
            group: group.to_owned(),
            shim: setting.program.clone(),
            family: Family::of(group),
            process: None,
            asked: false,
            next: Instant::BOOT,
        }
    }

    fn spawn(&self, term: &Term, line: &Line) -> Result<Process, String> {
        let mut command = Command::new(&self.shim);
        command.args(["run-bound", "--parent", &std::process::id().to_string()]);
        if let Some(cgroup) = self.family.make_cgroup() {
            command.arg("--cgroup").arg(cgroup);
        }
        command.arg("--").args(&self.argv).stdin(Stdio::null()).env(EXEC, self.family.mark());
        Environment { group: self.group.clone(), term: Some(*term) }.give(&mut command, "start");
        Process::spawn(&mut command, line.bell()).map_err(|e| format!("cannot run {}: {e}", self.shim.display()))
    }

    fn fitness(&self) -> Result<(), String> {
        let program = self.argv.first().map_or("", String::as_str);
        let found = match program.contains('/') {
            true => Path::new(program).is_file(),
            false => programs::find(&programs::search_dirs(), program).is_some(),
        };
        if found { Ok(()) } else { Err(format!("there is no program {program}")) }
    }
}

impl Action for ExecAction {
    fn tidy(&mut self) {}

    fn start(&mut self, term: &Term, line: &Line) -> Result<(), Failed> {
        if self.process.as_mut().is_some_and(|p| p.ended().is_none()) {
            return Ok(());
        }
        self.fitness().map_err(Failed::Why)?;
        self.process = None;
        while self.family.kill() > 0 {
            line.pause(LOOK)?;
        }
        if boottime() >= line.until() {
            return Err(Failed::Why("the lease ran out before the program could be started".to_owned()));
        }
        self.asked = false;
        self.process = Some(self.spawn(term, line).map_err(Failed::Why)?);
        Ok(())
    }

    fn stop(&mut self, rung: Rung, _overdue: bool) -> Result<(), String> {
        if let Some(process) = &mut self.process {
            match rung {
                Rung::Ask if !self.asked => process.signal(Signal::TERM),
                Rung::Ask => {}
                Rung::Kill | Rung::Last => process.signal(Signal::KILL),
            }
            self.asked = true;
            if process.ended().is_some() {
                self.process = None;
            }
        }
        let left = if rung > Rung::Ask { self.family.kill() } else { self.family.count() };
        match (&self.process, left) {
            (None, 0) => {
                self.family.remove_cgroups();
                Ok(())
            }
            (Some(_), _) => Err(format!("{} still runs", self.argv.join(" "))),
            (None, n) => Err(format!("{n} processes that {} started still run", self.argv.join(" "))),
        }
    }

    fn tend(&mut self, _line: &Line) -> Vec<PayloadEvent> {
        if let Some(process) = &mut self.process {
            let Some(status) = process.ended() else { return vec![] };
            self.process = None;
            return vec![PayloadEvent::Ended(status.code())];
        }
        let now = boottime();
        if now < self.next {
            return vec![];
        }
        self.next = now + REGULAR;
        vec![PayloadEvent::Fitness(self.fitness())]
    }

    fn next(&self) -> Instant {
        // While it runs only its end matters, and that rings.
        if self.process.is_some() { boottime() + REGULAR } else { self.next }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
