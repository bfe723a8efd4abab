//! One inotify descriptor for all destination directories. Events of one descriptor come in the order in which they
//! happened, so the running count of manifests is exact however late the events are read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::network::within;

/// The only name that may ever be seen in a destination directory, dot files apart: the kubelet skips those.
pub(crate) const MANIFEST: &str = "manifest.yaml";

/// Counts the manifests from its creation on.
pub(crate) struct Oracle {
    history: Arc<Mutex<History>>,
    marks: PathBuf,
    reader: Option<JoinHandle<()>>,
}

/// What it saw.
#[derive(Debug, Default, Clone)]
pub(crate) struct History {
    /// Appearances and disappearances, in order.
    pub(crate) changes: Vec<Change>,
    /// Whose manifest is there now.
    pub(crate) holders: BTreeSet<usize>,
    /// When there was more than one.
    pub(crate) overlaps: Vec<Overlap>,
    /// Names that must not be there.
    pub(crate) strangers: Vec<String>,
    /// Why nothing of this can be trusted.
    pub(crate) void: Option<String>,
    marks: usize,
}

/// A manifest appeared or disappeared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// When it was read.
    pub(crate) at: Instant,
    /// Whose.
    pub(crate) node: usize,
    /// Whether it is there now.
    pub(crate) present: bool,
}

/// More than one manifest.
#[derive(Debug, Clone)]
pub(crate) struct Overlap {
    /// Whose.
    pub(crate) nodes: BTreeSet<usize>,
    /// Since when.
    pub(crate) from: Instant,
    /// `None`: it never ended.
    pub(crate) lasted: Option<Duration>,
}

