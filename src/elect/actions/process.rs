//! A child in a process group of its own.
#![allow(clippy::disallowed_methods)] // floor 3: processes

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::bell::Bell;

/// Ends with its value: what is left of the group is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`; `bell` rings at its end.
    pub(super) fn spawn(command: &mut Command, bell: &Arc<Bell>) -> std::io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let process = Self { child };
        if let Some(pid) = process.pid() {
            let bell = Arc::clone(bell);
            // Not reaped here: as long as it is a zombie nobody else gets its number.
            let wait = move || {
                while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
                    .is_err_and(|e| e == rustix::io::Errno::INTR)
                {}
                bell.ring();
            };
            // Without the thread the end is seen at the next look.
            let _ = std::thread::Builder::new().name("elect-child".into()).spawn(wait);
        }
        Ok(process)
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends `signal` to the whole group.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(group) = self.pid() {
            // It may just have ended, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    /// How it ended, once it has. What is left of its group is ended first, while the zombie keeps the group's number.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid()?), look).ok().flatten()?;
        self.signal(Signal::KILL);
        self.child.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.signal(Signal::KILL);
        // Reaped by a thread: in an uninterruptible sleep it outlives its killing, and nobody here can wait for that.
        let pid = self.pid();
        let reap = move || pid.map(|pid| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
        let _ = std::thread::Builder::new().name("elect-child".into()).spawn(reap);
    }
}
