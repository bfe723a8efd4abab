//! What runs units: systemd on a host, a supervisor of plain processes in a lab, nothing below `--root`.

use crate::error::Result;
use crate::state::observed::UnitFact;

/// A service manager, as far as hamaster needs one.
pub trait Units {
    /// Whether units run here at all.
    fn starts_units(&self) -> bool {
        true
    }

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

    /// The command that shows a person more of the log of `unit`.
    fn log_command(&self, unit: &str) -> String {
        format!("journalctl -u {unit} -n 100 --no-pager")
    }
}

/// Below `--root` nothing runs: every unit is unknown and nothing is started, enabled or stopped.
#[derive(Debug, Clone, Copy)]
pub struct NoUnits;

impl Units for NoUnits {
    fn starts_units(&self) -> bool {
        false
    }

    fn reload(&self) -> Result<()> {
        Ok(())
    }

    fn state(&self, _: &str) -> Result<UnitFact> {
        Ok(UnitFact::default())
    }

    fn enable(&self, _: &str, _: bool) -> Result<()> {
        Ok(())
    }

    fn start(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn restart(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn stop(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn logs(&self, _: &str, _: usize) -> Vec<String> {
        vec![]
    }
}
