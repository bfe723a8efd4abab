//! Files in /run, and two processes that want the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use hamaster::error::Kind;
use hamaster::host::identity;
use hamaster::host::runtime_dir::RuntimeDir;

use crate::{leader, waiting};

#[test]
fn a_status_reads_back_and_anybody_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let path = dir.path().join("hamaster/elect");
    let runtime = RuntimeDir::open(&path).unwrap();
    assert_eq!(runtime.read("vip"), None);
    runtime.write(&waiting("vip")).unwrap();
    runtime.write(&leader("vip", 10)).unwrap();
    assert_eq!(runtime.read("vip"), Some(leader("vip", 10)));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o755);
    assert_eq!(mode(&path), 0o755);
    assert_eq!(mode(&path.join("vip.json")), 0o644);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn what_does_not_read_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = RuntimeDir::open(dir.path()).unwrap();
    for junk in ["", "{", "[]", "{\"schema\":\"elect-status/9\"}"] {
        fs::write(runtime.status_file("vip"), junk).unwrap();
        assert_eq!(runtime.read("vip"), None, "{junk}");
    }
}

#[test]
fn a_second_process_for_the_same_group_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = RuntimeDir::open(dir.path()).unwrap();
    // The other process: it says when it has the lock, and holds it until its stdin ends.
    let script =
        format!("exec 9<>{}/vip.lock; flock -n 9 && echo $$ >&9 && echo locked && read x", dir.path().display());
    let mut other = Command::new("bash")
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(other.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "locked\n");
    let refused = runtime.lock("vip").unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused, "exit code 3");
    assert!(refused.message().contains(&format!("(pid {})", other.id())), "{refused}");
    assert!(!refused.hints().is_empty());
    let _another_group = runtime.lock("scheduler").unwrap();
    drop(other.stdin.take());
    other.wait().unwrap();
    let _lock = runtime.lock("vip").unwrap();
}

#[test]
fn a_child_does_not_keep_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = RuntimeDir::open(dir.path()).unwrap();
    let lock = runtime.lock("vip").unwrap();
    assert!(runtime.lock("vip").is_err());
    let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    drop(lock);
    assert!(runtime.lock("vip").is_ok());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn identities() {
    assert_eq!(identity::boot_id().unwrap().len(), 36);
    let nonces = [identity::nonce().unwrap(), identity::nonce().unwrap()];
    assert!(nonces[0] != nonces[1] && nonces[0].len() == 32);
    assert!(!identity::hostname().is_empty());
}
