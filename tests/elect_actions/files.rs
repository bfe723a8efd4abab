//! A file appears and goes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::time::Duration;

use hamaster::elect::actions::PayloadEvent;
use hamaster::elect::config::Unfenceable;
use hamaster::elect::instant::Instant;
use hamaster::host::clock::boottime;
use rustix::fs::inotify::ReadFlags;

use crate::oracle::Oracle;
use crate::stage::{Stage, TOKEN, is_root, later, names, pod, sh, wait_for};

#[test]
fn a_file_appears_whole_by_one_rename_and_goes_by_one_unlink() {
    let mut stage = Stage::pod();
    let oracle = Oracle::on(&stage.path("etc/manifests"));
    stage.start().unwrap();
    assert_eq!(fs::read(stage.dest()).unwrap(), fs::read(stage.source()).unwrap());
    assert_eq!(fs::metadata(stage.dest()).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(stage.path("etc/.hamaster")).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(stage.stop(), [""; 0]);
    assert!(!stage.dest().exists());
    let x = "x.yaml".to_owned();
    assert_eq!(oracle.seen(), [(x.clone(), ReadFlags::MOVED_TO), (x, ReadFlags::DELETE)]);
    assert_eq!(names(&stage.path("etc/.hamaster")), [""; 0]);
}

#[test]
fn on_another_mount_it_is_staged_under_a_dotfile() {
    if !is_root() {
        return;
    }
    let mut stage = Stage::pod();
    let manifests = stage.path("etc/manifests");
    sh(&format!("mount --bind {0} {0}", manifests.display()));
    let oracle = Oracle::on(&manifests);
    let started = stage.start();
    let seen = oracle.seen();
    let staged = names(&stage.path("etc/.hamaster"));
    stage.stop();
    sh(&format!("umount {}", manifests.display()));
    started.unwrap();
    assert_eq!(seen, [("x.yaml".to_owned(), ReadFlags::MOVED_TO)]);
    assert_eq!(staged, [""; 0]);
}

#[test]
fn what_is_there_already_and_the_same_is_adopted_untouched() {
    let mut stage = Stage::pod();
    fs::copy(stage.source(), stage.dest()).unwrap();
    let before = fs::metadata(stage.dest()).unwrap();
    let oracle = Oracle::on(&stage.path("etc/manifests"));
    stage.start().unwrap();
    let after = fs::metadata(stage.dest()).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec(), before.ctime_nsec()),
        (after.ino(), after.mtime_nsec(), after.ctime_nsec())
    );
    assert_eq!(oracle.seen(), []);
    // And a second time, under another token.
    stage.start().unwrap();
    assert_eq!(oracle.seen(), []);
}

#[test]
fn a_leader_with_a_broken_source_goes_on_with_what_it_has() {
    let mut stage = Stage::pod();
    fs::copy(stage.source(), stage.dest()).unwrap();
    fs::write(stage.source(), "kind: [").unwrap();
    stage.start().unwrap();
    assert_eq!(fs::read_to_string(stage.dest()).unwrap(), pod("x", "first"));
    stage.stop();
    assert!(stage.start().unwrap_err().contains("x.yaml"), "with nothing there it cannot start");
}

#[test]
fn nothing_appears_after_the_deadline() {
    let mut stage = Stage::pod();
    let oracle = Oracle::on(&stage.path("etc/manifests"));
    stage.payload().start(TOKEN, boottime());
    let why = stage.started().unwrap_err();
    assert!(why.contains("lease ran out"), "{why}");
    assert_eq!(oracle.seen(), []);
    // An older deadline that was extended counts as the newer one.
    stage.payload().start(TOKEN, Instant::BOOT + Duration::from_nanos(1));
    stage.started().unwrap_err();
    stage.start().unwrap();
}

