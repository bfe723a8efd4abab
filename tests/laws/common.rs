//! An image to work on, what the program said, and a tree that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::{geteuid, umask};
use tempfile::TempDir;

pub const HAMASTER: &str = env!("CARGO_BIN_EXE_hamaster");

/// What every run here says about the node, and that nobody minds what the image lacks.
const NODE: [&str; 7] =
    ["--yes", "--name", "m1", "--advertise-ip", "192.0.2.10", "--lb-ip=203.0.113.10", "--ignore-preflight=all"];

/// A file system of a host that does not run.
pub struct Image {
    dir: TempDir,
}

impl Image {
    /// As small as an image can be: directories, users, programs that units need.
    pub fn new() -> Self {
        // Modes of fixtures must not depend on who runs the tests; the library sets the same when it opens a host.
        umask(rustix::fs::Mode::from_raw_mode(0o077));
        // In memory where there is such a place: hundreds of trees are made, and every change is synced.
        let image = Self { dir: TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap() };
        image.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\netcd:x:4711:4712::/var/lib/etcd:/bin/false\n", 0o644);
        for dir in ["/etc/systemd/system", "/var/lib", "/var/log"] {
            image.mkdir(dir);
        }
        for program in ["etcd", "kubelet", "dockerd", "containerd", "cri-dockerd", "flanneld"] {
            image.put(&format!("/usr/bin/{program}"), "#!/bin/sh\n", 0o755);
        }
        for packaged in ["docker", "containerd", "cri-docker"] {
            let unit = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
            image.put(&format!("/usr/lib/systemd/system/{packaged}.service"), unit, 0o644);
        }
        image
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.root().join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Makes a directory and its parents, 0755 each.
    pub fn mkdir(&self, inside: &str) {
        let mut path = self.root().to_owned();
        for name in Path::new(inside).strip_prefix("/").unwrap() {
            path.push(name);
            if fs::create_dir(&path).is_ok() {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }

    /// Writes a file as an operator would.
    pub fn put(&self, inside: &str, text: &str, mode: u32) {
        self.mkdir(Path::new(inside).parent().unwrap().to_str().unwrap());
        fs::write(self.path(inside), text).unwrap();
        fs::set_permissions(self.path(inside), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_else(|e| panic!("{inside}: {e}"))
    }

    pub fn has(&self, inside: &str) -> bool {
        self.path(inside).symlink_metadata().is_ok()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(HAMASTER);
        command.args(args).arg("--root").arg(self.root());
        command
    }

    pub fn run(&self, args: &[&str]) -> Said {
        said(&mut self.command(args))
    }

    pub fn init_command(&self, more: &[&str]) -> Command {
        self.command(&[&["init"], &NODE[..], more].concat())
    }

    pub fn init(&self, more: &[&str]) -> Said {
        said(&mut self.init_command(more))
    }

    /// `init` that dies or fails at a point.
    pub fn init_with(&self, variable: &str, value: &str, more: &[&str]) -> Said {
        said(self.init_command(more).env(variable, value))
    }

    pub fn tree(&self) -> Tree {
        Tree::of(self.root())
    }
}

/// Whether files can be given to other users here.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Said {
    /// Exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Exit 0, and nothing was left to do.
    #[track_caller]
    pub fn expect_nothing_to_do(self) {
        assert!(self.code == Some(0) && self.out.contains("nothing to do"), "{self}");
    }

    pub fn has(&self, text: &str) -> bool {
        self.out.contains(text) || self.err.contains(text)
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {:?} signal {:?}\n{}\n{}", self.code, self.signal, self.out, self.err)
    }
}

pub fn said(command: &mut Command) -> Said {
    Said::from(command.output().unwrap())
}

impl From<Output> for Said {
    fn from(o: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: o.status.code(), signal: o.status.signal(), out: text(o.stdout), err: text(o.stderr) }
    }
}

/// Everything below a directory.
#[derive(Clone, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<PathBuf, Thing>);

/// What is at a path.
#[derive(Clone, PartialEq, Eq)]
pub struct Thing {
    /// Type, mode, owner and group.
    pub stat: (u32, u32, u32),
    /// Of a file its bytes, of a link where to.
    pub content: Vec<u8>,
}

impl Tree {
    pub fn of(root: &Path) -> Self {
        let mut tree = BTreeMap::new();
        visit(root, &mut |path, meta| {
            let content = match meta.file_type() {
                kind if kind.is_file() => fs::read(path).unwrap(),
                kind if kind.is_symlink() => fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(),
                _ => vec![],
            };
            let thing = Thing { stat: (meta.mode(), meta.uid(), meta.gid()), content };
            tree.insert(Path::new("/").join(path.strip_prefix(root).unwrap()), thing);
        });
        Self(tree)
    }

    /// All of it but what is at or below `path`.
    pub fn without(mut self, path: &str) -> Self {
        self.0.retain(|p, _| !p.starts_with(path));
        self
    }

    /// Inode and time of change of every file: a file that was replaced by an equal one shows.
    pub fn stamps(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
        let mut stamps = BTreeMap::new();
        visit(root, &mut |path, meta| {
            stamps.insert(path.to_owned(), (meta.ino(), meta.mtime(), meta.mtime_nsec()));
        });
        stamps
    }

    /// Panics with every difference to `other`.
    #[track_caller]
    pub fn assert_is(&self, other: &Tree, when: &str) {
        let paths: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let mut lines = String::new();
        for path in paths {
            let (is, wanted) = (self.0.get(path), other.0.get(path));
            if is != wanted {
                writeln!(lines, "{}: {} instead of {}", path.display(), show(is), show(wanted)).unwrap();
            }
        }
        assert!(lines.is_empty(), "{when}:\n{lines}");
    }

    /// Temporary names a killed run leaves; none may outlive the next one.
    pub fn temporaries(&self) -> Vec<&PathBuf> {
        self.0.keys().filter(|p| p.file_name().unwrap().to_string_lossy().contains(".hamaster-")).collect()
    }
}

fn show(thing: Option<&Thing>) -> String {
    let Some(Thing { stat: (mode, uid, gid), content }) = thing else { return "absent".to_owned() };
    let text: String = String::from_utf8_lossy(content).chars().take(4000).collect();
    format!("{mode:o} {uid}:{gid} {text:?}")
}

fn visit(root: &Path, see: &mut impl FnMut(&Path, &fs::Metadata)) {
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            see(&path, &meta);
            if meta.is_dir() {
                dirs.push(path);
            }
        }
    }
}

