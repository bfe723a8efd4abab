//! Clocks that disagree: a late tick, a stepped clock, another boot. What is known may be older than it seems.

use std::time::Duration;

use crate::elect::instant::Instant;
use crate::host::clock::{self, boottime};
use crate::host::identity;

/// This late, a tick means that the process was not run.
const LATE: Duration = Duration::from_millis(500);
/// Wall clock and boot-time clock may drift apart by this much between two looks; more is a step or a resumed host.
const STEP: Duration = Duration::from_secs(2);

/// What the clocks said at the last look.
pub(super) struct Clocks {
    boot_id: String,
    /// Wall clock minus boot-time clock.
    offset: i128,
}

/// What a look shows.
pub(super) struct Anomaly {
    pub(super) what: String,
    /// The process woke up on another host.
    pub(super) moved: bool,
}

impl Clocks {
    pub(super) fn new(boot_id: &str) -> Self {
        Self { boot_id: boot_id.to_owned(), offset: offset() }
    }

    /// Looks again, after a wait that should have ended at `due`.
    pub(super) fn look(&mut self, due: Instant) -> Option<Anomaly> {
        let late = boottime().since(due);
        let offset = offset();
        let stepped = (offset - self.offset).unsigned_abs() > STEP.as_nanos();
        self.offset = offset;
        let what = if late > LATE {
            format!("was not run for {:.1} s", late.as_secs_f64())
        } else if stepped {
            "the wall clock was stepped".to_owned()
        } else {
            return None;
        };
        let moved = identity::boot_id().is_ok_and(|id| id != self.boot_id);
        Some(Anomaly { what, moved })
    }
}

fn offset() -> i128 {
    clock::now().unix_timestamp_nanos() - i128::from(boottime().as_nanos())
}
