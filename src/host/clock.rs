//! Time and interruption: the wall clock, waiting with a deadline, and the signals that end a run early.
#![allow(clippy::disallowed_methods)] // floor 3: the only place that reads clocks and sleeps

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};

use crate::elect::instant::Instant as BootInstant;
use crate::error::{Error, Result};

static INTERRUPTED: Mutex<bool> = Mutex::new(false);
static WAKE: Condvar = Condvar::new();
static WHY: OnceLock<&str> = OnceLock::new();

/// The wall clock, UTC.
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// The boot-time clock: runs on while the machine is suspended, nobody can set it. What the election goes by.
pub fn boottime() -> BootInstant {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither part can be negative: the clock starts at zero.
    let nanos = |n: i64| u64::try_from(n).unwrap_or(0);
    BootInstant::from_nanos(nanos(now.tv_sec) * 1_000_000_000 + nanos(now.tv_nsec))
}

/// Measures a duration on the monotonic clock: neither NTP nor an operator can turn it back.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited<T> {
    /// The condition held; its value.
    Ready(T),
    /// The deadline passed.
    TimedOut,
    /// SIGINT, SIGTERM or SIGHUP came.
    Interrupted,
}

/// Asks `condition` every `every` until it is ready, `deadline` (since now) has passed, or a signal came. It is asked
/// at least once, and once more at the deadline. `on_wait` hears of every wait, with the time spent so far.
pub fn poll<T>(
    deadline: Duration,
    every: Duration,
    mut condition: impl FnMut() -> Poll<T>,
    mut on_wait: impl FnMut(Duration),
) -> Waited<T> {
    let watch = Stopwatch::start();
    loop {
        let elapsed = watch.elapsed();
        if let Poll::Ready(value) = condition() {
            return Waited::Ready(value);
        }
        if interrupted() {
            return Waited::Interrupted;
        }
        if elapsed >= deadline {
            return Waited::TimedOut;
        }
        on_wait(elapsed);
        sleep(every.min(deadline.saturating_sub(watch.elapsed())));
    }
}

/// Sleeps; a signal ends it early.
pub fn sleep(duration: Duration) {
    let watch = Stopwatch::start();
    let mut stop = flag();
    while !*stop && watch.elapsed() < duration {
        let left = duration.saturating_sub(watch.elapsed());
        stop = WAKE.wait_timeout(stop, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Whether SIGINT, SIGTERM or SIGHUP came since [`watch_interrupts`].
pub fn interrupted() -> bool {
    *flag()
}

/// As if such a signal came: for whoever catches signals in another way.
pub fn interrupt() {
    *flag() = true;
    WAKE.notify_all();
}

/// As if such a signal came, for a reason that an operator has not seen.
pub fn interrupt_for(why: &'static str) {
    WHY.get_or_init(|| why);
    interrupt();
}

/// Why it was interrupted, if not by a signal.
pub fn interruption() -> Option<&'static str> {
    WHY.get().copied()
}

fn flag() -> MutexGuard<'static, bool> {
    INTERRUPTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on SIGINT, SIGTERM and SIGHUP (a lost ssh session) no longer end the process: they make [`interrupted`]
/// true, so that a run can stop between two steps and put things back.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn watch_interrupts() -> Result<()> {
    static WATCHING: OnceLock<Result<(), String>> = OnceLock::new();
    let fail = |e: &String| Error::apply("cannot watch for signals").cause(e);
    WATCHING.get_or_init(start_watching).as_ref().copied().map_err(fail)
}

fn start_watching() -> Result<(), String> {
    let (ready, installed) = mpsc::channel();
    let watch = move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let mut int = signal(SignalKind::interrupt())?;
            let mut term = signal(SignalKind::terminate())?;
            let mut hup = signal(SignalKind::hangup())?;
            let _ = ready.send(());
            std::future::poll_fn(|cx| {
                let came = [&mut int, &mut term, &mut hup].map(|s| s.poll_recv(cx).is_ready());
                if came.contains(&true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            *flag() = true;
            WAKE.notify_all();
            // The handlers stay: a second Ctrl-C must not cut the undo short.
            std::future::pending::<()>().await;
            Ok(())
        })
    };
    let (failed, why) = mpsc::channel();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Err(e) = watch() {
                let _ = failed.send(e.to_string());
            }
        })
        .map_err(|e| e.to_string())?;
    match installed.recv() {
        Ok(()) => Ok(()),
        Err(_) => Err(why.recv().unwrap_or_else(|_| "the signal thread ended".to_owned())),
    }
}
