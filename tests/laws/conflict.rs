//! Law 4: what is not ours is never overwritten; with `--adopt` it is backed up, and `reset` puts it back.

use std::os::unix::fs::{chown, symlink};

use crate::common::{Image, is_root};

/// One of each kind that `--adopt` takes over.
const FOREIGN: [&str; 6] = [
    "/etc/systemd/system/etcd.service",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/var/lib/kubelet/config.yaml",
    "/etc/kubernetes/pki/server.cert",
    "/etc/kubernetes/pki/server.key",
    "/etc/kubernetes/admin.conf",
];

fn with_foreign_files() -> Image {
    let image = Image::new();
    for (i, path) in FOREIGN.iter().enumerate() {
        image.put(path, &format!("# the operator's own {i}\n"), [0o644, 0o640, 0o600][i % 3]);
        if is_root() {
            chown(image.path(path), Some(1000 + i as u32), Some(2000)).unwrap();
        }
    }
    image
}

#[test]
fn everything_in_the_way_is_told_at_once_and_nothing_is_touched() {
    let image = with_foreign_files();
    image.put("/etc/kubernetes/standby", "a file where a directory is needed", 0o644);
    image.mkdir("/etc/hamaster/elect.yaml");
    symlink("/etc/passwd", image.path("/etc/hamaster/rbac.yaml")).unwrap();
    symlink("/nowhere", image.path("/etc/kubernetes/kubelet.conf")).unwrap();
    image.put("/etc/kubernetes/pki/known_tokens.csv", "this is no token file", 0o600);
    image.mkdir("/etc/etcd/pki/peer.key");
    image.put("/etc/kubernetes/pki/front-proxy-ca.crt", "no certificate", 0o644);
    let before = image.tree();
    for more in [&[][..], &["--dry-run"], &["-o", "json"]] {
        let said = image.init(more).expect(4);
        let mut missing = vec![];
        for path in before.0.keys().filter(|p| before.0[*p].content.starts_with(b"# the operator")) {
            missing.extend((!said.has(path.to_str().unwrap())).then(|| path.display().to_string()));
        }
        // A pair is one object and is told by one of its files.
        missing.retain(|p| p != "/etc/kubernetes/pki/server.key");
        for path in [
            "/etc/kubernetes/standby",
            "/etc/hamaster/elect.yaml",
            "/etc/hamaster/rbac.yaml",
            "/etc/kubernetes/kubelet.conf",
            "/etc/kubernetes/pki/known_tokens.csv",
            "/etc/etcd/pki/peer",
            "/etc/kubernetes/pki/front-proxy-ca.crt",
        ] {
            missing.extend((!said.has(path)).then(|| path.to_owned()));
        }
        assert!(missing.is_empty(), "not told: {missing:?}\n{said}");
        assert!(said.has("hint"), "{said}");
        image.tree().assert_is(&before, "a refused init");
    }
}

#[test]
fn what_was_adopted_comes_back() {
    let image = with_foreign_files();
    let before = image.tree();
    image.init(&[]).expect(4);
    image.init(&["--adopt"]).expect(0);
    for path in FOREIGN {
        assert!(!image.read(path).contains("operator"), "{path} was not taken over");
    }
    image.init(&[]).expect_nothing_to_do();
    let said = image.run(&["reset", "--yes", "--purge"]).expect(0);
    image.tree().assert_is(&before, &format!("adopted and reset: {said}"));
}

#[test]
fn a_file_of_ours_that_was_edited_is_restored_and_the_edit_kept() {
    let image = Image::new();
    image.init(&[]).expect(0);
    let path = "/etc/systemd/system/etcd.service";
    let ours = image.read(path);
    image.put(path, "# edited\n", 0o644);
    let said = image.init(&[]).expect(0);
    assert!(said.has("backed up"), "{said}");
    assert_eq!(image.read(path), ours);
    let backups = image.tree();
    let kept = backups.0.iter().find(|(p, t)| p.starts_with("/var/lib/hamaster/backup") && t.content == b"# edited\n");
    assert!(kept.is_some(), "the edit is lost");
}

#[test]
fn reset_leaves_a_file_that_was_edited_and_says_so() {
    let image = Image::new();
    image.init(&[]).expect(0);
    let path = "/etc/hamaster/elect.yaml";
    image.put(path, "# edited\n", 0o600);
    let said = image.run(&["reset", "--yes"]).expect(0);
    assert!(said.has(path) && said.has("changed since"), "{said}");
    assert_eq!(image.read(path), "# edited\n");
}

#[test]
fn an_edit_after_a_kill_is_still_an_edit() {
    // Killed right after a public file got its name, before the record knows its bytes.
    for point in 1.. {
        let image = Image::new();
        let said = image.init_with("HAMASTER_CRASH_AT", &format!("fs.write.renamed:{point}"), &["--only=election"]);
        assert_eq!(said.signal, Some(9), "no run was cut where it should be");
        if image.has("/etc/hamaster/elect.yaml") && !image.has("/etc/systemd/system/hamaster-elect.service") {
            image.init(&["--only=election"]).expect(0);
            image.put("/etc/hamaster/elect.yaml", "# edited\n", 0o600);
            image.run(&["reset", "--yes", "--purge"]).expect(0);
            return assert_eq!(image.read("/etc/hamaster/elect.yaml"), "# edited\n");
        }
    }
}
