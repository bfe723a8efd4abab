//! One hamaster at a time.

use std::os::fd::OwnedFd;

/// Held by the one process at work on a host; released on drop, and by the kernel when the process dies.
#[derive(Debug)]
pub struct Lock {
    _root: OwnedFd,
}