impl Oracle {
    /// Watches the directories, which must be empty. `marks` is an empty directory of its own.
    pub(crate) fn new(destinations: &[PathBuf], marks: &Path) -> Self {
        let fd = inotify::init(CreateFlags::CLOEXEC).unwrap();
        let seen = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::MOVED_FROM;
        let own = seen | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        let watches: Vec<i32> = destinations.iter().map(|d| inotify::add_watch(&fd, d, own).unwrap()).collect();
        inotify::add_watch(&fd, marks, WatchFlags::CREATE).unwrap();
        let history = Arc::new(Mutex::new(History::default()));
        for dir in destinations {
            if fs::read_dir(dir).unwrap().next().is_some() {
                history.lock().unwrap().void = Some(format!("{} was not empty at the start", dir.display()));
            }
        }
        let shared = history.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 64 << 10];
            let mut events = Reader::new(fd, &mut buffer);
            loop {
                let event = events.next().unwrap();
                let name = event.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                let mut history = shared.lock().unwrap();
                match watches.iter().position(|w| *w == event.wd()) {
                    Some(node) => history.take(Instant::now(), node, event.events(), &name),
                    None if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                        history.void = Some("the inotify queue overflowed".into());
                    }
                    // `marks` is gone: so is the oracle.
                    None if event.events().contains(ReadFlags::IGNORED) => return,
                    None => history.marks += 1,
                }
            }
        });
        Self { history, marks: marks.to_owned(), reader: Some(reader) }
    }

    /// All that happened before this call.
    pub(crate) fn history(&self) -> History {
        let mark = self.history.lock().unwrap().marks;
        let path = self.marks.join(mark.to_string());
        File::create(&path).unwrap();
        within(Duration::from_secs(30), "the oracle has read all", || self.history.lock().unwrap().marks > mark);
        self.history.lock().unwrap().clone()
    }

    /// The one whose manifest is there, if it is just one.
    pub(crate) fn holder(&self) -> Option<usize> {
        let holders = &self.history.lock().unwrap().holders;
        holders.first().copied().filter(|_| holders.len() == 1)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // With the directory goes its watch, which ends the reader.
        let _ = fs::remove_dir_all(&self.marks);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

impl History {
    /// Nothing forbidden was seen.
    pub(crate) fn is_clean(&self) -> bool {
        self.overlaps.is_empty() && self.strangers.is_empty() && self.void.is_none()
    }

    /// From each moment without a manifest after `since` to the next one with one: when it began, how long it was.
    pub(crate) fn gaps(&self, since: Instant) -> Vec<(Instant, Duration)> {
        let later = self.changes.iter().filter(|c| c.at >= since);
        let (mut count, mut gone, mut gaps) = (0usize, None, vec![]);
        let earlier = self.changes.iter().filter(|c| c.at < since);
        for change in earlier {
            count = if change.present { count + 1 } else { count.saturating_sub(1) };
        }
        for change in later {
            count = if change.present { count + 1 } else { count.saturating_sub(1) };
            match (count, gone) {
                (0, _) => gone = Some(change.at),
                (_, Some(from)) => {
                    gaps.push((from, change.at - from));
                    gone = None;
                }
                _ => {}
            }
        }
        gaps
    }

    fn take(&mut self, at: Instant, node: usize, events: ReadFlags, name: &str) {
        if events.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED) {
            self.void = Some(format!("the directory of node {node} went away"));
            return;
        }
        if name != MANIFEST {
            if !name.starts_with('.') {
                self.strangers.push(format!("node {node}: {name}"));
            }
            return;
        }
        let present = events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        // One renamed over another is no change of the count.
        let changed = if present { self.holders.insert(node) } else { self.holders.remove(&node) };
        if !changed {
            return;
        }
        self.changes.push(Change { at, node, present });
        if self.holders.len() > 1 {
            let open = self.overlaps.last_mut().filter(|o| o.lasted.is_none());
            match open {
                Some(overlap) => overlap.nodes.extend(&self.holders),
                None => self.overlaps.push(Overlap { nodes: self.holders.clone(), from: at, lasted: None }),
            }
        } else if let Some(overlap) = self.overlaps.last_mut().filter(|o| o.lasted.is_none()) {
            overlap.lasted = Some(at - overlap.from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two directories, an oracle on them, and what it says after `act`.
    fn after(act: impl FnOnce(&[PathBuf])) -> History {
        let dir = tempfile::tempdir().unwrap();
        let dirs: Vec<PathBuf> = ["a", "b", "marks"].iter().map(|d| dir.path().join(d)).collect();
        dirs.iter().for_each(|d| fs::create_dir(d).unwrap());
        let oracle = Oracle::new(&dirs[..2], &dirs[2]);
        act(&dirs);
        oracle.history()
    }

    #[test]
    fn two_at_once_are_an_overlap_however_short() {
        let history = after(|dirs| {
            File::create(dirs[0].join(MANIFEST)).unwrap();
            File::create(dirs[1].join(MANIFEST)).unwrap();
            fs::remove_file(dirs[0].join(MANIFEST)).unwrap();
        });
        assert_eq!(history.overlaps.len(), 1);
        assert!(history.overlaps[0].lasted.is_some() && history.overlaps[0].nodes.len() == 2);
    }

    #[test]
    fn one_after_the_other_is_none_and_its_gap_is_counted() {
        let start = Instant::now();
        let history = after(|dirs| {
            File::create(dirs[0].join(".tmp")).unwrap();
            fs::rename(dirs[0].join(".tmp"), dirs[0].join(MANIFEST)).unwrap();
            File::create(dirs[0].join(".tmp")).unwrap();
            fs::rename(dirs[0].join(".tmp"), dirs[0].join(MANIFEST)).unwrap();
            fs::rename(dirs[0].join(MANIFEST), dirs[0].join(".gone")).unwrap();
            File::create(dirs[1].join(MANIFEST)).unwrap();
        });
        assert!(history.is_clean(), "{history:?}");
        assert_eq!(history.changes.len(), 3);
        assert_eq!(history.gaps(start).len(), 1);
    }

    #[test]
    fn a_visible_temporary_name_and_a_removed_directory_are_seen() {
        let history = after(|dirs| {
            File::create(dirs[0].join("manifest.yaml.tmp")).unwrap();
            fs::remove_dir(&dirs[1]).unwrap();
        });
        assert_eq!(history.strangers.len(), 1);
        assert!(history.void.is_some());
    }
}