#[test]
fn the_token_is_put_where_the_source_asks_for_it_and_nowhere_else() {
    let mut stage = Stage::pod();
    fs::write(stage.source(), pod("x", "${HAMASTER_TOKEN}")).unwrap();
    stage.start().unwrap();
    assert_eq!(fs::read_to_string(stage.dest()).unwrap(), pod("x", "${HAMASTER_TOKEN}"), "byte for byte");
    drop(stage);
    let mut stage = Stage::pod();
    stage.file_payload().annotate_token = true;
    fs::write(stage.source(), pod("x", "${HAMASTER_TOKEN}")).unwrap();
    stage.start().unwrap();
    assert_eq!(fs::read_to_string(stage.dest()).unwrap(), pod("x", "ab:7"));
}

#[test]
fn what_is_no_file_is_refused_and_gone_afterwards() {
    for make in [
        |s: &Stage| fs::create_dir_all(s.dest().join("below")).unwrap(),
        |s: &Stage| symlink(s.source(), s.dest()).unwrap(),
        |s: &Stage| sh(&format!("mkfifo {}", s.dest().display())),
    ] {
        let mut stage = Stage::pod();
        make(&stage);
        let why = stage.start().unwrap_err();
        assert!(why.contains("no file"), "{why}");
        assert!(fs::symlink_metadata(stage.dest()).is_err(), "a kubelet follows symlinks");
        stage.start().unwrap();
    }
}

#[test]
fn only_our_own_leftovers_are_swept() {
    let mut stage = Stage::pod();
    let (dir, staging) = (stage.path("etc/manifests"), stage.path("etc/.hamaster"));
    fs::create_dir(&staging).unwrap();
    for ours in [dir.join(".x.yaml.hamaster-99"), staging.join("manifests-x.yaml.99")] {
        fs::write(ours, "half").unwrap();
    }
    for others in [dir.join(".x.yaml.swp"), dir.join("y.yaml"), staging.join("manifests-y.yaml.99")] {
        fs::write(others, "theirs").unwrap();
    }
    stage.start().unwrap();
    assert_eq!(names(&dir), [".x.yaml.swp", "x.yaml", "y.yaml"]);
    assert_eq!(names(&staging), ["manifests-y.yaml.99"]);
}

#[test]
fn fencing_needs_no_thread_and_no_source() {
    let stage = Stage::plain();
    fs::write(stage.dest(), "stale").unwrap();
    fs::write(stage.path("etc/manifests/other.yaml"), "theirs").unwrap();
    fs::remove_file(stage.source()).unwrap();
    stage.fence(Duration::from_secs(1)).unwrap();
    assert_eq!(names(&stage.path("etc/manifests")), ["other.yaml"]);
    stage.fence(Duration::from_secs(1)).unwrap();
    fs::remove_dir_all(stage.path("etc")).unwrap();
    stage.fence(Duration::from_secs(1)).unwrap();
}

#[test]
fn fitness_follows_source_and_destination() {
    let mut stage = Stage::pod();
    let fitness = |stage: &mut Stage| match stage.event(crate::stage::NEVER) {
        Some(PayloadEvent::Fitness(result)) => result,
        other => panic!("{other:?}"),
    };
    assert_eq!(fitness(&mut stage), Ok(()));
    fs::write(stage.source(), "kind: Service").unwrap();
    assert!(fitness(&mut stage).unwrap_err().contains("Service"));
    fs::write(stage.source(), pod("x", "again")).unwrap();
    assert_eq!(fitness(&mut stage), Ok(()));
    fs::remove_dir_all(stage.path("etc/manifests")).unwrap();
    assert!(fitness(&mut stage).unwrap_err().contains("cannot write"));
    fs::create_dir(stage.path("etc/manifests")).unwrap();
    assert_eq!(fitness(&mut stage), Ok(()));
    assert_eq!(names(&stage.path("etc/manifests")), [""; 0]);
}

