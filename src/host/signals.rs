//! What an operator or a service manager says by signals.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};

/// Caught from now on, so that none ends the process by itself.
pub struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    resign: Signal,
}

/// What was asked for.
pub enum Asked {
    /// SIGTERM, SIGINT: let go and end.
    Terminate,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: let another lead.
    Resign,
}

impl Signals {
    /// Catches them. Needs a runtime.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn new() -> Result<Self> {
        let on = |kind| signal(kind).map_err(|e| Error::apply("cannot watch for signals").cause(e));
        Ok(Self {
            term: on(SignalKind::terminate())?,
            int: on(SignalKind::interrupt())?,
            hup: on(SignalKind::hangup())?,
            resign: on(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Terminate,
            _ = self.int.recv() => Asked::Terminate,
            _ = self.hup.recv() => Asked::Reload,
            _ = self.resign.recv() => Asked::Resign,
        }
    }
}
