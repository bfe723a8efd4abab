//! A timer on the boot-time clock: it rings on time after the host was suspended, which tokio's timers do not.
#![allow(clippy::disallowed_methods)] // floor 3: clocks

use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::elect::instant::Instant;
use crate::error::{Error, Result};

/// One alarm; setting it anew replaces the time.
pub struct Alarm {
    fd: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// An alarm that never rings. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the kernel has no such timer.
    pub fn new() -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| Error::apply("cannot make a timer on the boot-time clock").cause(e);
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Boottime, flags).map_err(|e| failed(&e))?;
        Ok(Self { fd: AsyncFd::with_interest(fd, Interest::READABLE).map_err(|e| failed(&e))? })
    }

    /// Rings at `when`, at once if that has passed; `None`: not at all.
    pub fn set(&self, when: Option<Instant>) {
        let nanos = when.map_or(0, |w| w.as_nanos().max(1));
        let at = Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        // It fails for a time that is none, and these all are.
        let _ = timerfd_settime(
            self.fd.get_ref(),
            TimerfdTimerFlags::ABSTIME,
            &Itimerspec { it_interval: never, it_value: at },
        );
    }

    /// Waits until it rings.
    pub async fn rings(&self) {
        loop {
            let Ok(mut ready) = self.fd.readable().await else { return };
            let mut count = [0; 8];
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut count)?));
            if let Ok(Ok(_)) = read {
                return;
            }
        }
    }
}
