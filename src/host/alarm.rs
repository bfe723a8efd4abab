//! A timer on the boot-time clock: it rings on time after the host was suspended, which tokio's timers do not.
#![allow(clippy::disallowed_methods)] // floor 3: clocks

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

use crate::elect::instant::Instant;
use crate::error::{Error, Result};

/// One alarm; setting it anew replaces the time.
pub struct Alarm {
    /// tokio's one safe way to wait for a descriptor of any kind; the kernel makes no difference.
    timer: Receiver,
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
        let timer = Receiver::from_file_unchecked(fd.into()).map_err(|e| failed(&e))?;
        Ok(Self { timer })
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
        let _ =
            timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval: never, it_value: at });
    }

    /// Waits until it rings.
    pub async fn rings(&self) {
        let mut count = [0; 8];
        // Another task may have taken the ring, or the alarm was set anew: then it is waited for again.
        while self.timer.readable().await.is_ok() {
            if self.timer.try_read(&mut count).is_ok() {
                return;
            }
        }
    }
}
