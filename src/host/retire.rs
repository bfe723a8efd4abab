//! Moving data out of the way instead of deleting it, for `reset`. Not undoable: the data stays whole in its new place.
#![allow(clippy::disallowed_methods, reason = "floor 3: this is where files are moved")]

use std::path::Path;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::state::Owner;
use crate::state::observed::PathKind;

impl Host {
    /// Moves a file, or the content of a directory, to `to`; without `to` it is deleted. The directory itself stays.
    /// False when there was nothing.
    ///
    /// # Errors
    /// When it cannot be moved or removed, for example across filesystems.
    pub fn retire(&mut self, path: &Path, to: Option<&Path>) -> Result<bool> {
        let Some(stat) = self.stat(path)? else { return Ok(false) };
        let Some(to) = to else { return self.delete_content(path, stat.kind) };
        if let Some(parent) = to.parent() {
            self.ensure_dir(parent, 0o700, Owner::Root)?;
        }
        let failed = |e: std::io::Error| {
            Error::apply(format!("cannot move {} to {}", self.shown(path).display(), self.shown(to).display()))
                .cause(e)
                .hint(format!("df {} {}; or run with --purge to delete it", path.display(), to.display()))
        };
        if stat.kind != PathKind::Dir {
            return std::fs::rename(self.shown(path), self.shown(to)).map(|()| true).map_err(failed);
        }
        let names = self.list(path)?.unwrap_or_default();
        if names.is_empty() {
            return Ok(false);
        }
        std::fs::create_dir_all(self.shown(to)).map_err(failed)?;
        for name in names {
            std::fs::rename(self.shown(path).join(&name), self.shown(to).join(&name)).map_err(failed)?;
        }
        Ok(true)
    }

    fn delete_content(&mut self, path: &Path, kind: PathKind) -> Result<bool> {
        if kind != PathKind::Dir {
            return self.remove(path);
        }
        let some = self.list(path)?.is_some_and(|names| !names.is_empty());
        if some {
            self.root.empty(path)?;
        }
        Ok(some)
    }
}
