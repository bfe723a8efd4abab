//! One hamaster at a time. On a host that runs it is a lock on a file below `/run` that only root can open: every user may
//! lock the root directory, and would keep hamaster out. Of an image it is the directory: no file is left in it.
#![allow(clippy::disallowed_methods)] // floor 3: reads /proc/locks

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, major, minor, openat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::host::resolve::Root;

/// Held by the one process at work on a host; released on drop, and by the kernel when the process dies.
#[derive(Debug)]
pub struct Lock {
    _held: OwnedFd,
}

/// On a host that runs; gone with its boot.
const FILE: &str = "/run/hamaster.lock";

/// Why there is no lock.
#[derive(Debug)]
pub(super) enum Denied {
    /// A process has it, by its number where that is known.
    Held(Option<u32>),
    /// The directory cannot be locked.
    Failed(Box<Error>),
}

impl Denied {
    /// Whether the keeper of this master has it: it is done in a while, and nobody has to look after it.
    pub(super) fn is_by_the_keeper(&self) -> bool {
        let Self::Held(Some(pid)) = self else { return false };
        let argv = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        argv.split(|b| *b == 0).nth(1) == Some(b"serve".as_slice())
    }
}

impl From<Denied> for Box<Error> {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Failed(error) => error,
            Denied::Held(Some(pid)) => Error::conflict(format!("another hamaster is at work on this host (pid {pid})"))
                .hint(format!("ps -fp {pid}    # wait until it is done, then run this again")),
            Denied::Held(None) => Error::conflict("another hamaster is at work on this host")
                .hint("ps -fC hamaster    # wait until it is done, then run this again"),
        }
    }
}

impl Lock {
    /// Takes the lock or says who has it.
    pub(super) fn take(root: &Root) -> Result<Self, Denied> {
        let runs = root.path() == Path::new("/") && rustix::process::geteuid().is_root();
        let (path, flags) = match runs {
            true => (Path::new(FILE), OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW),
            false => (Path::new("/"), OFlags::RDONLY | OFlags::DIRECTORY),
        };
        let failed = |e: Errno| {
            let error = Error::apply(format!("cannot lock {}", root.shown(path).display()));
            Denied::Failed(error.cause(std::io::Error::from(e)))
        };
        let open = || {
            let place = root.place(path, false)?;
            let name = if runs { place.name.as_os_str() } else { OsStr::new(".") };
            openat(&place.dir, name, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
        };
        let held = open().map_err(failed)?;
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _held: held }),
            Err(Errno::WOULDBLOCK) => {
                let stat = fstat(&held).map_err(failed)?;
                let id = format!("{:02x}:{:02x}:{}", major(stat.st_dev), minor(stat.st_dev), stat.st_ino);
                Err(Denied::Held(std::fs::read_to_string("/proc/locks").ok().and_then(|l| holder(&l, &id))))
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
