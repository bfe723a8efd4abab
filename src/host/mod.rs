//! Hands and eyes: with `etcd::client` the only floor that touches files, processes, the network and the clock.
//!
//! [`Host`] is the one way to change a machine. While a run is on ([`Host::begin_undo`]) every change remembers its
//! inverse, so that a failed or interrupted run leaves the host as it was.

pub mod alarm;
pub mod bound;
pub mod clock;
pub mod command;
pub mod discovery;
pub mod doorbell;
pub mod ending;
pub mod etcd_tool;
pub mod facts;
pub mod fault;
mod fs;
pub mod http;
pub mod identity;
pub mod journal;
mod lock;
mod member_dir;
pub mod names;
pub mod notify;
pub mod observe;
pub mod operator;
pub mod pods;
pub mod probe;
pub mod processes;
mod resolve;
mod retire;
pub mod runtime_dir;
pub mod signals;
pub mod spool;
pub mod supervisor;
pub mod systemd;
mod undo;
mod units;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use rustix::fs::Mode;

use crate::error::{Error, Result};
use crate::host::clock::Waited;
use crate::host::fs::Ids;
pub use crate::host::lock::Lock;
use crate::host::resolve::Root;
use crate::host::undo::{Change, Journal};
pub use crate::host::units::{NoUnits, Units};
use crate::state::Owner;
use crate::state::observed::PathKind;

/// How long an operator's command waits for this master's keeper to be done.
const KEEPER: Duration = Duration::from_secs(600);

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

impl Stat {
    fn ids(&self) -> Ids {
        (self.uid, self.gid)
    }
}

/// A machine, or a directory that will become one (`--root`), or a lab.
pub struct Host {
    root: Root,
    units: Box<dyn Units>,
    journal: Journal,
    /// Only root can give files away; an ordinary user's lab is all its own.
    privileged: bool,
}

impl Host {
    /// The host below `root`: `/`, or the directory of an image or a lab. Sets the process' umask to 077.
    ///
    /// # Errors
    /// When `root` is not a directory that can be opened.
    pub fn new(root: impl Into<PathBuf>, units: Box<dyn Units>) -> Result<Self> {
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        let privileged = rustix::process::geteuid().is_root();
        Ok(Self { root: Root::open(root.into())?, units, journal: Journal::default(), privileged })
    }

    /// The directory all paths are below.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A host path as the operator finds it from outside the root: for messages and hints.
    pub fn shown(&self, path: &Path) -> PathBuf {
        self.root.shown(path)
    }

    /// A text for the operator, each host path in it as [`Host::shown`].
    pub fn paths_shown(&self, text: &str) -> String {
        if self.root() == Path::new("/") {
            return text.to_owned();
        }
        let root = self.root().display().to_string();
        let shown = |word: &str| if word.starts_with('/') { format!("{root}{word}") } else { word.to_owned() };
        text.split(' ').map(shown).collect::<Vec<_>>().join(" ")
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
        self.root.stat(path)
    }

