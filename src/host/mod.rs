//! Hands and eyes: with `etcd::client` the only floor that touches files, processes, the network and the clock.

pub mod fs;
pub mod observe;
pub mod processes;
pub mod supervisor;
pub mod systemd;

use crate::error::Result;
use crate::state::observed::UnitFact;

/// What runs units: systemd on a host, a supervisor of plain processes in a lab, nothing below `--root`.
pub trait Units {
    /// Reads unit files again (`daemon-reload`).
    ///
    /// # Errors
    /// When the service manager cannot be reached.
    fn reload(&self) -> Result<()>;

    /// The state of `unit`; a unit nobody knows is a default [`UnitFact`].
    ///
    /// # Errors
    /// When the service manager cannot be reached.
    fn state(&self, unit: &str) -> Result<UnitFact>;

    /// Enables or disables start at boot. Does nothing when it is so already.
    ///
    /// # Errors
    /// When the service manager refuses.
    fn enable(&self, unit: &str, on: bool) -> Result<()>;

    /// Starts `unit` without waiting for it to be ready (`--no-block`): readiness is polled by the caller.
    ///
    /// # Errors
    /// When the service manager refuses.
    fn start(&self, unit: &str) -> Result<()>;

    /// Restarts `unit`, or starts it, without waiting for it to be ready.
    ///
    /// # Errors
    /// When the service manager refuses.
    fn restart(&self, unit: &str) -> Result<()>;

    /// Stops `unit` and waits until it is down.
    ///
    /// # Errors
    /// When it does not stop.
    fn stop(&self, unit: &str) -> Result<()>;

    /// The last `lines` log lines of `unit`, oldest first; empty when there are none.
    fn logs(&self, unit: &str, lines: usize) -> Vec<String>;
}
