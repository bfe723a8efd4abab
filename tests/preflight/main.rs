//! Each check fires on exactly the fact that should fire it; facts are gathered of this very machine, without a trace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // a test

mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hamaster::error::Kind;
use hamaster::host::facts::gather;
use hamaster::preflight::{self, CHECKS, Finding, Scope, Severity};
use hamaster::spec::file::{Overrides, load};
use hamaster::spec::layout::Layout;
use hamaster::spec::network::Cidr;
use hamaster::spec::{
    Address, ClusterSpec, EtcdBootstrap, NetworkPlugin, Node, Runtime, ThisNode, version::KubeVersion,
};
use hamaster::state::Digest;
use hamaster::state::facts::{Cgroups, DataDir, EtcdProcess, HostFacts, Program, Resolution, Unknown, Unreachable};
use hamaster::state::observed::{
    CertFact, ContentFact, FileRecord, HostNetwork, Listener, Observed, PathFact, PathKind, SealedMember, Stamp,
    UnitFact,
};
use proptest::prelude::*;
use time::OffsetDateTime;

/// What one check looks at; `clean` has nothing to find.
struct Case {
    scope: Scope,
    spec: ClusterSpec,
    this: ThisNode,
    facts: HostFacts,
    observed: Observed,
}

const NODE_IP: &str = "192.0.2.10";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn program(path: &str, version: &str) -> Program {
    Program { path: path.into(), version: (!version.is_empty()).then(|| version.to_owned()) }
}

fn clean() -> Case {
    let mut spec = load(None, &Overrides::default()).unwrap();
    spec.kubernetes.version = KubeVersion::parse("v1.34.1").unwrap();
    let programs = [
        ("etcd", "etcd Version: 3.6.11\nGit SHA: 1\nGo Version: go1.24.1"),
        ("kubelet", "Kubernetes v1.34.1"),
        ("dockerd", "Docker version 28.1.0+dfsg1, build 1"),
        ("containerd", "containerd github.com/containerd/containerd/v2 v2.2.0~ds1 1"),
        ("cri-dockerd", "cri-dockerd 0.4.3 (1)"),
        ("flanneld", "v0.28.9"),
        ("ip", ""),
        ("iptables", ""),
        ("conntrack", ""),
        ("mount", ""),
        ("nsenter", ""),
        ("hamaster", ""),
    ];
    let on = |name: &str| (name.to_owned(), "1".to_owned());
    let plugins = ["bridge", "flannel", "host-local", "loopback", "portmap"].map(str::to_owned);
    let facts = HostFacts {
        hostname: "m1".into(),
        addresses: vec![ip(NODE_IP)],
        default_ip: Some(ip(NODE_IP)),
        networks: vec![HostNetwork { name: "eth0".into(), cidr: Cidr::parse("192.0.2.0/24").unwrap() }],
        arch: "x86_64".into(),
        kernel: "6.1.0-18-amd64".into(),
        cpus: Some(2),
        memory_bytes: Some(1_700_000_000),
        swaps: Some(vec![]),
        cgroups: Some(Cgroups::V2),
        sysctls: BTreeMap::from(["net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"].map(on)),
        systemd: true,
        clock_synchronised: Some(true),
        machine_id: true,
        etcd_user: true,
        programs: programs.map(|(name, said)| (name.to_owned(), program(&format!("/usr/bin/{name}"), said))).into(),
        cni_plugins: BTreeMap::from([(PathBuf::from("/opt/cni/bin"), plugins.into())]),
        hostname_lookup: Some(Resolution { name: "m1".into(), addresses: Ok(vec![ip("127.0.1.1")]) }),
        data_dir: DataDir {
            nearest: "/var/lib".into(),
            filesystem: Some("ext4".into()),
            free_bytes: Some(100 << 30),
            fsync_p99: Some(Duration::from_millis(2)),
            ..DataDir::default()
        },
        free_bytes: Some(100 << 30),
        ..HostFacts::default()
    };
    let this = ThisNode {
        node: Node { name: "m1".into(), ip: ip(NODE_IP) },
        loopback: ip("127.0.0.1"),
        layout: Layout::host(),
    };
    Case { scope: Scope::Host, spec, this, facts, observed: Observed::default() }
}