/// Which of `1..=total` to try: all of them with `HAMASTER_ALL_CRASHES=1`, otherwise `some`, spread evenly from a place
/// that `HAMASTER_SEED` moves. The seed is printed: a failure can be had again.
pub fn points(total: u64, some: u64) -> Vec<u64> {
    if std::env::var("HAMASTER_ALL_CRASHES").is_ok_and(|v| v == "1") || some >= total {
        return (1..=total).collect();
    }
    let given = std::env::var("HAMASTER_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("{some} of {total} points; again with HAMASTER_SEED={seed}, all of them with HAMASTER_ALL_CRASHES=1");
    let offset = seed % total;
    (0..some).map(|i| (offset + i * total / some) % total + 1).collect()
}

/// The number of the last point that `dies` reports.
pub fn count_points(mut dies: impl FnMut(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, 64);
    while dies(high) {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        if dies(middle) { low = middle } else { high = middle }
    }
    low
}

/// Tries every point, two at a time. Every failure is told, not only the first.
pub fn try_all(points: Vec<u64>, attempt: impl Fn(u64) + Sync + std::panic::RefUnwindSafe) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(&point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if std::panic::catch_unwind(|| attempt(point)).is_err() {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(point);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} points failed: {failed:?}", failed.len(), points.len());
}
