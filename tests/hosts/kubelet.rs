//! The whole road: `hamaster init` on a host with a real kubelet, a real containerd and the real control plane.
//!
//! Needs `KUBE_BIN_DIR` (`.ci/test` sets it); on CI its absence is a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::etcd::etcdctl;
use crate::lab::{Lab, tool, within};
use crate::machine::{Machine, said};

const PATIENCE: Duration = Duration::from_secs(180);
const COMPONENTS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const VERSION: &str = "v1.20.2";
const REPOSITORY: &str = "registry.k8s.io";

/// No flannel: what is under test needs the host's network only.
const CLUSTER: &str = "\
kubernetes:
  version: v1.20.2
loadBalancer:
  addresses: [192.0.2.100]
network:
  plugin: none
runtime: containerd
election:
  mode: native
templates: /srv/templates
";

/// Makes a host of namespaces enough of a host for a kubelet, before any service: cgroup controllers it can write to,
/// and the kernel settings it insists on, which are the machine's and not to be changed.
const QUIRKS: &str = r#"#!/bin/sh
for c in cpu cpuacct cpuset memory pids freezer devices blkio; do
    [ -d /sys/fs/cgroup/$c ] && mount -o remount,rw,bind /sys/fs/cgroup/$c
done
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1; do
    file=/run/sysctl-$(echo ${setting%=*} | tr / -)
    echo ${setting#*=} >$file
    mount --bind $file /proc/sys/${setting%=*}
done
exit 0
"#;
const QUIRKS_UNIT: &str = "\
[Unit]
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/quirks

[Install]
WantedBy=sysinit.target
";

/// Kubernetes' programs, or the reason why there are none.
fn programs() -> Option<PathBuf> {
    let dir = std::env::var_os("KUBE_BIN_DIR").or_else(|| std::env::var_os("KUBEBUILDER_ASSETS")).map(PathBuf::from);
    let dir = dir.filter(|d| d.join("kubelet").exists());
    if dir.is_none() {
        assert!(std::env::var_os("CI").is_none(), "KUBE_BIN_DIR has no kubelet: run .ci/test");
        eprintln!("SKIPPED: KUBE_BIN_DIR has no kubelet; .ci/test builds one and sets it");
    }
    dir
}

/// A host, still off, with a kubelet and a containerd.
fn machine<'lab>(lab: &'lab Lab, programs: &Path, name: &str, number: u8) -> Machine<'lab> {
    let mut host = lab.machine(name, number);
    for program in ["kubelet", "kubectl"] {
        fs::copy(programs.join(program), host.path(&format!("/usr/local/bin/{program}"))).unwrap();
    }
    // An overlay cannot lie on another overlay, which is what a host's disk is.
    host.keep_apart("/var/lib/containerd");
    host.keep_apart("/var/lib/kubelet");
    host.share("/dev/kmsg");
    host.write("/usr/local/sbin/quirks", QUIRKS, 0o755);
    host.write("/etc/systemd/system/quirks.service", QUIRKS_UNIT, 0o644);
    std::os::unix::fs::symlink(
        "../quirks.service",
        host.path("/etc/systemd/system/sysinit.target.wants/quirks.service"),
    )
    .unwrap();
    host.write("/etc/cluster.yaml", CLUSTER, 0o644);
    override_templates(&host);
    host
}

/// A booted one with the images of the control plane.
fn node<'lab>(lab: &'lab Lab, programs: &Path) -> Machine<'lab> {
    let mut host = machine(lab, programs, "m1", 11);
    images(&host, programs);
    host.boot();

    host.ok(&["systemctl", "start", "containerd"]);
    for image in host.ok(&["ls", "/srv/images"]).lines() {
        host.ok(&["ctr", "-n", "k8s.io", "images", "import", &format!("/srv/images/{image}")]);
    }
    host.ok(&["systemctl", "stop", "containerd"]);
    fs::remove_dir_all(host.path("/srv/images")).unwrap();
    host
}

/// What an operator does on a host with peculiarities: takes the built-in template and changes a line.
fn override_templates(host: &Machine) {
    let own = |name: &str, change: &dyn Fn(&str) -> String| {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(name)).unwrap();
        let changed = change(&text);
        assert_ne!(text, changed, "{name}");
        host.write(&format!("/srv/templates/{name}"), &changed, 0o644);
    };
    own("kubelet/config.yaml.hbs", &|t| {
        t.replace("cgroupDriver: systemd\n", "cgroupDriver: cgroupfs\nfailSwapOn: false\nenforceNodeAllocatable: []\n")
    });
    own("runtime/containerd-1.toml.hbs", &|t| {
        let cri = "[plugins.\"io.containerd.grpc.v1.cri\"]\n";
        // Nobody in a container of a machine like CI's may lower an oom_score_adj.
        t.replace(cri, &format!("{cri}  restrict_oom_score_adj = true\n  disable_hugetlb_controller = true\n"))
            .replace("SystemdCgroup = true", "SystemdCgroup = false")
    });
}

