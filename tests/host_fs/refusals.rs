//! Real file systems that refuse, and one hamaster at a time.

use super::*;

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
