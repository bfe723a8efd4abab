//! The numbers of an election and what follows from them. A [`Timing`] that exists is safe.
//!
//! ```text
//! s          s+h       s+F          s+F+W    s+L        s+B                B·(1+ρ) after the last beat was seen
//! │ renewed   │ next    │ fencing    │ a     │ manifest │ payload          │ a successor takes over
//! │           │ renewal │ begins     │ frozen│ gone     │ dead             │
//!                                      main
//!                                      killed
//! ```
//!
//! `L = F + W + f` and `B = L + K`. The successor waits its *predecessor's* `B`, which every leader publishes.

use std::time::Duration;

use super::instant::Instant;
use crate::spec::mistake::Mistake;
use crate::spec::units::show_duration;

/// ρ: the most by which the clock rates of two hosts may differ, in percent. NTP slews at 0.05 %, quartz is off by
/// 0.01 %; a host beyond this breaks the guarantee.
pub const DRIFT_PERCENT: u32 = 1;

/// How the operator sets the times; what is `None` follows from `lease`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// L: after this long without a renewal the manifest is gone. At least 5 s unless all else is set.
    pub lease: Duration,
    /// h: from one renewal to the next. Default L/5, at most 5 s.
    pub renew: Option<Duration>,
    /// o: one attempt at a renewal, connecting included, is given up after this long. Default L/10.
    pub attempt: Option<Duration>,
    /// W: a frozen daemon is noticed and killed within this time. Default 3L/20, from 1 s to 5 s.
    pub watchdog: Option<Duration>,
    /// f: removing a file takes at most this long. Default L/20, from 200 ms to 500 ms.
    pub removal: Option<Duration>,
    /// K: a payload is confirmed dead this long after its manifest went. Zero for a file without a process.
    pub stop: Duration,
}

impl Wanted {
    /// `lease` and `stop`, the rest by default.
    pub fn new(lease: Duration, stop: Duration) -> Self {
        Self { lease, renew: None, attempt: None, watchdog: None, removal: None, stop }
    }
}

/// A safe set of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    renew: Duration,
    attempt: Duration,
    fence: Duration,
    watchdog: Duration,
    removal: Duration,
    stop: Duration,
}

impl Timing {
    /// Checks `wanted` and fills in what it leaves open.
    ///
    /// # Errors
    /// When the numbers leave the leader no two renewals and an attempt before it must fence (`F < 2h + 2o`), or one
    /// of them is zero or out of range. The hint says what to write.
    pub fn new(wanted: Wanted) -> Result<Self, Mistake> {
        let Wanted { lease, stop, .. } = wanted;
        let second = Duration::from_secs(1);
        let renew = wanted.renew.unwrap_or((lease / 5).min(second * 5));
        let attempt = wanted.attempt.unwrap_or(lease / 10);
        let watchdog = wanted.watchdog.unwrap_or((lease * 3 / 20).clamp(second, second * 5));
        let removal =
            wanted.removal.unwrap_or((lease / 20).clamp(Duration::from_millis(200), Duration::from_millis(500)));
        for (name, value) in
            [("renew interval", renew), ("attempt", attempt), ("watchdog", watchdog), ("removal bound", removal)]
        {
            if value < Duration::from_millis(10) {
                return Err(Mistake::new(format!("a {name} of {} is too short to be kept", show_duration(value)))
                    .hint("leave it out: it follows from leaseDuration"));
            }
        }
        let day = second * 86_400;
        if lease > day || stop > day {
            return Err(Mistake::new("a lease or a stop bound of more than a day is a mistake")
                .hint("write e.g. `leaseDuration: 10s`"));
        }
        let needed = (renew + attempt) * 2;
        let fence = lease.saturating_sub(watchdog + removal);
        if fence < needed {
            let least = needed + watchdog + removal;
            return Err(Mistake::new(format!(
                "a lease of {} cannot be safe: {} for the watchdog and {} for the removal leave {} before fencing, \
                 and two renewals and two attempts take {}",
                show_duration(lease),
                show_duration(watchdog),
                show_duration(removal),
                show_duration(fence),
                show_duration(needed),
            ))
            .hint(format!("write `leaseDuration: {}` or longer, or a shorter renewInterval", show_duration(least))));
        }
        Ok(Self { renew, attempt, fence, watchdog, removal, stop })
    }

    /// h: from one renewal to the next.
    pub fn renew(&self) -> Duration {
        self.renew
    }

    /// o: deadline of one attempt, from before connecting to the answer.
    pub fn attempt(&self) -> Duration {
        self.attempt
    }

    /// F: the leader begins to fence this long after it sent its last successful renewal.
    pub fn fence(&self) -> Duration {
        self.fence
    }

    /// W: latency of the backup that notices a frozen daemon (systemd's `WatchdogSec`).
    pub fn watchdog(&self) -> Duration {
        self.watchdog
    }

    /// f: bound on the removal of a file.
    pub fn removal(&self) -> Duration {
        self.removal
    }

    /// K: bound on the payload's death after its manifest is gone.
    pub fn stop(&self) -> Duration {
        self.stop
    }

    /// L = F + W + f: the manifest is gone.
    pub fn lease(&self) -> Duration {
        self.fence + self.watchdog + self.removal
    }

    /// B = L + K: the payload is dead.
    pub fn bound(&self) -> Duration {
        self.lease() + self.stop
    }

    /// When the file must be gone and when what ran is to be dead, for a stop that begins `now`: f and K from now. For
    /// what an earlier life led until `deadline` others wait already: its s + L holds, so the grace that ends halfway
    /// from there to death is shorter, or over. Death itself may take all of K: where nobody can be asked it is waited.
    pub fn stop_by(&self, deadline: Option<Instant>, now: Instant) -> (Instant, Instant) {
        let gone = now + self.removal;
        let promised = deadline.map_or(gone, |deadline| deadline + self.watchdog + self.removal);
        (promised.min(gone), gone + self.stop)
    }

    /// An etcd outage shorter than this goes unnoticed: F − h − o.
    pub fn outage(&self) -> Duration {
        self.fence - self.renew - self.attempt
    }

    /// What the operator should know: an etcd leader election takes 1.2 to 2 s and must not fence.
    pub fn warning(&self) -> Option<String> {
        let outage = self.outage();
        (outage < Duration::from_secs(3)).then(|| {
            format!(
                "an etcd outage of more than {} fences the leader; an etcd leader election takes up to 2s",
                show_duration(outage)
            )
        })
    }

    /// What follows, in one line: how long etcd may be away, and when a successor takes over after a crash.
    pub fn consequences(&self) -> String {
        let [outage, earliest, latest] = [
            self.outage(),
            self.bound().saturating_sub(self.renew),
            with_drift(self.bound()) + Duration::from_millis(200),
        ]
        .map(|d| format!("{}.{}s", d.as_secs(), d.subsec_millis() / 100));
        format!("rides out an etcd outage of {outage}, takeover {earliest} to {latest} after a crash")
    }
}

/// `duration` lengthened by ρ: what one clock must show for another to have seen all of `duration`.
pub fn with_drift(duration: Duration) -> Duration {
    duration + duration * DRIFT_PERCENT / 100
}