impl Case {
    fn run(&self) -> Vec<Finding> {
        preflight::run(self.scope, &self.spec, &self.this, &self.facts, &self.observed, now())
    }

    /// As many other masters, from m2 on, and where none of their etcd answers.
    fn peers(&mut self, others: u8, silent: &[&str]) {
        let other = |n: u8| Node { name: format!("m{n}"), ip: IpAddr::from([192, 0, 2, 10 + n]) };
        self.spec.masters = (2..2 + others).map(other).chain([self.this.node.clone()]).collect();
        let unreachable = |at: &&str| Unreachable { at: at.parse().unwrap(), why: "refused".to_owned() };
        self.facts.unreachable = silent.iter().map(unreachable).collect();
    }

    fn version(&mut self, version: &str) {
        self.spec.kubernetes.version = KubeVersion::parse(version).unwrap();
        self.says("kubelet", &format!("Kubernetes {version}"));
    }

    fn says(&mut self, program: &str, version: &str) {
        self.facts.programs.get_mut(program).unwrap().version = Some(version.to_owned());
    }

    fn missing(&mut self, program: &str) {
        self.facts.programs.remove(program).unwrap();
    }

    fn listens(&mut self, ip: &str, port: u16, process: &str) {
        self.facts.listeners.push(Listener { ip: ip.parse().unwrap(), port, process: Some(process.to_owned()) });
    }

    fn ca(&mut self, path: PathBuf, begins_in_days: i64, ends_in_days: i64) {
        let fact = CertFact {
            common_name: "kubernetes-ca".into(),
            organizations: vec![],
            issuer_common_name: "kubernetes-ca".into(),
            serial: "01".into(),
            not_before: now() + time::Duration::days(begins_in_days),
            not_after: now() + time::Duration::days(ends_in_days),
            sans: vec![],
            server: false,
            client: false,
            is_ca: true,
            spki: Digest::of(b"key"),
            algorithm: "ecdsa-p256".into(),
            der: vec![],
        };
        let content = ContentFact::Certs(vec![fact]);
        let file = PathFact { kind: PathKind::File, mode: 0o644, uid: 0, gid: 0, digest: None, content };
        self.observed.paths.insert(path, file);
    }
}

#[test]
fn a_clean_machine_has_no_findings() {
    for scope in [Scope::Host, Scope::Lab, Scope::Image, Scope::Worker, Scope::WorkerImage] {
        let case = Case { scope, ..clean() };
        assert_eq!(case.run(), [], "{scope:?}");
    }
}

