//! A file that stays what the source says.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use hamaster::elect::actions::PayloadEvent;
use hamaster::elect::config::Update;
use rustix::fs::inotify::ReadFlags;

use crate::oracle::Oracle;
use crate::stage::{Stage, pod, wait_for};

fn dest(stage: &Stage) -> String {
    fs::read_to_string(stage.dest()).unwrap_or_default()
}

#[test]
fn a_source_edited_a_hundred_times_is_applied_once_it_rests() {
    let mut stage = Stage::pod();
    stage.start().unwrap();
    let oracle = Oracle::on(&stage.path("etc/manifests"));
    for n in 0..100 {
        fs::write(stage.source(), pod("x", &n.to_string())).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    wait_for("the last edit", || dest(&stage) == pod("x", "99"));
    let seen = oracle.seen();
    let installs = seen.iter().filter(|(_, what)| what.contains(ReadFlags::MOVED_TO)).count();
    assert!((1..=3).contains(&installs), "{seen:?}");
    let removals = seen.iter().filter(|(_, what)| what.contains(ReadFlags::DELETE)).count();
    assert_eq!(removals, installs, "a pod never meets its successor");
    assert_eq!(stage.next(), PayloadEvent::Synced);
}

#[test]
fn replacing_leaves_no_gap() {
    let mut stage = Stage::pod();
    stage.file_payload().update = Update::Replace;
    stage.start().unwrap();
    let oracle = Oracle::on(&stage.path("etc/manifests"));
    fs::write(stage.source(), pod("x", "second")).unwrap();
    wait_for("the edit", || dest(&stage) == pod("x", "second"));
    assert!(oracle.seen().iter().all(|(_, what)| *what == ReadFlags::MOVED_TO));
}

#[test]
fn a_mistake_in_the_source_changes_nothing_and_is_told_once() {
    let mut stage = Stage::pod();
    stage.start().unwrap();
    let oracle = Oracle::on(&stage.path("etc/manifests"));
    let long = pod("x", "first");
    for (content, why) in [
        ("kind: [".to_owned(), ""),
        (long[..long.len() / 2].to_owned(), ""),
        (pod("y", "other name"), "kube-system/y"),
        (format!("{}---\n{}", pod("x", "one"), pod("x", "two")), ""),
        (String::new(), ""),
    ] {
        // By rename, as configuration management does: a half-written one would be a mistake of its own.
        fs::write(stage.path("standby/new"), content).unwrap();
        fs::rename(stage.path("standby/new"), stage.source()).unwrap();
        match stage.next() {
            PayloadEvent::SourceInvalid(told) => assert!(told.contains(why), "{told}"),
            other => panic!("{other:?}"),
        }
    }
    fs::remove_file(stage.source()).unwrap();
    assert!(matches!(stage.next(), PayloadEvent::SourceInvalid(_)));
    assert_eq!(dest(&stage), long);
    assert_eq!(oracle.seen(), []);
    fs::write(stage.source(), pod("x", "good again")).unwrap();
    assert_eq!(stage.next(), PayloadEvent::Synced);
    assert_eq!(dest(&stage), pod("x", "good again"));
}

#[test]
fn a_symlinked_source_is_followed_when_it_is_switched() {
    let mut stage = Stage::pod();
    fs::rename(stage.source(), stage.path("one.yaml")).unwrap();
    fs::write(stage.path("two.yaml"), pod("x", "two")).unwrap();
    symlink(stage.path("one.yaml"), stage.source()).unwrap();
    stage.start().unwrap();
    symlink(stage.path("two.yaml"), stage.path("standby/new")).unwrap();
    fs::rename(stage.path("standby/new"), stage.source()).unwrap();
    assert_eq!(stage.next(), PayloadEvent::Synced);
    assert_eq!(dest(&stage), pod("x", "two"));
}

#[test]
fn what_is_done_to_the_destination_by_hand_is_undone() {
    let mut stage = Stage::pod();
    stage.start().unwrap();
    let good = pod("x", "first");
    let hands: [fn(&Stage); 5] = [
        |s| fs::remove_file(s.dest()).unwrap(),
        |s| fs::write(s.dest(), "kind: Pod").unwrap(),
        |s| fs::rename(s.dest(), s.path("etc/moved")).unwrap(),
        |s| {
            fs::remove_file(s.dest()).unwrap();
            fs::create_dir_all(s.dest().join("below")).unwrap();
        },
        |s| {
            fs::remove_file(s.dest()).unwrap();
            symlink("/dev/null", s.dest()).unwrap();
        },
    ];
    for hand in hands {
        hand(&stage);
        assert_eq!(stage.next(), PayloadEvent::Synced);
        wait_for("the content", || {
            fs::symlink_metadata(stage.dest()).is_ok_and(|m| m.is_file()) && dest(&stage) == good
        });
        // A hand of two moves may be undone twice.
        while stage.event(Duration::from_millis(100)).is_some() {}
    }
    // Not after it was stopped.
    stage.stop();
    fs::write(stage.dest(), "theirs").unwrap();
    fs::remove_file(stage.dest()).unwrap();
    while let Some(event) = stage.event(Duration::from_millis(200)) {
        assert!(matches!(event, PayloadEvent::Fitness(_)), "{event:?}");
    }
}

#[test]
fn a_destination_whose_directory_was_away_is_filled_again() {
    let mut stage = Stage::pod();
    stage.start().unwrap();
    fs::rename(stage.path("etc/manifests"), stage.path("etc/away")).unwrap();
    fs::create_dir(stage.path("etc/manifests")).unwrap();
    wait_for("the file", || dest(&stage) == pod("x", "first"));
}

#[test]
fn an_idle_payload_sleeps() {
    let mut stage = Stage::pod();
    stage.start().unwrap();
    // What the start itself stirred up.
    std::thread::sleep(Duration::from_millis(700));
    let before = stage.payload().progress();
    std::thread::sleep(Duration::from_secs(5));
    let woken = stage.payload().progress() - before;
    assert!(woken <= 1, "{woken} wake-ups in 5 s");
}
