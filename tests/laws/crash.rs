//! Law 2: killed anywhere and run again, the host ends as after an uncut run.

use std::path::Path;

use rustix::process::Signal;

use crate::common::{Image, Tree, count_points, points, try_all};

/// Every kind of file with few of each: what is crashed is a run of hundreds of points.
const ARGS: [&str; 2] = ["--runtime=containerd", "--election=native"];

#[test]
fn init_killed_anywhere_ends_the_same() {
    let uncut = Image::new();
    uncut.init(&ARGS).expect(0);
    let wanted = comparable(&uncut.tree());
    let total = count_points(|n| killed(&Image::new(), n));
    assert!(total > 300, "only {total} points: does this build have them?");
    try_all(points(total, 24), |n| {
        let image = Image::new();
        assert!(killed(&image, n), "point {n} was not reached");
        image.init(&ARGS).expect(0);
        image.init(&ARGS).expect_nothing_to_do();
        let tree = image.tree();
        comparable(&tree).assert_is(&wanted, &format!("killed at {n}, then run again"));
        assert_eq!(tree.temporaries(), Vec::<&std::path::PathBuf>::new(), "killed at {n}");
        image.run(&["certs", "verify"]).expect(0);
    });
}

#[test]
fn init_killed_again_and_again_ends_the_same() {
    let uncut = Image::new();
    uncut.init(&ARGS).expect(0);
    let image = Image::new();
    // Each run gets a little further than the one before, and dies.
    let mut deaths = 0;
    while killed(&image, 61) && deaths < 500 {
        deaths += 1;
    }
    assert!(deaths > 4, "{deaths}");
    image.init(&ARGS).expect_nothing_to_do();
    comparable(&image.tree()).assert_is(&comparable(&uncut.tree()), "killed again and again");
}

fn killed(image: &Image, point: u64) -> bool {
    let said = image.init_with("HAMASTER_CRASH_AT", &point.to_string(), &ARGS);
    let killed = said.signal == Some(Signal::KILL.as_raw());
    assert!(killed || said.code == Some(0), "at {point}: {said}");
    killed
}

/// The tree without what is random by nature: keys and what is signed with them, and digests of those. What is left of
/// them is that they are there, with mode and owner; `certs verify` judges the rest. Backups are left out: a pair that
/// was half made is put aside like any other.
pub fn comparable(tree: &Tree) -> Tree {
    let mut tree = tree.clone().without("/var/lib/hamaster/backup");
    for (path, thing) in &mut tree.0 {
        thing.content = if random(path) { vec![] } else { masked(&String::from_utf8_lossy(&thing.content)) };
    }
    tree
}

fn random(path: &Path) -> bool {
    let in_bundle = path.iter().any(|name| name == "pki");
    let kubeconfig =
        path.parent() == Some(Path::new("/etc/kubernetes")) && path.extension().is_some_and(|e| e == "conf");
    in_bundle || kubeconfig && path != Path::new("/etc/kubernetes/kubelet.conf")
}

/// Digests and the cluster token depend on the keys.
fn masked(text: &str) -> Vec<u8> {
    let mut out = String::new();
    let mut hex = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_digit() || ('a'..='f').contains(&c) {
            hex.push(c);
        } else {
            out.push_str(if hex.len() >= 32 { "…" } else { &hex });
            hex.clear();
            out.push(c);
        }
    }
    out.into_bytes()
}
