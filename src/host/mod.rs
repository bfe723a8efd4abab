//! Hands and eyes: with `etcd::client` the only floor that touches files, processes, the network and the clock.
//!
//! [`Host`] is the one way to change a machine. While a run is on ([`Host::begin_undo`]) every change remembers its
//! inverse, so that a failed or interrupted run leaves the host as it was.

pub mod clock;
pub mod command;
pub mod fault;
mod fs;
mod lock;
pub mod observe;
pub mod processes;
pub mod systemd;
mod undo;

use std::path::{Path, PathBuf};

pub use lock::Lock;

use crate::error::Result;
use crate::state::Owner;
use crate::state::observed::{PathKind, UnitFact};

/// What is at a path, without a look inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// File, directory or something else; a symlink is something else.
    pub kind: PathKind,
    /// Mode bits, the lower twelve.
    pub mode: u32,
    /// Owner uid.
    pub uid: u32,
    /// Owner gid.
    pub gid: u32,
}

/// A machine, or a directory that will become one (`--root`), or a lab.
pub struct Host {
    units: Box<dyn Units>,
}

impl Host {
    /// The host below `root`: `/`, or the directory of an image or a lab. Sets the process' umask to 077.
    ///
    /// # Errors
    /// When `root` is not a directory that can be opened.
    pub fn new(root: impl Into<PathBuf>, units: Box<dyn Units>) -> Result<Self> {
        let _ = root.into();
        Ok(Self { units })
    }

    /// The directory all paths are below.
    pub fn root(&self) -> &Path {
        todo!()
    }

    /// Whether units are started here: not below `--root`.
    pub fn starts_units(&self) -> bool {
        self.units.starts_units()
    }

    /// What is at `path`; a symlink at its end is not followed.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        let _ = path;
        todo!()
    }

    /// The bytes of a regular file, `None` when there is none. Symlinks are followed, but never out of the root.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let _ = path;
        todo!()
    }

    /// The names in a directory, sorted; `None` when there is no such directory.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn list(&self, path: &Path) -> Result<Option<Vec<String>>> {
        let _ = path;
        todo!()
    }

    /// Writes a file atomically; its directory must be there. False when it was exactly so already.
    ///
    /// # Errors
    /// When it cannot be written, or something other than a file is in the way. Nothing has changed then.
    pub fn write(&mut self, path: &Path, bytes: &[u8], mode: u32, owner: Owner) -> Result<bool> {
        let _ = (path, bytes, mode, owner);
        todo!()
    }

    /// Makes a directory with `mode` and `owner`, and its missing parents with 0755 root. Returns those it made.
    ///
    /// # Errors
    /// When it cannot be made, or something other than a directory is in the way.
    pub fn ensure_dir(&mut self, path: &Path, mode: u32, owner: Owner) -> Result<Vec<PathBuf>> {
        let _ = (path, mode, owner);
        todo!()
    }

    /// [`Host::ensure_dir`] for a directory that a service fills (etcd's data): if it was absent or empty, undo takes
    /// everything in it away as well.
    ///
    /// # Errors
    /// As [`Host::ensure_dir`].
    pub fn ensure_scratch_dir(&mut self, path: &Path, mode: u32, owner: Owner) -> Result<Vec<PathBuf>> {
        let _ = (path, mode, owner);
        todo!()
    }

    /// Sets mode and owner of a file or directory. False when they were so already.
    ///
    /// # Errors
    /// When nothing is there, or it is neither file nor directory, or it is refused.
    pub fn set_mode(&mut self, path: &Path, mode: u32, owner: Owner) -> Result<bool> {
        let _ = (path, mode, owner);
        todo!()
    }

    /// Removes a regular file. False when there was none.
    ///
    /// # Errors
    /// When something else is there, or it cannot be removed.
    pub fn remove(&mut self, path: &Path) -> Result<bool> {
        let _ = path;
        todo!()
    }

    /// Removes a directory if it is empty. False when it was absent or is not empty.
    ///
    /// # Errors
    /// When it is not a directory, or cannot be removed.
    pub fn remove_empty_dir(&mut self, path: &Path) -> Result<bool> {
        let _ = path;
        todo!()
    }

    /// Copies a file with mode and owner below `into` (`…/backup/<time>`), whose directories are 0700. Returns the
    /// copy; `None` when there is no such file.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn backup(&mut self, path: &Path, into: &Path) -> Result<Option<PathBuf>> {
        let _ = (path, into);
        todo!()
    }

    /// What runs units here, to look at. Changes go through the `unit_` methods, which can be undone.
    pub fn units(&self) -> &dyn Units {
        self.units.as_ref()
    }

    /// [`Units::reload`]; done once more after an undo.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub fn unit_reload(&mut self) -> Result<()> {
        todo!()
    }

    /// [`Units::enable`], undoable. False when it was so already.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub fn unit_enable(&mut self, unit: &str, on: bool) -> Result<bool> {
        let _ = (unit, on);
        todo!()
    }

    /// [`Units::start`], undoable. False when it was running already.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub fn unit_start(&mut self, unit: &str) -> Result<bool> {
        let _ = unit;
        todo!()
    }

    /// [`Units::restart`]; undo stops the unit, or restarts it on the files put back if it ran before.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub fn unit_restart(&mut self, unit: &str) -> Result<()> {
        let _ = unit;
        todo!()
    }

    /// [`Units::stop`], undoable. False when it was not running.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn unit_stop(&mut self, unit: &str) -> Result<bool> {
        let _ = unit;
        todo!()
    }

    /// From now on every change remembers its inverse.
    pub fn begin_undo(&mut self) {
        todo!()
    }

    /// Keeps what was done since [`Host::begin_undo`] and forgets the inverses.
    pub fn commit(&mut self) {
        todo!()
    }

    /// Puts everything back as it was at [`Host::begin_undo`]. Returns what could not be put back, one line each.
    pub fn rollback(&mut self) -> Vec<String> {
        todo!()
    }

    /// Takes this host for one process, until the lock is dropped. No file is left behind.
    ///
    /// # Errors
    /// A conflict when another process holds it.
    pub fn lock(&self) -> Result<Lock> {
        todo!()
    }

    /// uid and gid of the user `etcd` as the host's `/etc/passwd` says; root's when there is none, and our own when
    /// we cannot give files away.
    ///
    /// # Errors
    /// When `/etc/passwd` is there but cannot be read.
    pub fn etcd_owner(&self) -> Result<(u32, u32)> {
        todo!()
    }

    /// uid and gid of `owner` on this host.
    ///
    /// # Errors
    /// As [`Host::etcd_owner`].
    pub fn ids(&self, owner: Owner) -> Result<(u32, u32)> {
        let _ = owner;
        todo!()
    }
}

/// What runs units: systemd on a host, a supervisor of plain processes in a lab, nothing below `--root`.
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