#[test]
fn hooks_know_the_term_and_a_failing_one_undoes_the_start() {
    let mut stage = Stage::plain();
    let log = stage.path("log");
    let say = stage.script(
        "say",
        &format!("echo $HAMASTER_STATE $HAMASTER_GROUP $HAMASTER_TOKEN $HAMASTER_LEASE $(test -e {}; echo $?) >> {}; test -n \"$HAMASTER_DEADLINE_BOOTTIME_NS\"", stage.dest().display(), log.display()),
    );
    stage.group.on_start = Some(vec![say.clone()]);
    stage.group.on_stop = Some(vec![say]);
    stage.start().unwrap();
    stage.stop();
    let name = &stage.group.name;
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("start {name} ab:7 5000 0\nstop {name} ab:7 5000 1\n"));

    let mut stage = Stage::plain();
    stage.group.on_start = Some(vec![stage.script("no", "exit 3")]);
    let why = stage.start().unwrap_err();
    assert!(why.contains("exit status: 3"), "{why}");
    assert!(!stage.dest().exists());
}

#[test]
fn a_stop_hook_is_run_until_it_succeeds() {
    let mut stage = Stage::plain();
    let count = stage.path("count");
    stage.group.on_stop =
        Some(vec![stage.script("third", &format!("echo >> {0}; test $(wc -l < {0}) -ge 3", count.display()))]);
    stage.start().unwrap();
    let missed = stage.stop();
    assert_eq!(missed.len(), 1, "{missed:?}");
    assert_eq!(fs::read_to_string(&count).unwrap().len(), 3);
}

#[test]
fn a_stop_cuts_a_start_short() {
    let mut stage = Stage::plain();
    let began = stage.path("began");
    stage.group.on_start = Some(vec![stage.script("long", &format!("touch {}; sleep 1000", began.display()))]);
    stage.payload().start(TOKEN, later());
    wait_for("the hook", || began.exists());
    assert!(stage.dest().exists());
    assert_eq!(stage.stop(), [""; 0], "and no Started is told");
    assert!(!stage.dest().exists());
}

#[test]
fn a_start_that_fails_long_after_a_stop_has_its_own_time() {
    let mut stage = Stage::plain();
    stage.setting.on_unfenceable = Unfenceable::Reboot;
    let go = stage.path("go");
    stage.group.on_start = Some(vec![stage.script("no", "exit 1")]);
    // Takes a moment to stop: had it no time left, the machine would be rebooted.
    stage.group.on_stop = Some(vec![stage.script("slow", &format!("test ! -e {} || sleep 0.1", go.display()))]);
    stage.stop();
    fs::write(&go, "").unwrap();
    stage.start().unwrap_err();
    assert!(!stage.path("sysrq").exists());
}

/// Frozen between the last look at the clock and the rename, and thawed when the lease is over.
#[test]
fn a_process_thawed_too_late_takes_back_what_it_made_visible() {
    // A stop point is in the environment, and it freezes the whole process: the child is this same test.
    if std::env::var_os("HAMASTER_STOP_AT").is_some() {
        return frozen_while_it_installs();
    }
    let me = std::env::current_exe().unwrap();
    let this = "files::a_process_thawed_too_late_takes_back_what_it_made_visible";
    let mut child = Command::new(me)
        .args(["--exact", "--nocapture", this])
        .env("HAMASTER_STOP_AT", "elect.install.checked:1")
        .spawn()
        .unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    wait_for("the freeze", || fs::read_to_string(&stat).is_ok_and(|s| s.rsplit_once(')').unwrap().1.starts_with(" T")));
    // Its lease, counted from before the freeze.
    std::thread::sleep(FROZEN);
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert!(child.wait().unwrap().success());
}

const FROZEN: Duration = Duration::from_secs(2);

fn frozen_while_it_installs() {
    let mut stage = Stage::pod();
    let oracle = Oracle::on(&stage.path("etc/manifests"));
    stage.payload().start(TOKEN, boottime() + FROZEN);
    // In words: the lease ran out, or the installation took longer than it may.
    stage.started().unwrap_err();
    assert!(!stage.dest().exists());
    let x = "x.yaml".to_owned();
    assert_eq!(oracle.seen(), [(x.clone(), ReadFlags::MOVED_TO), (x, ReadFlags::DELETE)], "it was never frozen there");
}
