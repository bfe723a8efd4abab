//! One hamaster at a time: a lock on the root directory itself, so that not even a lock file is left on the host.
#![allow(clippy::disallowed_methods)] // floor 3: reads /proc/locks

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, major, minor, openat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::host::resolve::Root;

/// Held by the one process at work on a host; released on drop, and by the kernel when the process dies.
#[derive(Debug)]
pub struct Lock {
    _root: OwnedFd,
}

impl Lock {
    /// Takes the lock or says who has it.
    pub(super) fn take(root: &Root) -> Result<Self> {
        let failed =
            |e: Errno| Error::apply(format!("cannot lock {}", root.path().display())).cause(std::io::Error::from(e));
        let dir = root.place(Path::new("/"), false).map_err(failed)?.dir;
        let dir =
            openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _root: dir }),
            Err(Errno::WOULDBLOCK) => {
                let stat = fstat(&dir).map_err(failed)?;
                let id = format!("{:02x}:{:02x}:{}", major(stat.st_dev), minor(stat.st_dev), stat.st_ino);
                let pid = std::fs::read_to_string("/proc/locks").ok().and_then(|l| holder(&l, &id));
                Err(match pid {
                    Some(pid) => Error::conflict(format!("another hamaster is at work on this host (pid {pid})"))
                        .hint(format!("ps -fp {pid}    # wait until it is done, then run this again")),
                    None => Error::conflict("another hamaster is at work on this host")
                        .hint("ps -fC hamaster    # wait until it is done, then run this again"),
                })
            }
            Err(e) => Err(failed(e)),
        }
    }
}

/// The pid in `/proc/locks` that holds `id` (`major:minor:inode`). 0 means a process in another pid namespace.
fn holder(locks: &str, id: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 708 08:01:1234 0 EOF
        let words: Vec<&str> = line.split_whitespace().collect();
        let pid = words.iter().position(|w| *w == id)?.checked_sub(1).and_then(|i| words.get(i))?;
        pid.parse().ok().filter(|pid| *pid > 0)
    })
}
