//! A run that fails puts everything back, byte for byte and mode for mode, and says what failed where.

use std::os::unix::fs::chown;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;

use crate::common::{Image, count_points, is_root, points, said, try_all};

const ARGS: [&str; 3] = ["--runtime=containerd", "--election=native", "--adopt"];

/// An image that has been lived in: a CA, a file in our place, directories with modes of their own.
fn lived_in() -> Image {
    let image = Image::new();
    image.put("/etc/kubernetes/pki/note", "keep me", 0o640);
    let ca = image.path("/etc/kubernetes/pki");
    let openssl =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "900"];
    let out = ["-subj", "/CN=operator", "-keyout", "ca.key", "-out", "ca.crt"];
    said(Command::new("openssl").args(openssl).args(out).current_dir(&ca)).expect(0);
    image.put("/etc/sysctl.d/90-hamaster.conf", "net.ipv4.ip_forward = 0\n", 0o600);
    image.put("/etc/hamaster/elect.yaml", "mine: true\n", 0o644);
    if is_root() {
        chown(image.path("/etc/sysctl.d/90-hamaster.conf"), Some(1234), Some(4321)).unwrap();
    }
    image
}

#[test]
fn a_full_disk_anywhere_is_undone() {
    let died = |n: u64| {
        let said = lived_in().init_with("HAMASTER_CRASH_AT", &n.to_string(), &ARGS);
        said.signal == Some(Signal::KILL.as_raw())
    };
    let points = points(count_points(died), 24);
    let (tried, failed) = (points.len(), AtomicU64::new(0));
    try_all(points, |n| {
        let image = lived_in();
        let before = image.tree();
        let said = image.init_with("HAMASTER_FAIL_AT", &n.to_string(), &ARGS);
        // Not every point stands for something that can fail.
        if said.code == Some(0) {
            return image.init(&ARGS).expect_nothing_to_do();
        }
        let said = said.expect(1);
        failed.fetch_add(1, Ordering::Relaxed);
        image.tree().assert_is(&before, &format!("failed at {n}: {said}"));
        assert!(said.err.contains("no space left") && said.err.contains("hint: "), "{said}");
        assert!(said.err.contains(image.root().to_str().unwrap()), "names no path: {said}");
    });
    let failed = failed.into_inner();
    assert!(failed * 2 > tried as u64, "only {failed} of {tried} points failed: the disk was never full");
}

#[test]
fn a_service_manager_that_refuses_is_undone() {
    let image = Image::new();
    // systemctl refuses to enable a unit whose alias is taken by a file.
    image.put("/etc/systemd/system/multi-user.target.wants", "in the way", 0o644);
    let before = image.tree();
    let said = image.init(&[]).expect(1);
    assert!(said.err.contains("etcd.service") && said.err.contains("hint: "), "{said}");
    image.tree().assert_is(&before, &said.to_string());
}