type Perturbation = (&'static str, Severity, fn(&mut Case));

use Severity::{Error, Warning};

/// One fact each, and the one check it must fire.
const PERTURBATIONS: &[Perturbation] = &[
    ("IsPrivilegedUser", Error, |c| c.facts.uid = 1000),
    ("Systemd", Error, |c| c.facts.systemd = false),
    ("NumCPU", Error, |c| c.facts.cpus = Some(1)),
    ("Mem", Error, |c| c.facts.memory_bytes = Some(1_699_999_999)),
    ("Swap", Error, |c| c.facts.swaps = Some(vec!["/dev/sda2".into()])),
    ("Swap", Warning, |c| {
        c.facts.swaps = Some(vec!["/dev/sda2".into()]);
        c.spec.kubernetes.kubelet_extra_args.insert("fail-swap-on".into(), "false".into());
    }),
    ("Cgroups", Warning, |c| c.facts.cgroups = Some(Cgroups::V1)),
    ("Cgroups", Error, |c| {
        c.version("v1.35.0");
        c.facts.cgroups = Some(Cgroups::Hybrid);
    }),
    ("Architecture", Warning, |c| c.facts.arch = "riscv64".into()),
    ("KernelVersion", Error, |c| {
        c.facts.kernel = "5.4.0-100-generic".into();
        c.spec.network.backend = hamaster::spec::FlannelBackend::Wireguard;
    }),
    ("FileContent-bridge-nf-call-iptables", Warning, |c| {
        c.facts.sysctls.remove("net.bridge.bridge-nf-call-iptables");
    }),
    ("FileContent-ip_forward", Warning, |c| {
        c.facts.sysctls.insert("net.ipv4.ip_forward".into(), "0".into());
    }),
    ("MachineID", Warning, |c| c.facts.machine_id = false),
    ("ClockSync", Warning, |c| c.facts.clock_synchronised = Some(false)),
    ("Firewalld", Warning, |c| {
        c.facts.active_units.insert("firewalld.service".into());
    }),
    ("SELinux", Warning, |c| c.facts.selinux_enforcing = true),
    ("DiskSpace", Error, |c| c.facts.free_bytes = Some(99 << 20)),
    ("HostFacts", Warning, |c| {
        c.facts.swaps = None;
        c.facts.unknown.push(Unknown { what: "/proc/swaps".into(), why: "permission denied".into() });
    }),
    ("NodeName", Error, |c| {
        c.this.node.name = "m_1".into();
        c.facts.hostname = "m_1".into();
    }),
    ("NodeName", Error, |c| c.observed.record.node = Some("m0".into())),
    ("Hostname", Warning, |c| c.facts.hostname = "other".into()),
    ("Hostname", Warning, |c| c.facts.hostname_lookup.as_mut().unwrap().addresses = Err("no such host".into())),
    ("Hostname", Warning, |c| {
        c.facts.hostname_lookup.as_mut().unwrap().addresses = Ok(vec!["198.51.100.1".parse().unwrap()]);
    }),
    ("AdvertiseAddress", Error, |c| c.this.node.ip = "192.0.2.11".parse().unwrap()),
    ("AdvertiseAddress", Error, |c| c.this.node.ip = "127.0.0.1".parse().unwrap()),
    ("LoadBalancer", Warning, |c| c.spec.load_balancer.addresses = vec![Address::Ip(NODE_IP.parse().unwrap())]),
    ("LoadBalancer", Warning, |c| {
        let addresses = Err("no such name".into());
        c.facts.load_balancer_names = vec![Resolution { name: "api.example.com".into(), addresses }];
    }),
    ("NetworkOverlap", Error, |c| {
        let cidr = Cidr::parse("10.244.7.0/24").unwrap();
        c.facts.networks.push(HostNetwork { name: "route via 192.0.2.1 dev eth0".into(), cidr });
    }),
    ("HTTPProxy", Warning, |c| {
        c.facts.proxy_variables = vec!["HTTPS_PROXY".into()];
        c.facts.no_proxy = "10.0.0.0/8,example.com".into();
    }),
    ("Port-6443", Error, |c| c.listens("198.51.100.7", 6443, "haproxy[7]")),
    ("Port-10250", Error, |c| c.listens("0.0.0.0", 10250, "kubelet[7]")),
    ("Port-10248", Error, |c| c.listens("127.0.0.1", 10248, "kubelet[7]")),
    ("Port-10257", Error, |c| c.listens("::", 10257, "kube-controller[7]")),
    ("Port-10259", Error, |c| c.listens("127.0.0.1", 10259, "kube-scheduler[7]")),
    ("Port-2379", Error, |c| c.listens("127.0.0.1", 2379, "etcd[7]")),
    ("Port-2380", Error, |c| c.listens(NODE_IP, 2380, "etcd[7]")),
    ("Port-2381", Error, |c| c.listens("127.0.0.1", 2381, "etcd[7]")),
    ("Port-7443", Error, |c| c.listens("0.0.0.0", 7443, "nginx[7]")),
    ("Binary-etcd", Error, |c| c.missing("etcd")),
    ("EtcdVersion", Error, |c| c.says("etcd", "etcd Version: 3.3.27")),
    ("EtcdVersion", Warning, |c| c.says("etcd", "etcd Version: 3.8.0")),
    ("EtcdKnownBugs", Warning, |c| c.says("etcd", "etcd Version: 3.4.23\nGo Version: go1.19.8")),
    ("EtcdKnownBugs", Warning, |c| c.says("etcd", "etcd Version: 3.5.19")),
    ("Binary-kubelet", Error, |c| c.missing("kubelet")),
    ("KubeletVersion", Error, |c| c.says("kubelet", "Kubernetes v1.35.0")),
    ("KubeletVersion", Error, |c| c.says("kubelet", "Kubernetes v1.30.9")),
    ("Binary-docker", Error, |c| c.missing("dockerd")),
    ("Binary-cri-dockerd", Error, |c| c.missing("cri-dockerd")),
    ("Binary-containerd", Error, |c| {
        c.spec.runtime = Runtime::Containerd;
        c.missing("containerd");
    }),
    ("ContainerRuntimeVersion", Warning, |c| c.says("dockerd", "Docker version 20.10.24+dfsg1, build 297e128")),
    ("ContainerRuntimeVersion", Error, |c| {
        c.version("v1.36.0");
        c.spec.runtime = Runtime::Containerd;
        c.says("containerd", "containerd github.com/containerd/containerd 1.7.24~ds1 1");
    }),
    ("Binary-flanneld", Error, |c| c.missing("flanneld")),
    ("CNIPlugins", Error, |c| {
        c.facts.cni_plugins.values_mut().next().unwrap().remove("flannel");
    }),
    ("FileExisting-conntrack", Error, |c| {
        c.version("v1.31.0");
        c.missing("conntrack");
    }),
    ("FileExisting-ip", Error, |c| {
        c.version("v1.32.0");
        c.missing("ip");
    }),
    ("FileExisting-iptables", Error, |c| c.missing("iptables")),
    ("FileExisting-mount", Error, |c| c.missing("mount")),
    ("FileExisting-nsenter", Error, |c| c.missing("nsenter")),
    ("EtcdUser", Error, |c| c.facts.etcd_user = false),
    ("DirAvailable--var-lib-etcd", Error, |c| {
        c.facts.data_dir.entries.insert("default".into());
    }),
    ("EtcdDataDirFilesystem", Error, |c| c.facts.data_dir.filesystem = Some("nfs".into())),
    ("EtcdDataDirSpace", Warning, |c| c.facts.data_dir.free_bytes = Some(3 << 30)),
    ("EtcdDataDirFsync", Warning, |c| c.facts.data_dir.fsync_p99 = Some(Duration::from_millis(11))),
    ("ForeignEtcd", Error, |c| {
        let data_dir = Some("/var/lib/etcd/default".into());
        c.facts.etcd_processes = vec![EtcdProcess { pid: 7, unit: Some("etcd.service".into()), data_dir }];
        c.facts.active_units.insert("etcd.service".into());
    }),
    ("ForeignEtcd", Error, |c| {
        c.facts.active_units.insert("etcd.service".into());
    }),
    ("DirAvailable--etc-kubernetes-manifests", Error, |c| {
        c.facts.manifests = BTreeSet::from(["etcd.yaml".into(), ".hidden".into()]);
    }),
    ("OtherInstallation", Error, |c| c.facts.installations = vec!["/var/lib/rancher/k3s".into()]),
    ("CAValidity", Error, |c| c.ca(c.this.layout.pki().join("ca.crt"), -10, -1)),
    ("CAValidity", Error, |c| c.ca(c.this.layout.etcd_pki().join("ca.crt"), 1, 3650)),
    ("CAExpiry", Warning, |c| c.ca(c.this.layout.pki().join("front-proxy-ca.crt"), -10, 364)),
    ("EtcdFounders", Error, |c| c.spec.etcd.bootstrap = EtcdBootstrap::Static),
    ("EtcdFounders", Error, |c| c.spec.etcd.bootstrap = EtcdBootstrap::Discovery),
    ("EtcdFounders", Warning, |c| {
        c.spec.etcd.bootstrap = EtcdBootstrap::Static;
        c.spec.masters = vec![c.this.node.clone(), Node { name: "m2".into(), ip: ip("192.0.2.12") }];
        c.ca(c.this.layout.etcd_pki().join("ca.crt"), -10, 3650);
    }),
    ("EtcdPeers", Error, |c| c.peers(2, &["192.0.2.12:2380"])),
    ("EtcdPeers", Error, |c| c.peers(3, &["192.0.2.12:2379", "192.0.2.13:2380"])),
    ("EtcdPeers", Warning, |c| c.peers(4, &["192.0.2.12:2379", "192.0.2.12:2380"])),
];

#[test]
fn each_fact_fires_exactly_its_check() {
    for (id, severity, perturb) in PERTURBATIONS {
        let mut case = clean();
        perturb(&mut case);
        let found = case.run();
        let ids: BTreeSet<&str> = found.iter().map(|f| f.id.as_str()).collect();
        assert_eq!(ids, BTreeSet::from([*id]), "{found:#?}");
        for finding in found {
            assert_eq!(finding.severity, *severity, "{finding:?}");
            assert!(!finding.hint.is_empty() && !finding.object.is_empty(), "{finding:?}");
        }
    }
}

#[test]
fn every_check_of_the_table_has_a_fact_that_fires_it() {
    let fired: BTreeSet<&str> = PERTURBATIONS.iter().map(|(id, ..)| *id).collect();
    let listed: BTreeSet<&str> = CHECKS.iter().map(|c| c.id).collect();
    assert_eq!(fired, listed);
    assert_eq!(listed.len(), CHECKS.len(), "an id is used twice");
}

/// Everything wrong at once is found at once, and in a lab or an image exactly the part that counts there.
#[test]
fn scopes_are_what_the_table_says() {
    for scope in [Scope::Host, Scope::Lab, Scope::Image, Scope::Worker, Scope::WorkerImage] {
        for (id, severity, perturb) in PERTURBATIONS {
            // An address of this host only: a lab listens nowhere else.
            let mut case = clean();
            perturb(&mut case);
            case.facts.listeners.iter_mut().for_each(|l| l.ip = ip(NODE_IP));
            case.scope = scope;
            let check = CHECKS.iter().find(|c| c.id == *id).unwrap();
            let expected = check.severity(scope).map(|most| most.min(*severity));
            let found: BTreeSet<Severity> = case.run().iter().map(|f| f.severity).collect();
            assert_eq!(found, expected.into_iter().collect(), "{id} in {scope:?}");
        }
    }
}

/// A worker has no etcd and no control plane, so nothing of theirs is asked of it: and all else is.
#[test]
fn a_worker_is_asked_for_what_a_node_needs() {
    let is_a_masters = |id: &str| {
        let ports = ["Port-6443", "Port-10257", "Port-10259", "Port-2379", "Port-2380", "Port-2381", "Port-7443"];
        let word = id.to_lowercase().contains("etcd") || id.ends_with("manifests") || ["NumCPU", "Mem"].contains(&id);
        word || ports.contains(&id)
    };
    for (worker, master) in [(Scope::Worker, Scope::Host), (Scope::WorkerImage, Scope::Image)] {
        for check in CHECKS {
            let wanted = check.severity(master).filter(|_| !is_a_masters(check.id));
            assert_eq!(check.severity(worker), wanted, "{} in {worker:?}", check.id);
        }
    }
}

#[test]
fn what_is_ours_is_not_in_the_way() {
    let mut case = clean();
    let layout = Layout::host();
    case.listens(NODE_IP, 2379, "etcd[70]");
    case.listens("0.0.0.0", 6443, "kube-apiserver[71]");
    case.listens("127.0.0.1", 10257, "kube-controller[72]");
    case.facts.etcd_processes = vec![EtcdProcess { pid: 70, unit: Some("etcd.service".into()), data_dir: None }];
    case.facts.active_units.insert("etcd.service".into());
    case.facts.data_dir.entries.insert("member".into());
    // The second is elected here.
    case.facts.manifests = BTreeSet::from(["kube-apiserver.yaml".into(), "kube-controller-manager.yaml".into()]);
    let unit = UnitFact { active: true, pid: Some(70), ..UnitFact::default() };
    case.observed.units.insert("etcd.service".into(), unit);
    let foreign: BTreeSet<String> = case.run().into_iter().map(|f| f.id).collect();
    let all = ["Port-2379", "Port-6443", "Port-10257", "ForeignEtcd", "DirAvailable--var-lib-etcd"];
    assert_eq!(foreign, all.into_iter().chain(["DirAvailable--etc-kubernetes-manifests"]).map(str::to_owned).collect());

    let record = &mut case.observed.record;
    record.units.insert("etcd.service".into(), Stamp::default());
    record.files.insert(layout.manifests().join("kube-apiserver.yaml"), FileRecord::default());
    record.files.insert(layout.standby().join("kube-controller-manager.yaml"), FileRecord::default());
    record.etcd = Some(SealedMember { cluster_id: "1".into(), member_id: "2".into() });
    assert_eq!(case.run(), []);

    // Another process on the same port is no less foreign for that.
    case.facts.listeners[0].process = Some("etcd[99]".into());
    assert_eq!(case.run().iter().map(|f| f.id.as_str()).collect::<Vec<_>>(), ["Port-2379"]);
}

#[test]
fn skew_follows_upstream() {
    for (kubelet, control_plane, fits) in [
        ("v1.31.0", "v1.34.1", true),
        ("v1.30.0", "v1.34.1", false),
        ("v1.24.0", "v1.26.0", true),
        ("v1.24.0", "v1.27.0", false),
        ("v1.25.0", "v1.28.0", true),
    ] {
        let mut case = clean();
        case.version(control_plane);
        case.says("kubelet", &format!("Kubernetes {kubelet}"));
        assert_eq!(case.run().is_empty(), fits, "{kubelet} under {control_plane}");
    }
}

#[test]
fn what_is_not_used_need_not_be_there() {
    let mut case = clean();
    case.spec.runtime = Runtime::Containerd;
    case.spec.network.plugin = NetworkPlugin::None;
    for name in ["dockerd", "cri-dockerd", "flanneld", "conntrack", "ip", "iptables"] {
        case.missing(name);
    }
    case.facts.cni_plugins.clear();
    assert_eq!(case.run(), []);
}

#[test]
fn no_proxy_covers_addresses_and_ranges() {
    let mut case = clean();
    case.facts.proxy_variables = vec!["http_proxy".into()];
    for (no_proxy, fires) in
        [("192.0.2.10,10.96.0.0/12", false), ("192.0.2.0/24, 10.96.0.1", false), ("*", false), ("192.0.2.1", true)]
    {
        case.facts.no_proxy = no_proxy.into();
        assert_eq!(!case.run().is_empty(), fires, "{no_proxy}");
    }
}

#[test]
fn refuses_with_every_error_and_takes_ignored_ids() {
    let mut case = clean();
    case.facts.uid = 1000;
    case.facts.machine_id = false;
    case.missing("etcd");
    let findings = case.run();
    let none: [String; 0] = [];
    let error = preflight::refuse(&findings, &none).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    let at: Vec<&str> = error.all_problems().iter().map(|p| p.at.as_str()).collect();
    assert_eq!(at, ["IsPrivilegedUser", "Binary-etcd"], "warnings do not refuse");
    assert!(error.all_problems().iter().all(|p| p.hint.is_some()));
    assert!(error.hints()[0].contains("--ignore-preflight"));

    let ignore = |ids: &[&str]| preflight::refuse(&findings, &ids.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
    assert_eq!(ignore(&["isprivilegeduser"]).unwrap_err().all_problems().len(), 1);
    ignore(&["IsPrivilegedUser", "Binary-etcd"]).unwrap();
    ignore(&["all"]).unwrap();
    let error = ignore(&["all", "Binary-etdc"]).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(error.all_problems()[0].hint.as_deref(), Some("--ignore-preflight Binary-etcd"));
}

#[test]
fn findings_are_json() {
    let mut case = clean();
    case.facts.cpus = Some(1);
    let json = serde_json::to_value(case.run()).unwrap();
    assert_eq!(json[0]["id"], "NumCPU");
    assert_eq!(json[0]["severity"], "error");
}

#[test]
fn tools_are_those_found_and_assumed_elsewhere() {
    let mut case = clean();
    case.facts.programs.insert("flanneld".into(), program("/opt/bin/flanneld", ""));
    case.missing("kubelet");
    let tools = preflight::tools(&case.facts, &case.spec);
    assert_eq!(tools.flanneld, Path::new("/opt/bin/flanneld"));
    assert_eq!(tools.kubelet, Path::new("/usr/bin/kubelet"));
    assert_eq!((tools.etcd_version.to_string().as_str(), tools.containerd), ("3.6.11", (2, 2)));
    case.missing("etcd");
    let tools = preflight::tools(&case.facts, &case.spec);
    assert_eq!(tools.etcd_version, case.spec.kubernetes.version.default_etcd());
}

proptest! {
    /// Whatever a program says of itself is no reason to panic.
    #[test]
    fn any_version_text_is_taken(text in ".*") {
        let mut case = clean();
        for name in ["etcd", "kubelet", "dockerd", "containerd"] {
            case.says(name, &text);
        }
        case.facts.kernel.clone_from(&text);
        case.facts.no_proxy.clone_from(&text);
        case.run();
        preflight::tools(&case.facts, &case.spec);
    }
}
