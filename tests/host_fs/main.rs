//! The laws of changing a host: old or new and never torn, the second time nothing, and undone byte for byte.
//!
//! Crashes and full disks are real: a child process (this test program again) is killed at every single crash point,
//! and file systems are mounted small or read-only where the tests run as root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods)] // looks at the host behind the library's back

mod laws;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hamaster::error::{Kind, Result};
use hamaster::host::observe::observe;
use hamaster::host::{Host, NoUnits};
use hamaster::state::observed::{ContentFact, PathKind, Record, UnitFact};
use hamaster::state::{Digest, Owner};
use proptest::prelude::*;
use tempfile::TempDir;

const ETCD: (u32, u32) = (4711, 4712);

/// A root directory that has a user etcd, and the host below it.
fn image() -> (TempDir, Host) {
    // In memory where there is such a place: hundreds of trees are made, and every change is synced.
    let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    let passwd = format!("root:x:0:0::/root:/bin/sh\netcd:x:{}:{}::/var/lib/etcd:/bin/false\n", ETCD.0, ETCD.1);
    fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
    // The first host of this process has changed the umask.
    fs::set_permissions(dir.path().join("etc"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path().join("etc/passwd"), fs::Permissions::from_mode(0o644)).unwrap();
    let host = open(dir.path());
    (dir, host)
}

fn open(root: &Path) -> Host {
    Host::new(root, Box::new(NoUnits)).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn p(path: &str) -> &Path {
    Path::new(path)
}

/// Everything below a directory: mode with type, owner, content or link target.
type Tree = BTreeMap<PathBuf, (u32, u32, u32, Vec<u8>)>;

fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = match meta.file_type() {
                t if t.is_file() => fs::read(&path).unwrap(),
                t if t.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                _ => vec![],
            };
            if meta.is_dir() {
                dirs.push(path.clone());
            }
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.insert(name, (meta.mode(), meta.uid(), meta.gid(), content));
        }
    }
    found
}

fn temporary(tree: &Tree) -> Vec<&PathBuf> {
    tree.keys().filter(|p| p.to_string_lossy().contains(".hamaster-")).collect()
}

/// One of everything a run does.
fn run(host: &mut Host) -> Result<()> {
    host.ensure_dir(p("/etc/kubernetes/pki"), 0o750, Owner::Root)?;
    host.write(p("/etc/kubernetes/pki/ca.key"), b"secret", 0o600, Owner::Etcd)?;
    host.backup(p("/etc/kept"), p("/var/backup/1"))?;
    host.write(p("/etc/replaced"), &b"new ".repeat(20_000), 0o640, Owner::Root)?;
    host.write(p("/etc/shorter"), b"", 0o644, Owner::Root)?;
    host.set_mode(p("/etc/mode"), 0o600, Owner::Etcd)?;
    host.remove(p("/etc/removed"))?;
    host.remove(p("/etc/old.d/only"))?;
    host.remove_empty_dir(p("/etc/old.d"))?;
    host.ensure_scratch_dir(p("/var/lib/etcd"), 0o700, Owner::Etcd)?;
    Ok(())
}

/// The tree [`run`] starts from.
fn before_run() -> TempDir {
    let (dir, mut host) = image();
    host.ensure_dir(p("/etc/old.d"), 0o711, Owner::Root).unwrap();
    for name in ["kept", "replaced", "shorter", "mode", "removed", "old.d/only"] {
        host.write(&p("/etc").join(name), &b"old\n".repeat(10_000), 0o644, Owner::Root).unwrap();
    }
    dir
}

/// Not a test: what the child processes of the tests below do.
#[test]
fn child() {
    let Ok(what) = std::env::var("HOST_FS_CHILD") else { return };
    let mut host = open(Path::new(&std::env::var("HOST_FS_ROOT").unwrap()));
    match what.as_str() {
        "run" => {
            host.begin_undo();
            match run(&mut host) {
                Ok(()) => host.commit(),
                Err(e) => {
                    assert_eq!(host.rollback(), Vec::<String>::new());
                    println!("\nundone: {e}");
                }
            }
        }
        "lock" => {
            let _lock = host.lock().unwrap();
            println!("\nlocked");
            std::thread::sleep(Duration::from_secs(600)); // until it is killed
        }
        _ => unreachable!(),
    }
}

fn child_of(what: &str, root: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    child.env("HOST_FS_CHILD", what).env("HOST_FS_ROOT", root).stdout(Stdio::piped()).stderr(Stdio::piped());
    child
}

#[test]
fn killed_at_any_point_every_file_is_old_or_new_and_the_next_run_completes() {
    let dir = before_run();
    let old = tree(dir.path());
    assert!(child_of("run", dir.path()).output().unwrap().status.success());
    let new = tree(dir.path());
    assert_ne!(old, new);
    assert_eq!(temporary(&new), Vec::<&PathBuf>::new());

    let mut crashes = 0;
    for at in 1.. {
        let dir = before_run();
        let out = child_of("run", dir.path()).env("HAMASTER_CRASH_AT", at.to_string()).output().unwrap();
        if out.status.success() {
            break;
        }
        let point = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.signal(), Some(9), "{point}");
        crashes += 1;
        let cut = tree(dir.path());
        // Owner and mode of a file that is not replaced are two calls: there only the content cannot be torn.
        for path in old.keys().chain(new.keys()).filter(|path| *path != p("etc/mode")) {
            let now = cut.get(path);
            assert!(now == old.get(path) || now == new.get(path), "{}: {now:?} after {point}", path.display());
        }
        assert!(temporary(&cut).len() <= 1, "{point}");
        run(&mut open(dir.path())).unwrap();
        assert_eq!(tree(dir.path()), new, "second run after {point}");
    }
    assert!(crashes > 40, "only {crashes} crash points");
}

