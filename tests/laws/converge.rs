//! Law 1: apply the plan, plan again: empty, and not one file was written a second time.

use std::fs;
use std::process::Command;

use crate::common::{HAMASTER, Image, Tree, said};

/// Runs `init` with `args` until it is done, and once more.
fn converges(args: &[&str]) -> Image {
    let image = Image::new();
    let first = image.init(args).expect(0);
    assert!(first.out.contains("done ("), "{first}");
    let (tree, stamps) = (image.tree(), Tree::stamps(image.root()));
    image.init(args).expect_nothing_to_do();
    image.tree().assert_is(&tree, "a second init");
    assert_eq!(Tree::stamps(image.root()), stamps, "something was written again");
    image
}

#[test]
fn defaults() {
    let image = converges(&[]);
    // From the spec and the record on the host alone.
    image.run(&["init", "--yes", "--ignore-preflight=all"]).expect_nothing_to_do();
}

#[test]
fn containerd_and_cis() {
    converges(&["--runtime=containerd", "--profile=cis"]);
}

#[test]
fn native_election() {
    converges(&["--election=native"]);
}

#[test]
fn an_old_kubernetes_with_basic_auth() {
    let image = converges(&["--kubernetes-version=v1.18.20"]);
    assert!(image.has("/etc/kubernetes/pki/basic_auth.csv"));
}

#[test]
fn rsa_keys_from_a_cluster_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.yaml");
    let yaml = "apiVersion: hamaster/v1\nkind: Cluster\nname: prod\npki: { keyAlgorithm: rsa-2048 }\n";
    fs::write(&file, yaml).unwrap();
    let image = converges(&["-c", file.to_str().unwrap()]);
    let key = said(Command::new("openssl").args(["rsa", "-noout", "-text", "-in"]).arg(image.path(SERVER_KEY)));
    assert!(key.expect(0).out.contains("2048 bit"));
}

/// The kubelet renews its client certificate itself and leaves a symlink to the newest.
#[test]
fn a_certificate_the_kubelet_has_rotated() {
    let image = converges(&[]);
    let current = image.path("/var/lib/kubelet/pki/kubelet-client-current.pem");
    fs::rename(&current, current.with_file_name("kubelet-client-2026.pem")).unwrap();
    std::os::unix::fs::symlink("/var/lib/kubelet/pki/kubelet-client-2026.pem", &current).unwrap();
    image.init(&[]).expect_nothing_to_do();
    image.run(&["certs", "verify"]).expect(0);
}

const SERVER_KEY: &str = "/etc/kubernetes/pki/server.key";

#[test]
fn each_phase_alone_adds_up_to_all_of_them() {
    let image = Image::new();
    for phase in [
        "preflight",
        "pki",
        "kubeconfig",
        "etcd",
        "network",
        "runtime",
        "kubelet",
        "control-plane",
        "election",
        "register",
    ] {
        image.init(&["--only", phase]).expect(0);
        let stamps = Tree::stamps(image.root());
        image.init(&["--only", phase]).expect_nothing_to_do();
        assert_eq!(Tree::stamps(image.root()), stamps, "phase {phase} wrote again");
    }
    image.init(&[]).expect_nothing_to_do();
    let whole = Image::new();
    whole.init(&[]).expect(0);
    let paths = |image: &Image| image.tree().0.into_keys().collect::<Vec<_>>();
    assert_eq!(paths(&image), paths(&whole));
}

#[test]
fn a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let generate = || {
        let args = ["certs", "generate", "--name=m1", "--advertise-ip=192.0.2.10", "--out"];
        said(Command::new(HAMASTER).args(args).arg(dir.path()))
    };
    generate().expect(0);
    let stamps = Tree::stamps(dir.path());
    generate().expect_nothing_to_do();
    assert_eq!(Tree::stamps(dir.path()), stamps);
}
