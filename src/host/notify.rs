//! The service manager: it is told when the daemon is ready and what it does, and it kills a daemon that is frozen.
//!
//! No send waits: a manager that does not read (PID 1 busy reloading) must not freeze what it watches.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::spec::units::show_duration;

/// The socket of `sd_notify(3)`, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the manager set it up: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` unless `WATCHDOG_PID` names another process.
    pub fn from_env() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let number = |name| env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(Duration::from_micros);
        Self::new(&path, watchdog).unwrap_or_default()
    }

    /// Talks to `socket`: a path, or `@name` for an abstract one.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn new(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(socket)?,
        };
        let datagrams = UnixDatagram::unbound()?;
        datagrams.connect_addr(&address)?;
        datagrams.set_nonblocking(true)?;
        Ok(Self { socket: Some(datagrams), watchdog })
    }

    /// From one [`Notify::ping`] to the next: half of the manager's watchdog, as sd_watchdog_enabled(3) recommends.
    /// `None`: nobody watches.
    pub fn every(&self) -> Option<Duration> {
        self.watchdog.map(|w| w / 2)
    }

    /// What the operator should know once, at the start, when no one kills a frozen daemon within W (`bound`).
    pub fn gap(&self, bound: Duration) -> Option<String> {
        match self.watchdog {
            None => Some(
                "no service manager watches this process: if it is frozen (SIGSTOP, a debugger), its payload outlives \
                 its leadership; run it as hamaster-elect.service (Type=notify, WatchdogSec=, WatchdogSignal=SIGKILL)"
                    .to_owned(),
            ),
            Some(w) if w > bound => Some(format!(
                "WatchdogSec={} is longer than the {} this election counts on: a frozen process may outlive its \
                 leadership; write `WatchdogSec={}ms` or a longer `watchdog:` in elect.yaml",
                show_duration(w),
                show_duration(bound),
                bound.as_millis(),
            )),
            Some(_) => None,
        }
    }

    /// Start-up is over.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// What `systemctl status` shows.
    pub fn status(&self, text: &str) {
        self.tell(&format!("STATUS={}", text.replace('\n', "; ")));
    }

    /// It ends of its own will.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Still alive.
    pub fn ping(&self) {
        if self.watchdog.is_some() {
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket {
            // A full queue loses a status or a ping: PID 1 that does not read for W has other troubles.
            let _ = socket.send(message.as_bytes());
        }
    }
}
