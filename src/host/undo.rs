//! The inverses of what a run has done, kept in memory and played back when the run fails or is interrupted.
//!
//! In memory, not on disk: previous bytes may be secrets, and after a SIGKILL the next run goes on from what it finds
//! instead of going back.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::fs::Ids;
use crate::host::resolve::Root;
use crate::host::{Stat, Units};
use crate::state::Secret;
use crate::state::observed::{PathKind, UnitFact};

/// A change to the filesystem, told by what was there before.
#[derive(Debug)]
pub(super) enum Change {
    /// A file that was like this, or absent.
    File(PathBuf, Option<Saved>),
    /// Mode and owner.
    Mode(PathBuf, Stat),
    /// A directory that was absent.
    Made(PathBuf),
    /// A directory that was there and empty.
    Removed(PathBuf, Stat),
    /// A directory that was empty, or absent, and is filled by a service.
    Scratch(PathBuf),
}

/// A file as it was.
#[derive(Debug)]
pub(super) struct Saved {
    bytes: Secret,
    pub(super) stat: Stat,
}

/// A unit as it was when the run first touched it.
#[derive(Debug)]
struct Touched {
    unit: String,
    before: UnitFact,
    /// Started, stopped or restarted since; otherwise only enabled or disabled.
    disturbed: bool,
}

/// What a run has done so far, oldest first.
#[derive(Debug, Default)]
pub(super) struct Journal {
    on: bool,
    changes: Vec<Change>,
    units: Vec<Touched>,
    reloaded: bool,
}

impl Saved {
    /// The file at `path`, if there is one.
    pub(super) fn of(root: &Root, path: &Path) -> Result<Option<Self>> {
        let Some(stat) = root.stat(path)? else { return Ok(None) };
        if stat.kind != PathKind::File {
            let shown = root.shown(path);
            return Err(Error::conflict(format!("{} is not a regular file", shown.display()))
                .hint(format!("ls -ld {}    # hamaster replaces and removes plain files only", shown.display())));
        }
        Ok(root.read(path, false)?.map(|bytes| Self { bytes: Secret::new(bytes), stat }))
    }

    /// The content.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// Whether the file is like this in every respect.
    pub(super) fn is(&self, bytes: &[u8], mode: u32, ids: Ids) -> bool {
        self.bytes() == bytes && (self.stat.mode, self.stat.ids()) == (mode, ids)
    }
}

impl Journal {
    /// Starts to remember.
    pub(super) fn begin(&mut self) {
        *self = Self { on: true, ..Self::default() };
    }

    /// Whether it remembers.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Remembers a change that is about to be made.
    pub(super) fn push(&mut self, change: impl FnOnce() -> Change) {
        if self.on {
            self.changes.push(change());
        }
    }

    /// Remembers a unit that is about to be changed.
    pub(super) fn touched(&mut self, unit: &str, before: UnitFact, disturbed: bool) {
        match self.units.iter_mut().find(|t| t.unit == unit) {
            Some(known) => known.disturbed |= disturbed,
            None if self.on => self.units.push(Touched { unit: unit.to_owned(), before, disturbed }),
            None => {}
        }
    }

    /// Remembers that the service manager has read our unit files.
    pub(super) fn reloaded(&mut self) {
        self.reloaded = self.on;
    }

    /// Puts everything back, newest first, as far as possible. What was not running stops before its files go; what
    /// was running is restarted after its files are back.
    pub(super) fn play_back(self, root: &Root, units: &dyn Units) -> Vec<String> {
        let mut left = vec![];
        for t in self.units.iter().rev() {
            if t.disturbed && !t.before.active {
                note(&mut left, units.stop(&t.unit));
            }
            if !t.before.enabled {
                note(&mut left, set_enabled(units, &t.unit, false));
            }
        }
        for change in self.changes.iter().rev() {
            note(&mut left, change.undo(root));
        }
        if self.reloaded || !self.units.is_empty() {
            note(&mut left, units.reload());
        }
        for t in self.units.iter().rev() {
            if t.before.enabled {
                note(&mut left, set_enabled(units, &t.unit, true));
            }
            if t.disturbed && t.before.active {
                note(&mut left, units.restart(&t.unit));
            }
        }
        left
    }
}

impl Change {
    fn undo(&self, root: &Root) -> Result<()> {
        match self {
            Change::File(path, Some(saved)) => {
                root.sweep(path)?;
                let now = Saved::of(root, path)?;
                if now.is_some_and(|now| now.is(saved.bytes(), saved.stat.mode, saved.stat.ids())) {
                    return Ok(());
                }
                root.replace(path, saved.bytes(), saved.stat.mode, saved.stat.ids())
            }
            Change::File(path, None) => if_there(root, path, || root.unlink(path)),
            Change::Mode(path, stat) => if_there(root, path, || root.set_mode(path, stat.mode, stat.ids())),
            Change::Made(path) => if_there(root, path, || root.rmdir(path)),
            Change::Removed(path, _) if root.stat(path)?.is_some() => Ok(()),
            Change::Removed(path, stat) => root.make_dir(path, stat.mode, stat.ids()),
            Change::Scratch(path) => if_there(root, path, || root.empty(path)),
        }
    }
}

fn if_there(root: &Root, path: &Path, undo: impl FnOnce() -> Result<()>) -> Result<()> {
    if root.stat(path)?.is_some() { undo() } else { Ok(()) }
}

fn set_enabled(units: &dyn Units, unit: &str, on: bool) -> Result<()> {
    if units.state(unit)?.enabled == on { Ok(()) } else { units.enable(unit, on) }
}

fn note(left: &mut Vec<String>, done: Result<()>) {
    if let Err(e) = done {
        left.push(e.to_string());
    }
}
