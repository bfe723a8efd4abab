//! Commands of the operator's, run around the payload's life.
#![allow(clippy::disallowed_methods)] // floor 3: processes

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::bell::Bell;
use super::process::Process;
use crate::elect::instant::Instant;
use crate::elect::record::Token;
use crate::host::clock::boottime;

/// What a payload and its hooks find in their environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) group: String,
    /// `None` when a payload is stopped that this process did not start.
    pub(super) term: Option<Term>,
}

/// The leadership a payload runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) token: Token,
    /// L.
    pub(super) lease: Duration,
    /// s + F as it was at the start.
    pub(super) deadline: Instant,
}

impl Environment {
    /// Puts it into `command`; `state` is `start` or `stop`.
    pub(super) fn give(&self, command: &mut Command, state: &str) {
        command.env("HAMASTER_GROUP", &self.group).env("HAMASTER_STATE", state);
        if let Some(Term { token, lease, deadline }) = self.term {
            command.env("HAMASTER_TOKEN", token.to_string());
            command.env("HAMASTER_LEASE", lease.as_millis().to_string());
            command.env("HAMASTER_DEADLINE_BOOTTIME_NS", deadline.as_nanos().to_string());
        }
    }
}

/// A hook that runs. Dropped, it is killed with all it started in its group.
#[derive(Debug)]
pub(super) struct Hook {
    process: Process,
    line: String,
    deadline: Instant,
    within: Duration,
}

impl Hook {
    /// Starts `argv`, to be killed after `within`.
    pub(super) fn start(
        argv: &[String],
        environment: &Environment,
        state: &str,
        within: Duration,
        bell: &Arc<Bell>,
    ) -> Result<Self, String> {
        let line = argv.join(" ");
        let [program, arguments @ ..] = argv else { return Err("an empty command".to_owned()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        environment.give(&mut command, state);
        let process = Process::spawn(&mut command, bell).map_err(|e| format!("cannot run `{line}`: {e}"))?;
        Ok(Self { process, line, deadline: boottime() + within, within })
    }

    /// How it went, once it is over.
    pub(super) fn outcome(&mut self) -> Option<Result<(), String>> {
        match self.process.ended() {
            Some(status) if status.success() => Some(Ok(())),
            Some(status) => Some(Err(format!("`{}` failed: {status}", self.line))),
            None if boottime() < self.deadline => None,
            None => Some(Err(format!("`{}` did not end within {} ms", self.line, self.within.as_millis()))),
        }
    }
}