/// Images of the static programs, under the names the manifests have, as files on the host's disk.
fn images(host: &Machine, programs: &Path) {
    let dir = host.path("/srv/images");
    fs::create_dir_all(&dir).unwrap();
    let image = |name: String, program: &Path| {
        let file = dir.join(program.file_name().unwrap()).with_extension("tar");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/image.sh");
        tool(script, &[&format!("{REPOSITORY}/{name}"), program.to_str().unwrap(), file.to_str().unwrap()]);
    };
    for component in COMPONENTS {
        image(format!("{component}:{VERSION}"), &programs.join(component));
    }
    let pause = host.path("/srv/pause");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/pause.c");
    tool("cc", &["-Os", "-static", "-o", pause.to_str().unwrap(), source]);
    image("pause:3.2".into(), &pause);
}

fn init(host: &Machine) -> String {
    let mut words: Vec<_> =
        "hamaster init -c /etc/cluster.yaml --name m1 --advertise-ip 192.0.2.11 --yes --adopt".split(' ').collect();
    words.extend(["--ignore-preflight", "EtcdDataDirFilesystem,NumCPU,Mem,Swap"]);
    let out = host.run(&words);
    if !out.status.success() {
        let journal = host.run(&["journalctl", "-u", "kubelet", "-u", "containerd", "-n", "60", "--no-pager"]);
        let containers = host.run(&["ctr", "-n", "k8s.io", "containers", "ls"]);
        panic!("init: {}\n{}\n{}\n{}", out.status, said(&out), said(&journal), said(&containers));
    }
    said(&out)
}

fn kubectl<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    ["kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"].iter().chain(arguments).copied().collect()
}

/// The components' static pods as the API shows them: each is mirrored by the kubelet, a minute after it has started.
fn all_run(host: &Machine) -> bool {
    let columns = "custom-columns=NAME:.metadata.name,PHASE:.status.phase,READY:.status.containerStatuses[0].ready";
    let pods = host.run(&kubectl(&["get", "pods", "-n", "kube-system", "--no-headers", "-o", columns]));
    let pods = said(&pods);
    let line = |component| pods.lines().find(|l| l.starts_with(&format!("{component}-m1 "))).unwrap_or_default();
    COMPONENTS.iter().all(|c| line(c).split_whitespace().skip(1).eq(["Running", "true"]))
}

/// Process and start time of everything that must not be restarted: containers and units.
fn running(host: &Machine) -> Vec<String> {
    let mut seen: Vec<_> = host.ok(&["ctr", "-n", "k8s.io", "tasks", "ls"]).lines().map(str::to_owned).collect();
    seen.sort();
    for unit in ["etcd", "containerd", "kubelet"] {
        let show = ["systemctl", "show", "-p", "MainPID,ActiveEnterTimestampMonotonic", unit];
        seen.push(format!("{unit} {}", host.ok(&show)));
    }
    seen
}

fn assert_nothing_to_do(host: &Machine, when: &str) {
    let before = running(host);
    let said = init(host);
    assert!(said.contains("nothing to do"), "{when}: {said}");
    assert_eq!(running(host), before, "{when}: something was restarted");
}

/// The spec changes, as another master would have changed it: the keeper is done once the new apiserver answers.
fn follows_the_spec(host: &Machine) {
    let shell = |script: &str| host.ok(&["sh", "-c", script]);
    let text = etcdctl(host, "get --print-value-only /hamaster/v1/spec");
    let mut registered: serde_json::Value = serde_json::from_str(&text).unwrap();
    let generation = registered["generation"].as_u64().unwrap() + 1;
    let spec = registered["spec"].as_str().unwrap().replace("192.0.2.100", "192.0.2.200");
    (registered["generation"], registered["spec"]) = (generation.into(), spec.into());
    host.write("/srv/spec", &registered.to_string(), 0o600);
    let uid = kubectl(&["get", "pod", "-n", "kube-system", "kube-apiserver-m1", "-o", "jsonpath={.metadata.uid}"]);
    let before = host.ok(&uid);
    etcdctl(host, "put /hamaster/v1/spec </srv/spec");
    let standing = || {
        let text = etcdctl(host, "get --print-value-only /hamaster/v1/masters/m1");
        let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        report["generation"] == generation && report["standing"] == "current"
    };
    within(PATIENCE, "the keeper is done", standing);
    // At this instant, with no more waiting: whoever has the turn next may stop its own.
    let served = "openssl s_client -connect 192.0.2.11:6443 -CAfile /etc/kubernetes/pki/ca.crt </dev/null 2>/dev/null |
                  openssl x509 -noout -ext subjectAltName";
    assert!(shell(served).contains("192.0.2.200"), "{}", shell(served));
    host.ok(&["kubectl", "--kubeconfig", "/etc/kubernetes/super-admin.conf", "get", "--raw", "/readyz"]);
    within(PATIENCE, "its pod is another one", || host.run(&uid).status.success() && host.ok(&uid) != before);
    within(PATIENCE, "the pods run", || all_run(host));
}

