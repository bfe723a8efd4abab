//! A process that is told to end, and is ended.
#![allow(clippy::disallowed_methods)] // floor 3: processes

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Between two looks whether it may still take its time.
const LOOK: Duration = Duration::from_millis(100);

/// Sends SIGTERM to `pid` and waits for its end, for as long as it takes. Once `overdue` it is killed: what is frozen,
/// or held by a debugger, does not hear anything else. A process that is gone is no error.
///
/// # Errors
/// When it may not be signalled.
pub fn end(pid: i32, overdue: impl Fn() -> bool) -> Result<(), Errno> {
    let gone = |e: Errno| if e == Errno::SRCH { Ok(()) } else { Err(e) };
    let process = match Pid::from_raw(pid).ok_or(Errno::INVAL).and_then(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Ok(process) => process,
        Err(e) => return gone(e),
    };
    pidfd_send_signal(&process, Signal::TERM).or_else(gone)?;
    let pause = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
    loop {
        // It can be read once the process has ended.
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&pause)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(e),
        }
        if overdue() {
            pidfd_send_signal(&process, Signal::KILL).or_else(gone)?;
        }
    }
}
