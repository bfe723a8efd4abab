//! Moving data out of the way instead of deleting it, for `reset`. Not undoable: the data stays whole in its new place.

use std::path::Path;

use crate::error::Result;
use crate::host::Host;
use crate::host::fs::LOST_AND_FOUND;
use crate::state::Owner;
use crate::state::observed::PathKind;

impl Host {
    /// Moves a file, or the content of a directory, to `to`; without `to` it is deleted. The directory itself stays.
    /// False when there was nothing.
    ///
    /// # Errors
    /// When it cannot be moved or removed.
    pub fn retire(&mut self, path: &Path, to: Option<&Path>) -> Result<bool> {
        let Some(stat) = self.stat(path)? else { return Ok(false) };
        let Some(to) = to else { return self.delete_content(path, stat.kind) };
        let new_home = if stat.kind == PathKind::Dir { Some(to) } else { to.parent() };
        if let Some(dir) = new_home.filter(|_| stat.kind != PathKind::Dir || !self.is_vacant(path).unwrap_or(false)) {
            self.ensure_dir(dir, 0o700, Owner::Root)?;
        }
        if stat.kind != PathKind::Dir {
            return self.root.rename(path, to).map(|()| true);
        }
        let mut moved = false;
        for name in self.list(path)?.unwrap_or_default() {
            let from = path.join(&name);
            if name != LOST_AND_FOUND && from != to {
                self.root.rename(&from, &to.join(&name))?;
                moved = true;
            }
        }
        Ok(moved)
    }

    fn delete_content(&mut self, path: &Path, kind: PathKind) -> Result<bool> {
        if kind != PathKind::Dir {
            return self.remove(path);
        }
        let some = !self.is_vacant(path)?;
        if some {
            self.root.empty(path)?;
        }
        Ok(some)
    }

    /// Whether two paths, the second of which may not be there yet, are on one filesystem.
    ///
    /// # Errors
    /// When one of them cannot be looked at.
    pub fn same_filesystem(&self, path: &Path, other: &Path) -> Result<bool> {
        let there = other.ancestors().find_map(|p| self.root.device(p).transpose()).transpose()?;
        Ok(self.root.device(path)?.is_none_or(|device| Some(device) == there))
    }
}
