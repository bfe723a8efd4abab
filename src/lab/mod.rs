//! A master on loopback, run by an ordinary user: the same plan, files and etcd as on a host, with a supervisor of
//! plain processes in place of systemd and the kubelet.
//!
//! [`up`] prepares the directory and the supervisor and hands over to the driver of `init`; [`status`] looks; [`down`]
//! stops everything. All of it lies in one directory and is gone with it.

mod adapt;
mod down;
mod status;
mod up;

pub use adapt::{PHASES, adapt};
pub use down::{Down, down};
pub use status::{Status, status};
pub use up::{Lab, up};

pub use crate::host::supervisor::run as supervise;
