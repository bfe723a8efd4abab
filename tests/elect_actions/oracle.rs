//! Sees every name that appears in a directory and how: what a kubelet would see.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

pub(crate) struct Oracle(OwnedFd);

impl Oracle {
    pub(crate) fn on(dir: &Path) -> Self {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(
            &fd,
            dir,
            WatchFlags::ALL_EVENTS - WatchFlags::ACCESS - WatchFlags::OPEN - WatchFlags::CLOSE_NOWRITE,
        )
        .unwrap();
        Self(fd)
    }

    /// What happened to names a kubelet reads, in order.
    pub(crate) fn seen(&self) -> Vec<(String, ReadFlags)> {
        let mut seen = vec![];
        let mut buffer = [MaybeUninit::uninit(); 16384];
        let mut events = Reader::new(&self.0, &mut buffer);
        while let Ok(event) = events.next() {
            assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
            let name = event.file_name().map(|n| n.to_str().unwrap().to_owned()).unwrap_or_default();
            if !name.is_empty() && !name.starts_with('.') {
                seen.push((name, event.events()));
            }
        }
        seen
    }
}
