//! What is on a host's disk, byte for byte, so that two moments can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use hamaster::state::Digest;

use crate::machine::Machine;

/// What a running Debian writes by itself, or a service that was there before us.
const RESTLESS: [&str; 5] = [
    "/var/log",
    // Random seed, timer stamps, the catalogue.
    "/var/lib/systemd",
    // containerd's own store; a host has one whether or not we made use of it.
    "/var/lib/containerd",
    "/opt/containerd",
    "/var/tmp",
];

/// Every path of a disk with its kind, mode, owner and content. Memory file systems (/run, /tmp) are not on the disk.
#[derive(PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, String>);

impl Tree {
    /// The disk of a host, as it is now.
    pub fn of(machine: &Machine) -> Self {
        let mut tree = BTreeMap::new();
        walk(&machine.path("/"), Path::new("/"), &mut tree);
        Self(tree)
    }

    /// All of it but what is below `path`.
    pub fn without(mut self, path: &str) -> Self {
        self.0.retain(|p, _| !p.starts_with(path));
        self
    }

    /// Panics with every difference to an earlier tree.
    pub fn assert_same_as(&self, earlier: &Tree, after: &str) {
        let paths: BTreeSet<_> = self.0.keys().chain(earlier.0.keys()).collect();
        let show = |t: &Tree, p: &PathBuf| t.0.get(p).cloned().unwrap_or_else(|| "absent".to_owned());
        let changed = paths.into_iter().filter(|p| self.0.get(*p) != earlier.0.get(*p));
        let lines: Vec<_> =
            changed.map(|p| format!("{}: {} -> {}", p.display(), show(earlier, p), show(self, p))).collect();
        assert!(lines.is_empty(), "the disk changed: {after}\n{}", lines.join("\n"));
    }

    /// Whether something is at an absolute path.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(Path::new(path))
    }
}

fn walk(root: &Path, inside: &Path, tree: &mut BTreeMap<PathBuf, String>) {
    if RESTLESS.iter().any(|r| inside == Path::new(r)) {
        return;
    }
    let path = root.join(inside.strip_prefix("/").unwrap());
    let Ok(meta) = fs::symlink_metadata(&path) else { return };
    let kind = meta.file_type();
    let what = if kind.is_symlink() {
        format!("link to {}", fs::read_link(&path).unwrap().display())
    } else if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_file() {
        // A file may go while it is looked at: the host is running.
        fs::read(&path).map_or_else(|e| e.to_string(), |bytes| format!("file {}", Digest::of(&bytes).short()))
    } else {
        format!("special {}", if kind.is_socket() { "socket" } else { "file" })
    };
    tree.insert(inside.to_owned(), format!("{what} {:o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid()));
    if kind.is_dir() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            walk(root, &inside.join(entry.file_name()), tree);
        }
    }
}
