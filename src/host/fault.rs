//! Crash points for tests: every stage of every change counts as one, and a debug build dies or fails at the one named
//! by the environment. In a release build all of this is nothing.
//!
//! - `HAMASTER_CRASH_AT=N`: the process gets SIGKILL at the Nth point: nothing is flushed, dropped or undone.
//! - `HAMASTER_STOP_AT=N`: the process is stopped there, until it gets SIGCONT.
//! - `HAMASTER_FAIL_AT=N`: the Nth point fails as if the disk were full, if it is one that can fail.
//!
//! `NAME:N` is the Nth point of that name.

use rustix::io::Errno;

/// A point where the process may die.
pub fn point(name: &'static str) {
    let _ = fallible(name);
}

/// A point where the process may die or the operation may fail.
pub(super) fn fallible(name: &'static str) -> Result<(), Errno> {
    #[cfg(debug_assertions)]
    return armed::hit(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        Ok(())
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, kill_process};

    /// The points at which to crash, to stop and to fail.
    static ARMED: OnceLock<[Option<Point>; 3]> = OnceLock::new();

    struct Point {
        /// Only points of this name count.
        name: Option<String>,
        at: u64,
        hits: AtomicU64,
    }

    impl Point {
        fn named_by(variable: &str) -> Option<Self> {
            let text = std::env::var(variable).ok()?;
            let (name, at) = text.rsplit_once(':').map_or((None, text.as_str()), |(name, at)| (Some(name), at));
            Some(Self { name: name.map(str::to_owned), at: at.parse().ok()?, hits: AtomicU64::new(0) })
        }

        fn is_hit(&self, name: &str) -> bool {
            self.name.as_ref().is_none_or(|n| n == name) && self.hits.fetch_add(1, Ordering::Relaxed) + 1 == self.at
        }
    }

    pub(super) fn hit(name: &str) -> Result<(), Errno> {
        let armed = || ["HAMASTER_CRASH_AT", "HAMASTER_STOP_AT", "HAMASTER_FAIL_AT"].map(Point::named_by);
        let [crash, stop, fail] = ARMED.get_or_init(armed);
        if crash.as_ref().is_some_and(|p| p.is_hit(name)) {
            let _ = writeln!(std::io::stderr(), "crash point: {name}");
            let _ = kill_process(getpid(), Signal::KILL);
        }
        if stop.as_ref().is_some_and(|p| p.is_hit(name)) {
            let _ = kill_process(getpid(), Signal::STOP);
            // Another thread may take the signal first; this one must not get past the point meanwhile.
            #[allow(clippy::disallowed_methods)] // floor 3: waits to be stopped
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        if fail.as_ref().is_some_and(|p| p.is_hit(name)) { Err(Errno::NOSPC) } else { Ok(()) }
    }
}
