//! The laws of changing a host: old or new and never torn, the second time nothing, and undone byte for byte.
//!
//! Crashes and full disks are real: a child process (this test program again) is killed at every single crash point,
//! and file systems are mounted small or read-only where the tests run as root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods)] // looks at the host behind the library's back

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

// ---- crash and failure at every point -------------------------------------------------------------------------------

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

// ---- undo of anything -----------------------------------------------------------------------------------------------

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

// ---- single laws ----------------------------------------------------------------------------------------------------

#[test]
fn the_second_write_changes_nothing_at_all() {
    let (dir, mut host) = image();
    assert!(host.write(p("/etc/x"), b"x", 0o640, Owner::Etcd).unwrap());
    let look = || {
        let m = fs::metadata(dir.path().join("etc/x")).unwrap();
        (m.ino(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec())
    };
    let first = look();
    assert!(!host.write(p("/etc/x"), b"x", 0o640, Owner::Etcd).unwrap());
    assert_eq!(look(), first);
    assert!(host.write(p("/etc/x"), b"x", 0o600, Owner::Etcd).unwrap(), "another mode is another file");
    assert!(host.ensure_dir(p("/etc"), 0o755, Owner::Root).unwrap().is_empty());
}

#[test]
fn modes_and_owners_are_as_asked_whatever_the_umask() {
    let (dir, mut host) = image();
    let made = host.ensure_dir(p("/srv/a/b"), 0o2750, Owner::Etcd).unwrap();
    assert_eq!(made, [p("/srv"), p("/srv/a"), p("/srv/a/b")]);
    host.write(p("/srv/a/b/open"), b"", 0o666, Owner::Root).unwrap();
    let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("srv"), mode("srv/a"), mode("srv/a/b"), mode("srv/a/b/open")), (0o755, 0o755, 0o2750, 0o666));
    if is_root() {
        assert_eq!(host.etcd_owner().unwrap(), ETCD);
        let meta = fs::metadata(dir.path().join("srv/a/b")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), ETCD);
    }
}

#[test]
fn leftovers_of_a_killed_run_go_with_the_next_write_and_only_those() {
    let (dir, mut host) = image();
    host.write(p("/etc/x"), b"x", 0o600, Owner::Root).unwrap();
    for name in [".x.hamaster-0badcafe", ".y.hamaster-0badcafe", ".x.swp"] {
        fs::write(dir.path().join("etc").join(name), "half").unwrap();
    }
    assert!(!host.write(p("/etc/x"), b"x", 0o600, Owner::Root).unwrap());
    assert_eq!(host.list(p("/etc")).unwrap().unwrap(), [".x.swp", ".y.hamaster-0badcafe", "passwd", "x"]);
}

#[test]
fn no_path_and_no_symlink_leads_out_of_the_root() {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("file"), "theirs").unwrap();
    let untouched = tree(outside.path());
    let (dir, mut host) = image();
    symlink(outside.path(), dir.path().join("absolute")).unwrap();
    symlink("../../../../../../../..", dir.path().join("up")).unwrap();
    symlink(outside.path().join("file"), dir.path().join("direct")).unwrap();

    let up = PathBuf::from(format!("/up{}/file", outside.path().display()));
    let dots = PathBuf::from(format!("/../../../..{}/file", outside.path().display()));
    for path in [p("/absolute/file"), p("/direct"), &up, &dots] {
        assert!(!matches!(host.read(path), Ok(Some(_))), "{}", path.display());
        // Refused, or done inside.
        let _ = host.write(path, b"ours", 0o600, Owner::Root);
        let _ = host.ensure_dir(&path.join("sub"), 0o700, Owner::Root);
        let _ = host.remove(path);
    }
    assert_eq!(tree(outside.path()), untouched);
}

#[test]
fn symlinks_inside_an_image_lead_where_the_booted_image_would_go() {
    let (dir, mut host) = image();
    fs::create_dir_all(dir.path().join("run")).unwrap();
    fs::create_dir_all(dir.path().join("var")).unwrap();
    symlink("/run", dir.path().join("var/run")).unwrap();
    symlink("../run/../run/real", dir.path().join("etc/resolv.conf")).unwrap();
    host.write(p("/var/run/real"), b"real", 0o644, Owner::Root).unwrap();
    assert_eq!(fs::read(dir.path().join("run/real")).unwrap(), b"real");
    assert_eq!(host.read(p("/etc/resolv.conf")).unwrap().unwrap(), b"real");

    symlink("loop", dir.path().join("loop")).unwrap();
    let e = host.read(p("/loop")).unwrap_err();
    assert!(e.message().contains("too many symlinks"), "{e}");
}

