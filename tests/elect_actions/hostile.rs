//! Files that will not go.

use std::fs;
use std::time::Duration;

use hamaster::elect::actions::PayloadEvent;
use hamaster::elect::config::{Confirm, FileKind, Unfenceable};

use crate::stage::{Stage, is_root, sh, wait_for};

#[test]
fn an_immutable_file_goes_all_the_same() {
    if !is_root() {
        return;
    }
    let mut stage = Stage::plain();
    stage.start().unwrap();
    sh(&format!("chattr +i {}", stage.dest().display()));
    assert_eq!(stage.stop(), [""; 0]);
    assert!(!stage.dest().exists());
}

#[test]
fn what_cannot_be_removed_is_never_called_stopped() {
    if !is_root() {
        return;
    }
    let mut stage = Stage::file(FileKind::File, Confirm::None, Duration::from_millis(400));
    stage.setting.on_unfenceable = Unfenceable::Reboot;
    let manifests = stage.path("etc/manifests");
    sh(&format!("mount -t tmpfs none {}", manifests.display()));
    stage.start().unwrap();
    sh(&format!("mount -o remount,ro {}", manifests.display()));
    stage.order_stop();
    let missed = [stage.next(), stage.next()];
    let rebooted = stage.path("sysrq");
    wait_for("the reboot", || fs::read_to_string(&rebooted).is_ok_and(|s| s == "b"));
    let quiet = stage.event(Duration::from_millis(600));
    let fenced = stage.fence(Duration::from_millis(300));
    sh(&format!("mount -o remount,rw {}", manifests.display()));
    let last = stage.next();
    let gone = !stage.dest().exists();
    sh(&format!("umount {}", manifests.display()));
    for event in missed {
        assert!(matches!(&event, PayloadEvent::Stopped(Err(why)) if why.contains("cannot remove")), "{event:?}");
    }
    assert_eq!(quiet, None, "each rung is told once");
    assert!(fenced.unwrap_err().to_string().contains("not fenced"));
    assert_eq!(last, PayloadEvent::Stopped(Ok(())));
    assert!(gone);
}

#[test]
fn a_kubelet_that_keeps_a_file_is_stopped_and_started_again() {
    if !is_root() {
        return;
    }
    let mut stage = Stage::file(FileKind::Pod, Confirm::None, Duration::from_millis(400));
    let log = stage.path("asked");
    stage.script("systemctl", &format!("echo $* >> {}", log.display()));
    let manifests = stage.path("etc/manifests");
    sh(&format!("mount -t tmpfs none {}", manifests.display()));
    stage.start().unwrap();
    sh(&format!("chattr +i {}", manifests.display()));
    stage.order_stop();
    wait_for("the kubelet's end", || fs::read_to_string(&log).is_ok());
    let asked = fs::read_to_string(&log).unwrap();
    sh(&format!("chattr -i {}", manifests.display()));
    stage.stopped();
    let after = fs::read_to_string(&log).unwrap();
    sh(&format!("umount {}", manifests.display()));
    assert_eq!(asked, "stop --no-block kubelet.service\n");
    assert_eq!(after, asked + "start --no-block kubelet.service\n");
}

#[test]
fn a_directory_that_refuses_makes_unfit_and_starts_nothing() {
    if !is_root() {
        return;
    }
    let mut stage = Stage::plain();
    let manifests = stage.path("etc/manifests");
    sh(&format!("mount -t tmpfs -o size=4k none {0}; mount -o remount,ro {0}", manifests.display()));
    let fitness = stage.event(crate::stage::NEVER);
    let started = stage.start();
    sh(&format!("umount {}", manifests.display()));
    assert!(matches!(fitness, Some(PayloadEvent::Fitness(Err(_)))), "{fitness:?}");
    assert!(started.unwrap_err().contains("Read-only"));
}
