//! How the daemon ends, as an exit code.

use std::fmt;

use crate::elect::event::Exit;

/// How the daemon ended; see [`Ended::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Released, or never led.
    Clean,
    /// etcd was not reached in time, or could not be told that the payload is dead.
    StoreUnreachable,
    /// etcd refuses this identity.
    StoreRefuses,
    /// Another process uses this identity.
    Duplicate,
    /// Leadership was lost and there is no next time.
    Lost,
    /// The payload could not be stopped.
    Unfenced,
    /// With `once`: the command ended by itself, with this code.
    Child(u8),
    /// SIGHUP: the caller starts the same program anew, which adopts what this one led.
    Reload,
}

impl Ended {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Ended::Clean | Ended::Reload => 0,
            Ended::Duplicate => 3,
            Ended::StoreUnreachable => 4,
            Ended::StoreRefuses => 5,
            Ended::Lost => 6,
            Ended::Unfenced => 7,
            Ended::Child(code) => code,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Clean => f.write_str("everything is released"),
            Ended::StoreUnreachable => f.write_str("etcd cannot be reached"),
            Ended::StoreRefuses => f.write_str("etcd refuses this host"),
            Ended::Duplicate => f.write_str("another process uses this identity"),
            Ended::Lost => f.write_str("leadership was lost"),
            Ended::Unfenced => f.write_str("the payload could not be stopped"),
            Ended::Child(code) => write!(f, "the command ended with {code}"),
            Ended::Reload => f.write_str("it starts anew"),
        }
    }
}

impl Ended {
    /// Of one group's process; `child`: how its command ended by itself.
    pub(super) fn of(exit: Exit, child: Option<u8>) -> Self {
        match exit {
            Exit::Clean => Ended::Clean,
            Exit::Lost => child.map_or(Ended::Lost, Ended::Child),
            Exit::Duplicate => Ended::Duplicate,
            Exit::Unreleased => Ended::StoreUnreachable,
            Exit::Unfenced => Ended::Unfenced,
        }
    }
}

/// Of several groups the one that ended worst speaks for all.
pub(super) fn severity(exit: Exit) -> u8 {
    match exit {
        Exit::Clean => 0,
        Exit::Lost => 1,
        Exit::Unreleased => 2,
        Exit::Duplicate => 3,
        Exit::Unfenced => 4,
    }
}
