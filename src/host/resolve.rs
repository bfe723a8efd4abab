//! Where a host path leads below a root directory: the way `chroot` would go, without being in one.
//!
//! Symlinks inside an image are followed as the booted image would follow them; none of them, and no `..`, leads out.
//! Each step opens a directory relative to the one before, so nothing can be swapped for a symlink behind our back.
//! (`openat2(RESOLVE_IN_ROOT)` does the same, but kernels before 5.6 and some container sandboxes refuse it.)

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// As many as the kernel follows.
const MAX_SYMLINKS: usize = 40;

/// The directory all host paths are below.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    fd: OwnedFd,
}

/// A name in an open directory.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: OwnedFd,
    pub(super) name: OsString,
}

impl Root {
    /// Opens the root.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let fd = openat(CWD, &path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        match fd {
            Ok(fd) => Ok(Self { path, fd }),
            Err(e) => Err(Error::usage(format!("cannot use {} as the root directory", path.display()))
                .cause(std::io::Error::from(e))
                .hint(format!("mkdir -p {}    # or name a directory that is there", path.display()))),
        }
    }

    /// Where the root is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A host path as the operator finds it from outside.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where `path` is. Symlinks on the way are followed, one at its end only if `follow`; the last name need not exist.
    /// `INVAL` for a path that is relative or has `..` in it: `a/../b` has no one meaning where symlinks are.
    pub(super) fn place(&self, path: &Path, follow: bool) -> Result<Place, Errno> {
        if path.is_relative() || path.components().any(|c| c == Component::ParentDir) {
            return Err(Errno::INVAL);
        }
        let mut dirs: Vec<OwnedFd> = vec![];
        let mut names = names(path);
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            if name == ".." {
                dirs.pop();
                continue;
            }
            let last = names.is_empty();
            if last && !follow {
                return self.found(dirs, name);
            }
            match open_dir(self.top(&dirs), &name) {
                Ok(_) if last => return self.found(dirs, name),
                Ok(dir) => dirs.push(dir),
                Err(Errno::NOTDIR | Errno::LOOP) => match readlinkat(self.top(&dirs), &name, vec![]) {
                    Ok(_) if links == MAX_SYMLINKS => return Err(Errno::LOOP),
                    Ok(target) => {
                        links += 1;
                        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                        if target.is_absolute() {
                            dirs.clear();
                        }
                        let mut through = self::names(target);
                        through.append(&mut names);
                        names = through;
                    }
                    Err(Errno::INVAL) if last => return self.found(dirs, name),
                    Err(Errno::INVAL) => return Err(Errno::NOTDIR),
                    Err(e) => return Err(e),
                },
                Err(Errno::NOENT) if last => return self.found(dirs, name),
                Err(e) => return Err(e),
            }
        }
        self.found(dirs, ".".into())
    }

    fn top<'a>(&'a self, dirs: &'a [OwnedFd]) -> BorrowedFd<'a> {
        dirs.last().unwrap_or(&self.fd).as_fd()
    }

    fn found(&self, mut dirs: Vec<OwnedFd>, name: OsString) -> Result<Place, Errno> {
        let dir = match dirs.pop() {
            Some(dir) => dir,
            None => open_dir(self.fd.as_fd(), OsStr::new("."))?,
        };
        Ok(Place { dir, name })
    }
}

fn open_dir(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// The names in a path; `/` and `.` say nothing here.
fn names(path: &Path) -> VecDeque<OsString> {
    let says = |c: &Component<'_>| matches!(c, Component::Normal(_) | Component::ParentDir);
    path.components().filter(says).map(|c| c.as_os_str().to_owned()).collect()
}
