//! Masters on loopback, run by an ordinary user: the same plan, files and etcd as on hosts, with a supervisor of plain
//! processes for each in place of systemd and the kubelet.
//!
//! [`up`] prepares the directory and the supervisors, [`drive`] makes the masters by the plan of `init`; [`status`]
//! looks; [`add`] and [`remove`] make it larger and smaller; [`inflict`] breaks and mends; [`down`] stops everything. All
//! of it lies in one directory and is gone with it.

mod adapt;
mod admit;
mod down;
mod drive;
mod faults;
mod leaders;
mod members;
mod status;
mod up;

pub use adapt::{PHASES, adapt};
pub use down::{Down, down};
pub use drive::drive;
pub use faults::{Fault, inflict};
pub use leaders::{Leadership, is_gone, leaders};
pub use members::{add, remove};
pub use status::{MasterStatus, Status, WorkerStatus, status};
pub use up::{Lab, LabMaster, up};

pub use crate::host::supervisor::home::MOST_MASTERS;
pub use crate::host::supervisor::run as supervise;
