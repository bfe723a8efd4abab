//! Runs another program to its end, with a deadline and out of reach of the terminal's Ctrl-C.
#![allow(clippy::disallowed_methods)] // floor 3: starts processes

use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Error, Result};

/// What a program that ran to its end had to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with status 0.
    pub fn success(&self) -> bool {
        self.status == Some(0)
    }
}

/// Runs `program` (a path, or a name on `PATH`) in the C locale with no input, and kills it with everything it started
/// after `timeout`. It has a process group of its own: Ctrl-C reaches us only, and we decide what it means.
///
/// # Errors
/// When it is not there, cannot be started, or does not end in time. A status other than 0 is not an error here.
pub fn run(program: &str, args: &[&str], timeout: Duration) -> Result<Output> {
    let line = || [&[program], args].concat().join(" ");
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::apply(format!("cannot run {program}: it is not installed"))
            .hint(format!("command -v {program}    # then install what is missing")),
        _ => Error::apply(format!("cannot run `{}`", line())).cause(e),
    })?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (done, ended) = mpsc::channel();
    // A thread collects both streams: a child that fills one pipe while we read the other would never end.
    std::thread::spawn(move || done.send(child.wait_with_output()));
    match ended.recv_timeout(timeout) {
        Ok(Ok(out)) => Ok(Output {
            status: out.status.code(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: match out.status.signal() {
                Some(signal) => format!("ended by signal {signal}"),
                None => String::from_utf8_lossy(&out.stderr).into_owned(),
            },
        }),
        Ok(Err(e)) => Err(Error::apply(format!("cannot read what `{}` says", line())).cause(e)),
        Err(_) => {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            Err(Error::apply(format!("`{}` did not end within {} s and was killed", line(), timeout.as_secs())))
        }
    }
}
