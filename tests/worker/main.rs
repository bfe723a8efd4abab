//! Workers join: the real daemon on a real etcd with TLS, images that become workers, and others who would like to be
//! more than that.
#![allow(clippy::disallowed_methods, reason = "tests are effects")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host;
mod joins;
mod killed;
#[path = "../serve/master.rs"]
#[allow(dead_code, reason = "the door's own tests use all of it")]
mod master;
mod names;
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
