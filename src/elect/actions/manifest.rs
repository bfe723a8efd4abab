//! The file at the destination: appears by rename, goes by unlink, and nothing else in its directory is touched.
//!
//! A kubelet reads every name that does not begin with a dot, `foo.tmp` and `foo~` as well. So a file is staged in
//! `../.hamaster`, or where that is another mount (a pod that sees two host paths) under a dotfile beside its place.
//! An install is never made durable, a removal always: after a power cut no manifest is right, a stale one is not.
#![allow(clippy::disallowed_methods)] // floor 3: files

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, IFlags, OFlags, ioctl_getflags, ioctl_setflags, statat};
use rustix::io::Errno;

use super::bounded::Bounded;
use crate::elect::instant::Instant;
use crate::host::clock::boottime;
use crate::host::fault::point;

/// What is at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    File(Vec<u8>),
    /// A symlink, a directory, a device: not made by us.
    Other,
}

/// Why a file is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The deadline passed; if the file had become visible, it is gone again or in the hands of the next removal.
    Late,
    /// Something that is not a file is in the way.
    InTheWay,
    Failed(Errno),
}

/// The destination of a group.
#[derive(Debug)]
pub(super) struct Manifest {
    places: Places,
    bounded: Bounded,
    /// Bound on each step.
    within: Duration,
}

/// Paths that belong to one destination.
#[derive(Debug, Clone)]
struct Places {
    dest: PathBuf,
    dir: PathBuf,
    /// `../.hamaster`; `None` for a destination in the root directory.
    staging: Option<PathBuf>,
    /// Of names in `staging`: different directories may share it.
    staged: OsString,
    /// Of dotfiles in `dir`.
    dotted: OsString,
}

impl Manifest {
    /// `dest`, with `within` as the bound on each step. Nothing is touched.
    pub(super) fn new(dest: &Path, within: Duration) -> Self {
        let dir = dest.parent().unwrap_or(Path::new("/")).to_owned();
        let name = dest.file_name().unwrap_or_default();
        let staging = dir.parent().map(|parent| parent.join(".hamaster"));
        let mut staged = dir.file_name().unwrap_or_default().to_owned();
        staged.push("-");
        staged.push(name);
        staged.push(".");
        let mut dotted = OsString::from(".");
        dotted.push(name);
        dotted.push(".hamaster-");
        let places = Places { dest: dest.to_owned(), dir, staging, staged, dotted };
        Self { places, bounded: Bounded::default(), within }
    }

    pub(super) fn dest(&self) -> &Path {
        &self.places.dest
    }

    pub(super) fn dir(&self) -> &Path {
        &self.places.dir
    }

    /// What is there now.
    pub(super) fn look(&mut self) -> Result<Found, Errno> {
        let places = self.places.clone();
        self.bounded.run(self.within, move || places.look())
    }

    /// Makes the file visible with `bytes`, unless `until` is over right before it would be; takes it back if `until`
    /// was over right after. Something else at the destination is refused, an older file replaced.
    pub(super) fn install(&mut self, bytes: &[u8], until: Instant) -> Result<(), Refused> {
        let (places, bytes) = (self.places.clone(), bytes.to_owned());
        let install = move || {
            if places.look()? == Found::Other {
                return Ok(Err(Refused::InTheWay));
            }
            let in_time = || if boottime() < until { Ok(()) } else { Err(Errno::TIME) };
            match places.put(&bytes, in_time) {
                Err(Errno::TIME) => return Ok(Err(Refused::Late)),
                done => done?,
            }
            // The process may have been stopped between the check and the rename.
            if boottime() < until {
                return Ok(Ok(()));
            }
            places.remove()?;
            Ok(Err(Refused::Late))
        };
        self.bounded.run(self.within, install).map_err(Refused::Failed)?
    }

    /// Takes away whatever is there, for good; what it was. `Ok` when a look says it is absent.
    pub(super) fn remove(&mut self) -> Result<Found, Errno> {
        let places = self.places.clone();
        self.bounded.run(self.within, move || {
            // What cannot be read can be removed.
            let found = places.look().unwrap_or(Found::Other);
            places.remove().map(|()| found)
        })
    }

    /// Whether a file could be made here: makes a dotfile and removes it.
    pub(super) fn probe(&mut self) -> Result<(), Errno> {
        let places = self.places.clone();
        self.bounded.run(self.within, move || {
            let probe = places.dotfile("probe");
            write_new(&probe, b"").or_else(|e| match e {
                Errno::EXIST => Ok(()),
                e => Err(e),
            })?;
            unlink(&probe)
        })
    }

