//! Stops a lab.

use std::path::Path;
use std::time::Duration;

use super::adapt::ELECT_UNIT;
use crate::error::Result;
use crate::host::Units;
use crate::host::processes::Supervised;
use crate::host::supervisor::await_end;
use crate::host::supervisor::home::Home;

/// More than the stop timeouts of pods and units together.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `lab down` found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Down {
    /// A supervisor ran and was stopped.
    pub stopped: bool,
    /// The directory was removed.
    pub purged: bool,
}

/// Stops pods, units and the supervisors of the lab at `dir` and waits until they are gone; with `purge` its directory
/// goes too. Without a lab there is nothing to do.
///
/// # Errors
/// When `dir` holds something else, another command is at work on it, or something does not stop.
pub fn down(dir: &Path, purge: bool) -> Result<Down> {
    let Some(home) = Home::find(dir)? else { return Ok(Down { stopped: false, purged: false }) };
    let _lock = home.lock()?;
    let homes = home.masters()?;
    let all: Vec<Supervised> = homes.iter().map(Supervised::of).collect();
    // A candidate gives its leadership back before the etcd that it does so in ends; none does so frozen or cut off.
    for (master, units) in homes.iter().zip(&all) {
        master.partition(false)?;
        if units.report()?.is_some() {
            units.freeze(false)?;
            units.begin_stop(ELECT_UNIT)?;
        }
    }
    let mut stopped = false;
    for units in &all {
        if units.report()?.is_some() {
            units.stop(ELECT_UNIT)?;
        }
    }
    for units in &all {
        stopped |= units.shut_down()?;
    }
    let _gone: Vec<_> = homes.iter().map(|master| await_end(master, PATIENCE)).collect::<Result<_>>()?;
    if purge {
        home.purge()?;
    }
    Ok(Down { stopped, purged: purge })
}