#[test]
fn failing_at_any_point_leaves_the_host_as_it_was() {
    let mut failures = 0;
    for at in 1.. {
        let dir = before_run();
        let old = tree(dir.path());
        let out = child_of("run", dir.path()).env("HAMASTER_FAIL_AT", at.to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
        if !said.contains("undone: ") {
            break;
        }
        failures += 1;
        assert!(said.contains("no space left on its filesystem"), "{said}");
        assert_eq!(tree(dir.path()), old, "{said}");
    }
    assert!(failures > 40, "only {failures} points can fail");
}

#[derive(Debug, Clone)]
enum Op {
    Write(usize, usize, u32, Owner),
    Dir(usize, u32, Owner),
    Scratch(usize),
    /// What a service writes where it may.
    Foreign(usize),
    Mode(usize, u32, Owner),
    Remove(usize),
    RemoveDir(usize),
    Backup(usize),
}

/// Few names, so that operations meet: the same path is now a file, now a directory, now behind a symlink.
const PATHS: [&str; 8] = ["/a", "/a/b", "/a/b/c", "/d", "/d/e", "/link", "/link/b", "/../../d/up"];

fn op() -> impl Strategy<Value = Op> {
    let path = || 0..PATHS.len();
    // Only root can work in a directory that its owner may not enter.
    let modes = if is_root() { &[0o700, 0o755, 0o1777, 0o600, 0o644, 0o400][..] } else { &[0o700, 0o755, 0o1777] };
    let mode = || prop::sample::select(modes.to_vec());
    let owner = || prop::sample::select(vec![Owner::Root, Owner::Etcd]);
    prop_oneof![
        3 => (path(), 0..3usize, mode(), owner()).prop_map(|(p, n, m, o)| Op::Write(p, n, m, o)),
        3 => (path(), mode(), owner()).prop_map(|(p, m, o)| Op::Dir(p, m, o)),
        2 => path().prop_map(Op::Scratch),
        2 => path().prop_map(Op::Foreign),
        1 => (path(), mode(), owner()).prop_map(|(p, m, o)| Op::Mode(p, m, o)),
        2 => path().prop_map(Op::Remove),
        2 => path().prop_map(Op::RemoveDir),
        1 => path().prop_map(Op::Backup),
    ]
}

/// Does `op`, if it can be done. `scratch` are the directories foreign files may appear in.
fn perform(host: &mut Host, op: &Op, scratch: &mut Vec<PathBuf>) {
    let at = |i: &usize| p(PATHS[*i]);
    let _refused = match op {
        Op::Write(i, n, mode, owner) => host.write(at(i), &b"content ".repeat(*n), *mode, *owner).map(drop),
        Op::Dir(i, mode, owner) => host.ensure_dir(at(i), *mode, *owner).map(drop),
        Op::Scratch(i) => {
            let done = host.ensure_scratch_dir(at(i), 0o700, Owner::Etcd).map(drop);
            if done.is_ok() && host.list(at(i)).unwrap().is_some_and(|names| names.is_empty()) {
                scratch.push(at(i).to_owned());
            }
            done
        }
        Op::Foreign(i) => {
            if scratch.iter().any(|s| s == at(i)) && host.stat(at(i)).unwrap().is_some_and(|s| s.kind == PathKind::Dir)
            {
                let mut service = open(host.root());
                service.ensure_dir(&at(i).join("member/wal"), 0o700, Owner::Etcd).unwrap();
                service.write(&at(i).join("member/wal/0.wal"), b"data", 0o600, Owner::Etcd).unwrap();
            }
            Ok(())
        }
        Op::Mode(i, mode, owner) => host.set_mode(at(i), *mode, *owner).map(drop),
        Op::Remove(i) => host.remove(at(i)).map(drop),
        Op::RemoveDir(i) => {
            scratch.clear(); // made anew, it may be a directory like any other
            host.remove_empty_dir(at(i)).map(drop)
        }
        Op::Backup(i) => host.backup(at(i), p("/backup/1")).map(drop),
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rollback_restores_the_tree(
        earlier in prop::collection::vec(op(), 0..12),
        undone in prop::collection::vec(op(), 1..25),
    ) {
        let (dir, mut host) = image();
        symlink("/a", dir.path().join("link")).unwrap();
        for op in &earlier {
            perform(&mut host, op, &mut vec![]);
        }
        let before = tree(dir.path());
        host.begin_undo();
        let mut scratch = vec![];
        for op in &undone {
            perform(&mut host, op, &mut scratch);
        }
        prop_assert_eq!(host.rollback(), Vec::<String>::new());
        prop_assert_eq!(tree(dir.path()), before);
    }
}
