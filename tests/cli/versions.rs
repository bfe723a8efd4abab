//! What the operator chooses shows in what is written, and what is left out is said.

use crate::sandbox::{Run, Sandbox};

fn render(sandbox: &Sandbox, more: &[&str]) -> Run {
    let args = ["render", "--node", "m1", "--advertise-ip", "192.0.2.11", "--out", "out"];
    sandbox.run(args.iter().chain(more)).expect(0)
}

#[test]
fn basic_auth_is_made_for_versions_that_take_it_and_said_to_be_left_out_otherwise() {
    let csv = "img/etc/kubernetes/pki/basic_auth.csv";
    let sandbox = Sandbox::new();
    let old = sandbox.init(&["--kubernetes-version", "v1.18.20"]);
    assert!(sandbox.path(csv).exists(), "{old:#?}");
    assert!(sandbox.read("img/etc/kubernetes/manifests/kube-apiserver.yaml").contains("--basic-auth-file="));

    let sandbox = Sandbox::new();
    let new = sandbox.init(&["--kubernetes-version", "v1.19.0"]);
    assert!(!sandbox.path(csv).exists());
    assert!(new.stderr.contains("basic_auth.csv"), "it is not said: {}", new.stderr);
}

#[test]
fn the_cis_profile_leaves_no_static_tokens() {
    let sandbox = Sandbox::new();
    render(&sandbox, &["--profile", "cis"]);
    let apiserver = sandbox.read("out/etc/kubernetes/manifests/kube-apiserver.yaml");
    assert!(!apiserver.contains("--token-auth-file") && apiserver.contains("--profiling=false"), "{apiserver}");
}

#[test]
fn the_classic_path_gives_docker_flannels_subnet() {
    let sandbox = Sandbox::new();
    sandbox.write("cluster.yaml", "kubernetes: { version: v1.20.2 }\nruntime: docker\nnetwork: { path: classic }\n");
    let run = render(&sandbox, &["-c", "cluster.yaml"]);
    assert!(run.stdout.contains("docker.service.d/"), "{}", run.stdout);
    let drop_in = run.stdout.lines().find(|l| l.contains("docker.service.d/")).unwrap();
    assert!(sandbox.read(drop_in).contains("/run/flannel/"), "{drop_in}");
}

#[test]
fn what_render_writes_is_what_init_writes() {
    let sandbox = Sandbox::new();
    render(&sandbox, &["--election", "native", "--runtime", "containerd"]);
    sandbox.init(&["--election", "native", "--runtime", "containerd"]);
    for path in ["etc/kubernetes/kubelet.conf", "etc/sysctl.d/90-hamaster.conf", "etc/kubernetes/policy/audit.yaml"] {
        assert_eq!(sandbox.read(&format!("out/{path}")), sandbox.read(&format!("img/{path}")), "{path}");
    }
    let below = |dir: &str| -> Vec<String> {
        let listed = sandbox.sh(&format!("cd {dir}; find etc/systemd etc/kubernetes/manifests -type f | sort"));
        listed.lines().map(str::to_owned).collect()
    };
    assert_eq!(below("out"), below("img"));
}