    /// The bytes of a regular file, `None` when there is none. Symlinks are followed, but never out of the root.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        self.root.read(path, true)
    }

    /// The names in a directory, sorted; `None` when there is no such directory.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn list(&self, path: &Path) -> Result<Option<Vec<OsString>>> {
        self.root.list(path)
    }

    /// Writes a file atomically; its directory must be there. False when it was exactly so already.
    ///
    /// # Errors
    /// When it cannot be written, or something other than a file is in the way.
    pub fn write(&mut self, path: &Path, bytes: &[u8], mode: u32, owner: Owner) -> Result<bool> {
        let ids = self.ids(owner)?;
        self.put(path, bytes, mode, ids)
    }

    fn put(&mut self, path: &Path, bytes: &[u8], mode: u32, ids: Ids) -> Result<bool> {
        self.root.sweep(path)?;
        let before = undo::Saved::of(&self.root, path)?;
        if before.as_ref().is_some_and(|b| b.is(bytes, mode, ids)) {
            return Ok(false);
        }
        self.journal.push(|| Change::File(path.to_owned(), before));
        self.root.replace(path, bytes, mode, ids)?;
        Ok(true)
    }

    /// Makes a directory with `mode` and `owner`, and its missing parents with 0755 root. Returns those it made.
    ///
    /// # Errors
    /// When it cannot be made, or something other than a directory is in the way.
    pub fn ensure_dir(&mut self, path: &Path, mode: u32, owner: Owner) -> Result<Vec<PathBuf>> {
        let ids = self.ids(owner)?;
        let made = self.make_dirs(path, mode, ids, 0o755)?;
        if made.is_empty() {
            self.set_mode(path, mode, owner)?;
        }
        Ok(made)
    }

    /// Makes what is missing of `path`: its last name with `mode` and `ids`, the parents with `parents` and root's.
    fn make_dirs(&mut self, path: &Path, mode: u32, ids: Ids, parents: u32) -> Result<Vec<PathBuf>> {
        let mut missing = vec![];
        for dir in path.ancestors() {
            match self.root.stat(dir)?.map(|s| s.kind) {
                None => missing.push(dir.to_owned()),
                // A symlink to a directory may well be on the way; at the end it is not ours to judge.
                Some(PathKind::Other) if dir != path => break,
                Some(PathKind::Dir) => break,
                Some(_) => return Err(self.in_the_way("make the directory", dir, "something else is there")),
            }
        }
        missing.reverse();
        for dir in &missing {
            let (mode, ids) = if dir == path { (mode, ids) } else { (parents, self.ids(Owner::Root)?) };
            self.root.sweep(dir)?;
            self.journal.push(|| Change::Made(dir.clone()));
            self.root.make_dir(dir, mode, ids)?;
        }
        Ok(missing)
    }

    /// [`Host::ensure_dir`] for a directory that a service fills (etcd's data): if it was absent or empty, undo takes
    /// everything in it away as well.
    ///
    /// # Errors
    /// As [`Host::ensure_dir`].
    pub fn ensure_scratch_dir(&mut self, path: &Path, mode: u32, owner: Owner) -> Result<Vec<PathBuf>> {
        let made = self.ensure_dir(path, mode, owner)?;
        if self.is_vacant(path)? {
            self.journal.push(|| Change::Scratch(path.to_owned()));
        }
        Ok(made)
    }

    /// Whether a directory is absent or holds nothing but what a fresh filesystem has.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn is_vacant(&self, path: &Path) -> Result<bool> {
        Ok(self.list(path)?.is_none_or(|names| names.iter().all(|name| name == fs::LOST_AND_FOUND)))
    }

    /// Sets mode and owner of a file or directory. False when they were so already.
    ///
    /// # Errors
    /// When nothing is there, or it is neither file nor directory, or it is refused.
    pub fn set_mode(&mut self, path: &Path, mode: u32, owner: Owner) -> Result<bool> {
        let ids = self.ids(owner)?;
        let before = match self.stat(path)? {
            Some(s) if s.kind != PathKind::Other => s,
            Some(_) => return Err(self.in_the_way("set the mode of", path, "it is neither file nor directory")),
            None => return Err(self.in_the_way("set the mode of", path, "it is not there")),
        };
        if (before.mode, before.ids()) == (mode, ids) {
            return Ok(false);
        }
        self.journal.push(|| Change::Mode(path.to_owned(), before));
        self.root.set_mode(path, mode, ids)?;
        Ok(true)
    }

    /// Removes a regular file. False when there was none.
    ///
    /// # Errors
    /// When something else is there, or it cannot be removed.
    pub fn remove(&mut self, path: &Path) -> Result<bool> {
        self.root.sweep(path)?;
        let Some(before) = undo::Saved::of(&self.root, path)? else { return Ok(false) };
        self.journal.push(|| Change::File(path.to_owned(), Some(before)));
        self.root.unlink(path)?;
        Ok(true)
    }

    /// Removes a directory if it is empty. False when it was absent or is not empty.
    ///
    /// # Errors
    /// When it is not a directory, or cannot be removed.
    pub fn remove_empty_dir(&mut self, path: &Path) -> Result<bool> {
        let before = match self.stat(path)? {
            None => return Ok(false),
            Some(s) if s.kind == PathKind::Dir => s,
            Some(_) => return Err(self.in_the_way("remove the directory", path, "it is not one")),
        };
        if self.list(path)?.is_some_and(|names| !names.is_empty()) {
            return Ok(false);
        }
        self.journal.push(|| Change::Removed(path.to_owned(), before));
        self.root.rmdir(path)?;
        Ok(true)
    }

    /// Copies a file with mode and owner below `into` (`…/backup/<time>`), whose directories are 0700. Returns the
    /// copy; `None` when there is no such file.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn backup(&mut self, path: &Path, into: &Path) -> Result<Option<PathBuf>> {
        let Some(saved) = undo::Saved::of(&self.root, path)? else { return Ok(None) };
        let copy = into.join(path.strip_prefix("/").unwrap_or(path));
        let dir = copy.parent().unwrap_or(into);
        let root = self.ids(Owner::Root)?;
        self.make_dirs(dir, 0o700, root, 0o700)?;
        self.put(&copy, saved.bytes(), saved.stat.mode, saved.stat.ids())?;
        Ok(Some(copy))
    }

    /// Puts a file back from its [`Host::backup`], with the mode and owner it had.
    ///
    /// # Errors
    /// A conflict when the copy is gone; or when the file cannot be written.
    pub fn restore(&mut self, path: &Path, copy: &Path) -> Result<bool> {
        match undo::Saved::of(&self.root, copy)? {
            Some(saved) => self.put(path, saved.bytes(), saved.stat.mode, saved.stat.ids()),
            None => Err(self.in_the_way("restore", path, &format!("its backup {} is gone", copy.display()))),
        }
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
        self.journal.reloaded();
        self.units.reload()
    }

    /// [`Units::enable`], undoable. False when it was so already.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub fn unit_enable(&mut self, unit: &str, on: bool) -> Result<bool> {
        let before = self.units.state(unit)?;
        if before.enabled == on {
            return Ok(false);
        }
        self.journal.touched(unit, before, false);
        self.units.enable(unit, on)?;
        Ok(true)
    }

    /// [`Units::start`], undoable. False when it was running already.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub fn unit_start(&mut self, unit: &str) -> Result<bool> {
        let before = self.units.state(unit)?;
        if before.active {
            return Ok(false);
        }
        self.journal.touched(unit, before, true);
        self.units.start(unit)?;
        Ok(true)
    }

    /// [`Units::restart`]; undo stops the unit, or restarts it on the files put back if it ran before.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub fn unit_restart(&mut self, unit: &str) -> Result<()> {
        let before = self.units.state(unit)?;
        self.journal.touched(unit, before, true);
        self.units.restart(unit)
    }

    /// [`Units::stop`], undoable. False when it was not running.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn unit_stop(&mut self, unit: &str) -> Result<bool> {
        let before = self.units.state(unit)?;
        let ran = before.active;
        self.journal.touched(unit, before, true);
        // Asked even if it does not run: it may be about to be started again.
        self.units.stop(unit)?;
        Ok(ran)
    }

    /// From now on every change remembers its inverse.
    pub fn begin_undo(&mut self) {
        self.journal.begin();
    }

    /// Keeps what was done since [`Host::begin_undo`] and forgets the inverses.
    pub fn commit(&mut self) {
        self.journal = Journal::default();
    }

    /// Whether a run is on that can still be put back.
    pub fn has_undo(&self) -> bool {
        self.journal.is_on()
    }

    /// Puts everything back as it was at [`Host::begin_undo`]. Returns what could not be put back, one line each.
    pub fn rollback(&mut self) -> Vec<String> {
        std::mem::take(&mut self.journal).play_back(&self.root, self.units.as_ref())
    }

    /// Takes this host for one process, until the lock is dropped. No file is left behind.
    ///
    /// # Errors
    /// A conflict when another process holds it.
    pub fn lock(&self) -> Result<Lock> {
        Ok(Lock::take(&self.root)?)
    }

    /// As [`Host::lock`], but waits for the keeper of this master: what it does is done in minutes, and it may begin at
    /// any time. `on_wait` hears of it, with the time spent so far.
    ///
    /// # Errors
    /// As [`Host::lock`], also when the keeper has it for ten minutes, or a signal came.
    pub fn lock_after_the_keeper(&self, on_wait: impl FnMut(Duration)) -> Result<Lock> {
        let mut denied = None;
        let take = || match Lock::take(&self.root) {
            Err(held) if held.is_by_the_keeper() => {
                denied = Some(held);
                Poll::Pending
            }
            other => Poll::Ready(other),
        };
        match clock::poll(KEEPER, Duration::from_millis(200), take, on_wait) {
            Waited::Ready(taken) => Ok(taken?),
            _ => Err(denied.map_or_else(|| Error::apply("interrupted"), Into::into)),
        }
    }

    /// uid and gid of the user `etcd` as the host's `/etc/passwd` says; root's when there is none, and our own when
    /// we cannot give files away.
    ///
    /// # Errors
    /// When `/etc/passwd` is there but cannot be read.
    pub fn etcd_owner(&self) -> Result<(u32, u32)> {
        self.ids(Owner::Etcd)
    }

    /// uid and gid of `owner` on this host.
    ///
    /// # Errors
    /// As [`Host::etcd_owner`].
    pub fn ids(&self, owner: Owner) -> Result<(u32, u32)> {
        if !self.privileged {
            return Ok((rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
        }
        let etcd = match owner {
            Owner::Root => None,
            // The file, not the name service: below `--root` only the file is the image's own.
            Owner::Etcd => self.read(Path::new("/etc/passwd"))?.and_then(|p| passwd_entry(&p, "etcd")),
        };
        Ok(etcd.unwrap_or((0, 0)))
    }

    fn in_the_way(&self, verb: &str, path: &Path, why: &str) -> Box<Error> {
        let shown = self.root.shown(path);
        Error::conflict(format!("cannot {verb} {}: {why}", shown.display())).hint(format!("ls -ld {}", shown.display()))
    }
}

/// uid and gid of `user` in a passwd file.
fn passwd_entry(passwd: &[u8], user: &str) -> Option<Ids> {
    String::from_utf8_lossy(passwd).lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}