/// A host joins as a worker: its kubelet finds the API through the load balancer's address, and is the node it says.
fn is_joined_by_a_worker(master: &Machine, lab: &Lab, programs: &Path) {
    let mut worker = machine(lab, programs, "w1", 21);
    worker.boot();
    let token = master.ok(&["hamaster", "-q", "token", "create", "--worker"]);
    worker.write("/srv/token", &token, 0o600);
    let words = "hamaster join 192.0.2.11 --worker --token-file /srv/token --name w1 --advertise-ip 192.0.2.21 \
                 --yes --adopt --ignore-preflight all";
    worker.ok(&words.split_whitespace().collect::<Vec<_>>());
    let address = "jsonpath={.status.addresses[?(@.type=='InternalIP')].address}";
    let node = kubectl(&["get", "node", "w1", "-o", address]);
    within(PATIENCE, "the worker is a node", || said(&master.run(&node)).trim() == "192.0.2.21");
    assert!(!worker.path("/etc/kubernetes/pki/ca.key").exists() && !worker.path("/etc/etcd/pki").exists());
    worker.ok(&["hamaster", "status"]);
    worker.ok(&["hamaster", "reset", "--yes"]);
}

#[test]
fn init_makes_a_master_that_a_kubelet_runs_and_reset_takes_it_down() {
    let Some(programs) = programs() else { return };
    let Some(lab) = Lab::new() else { return };
    let mut host = node(&lab, &programs);
    // The load balancer's address, which kubectl is told, is here: there is one master.
    host.ok(&["ip", "address", "add", "192.0.2.100/32", "dev", "lo"]);
    let first = init(&host);
    assert!(first.contains("create the RBAC bindings"), "{first}");

    within(PATIENCE, "the node is registered and its pods run", || all_run(&host));
    host.ok(&kubectl(&["get", "node", "m1"]));
    assert_eq!(host.ok(&kubectl(&["auth", "can-i", "*", "*"])).trim(), "yes");
    // From the apiserver to the kubelet: its certificate is of our CA, and it takes the apiserver's.
    let log = host.ok(&kubectl(&["logs", "-n", "kube-system", "kube-scheduler-m1"]));
    assert!(log.contains("serving.go"), "{log}");
    host.ok(&["hamaster", "status"]);
    let doctor = said(&host.run(&["hamaster", "doctor"]));
    assert!(doctor.contains("plan: empty"), "{doctor}");
    assert_nothing_to_do(&host, "second init");

    host.ok(&["ip", "address", "add", "192.0.2.200/32", "dev", "lo"]);
    follows_the_spec(&host);
    is_joined_by_a_worker(&host, &lab, &programs);
    // What init is given from now on says the same.
    host.write("/etc/cluster.yaml", &CLUSTER.replace("192.0.2.100", "192.0.2.200"), 0o644);

    host.power_off();
    host.boot();
    let ready = kubectl(&["get", "--raw", "/readyz"]);
    within(PATIENCE, "the apiserver is ready after a power cut", || host.succeeds(&ready));
    within(PATIENCE, "the pods run after a power cut", || all_run(&host));
    assert_nothing_to_do(&host, "after a power cut");

    // As the timer does in its own time.
    host.ok(&["systemctl", "start", "hamaster-snapshot.service"]);
    let reset = host.run(&["hamaster", "reset", "--yes", "--purge"]);
    assert!(reset.status.success(), "{}", said(&reset));
    let left = host.ok(&["ps", "-eo", "args="]);
    let ours = |line: &&str| ["kube", "etcd", "pause", "containerd"].iter().any(|p| line.contains(p));
    assert_eq!(left.lines().filter(ours).collect::<Vec<_>>(), Vec::<&str>::new(), "{}", said(&reset));
    for dir in ["/etc/kubernetes", "/var/lib/hamaster"] {
        let left = host.run(&["find", dir]);
        assert!(!host.path(dir).exists(), "{}{}", said(&left), said(&reset));
    }
}
