//! Crash points for tests: every stage of every change counts as one, and a debug build dies or fails at the one named
//! by the environment. In a release build all of this is nothing.
//!
//! - `HAMASTER_CRASH_AT=N`: the process gets SIGKILL at the Nth point: nothing is flushed, dropped or undone.
//! - `HAMASTER_FAIL_AT=N`: the Nth point fails as if the disk were full, if it is one that can fail.

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

    static HITS: AtomicU64 = AtomicU64::new(0);

    /// The points at which to crash and to fail.
    fn armed() -> (Option<u64>, Option<u64>) {
        static ARMED: OnceLock<(Option<u64>, Option<u64>)> = OnceLock::new();
        let number = |name| std::env::var(name).ok().and_then(|v| v.parse().ok());
        *ARMED.get_or_init(|| (number("HAMASTER_CRASH_AT"), number("HAMASTER_FAIL_AT")))
    }

    pub(super) fn hit(name: &str) -> Result<(), Errno> {
        let hit = HITS.fetch_add(1, Ordering::Relaxed) + 1;
        let (crash, fail) = armed();
        if crash == Some(hit) {
            let _ = writeln!(std::io::stderr(), "crash point {hit}: {name}");
            let _ = kill_process(getpid(), Signal::KILL);
        }
        if fail == Some(hit) { Err(Errno::NOSPC) } else { Ok(()) }
    }
}
