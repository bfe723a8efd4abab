//! Hosts in a bad state: what is there is not harmed, and a run that cannot finish leaves nothing behind.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use crate::sandbox::{HAMASTER, INIT, Run, Sandbox, root_or_skip};

const UNIT: &str = "img/etc/systemd/system/kubelet.service";

#[test]
fn a_foreign_unit_is_never_overwritten() {
    let sandbox = Sandbox::new();
    sandbox.write(UNIT, "[Service]\nExecStart=/opt/their/kubelet\n");
    sandbox.refuses(&INIT, 4, "kubelet.service: exists, differs from what is wanted, and is not ours", "--adopt");
}

#[test]
fn an_adopted_file_is_backed_up_and_comes_back() {
    let sandbox = Sandbox::new();
    let theirs = "[Service]\nExecStart=/opt/their/kubelet\n";
    sandbox.write(UNIT, theirs);
    sandbox.init(&["--adopt"]);
    assert!(sandbox.read(UNIT).starts_with("# Written by hamaster"));
    sandbox.run(["reset", "--root", "img", "--yes", "--purge"]).expect(0);
    let left: Vec<_> = sandbox.tree().into_iter().filter(|(_, (mode, _))| mode & 0o170_000 == 0o100_000).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(sandbox.read(UNIT), theirs);
}

#[test]
fn a_reset_leaves_the_tree_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.write("img/etc/hostname", "m1\n");
    let before = sandbox.tree();
    sandbox.init(&[]);
    sandbox.run(["reset", "--root", "img", "--yes", "--purge"]).expect(0);
    assert_eq!(sandbox.tree(), before);
}

#[test]
fn a_second_run_has_nothing_to_do() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    let before = sandbox.tree();
    assert!(sandbox.init(&[]).stdout.contains("nothing to do"));
    assert_eq!(sandbox.tree(), before);
}

#[test]
fn the_second_hamaster_at_once_is_turned_away() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("out")).unwrap();
    for (dir, args) in [
        ("img", &INIT[..]),
        ("out", &["certs", "generate", "--out", "out", "--name", "m1", "--advertise-ip", "192.0.2.11"]),
    ] {
        let first = File::open(sandbox.path(dir)).unwrap();
        first.try_lock().unwrap();
        sandbox.refuses(args, 4, "another hamaster is at work", "ps ");
    }
}

#[test]
fn nobody_to_ask_is_a_refusal() {
    let sandbox = Sandbox::new();
    let asks: Vec<&str> = INIT.into_iter().filter(|a| *a != "--yes").collect();
    sandbox.refuses(&asks, 2, "nobody can be asked", "--yes");
    sandbox.init(&[]);
    sandbox.refuses(&["reset", "--root", "img"], 2, "nobody can be asked", "--yes");
}

#[test]
fn a_missing_etcd_is_refused_by_preflight() {
    let sandbox = Sandbox::new();
    let args = ["init", "--root", "img", "--name", "m1", "--advertise-ip", "192.0.2.11", "--yes"];
    sandbox.refuses(&args, 3, "Binary-etcd: etcd: is not installed", "apt-get install etcd-server");
}

#[test]
fn an_etcd_that_is_too_old_is_refused_by_preflight() {
    let sandbox = Sandbox::new();
    sandbox.write("bin/etcd", "#!/bin/sh\necho etcd Version: 3.3.27\n");
    fs::set_permissions(sandbox.path("bin/etcd"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    // A dry run, because this is about the very host of the test.
    let mut command = sandbox.command(HAMASTER);
    command.args(["init", "--dry-run", "--name", "m1", "--advertise-ip", "192.0.2.11"]).env("PATH", path);
    let run = Run::of(command.output().unwrap()).expect(3);
    assert!(run.stderr.contains("EtcdVersion: etcd: 3.3.27 is too old"), "{}", run.stderr);
}

#[test]
fn an_image_that_is_not_there_is_a_usage_error() {
    let args: Vec<&str> = INIT.iter().map(|a| if *a == "img" { "nowhere" } else { a }).collect();
    Sandbox::new().refuses(&args, 2, "nowhere", "mkdir -p");
}

/// Runs `init` in a mount namespace of its own after `setup`; prints the paths below `img` before and after.
fn in_a_namespace(sandbox: &Sandbox, setup: &str) -> Run {
    sandbox.write("init.sh", format!("exec $HAMASTER {}\n", INIT.join(" ")));
    sandbox.write(
        "run.sh",
        format!(
            "set -eu; {setup}
             find img | sort >before; code=0; bash init.sh || code=$?
             find img | sort >after; diff before after || exit 99; exit $code"
        ),
    );
    let mut command = sandbox.command("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "run.sh"]).env("HAMASTER", HAMASTER);
    Run::of(command.output().unwrap())
}

#[test]
fn a_disk_that_fills_up_gets_everything_back() {
    if !root_or_skip("mounts a small file system") {
        return;
    }
    // From a few files to nearly all of them.
    for size in [16, 64, 160, 240] {
        let sandbox = Sandbox::new();
        let run = in_a_namespace(&sandbox, &format!("mount -t tmpfs -o size={size}k none img")).expect(1);
        assert!(run.stderr.contains("no space left on its filesystem"), "{size}: {}", run.stderr);
        assert!(run.stderr.contains("hint: df "), "{size}: {}", run.stderr);
    }
}

#[test]
fn a_read_only_etc_gets_everything_back() {
    if !root_or_skip("mounts a directory read-only") {
        return;
    }
    let sandbox = Sandbox::new();
    let run = in_a_namespace(&sandbox, "mount --bind img/etc img/etc; mount -o remount,ro,bind img/etc");
    assert!(run.code == 1 || run.code == 3, "{run:#?}");
    assert!(run.stderr.contains("mounted read-only") && run.stderr.contains("hint: findmnt"), "{}", run.stderr);
}

#[test]
fn an_ordinary_user_is_told_what_needs_root() {
    if !root_or_skip("becomes another user") {
        return;
    }
    let sandbox = Sandbox::new();
    // Where another user reaches it.
    fs::copy(HAMASTER, sandbox.path("hamaster")).unwrap();
    fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let nobody = |args: &[&str]| {
        let mut command = sandbox.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "./hamaster"]).args(args);
        Run::of(command.output().unwrap())
    };
    let run = nobody(&["init", "--dry-run", "--name", "m1", "--advertise-ip", "192.0.2.11"]).expect(3);
    assert!(run.stderr.contains("IsPrivilegedUser") && run.stderr.contains("sudo"), "{}", run.stderr);
    nobody(&["status"]);
    nobody(&["doctor"]).expect(4);
    nobody(&["render", "--name", "m1", "--advertise-ip", "192.0.2.11", "--out", "files"]).expect(0);
    nobody(&["certs", "generate", "--name", "m1", "--advertise-ip", "192.0.2.11", "--out", "bundle"]).expect(0);
    nobody(&["certs", "verify", "bundle"]).expect(0);
}
