//! The timer that takes snapshots of etcd.

use std::time::Duration;

use serde::Serialize;

use super::{Input, Rendered, text};
use crate::error::Result;
use crate::spec::units;
use crate::state::PhaseId;

/// What is enabled and started.
pub(super) const TIMER: &str = "hamaster-snapshot.timer";

/// What it starts.
pub(super) const SERVICE: &str = "hamaster-snapshot.service";

/// hamaster-snapshot.service
#[derive(Serialize)]
struct SnapshotUnit {
    hamaster: String,
}

/// hamaster-snapshot.timer
#[derive(Serialize)]
struct SnapshotTimer {
    every: String,
    /// So that masters started together do not read their disks together for ever.
    spread: String,
}

pub(super) fn files(i: &Input, out: &mut Rendered) -> Result<()> {
    let Some(snapshots) = &i.spec.etcd.snapshots else { return Ok(()) };
    let unit = |name: &str| i.this.layout.unit(name);
    let service = SnapshotUnit { hamaster: text(&i.tools.hamaster) };
    let spread = Duration::from_secs((snapshots.every.as_secs() / 10).max(1));
    let timer = SnapshotTimer { every: units::show_duration(snapshots.every), spread: units::show_duration(spread) };
    let phase = PhaseId::Register;
    out.add(phase, unit(SERVICE), 0o644, "systemd/hamaster-snapshot.service.hbs", &service)?;
    out.add(phase, unit(TIMER), 0o644, "systemd/hamaster-snapshot.timer.hbs", &timer)
}
