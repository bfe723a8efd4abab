//! The control plane for real: the manifests, certificates, tokens and policies hamaster makes, run by Kubernetes' own
//! programs in a lab. Needs `KUBE_BIN_DIR` (`.ci/test` sets it); with `CI=true` its absence is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Waits end when what they wait for is there; this is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

struct Lab {
    dir: TempDir,
    programs: PathBuf,
}

impl Lab {
    fn up() -> Option<Self> {
        let Some(programs) = std::env::var_os("KUBE_BIN_DIR").or_else(|| std::env::var_os("KUBEBUILDER_ASSETS")) else {
            assert!(std::env::var_os("CI").is_none(), "KUBE_BIN_DIR is not set: run .ci/test");
            eprintln!("skipped: KUBE_BIN_DIR is not set; .ci/test builds Kubernetes and sets it");
            return None;
        };
        let lab = Self { dir: TempDir::new().unwrap(), programs: programs.into() };
        let first = lab.hamaster("up");
        assert!(first.contains("create the RBAC bindings"), "{first}");
        Some(lab)
    }

    /// Runs `hamaster lab VERB`, which must succeed, and returns all it said.
    fn hamaster(&self, verb: &str) -> String {
        let out = Command::new(env!("CARGO_BIN_EXE_hamaster"))
            .args(["lab", verb, "--dir"])
            .arg(self.dir.path().join("lab"))
            .env("KUBE_BIN_DIR", &self.programs)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", said(&out));
        said(&out)
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("lab").canonicalize().unwrap().join("m1").join(inside)
    }

    fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap()
    }

    /// The address of this lab's master, from a kubeconfig that never goes through a load balancer.
    fn address(&self) -> String {
        let conf = self.read("etc/kubernetes/scheduler.conf");
        let server = conf.split("https://").nth(1).unwrap();
        server.split(':').next().unwrap().to_owned()
    }

    fn kubectl(&self, conf: &str, args: &[&str]) -> Output {
        Command::new(self.programs.join("kubectl"))
            .arg("--kubeconfig")
            .arg(self.path(&format!("etc/kubernetes/{conf}.conf")))
            .args(args)
            .env("HOME", self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn curl(&self, args: &[&str], path: &str) -> String {
        let url = format!("https://{}:6443{path}", self.address());
        let ca = self.path("etc/kubernetes/pki/ca.crt");
        let out = Command::new("curl").args(["-s", "--cacert"]).arg(ca).args(args).arg(url).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn etcd(&self, args: &[&str]) -> Vec<u8> {
        let pki = |f: &str| self.path(&format!("etc/etcd/pki/{f}"));
        let out = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints=https://{}:2379", self.address()))
            .arg("--cacert")
            .arg(pki("ca.crt"))
            .arg("--cert")
            .arg(pki("hamaster.crt"))
            .arg("--key")
            .arg(pki("hamaster.key"))
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", said(&out));
        out.stdout
    }

    fn served_certificate(&self) -> String {
        let script = format!(
            "openssl s_client -connect {}:6443 </dev/null 2>/dev/null | openssl x509 -noout -text",
            self.address()
        );
        said(&Command::new("sh").arg("-c").arg(script).output().unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new(env!("CARGO_BIN_EXE_hamaster"))
            .args(["lab", "down", "--purge", "--dir"])
            .arg(self.dir.path().join("lab"))
            .output();
    }
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// One lab for all: Kubernetes takes seconds to start and most of a processor to run.
#[test]
fn the_rendered_control_plane_runs() {
    let Some(lab) = Lab::up() else { return };
    administrators_may_everything_and_strangers_nothing(&lab);
    static_tokens_are_taken(&lab);
    secrets_are_encrypted_at_rest(&lab);
    what_was_done_is_in_the_audit_log(&lab);
    the_controllers_and_the_scheduler_work(&lab);
    a_worker_is_the_node_it_says_and_no_other(&lab);
    a_second_up_changes_nothing(&lab);
    a_new_load_balancer_reaches_the_served_certificate(&lab);
}

fn administrators_may_everything_and_strangers_nothing(lab: &Lab) {
    for conf in ["admin", "super-admin"] {
        let can = lab.kubectl(conf, &["auth", "can-i", "*", "*"]);
        assert_eq!(said(&can).trim(), "yes", "{conf}");
    }
    let scheduler = lab.kubectl("scheduler", &["auth", "can-i", "delete", "nodes"]);
    assert!(said(&scheduler).starts_with("no"), "{}", said(&scheduler));
    assert!(lab.curl(&[], "/api/v1/secrets").contains("\"code\": 403"));
    assert_eq!(lab.curl(&[], "/readyz"), "ok", "probes need no identity");
}

fn static_tokens_are_taken(lab: &Lab) {
    let rows = lab.read("etc/kubernetes/pki/known_tokens.csv");
    let row = rows.lines().find(|r| r.contains(",system:kube-scheduler,")).expect("a row for the scheduler");
    let token = row.split(',').next().unwrap().trim_matches('"').to_owned();
    let bearer = |token: &str| lab.curl(&["-H", &format!("Authorization: Bearer {token}")], "/api/v1/nodes");
    assert!(bearer(&token).contains("NodeList"), "the scheduler may list nodes");
    assert!(bearer(&format!("{token}x")).contains("\"code\": 401"));
}

fn secrets_are_encrypted_at_rest(lab: &Lab) {
    let made = lab.kubectl("admin", &["create", "secret", "generic", "s", "--from-literal=password=tell-nobody"]);
    assert!(made.status.success(), "{}", said(&made));
    let raw = String::from_utf8_lossy(&lab.etcd(&["get", "/registry/secrets/default/s"])).into_owned();
    assert!(raw.contains("k8s:enc:"), "{raw:?}");
    assert!(!raw.contains("tell-nobody"));
}

fn what_was_done_is_in_the_audit_log(lab: &Lab) {
    let dir = lab.path("var/log/kubernetes/audit");
    let log = |dir: &Path| -> String {
        let files = std::fs::read_dir(dir).unwrap().flatten();
        files.map(|f| std::fs::read_to_string(f.path()).unwrap_or_default()).collect()
    };
    eventually("the secret's creation is in the audit log", || log(&dir).contains("/secrets"));
    assert!(!log(&dir).contains("tell-nobody"), "a secret's content must not be logged");
}

fn the_controllers_and_the_scheduler_work(lab: &Lab) {
    let node = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"fake"}}"#;
    let file = lab.dir.path().join("node.json");
    std::fs::write(&file, node).unwrap();
    assert!(lab.kubectl("admin", &["create", "-f", file.to_str().unwrap()]).status.success());
    let deploy = lab.kubectl("admin", &["create", "deployment", "web", "--image=example/none:1"]);
    assert!(deploy.status.success(), "{}", said(&deploy));
    // The controller-manager makes the pod, with a service account of its making, signed with sa.key.
    eventually("the deployment has a pod", || said(&lab.kubectl("admin", &["get", "pods"])).contains("web-"));
    // The scheduler has looked at it: the only node is not ready.
    eventually("the scheduler has judged the pod", || {
        said(&lab.kubectl("admin", &["get", "events"])).contains("FailedScheduling")
    });
}

/// An image that joins as a worker, at a door like every master's; then what the API takes its certificates for.
fn a_worker_is_the_node_it_says_and_no_other(lab: &Lab) {
    let hamaster = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_hamaster")).args(args).stdin(Stdio::null()).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", said(&out));
        String::from_utf8(out.stdout).unwrap()
    };
    // A lab has no pod network; here the API is to know of flannel, though no flanneld runs.
    let file = lab.dir.path().join("lab/cluster.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    assert!(yaml.contains("plugin: none"), "{yaml}");
    std::fs::write(&file, yaml.replace("plugin: none", "plugin: flannel")).unwrap();
    let again = lab.hamaster("up");
    assert!(again.contains("create the RBAC bindings"), "{again}");
    let (prefix, root) = (lab.path(""), lab.dir.path().join("w1"));
    let token = lab.dir.path().join("token");
    let made = hamaster(&["token", "create", "--worker", "--prefix", prefix.to_str().unwrap()]);
    std::fs::write(&token, made).unwrap();
    std::fs::create_dir_all(root.join("etc")).unwrap();
    let door = Door::open(&prefix);
    let address = lab.address();
    eventually("the door is open", || std::net::TcpStream::connect(format!("{address}:7443")).is_ok());
    let words = ["join", &address, "--worker", "--name", "w1", "--advertise-ip", "192.0.2.21", "--yes"];
    let more = ["--ignore-preflight", "all", "--token-file", token.to_str().unwrap(), "--root", root.to_str().unwrap()];
    hamaster(&[&words[..], &more].concat());
    drop(door);

    let kubectl = |flags: &[String], args: &[&str]| {
        let mut command = Command::new(lab.programs.join("kubectl"));
        command.args(flags).args(args).env("HOME", lab.dir.path()).env("KUBECONFIG", "/dev/null").stdin(Stdio::null());
        said(&command.output().unwrap())
    };
    let file = |name: &str| root.join(name).display().to_string();
    let pem = file("var/lib/kubelet/pki/kubelet-client-current.pem");
    let kubelet = [
        format!("--server=https://{address}:6443"),
        format!("--certificate-authority={}", file("etc/kubernetes/pki/ca.crt")),
        format!("--client-certificate={pem}"),
        format!("--client-key={pem}"),
    ];
    let node = |name: &str| {
        let at = lab.dir.path().join(format!("{name}.json"));
        let json = format!(r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{name}"}}}}"#);
        std::fs::write(&at, json).unwrap();
        at.display().to_string()
    };
    let own = kubectl(&kubelet, &["create", "-f", &node("w1")]);
    assert!(own.contains("node/w1 created"), "{own}");
    let other = kubectl(&kubelet, &["create", "-f", &node("w2")]);
    assert!(other.contains("node \"w1\" is not allowed to modify node \"w2\""), "{other}");
    let secrets = kubectl(&kubelet, &["get", "secrets", "-A"]);
    assert!(secrets.contains("User \"system:node:w1\" cannot list"), "{secrets}");

    // flannel's own identity: nodes and their status, and nothing else.
    let flannel = [format!("--kubeconfig={}", file("etc/kubernetes/flannel.conf"))];
    let nodes = kubectl(&flannel, &["get", "nodes", "-o", "name"]);
    assert!(nodes.contains("node/w1"), "{nodes}");
    let can = |words: &str| {
        let said = kubectl(&flannel, &[&["auth", "can-i"], &words.split(' ').collect::<Vec<_>>()[..]].concat());
        said.lines().next().unwrap_or_default().to_owned()
    };
    for (words, answer) in [
        ("watch nodes", "yes"),
        ("patch nodes --subresource=status", "yes"),
        ("patch nodes", "no"),
        ("delete nodes", "no"),
        ("get pods", "no"),
        ("get secrets", "no"),
    ] {
        assert_eq!(can(words), answer, "{words}");
    }
    // The controller-manager gives the worker its subnet, which flannel takes from there.
    eventually("the worker has a subnet", || {
        kubectl(&flannel, &["get", "node", "w1", "-o", "jsonpath={.spec.podCIDR}"]).starts_with("10.244.")
    });
}

/// `hamaster serve`, which a lab does not run.
struct Door(std::process::Child);

impl Door {
    fn open(prefix: &Path) -> Self {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_hamaster"));
        serve.args(["serve", "--prefix"]).arg(prefix).stdin(Stdio::null()).stderr(Stdio::null());
        Self(serve.spawn().unwrap())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_second_up_changes_nothing(lab: &Lab) {
    let pods = || said(&lab.kubectl("admin", &["get", "--raw", "/readyz"]));
    assert_eq!(pods(), "ok");
    assert!(lab.hamaster("up").contains("nothing to do"));
}

/// The law of level-triggered restarts, on a static pod: its certificate changed, so its manifest did, so it restarts.
fn a_new_load_balancer_reaches_the_served_certificate(lab: &Lab) {
    assert!(!lab.served_certificate().contains("203.0.113.10"));
    let file = lab.dir.path().join("lab/cluster.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    assert!(yaml.contains("addresses: []"), "{yaml}");
    std::fs::write(&file, yaml.replace("addresses: []", "addresses: [203.0.113.10, api.example.com]")).unwrap();
    let again = lab.hamaster("up");
    assert!(again.contains("issue server") && again.contains("lacks SAN 203.0.113.10"), "{again}");
    eventually("the new certificate is served", || {
        let served = lab.served_certificate();
        served.contains("203.0.113.10") && served.contains("api.example.com")
    });
    eventually("the apiserver is back", || lab.curl(&[], "/readyz") == "ok");
    assert!(lab.hamaster("up").contains("nothing to do"));
}
