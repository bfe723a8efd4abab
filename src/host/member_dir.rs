//! What is done to a member's data directory as a whole: is it in use, may it be put elsewhere, whose is it.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat, syncfs};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::host::{Host, fault};
use crate::state::Owner;
use crate::state::observed::PathKind;

impl Host {
    /// Whether a process holds the lock of the file at `path`, as etcd does of its database.
    ///
    /// # Errors
    /// When it is there but cannot be opened.
    pub fn is_locked(&self, path: &Path) -> Result<bool> {
        let ask = || {
            let at = self.root.place(path, false)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match flock(openat(&at.dir, &at.name, flags, Mode::empty())?, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => Ok(true),
                tried => tried.map(|()| false),
            }
        };
        match ask() {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            asked => asked.map_err(|e| {
                let path = self.shown(path);
                Error::apply(format!("cannot look at {}", path.display()))
                    .cause(std::io::Error::from(e))
                    .hint(format!("ls -l {}", path.display()))
            }),
        }
    }

    /// A regular file to be read as it comes, `None` when there is none.
    ///
    /// # Errors
    /// When it is there but cannot be opened.
    pub fn open(&self, path: &Path) -> Result<Option<File>> {
        match self.stat(path)?.map(|s| s.kind) {
            None => Ok(None),
            Some(PathKind::File) => {
                let open = || {
                    let at = self.root.place(path, false)?;
                    openat(&at.dir, &at.name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                };
                open().map(|fd| Some(File::from(fd))).map_err(|e| {
                    let path = self.shown(path);
                    Error::apply(format!("cannot read {}", path.display())).cause(std::io::Error::from(e))
                })
            }
            Some(_) => Err(self.in_the_way("read", path, "it is not a regular file")),
        }
    }

    /// Moves a directory to a name that is free, on the same filesystem, in one step. Not undoable.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn move_whole(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.root.rename(from, to)?;
        fault::point("member.moved");
        Ok(())
    }

    /// Gives everything below `dir` to `owner`, files 0600 and directories 0700, and makes all of it durable.
    ///
    /// # Errors
    /// When something in it is neither, or it is refused.
    pub fn own_tree(&mut self, dir: &Path, owner: Owner) -> Result<()> {
        self.own(dir, owner)?;
        let sync = || {
            let at = self.root.place(dir, false)?;
            syncfs(openat(&at.dir, &at.name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
        };
        sync().map_err(|e| {
            Error::apply(format!("cannot make {} durable", self.shown(dir).display())).cause(std::io::Error::from(e))
        })
    }

    fn own(&mut self, path: &Path, owner: Owner) -> Result<()> {
        let is_dir = self.stat(path)?.is_some_and(|s| s.kind == PathKind::Dir);
        self.set_mode(path, if is_dir { 0o700 } else { 0o600 }, owner)?;
        if is_dir {
            for name in self.list(path)?.unwrap_or_default() {
                self.own(&path.join(name), owner)?;
            }
        }
        Ok(())
    }

    /// Removes a file without reading it first, however large. Not undoable. False when there was none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget(&mut self, path: &Path) -> Result<bool> {
        let there = self.stat(path)?.is_some();
        if there {
            self.root.unlink(path)?;
        }
        Ok(there)
    }

    /// Removes a directory and everything in it. Not undoable.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn remove_tree(&mut self, dir: &Path) -> Result<()> {
        if self.stat(dir)?.is_some() {
            self.root.empty(dir)?;
            self.root.rmdir(dir)?;
        }
        Ok(())
    }
}