    /// Removes what a killed process left under our names.
    pub(super) fn sweep(&mut self) -> Result<(), Errno> {
        let places = self.places.clone();
        self.bounded.run(self.within, move || {
            sweep(&places.dir, &places.dotted)?;
            places.staging.as_deref().map_or(Ok(()), |staging| sweep(staging, &places.staged))
        })
    }
}

impl Places {
    fn look(&self) -> Result<Found, Errno> {
        let kind = match statat(CWD, &self.dest, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(e) => return Err(e),
        };
        if kind != FileType::RegularFile {
            return Ok(Found::Other);
        }
        // NONBLOCK: a FIFO put there since the look must not hang us.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut bytes = vec![];
        let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&self.dest);
        file.and_then(|mut f| f.read_to_end(&mut bytes)).map_err(errno)?;
        Ok(Found::File(bytes))
    }

    fn put(&self, bytes: &[u8], in_time: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
        let pid = std::process::id().to_string();
        let staged = self.staging.as_ref().map_or(Err(Errno::XDEV), |staging| {
            make_private_dir(staging)?;
            let mut name = self.staged.clone();
            name.push(&pid);
            self.put_from(&staging.join(name), bytes, &in_time)
        });
        match staged {
            Err(Errno::XDEV | Errno::ACCESS | Errno::ROFS | Errno::PERM) => {
                self.put_from(&self.dotfile(&pid), bytes, &in_time)
            }
            done => done,
        }
    }

    fn put_from(&self, temp: &Path, bytes: &[u8], in_time: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
        let put = || {
            let _ = unlink(temp);
            write_new(temp, bytes)?;
            in_time()?;
            point("elect.install.checked");
            rustix::fs::rename(temp, &self.dest)
        };
        put().inspect_err(|_| {
            let _ = unlink(temp);
        })
    }

    fn remove(&self) -> Result<(), Errno> {
        // Looked at first: a read-only filesystem refuses to remove even what is not there.
        if self.is_there()? {
            match unlink(&self.dest) {
                Ok(()) | Err(Errno::NOENT) => {}
                // A directory, or the disk's opinion: perhaps it can be moved where no kubelet looks.
                Err(e) => self.unlock_and_move_out().map_err(|_| e)?,
            }
        }
        // After an earlier process's unlink as well: it may have been killed before this.
        match File::open(&self.dir) {
            Ok(dir) => rustix::fs::fsync(dir)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(errno(e)),
        }
        if self.is_there()? { Err(Errno::EXIST) } else { Ok(()) }
    }

    fn is_there(&self) -> Result<bool, Errno> {
        match statat(CWD, &self.dest, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e),
            Ok(_) => Ok(true),
        }
    }

    fn unlock_and_move_out(&self) -> Result<(), Errno> {
        if self.unlock().is_ok() && unlink(&self.dest).is_ok() {
            return Ok(());
        }
        let away = format!("removed-{}", boottime().as_nanos());
        let out = self.staging.as_ref().map_or(Err(Errno::XDEV), |staging| {
            make_private_dir(staging)?;
            let mut name = self.staged.clone();
            name.push(&away);
            rustix::fs::rename(&self.dest, staging.join(name))
        });
        out.or_else(|_| rustix::fs::rename(&self.dest, self.dotfile(&away)))
    }

    /// Undoes `chattr +i` and `+a`. Whoever set them meant to keep the file; two masters would be worse.
    fn unlock(&self) -> Result<(), Errno> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&self.dest);
        let file = file.map_err(errno)?;
        let flags = ioctl_getflags(&file)?;
        let locks = IFlags::IMMUTABLE | IFlags::APPEND;
        if flags.intersects(locks) { ioctl_setflags(&file, flags - locks) } else { Err(Errno::PERM) }
    }

    fn dotfile(&self, what: &str) -> PathBuf {
        let mut name = self.dotted.clone();
        name.push(what);
        self.dir.join(name)
    }
}

fn make_private_dir(path: &Path) -> Result<(), Errno> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(errno),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Errno> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut f| f.write_all(bytes)).map_err(errno)
}

fn unlink(path: &Path) -> Result<(), Errno> {
    rustix::fs::unlink(path)
}

fn sweep(dir: &Path, prefix: &OsString) -> Result<(), Errno> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for name in entries.flatten().map(|e| e.file_name()) {
        if name.as_bytes().starts_with(prefix.as_bytes()) {
            // What was moved out of the way may be a directory, and stays: it was somebody's.
            match unlink(&dir.join(&name)) {
                Err(Errno::ISDIR | Errno::NOENT) => {}
                done => done?,
            }
        }
    }
    Ok(())
}

fn errno(e: std::io::Error) -> Errno {
    Errno::from_io_error(&e).unwrap_or(Errno::IO)
}