#[test]
fn what_is_not_a_plain_file_or_directory_is_never_replaced() {
    let (dir, mut host) = image();
    symlink("/etc/passwd", dir.path().join("etc/link")).unwrap();
    let fifo = dir.path().join("etc/fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    fs::create_dir(dir.path().join("etc/dir")).unwrap();
    let before = tree(dir.path());
    for path in ["/etc/link", "/etc/fifo", "/etc/dir"] {
        let path = p(path);
        assert_eq!(host.write(path, b"", 0o600, Owner::Root).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(host.remove(path).unwrap_err().kind(), Kind::Conflict);
    }
    assert_eq!(host.ensure_dir(p("/etc/link"), 0o700, Owner::Root).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(host.ensure_dir(p("/etc/passwd/sub"), 0o700, Owner::Root).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(host.stat(p("/etc/link")).unwrap().unwrap().kind, PathKind::Other);
    assert!(host.read(p("/etc/fifo")).is_err(), "must neither hang nor read");
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn a_backup_is_a_copy_with_mode_and_owner_where_nobody_else_can_look() {
    let (dir, mut host) = image();
    host.write(p("/etc/x"), b"x", 0o644, Owner::Etcd).unwrap();
    let copy = host.backup(p("/etc/x"), p("/var/backup/20300101T000000Z")).unwrap().unwrap();
    assert_eq!(copy, p("/var/backup/20300101T000000Z/etc/x"));
    let copied = tree(dir.path());
    assert_eq!(copied[copy.strip_prefix("/").unwrap()], copied[p("etc/x")]);
    assert_eq!(fs::metadata(dir.path().join("var/backup")).unwrap().mode() & 0o777, 0o700);
    assert_eq!(host.backup(p("/etc/absent"), p("/var/backup/1")).unwrap(), None);
}

// ---- looking --------------------------------------------------------------------------------------------------------

#[test]
fn observe_sees_what_is_there_and_keeps_no_secret() {
    let (dir, mut host) = image();
    host.write(p("/etc/public.conf"), b"public", 0o644, Owner::Root).unwrap();
    let secrets = [
        ("/etc/kubernetes/pki/ca.key", "key"),
        ("/etc/kubernetes/pki/encryption-config.yaml", "secret: abc"),
        ("/etc/kubernetes/admin.conf", "token: abc"),
        ("/etc/elsewhere.yaml", "-----BEGIN PRIVATE KEY-----\nabc"),
        ("/etc/elsewhere.conf", "users:\n- user: {client-key-data: abc}"),
    ];
    host.ensure_dir(p("/etc/kubernetes/pki"), 0o755, Owner::Root).unwrap();
    for (path, text) in secrets {
        host.write(p(path), text.as_bytes(), 0o644, Owner::Root).unwrap();
    }
    symlink("public.conf", dir.path().join("etc/link")).unwrap();
    let paths: Vec<PathBuf> = ["/etc", "/etc/public.conf", "/etc/link", "/etc/absent", "/etc/public.conf/absent"]
        .into_iter()
        .chain(secrets.map(|(path, _)| path))
        .map(PathBuf::from)
        .collect();
    let before = tree(dir.path());
    let seen = observe(&host, &paths, &["etcd.service".to_owned()], p("/var/lib/hamaster/record.json")).unwrap();
    assert_eq!(tree(dir.path()), before);

    let kind = |path: &str| seen.at(p(path)).map(|f| f.kind);
    assert_eq!(kind("/etc"), Some(PathKind::Dir));
    assert_eq!(kind("/etc/link"), Some(PathKind::Other));
    assert_eq!((kind("/etc/absent"), kind("/etc/public.conf/absent")), (None, None));
    assert_eq!(seen.digest(p("/etc/link")), None);
    let public = seen.at(p("/etc/public.conf")).unwrap();
    assert_eq!((public.digest, public.mode), (Some(Digest::of(b"public")), 0o644));
    assert_eq!(public.content, ContentFact::Public(b"public".to_vec()));
    for (path, text) in secrets {
        assert_eq!(seen.digest(p(path)), Some(Digest::of(text.as_bytes())));
        assert!(
            !matches!(seen.at(p(path)).unwrap().content, ContentFact::Public(_)),
            "{path} would be shown in a diff"
        );
    }
    assert_eq!(seen.units["etcd.service"], UnitFact::default());
    assert_eq!(seen.record, Record::default());
    if is_root() {
        assert_eq!((seen.owners.root, seen.owners.etcd), ((0, 0), ETCD));
    }
}

#[test]
fn a_record_reads_back_and_a_damaged_one_is_never_taken_for_empty() {
    let (_dir, mut host) = image();
    let path = p("/etc/record.json");
    let record = Record { schema: "any".to_owned(), dirs: vec!["/etc/x".into()], ..Record::default() };
    let json = serde_json::to_vec(&record).unwrap();
    host.write(path, &json, 0o600, Owner::Root).unwrap();
    assert_eq!(observe(&host, &[], &[], path).unwrap().record, record);
    for cut in 0..json.len() {
        host.write(path, &json[..cut], 0o600, Owner::Root).unwrap();
        let e = observe(&host, &[], &[], path).unwrap_err();
        assert_eq!(e.kind(), Kind::Conflict, "cut at {cut}");
        assert!(!e.hints().is_empty());
    }
}

// ---- real file systems that refuse ----------------------------------------------------------------------------------

/// A mounted directory, unmounted on drop.
struct Mount(PathBuf);

impl Mount {
    fn new(at: PathBuf, args: &[&str]) -> Self {
        let out = Command::new("mount").args(args).arg(&at).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_the_old_file() {
    if !is_root() {
        return eprintln!("skipped: only root can mount");
    }
    let (dir, mut host) = image();
    let srv = dir.path().join("srv");
    fs::create_dir(&srv).unwrap();
    let _mount = Mount::new(srv.clone(), &["-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
    host.write(p("/srv/x"), &b"old".repeat(5_000), 0o600, Owner::Root).unwrap();
    let before = tree(dir.path());
    let e = host.write(p("/srv/x"), &b"new".repeat(50_000), 0o600, Owner::Root).unwrap_err();
    assert_eq!(e.message(), format!("cannot write {}/x: no space left on its filesystem", srv.display()));
    assert!(e.hints()[0].starts_with(&format!("df -h {}", srv.display())), "{:?}", e.hints());
    assert_eq!(e.kind(), Kind::Apply);
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn a_read_only_file_system_is_named_and_an_unchanged_file_still_passes() {
    if !is_root() {
        return eprintln!("skipped: only root can mount");
    }
    let (dir, mut host) = image();
    host.write(p("/etc/x"), b"x", 0o600, Owner::Root).unwrap();
    let etc = dir.path().join("etc");
    let _mount = Mount::new(etc.clone(), &["--bind", "-o", "ro", &etc.display().to_string()]);
    assert!(!host.write(p("/etc/x"), b"x", 0o600, Owner::Root).unwrap());
    let e = host.write(p("/etc/x"), b"y", 0o600, Owner::Root).unwrap_err();
    assert!(e.message().ends_with("x: its filesystem is mounted read-only"), "{e}");
    assert_eq!(e.hints(), [format!("findmnt -T {}", etc.display())]);
    assert!(host.ensure_dir(p("/etc/new"), 0o700, Owner::Root).is_err());
    assert!(host.remove(p("/etc/x")).is_err());
}

// ---- one at a time --------------------------------------------------------------------------------------------------

/// A child that holds the lock; killed on drop.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_second_hamaster_is_told_who_is_at_work_and_a_killed_one_holds_nothing() {
    let (dir, host) = image();
    let before = tree(dir.path());
    let mut holder = Holder(child_of("lock", dir.path()).spawn().unwrap());
    let mut lines = BufReader::new(holder.0.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("locked")));
    let e = host.lock().unwrap_err();
    assert_eq!(e.kind(), Kind::Conflict);
    assert_eq!(e.message(), format!("another hamaster is at work on this host (pid {})", holder.0.id()));
    drop(holder);
    let _lock = host.lock().unwrap();
    assert_eq!(tree(dir.path()), before, "the lock is no file");
}
