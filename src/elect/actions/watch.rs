//! Hears of changes to two files by watching their directories.

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::bounded::Bounded;

/// What may have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) source: bool,
    pub(super) dest: bool,
}

/// An inotify descriptor. Without one (the system's limit is reached) changes are found by the regular looks only.
#[derive(Debug)]
pub(super) struct Watch {
    fd: Option<OwnedFd>,
    files: [Watched; 2],
}

#[derive(Debug)]
struct Watched {
    dir: PathBuf,
    name: OsString,
    descriptor: Option<i32>,
    bounded: Bounded,
}

impl Watch {
    pub(super) fn new(source: &Path, dest: &Path) -> Self {
        let watched = |path: &Path| Watched {
            dir: path.parent().unwrap_or(Path::new("/")).to_owned(),
            name: path.file_name().unwrap_or_default().to_owned(),
            descriptor: None,
            bounded: Bounded::default(),
        };
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let mut watch = Self { fd, files: [watched(source), watched(dest)] };
        watch.renew();
        watch
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Watches what is not watched: a directory that was not there, or is another one now.
    pub(super) fn renew(&mut self) {
        let Some(fd) = &self.fd else { return };
        let what = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR;
        for file in &mut self.files {
            // For one that is watched already this only finds out whether the name means another directory now.
            let Ok(fd) = fd.try_clone() else { continue };
            let dir = file.dir.clone();
            let added = file.bounded.run(super::LOOK, move || inotify::add_watch(&fd, &dir, what));
            file.descriptor = added.ok();
        }
    }

    /// What happened since the last call.
    pub(super) fn touched(&mut self) -> Touched {
        let mut touched = [false; 2];
        let mut lost = false;
        let Some(fd) = &self.fd else { return Touched::default() };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(fd, &mut buffer);
        while let Ok(event) = events.next() {
            lost |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
            for (file, touched) in self.files.iter().zip(&mut touched) {
                let ours = file.descriptor == Some(event.wd());
                // An event without a name is about the directory itself.
                *touched |= ours && event.file_name().is_none_or(|n| n.to_bytes() == file.name.as_bytes());
            }
        }
        let [source, dest] = touched;
        Touched { source: source || lost, dest: dest || lost }
    }
}
