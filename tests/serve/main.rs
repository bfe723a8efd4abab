//! The door at which hosts ask to be admitted: the real daemon on a real etcd with TLS, honest joiners and others.
#![allow(clippy::disallowed_methods, reason = "tests are effects")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod admitted;
mod daemon;
mod denied;
mod hostile;
mod impostor;
mod limits;
mod master;
mod wire;

use std::time::{Duration, Instant};

/// Liveness only: a test that fails fails after this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives a value.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
