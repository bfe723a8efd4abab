//! Specs, masters and rendered sets to test with.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use hamaster::render::{self, EtcdStart, Input, Templates};
use hamaster::spec::layout::Layout;
use hamaster::spec::network::Cidr;
use hamaster::spec::version::{EtcdVersion, KubeVersion};
use hamaster::spec::*;
use hamaster::state::desired::{DesiredUnit, ManagedFile};
use hamaster::state::facts::Tools;

pub const TOKEN: &str = "5f0c0e6a8f4b4c1d9a7e2b3c4d5e6f70";

/// A cluster of three masters behind a load balancer.
pub fn spec(minor: u32) -> ClusterSpec {
    ClusterSpec {
        name: "prod".into(),
        kubernetes: KubernetesSpec {
            version: KubeVersion { minor, patch: 1, pre: String::new() },
            image_repository: "registry.k8s.io".into(),
            service_cidr: cidr("10.96.0.0", 12),
            pod_cidr: cidr("10.244.0.0", 16),
            dns_domain: "cluster.local".into(),
            apiserver_extra_args: BTreeMap::new(),
            controller_manager_extra_args: BTreeMap::new(),
            scheduler_extra_args: BTreeMap::new(),
            kubelet_extra_args: BTreeMap::new(),
        },
        load_balancer: LoadBalancerSpec {
            addresses: vec![Address::Ip("203.0.113.10".parse().unwrap()), Address::Dns("api.example.com".into())],
            port: 6443,
            interface: "eth0".into(),
            virtual_router_id: 51,
        },
        etcd: EtcdSpec {
            data_dir: "/var/lib/etcd".into(),
            bootstrap: EtcdBootstrap::New,
            discovery: None,
            quota_bytes: 8 << 30,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            version: None,
            snapshots: Some(hamaster::spec::SnapshotSpec::default()),
        },
        runtime: Runtime::Docker,
        network: NetworkSpec {
            plugin: NetworkPlugin::Flannel,
            backend: FlannelBackend::Vxlan,
            path: NetworkPath::Cni,
            leases: FlannelLeases::Etcd,
        },
        election: ElectionSpec {
            mode: ElectionMode::Podmaster,
            lease_duration: Duration::from_secs(10),
            run_as: ElectionRunAs::Unit,
            image: "hamaster:latest".into(),
        },
        auth: AuthSpec { static_tokens: true, basic_auth: BasicAuth::Auto },
        pki: PkiSpec {
            key_algorithm: KeyAlgorithm::EcdsaP256,
            ca_validity: Duration::from_secs(3650 * 86_400),
            leaf_validity: Duration::from_secs(365 * 86_400),
            renew_at_fraction: 0.66,
        },
        profile: Profile::Standard,
        masters: (1..=3).map(|n| Node { name: format!("m{n}"), ip: [10, 0, 0, n].into() }).collect(),
        templates: None,
    }
}

/// `spec`, as the profile cis resolves it.
pub fn cis(mut spec: ClusterSpec) -> ClusterSpec {
    spec.profile = Profile::Cis;
    spec.auth.static_tokens = false;
    spec
}

/// Every combination of runtime, profile, election and network path that a minor takes.
pub fn variants(minor: u32) -> Vec<(String, ClusterSpec)> {
    let mut out = vec![];
    for runtime in [Runtime::Docker, Runtime::Containerd] {
        for profile in [Profile::Standard, Profile::Cis] {
            for mode in [ElectionMode::Podmaster, ElectionMode::Native] {
                for path in [NetworkPath::Cni, NetworkPath::Classic] {
                    if path == NetworkPath::Classic && (runtime != Runtime::Docker || minor > 23) {
                        continue;
                    }
                    let mut spec = if profile == Profile::Cis { cis(self::spec(minor)) } else { self::spec(minor) };
                    (spec.runtime, spec.election.mode, spec.network.path) = (runtime, mode, path);
                    if runtime == Runtime::Containerd {
                        spec.network.leases = FlannelLeases::Kubernetes;
                    }
                    out.push((format!("1.{minor} {runtime:?} {profile:?} {mode:?} {path:?}"), spec));
                }
            }
        }
    }
    out
}

pub fn cidr(base: &str, prefix: u8) -> Cidr {
    Cidr { base: base.parse().unwrap(), prefix }
}

pub fn etcd_version(minor: u32, patch: u32) -> EtcdVersion {
    EtcdVersion { major: 3, minor, patch }
}

/// The first master on a real host.
pub fn this(spec: &ClusterSpec) -> ThisNode {
    ThisNode { node: spec.masters[0].clone(), loopback: [127, 0, 0, 1].into(), layout: Layout::host() }
}

/// A worker on a real host.
pub fn worker() -> ThisNode {
    let node = Node { name: "w1".into(), ip: [10, 0, 1, 1].into() };
    ThisNode { node, loopback: [127, 0, 0, 1].into(), layout: Layout::host() }
}

/// Everything rendered for one node.
pub struct Set {
    pub files: Vec<ManagedFile>,
    pub units: Vec<DesiredUnit>,
    argv: RefCell<BTreeMap<String, Vec<String>>>,
}

/// Compiled once: that is most of the time a test takes.
pub fn templates() -> &'static Templates {
    static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates::embedded().unwrap());
    &TEMPLATES
}

impl Set {
    pub fn of(spec: &ClusterSpec) -> Self {
        Self::with(spec, &this(spec), &render::assumed_tools(spec))
    }

    pub fn with(spec: &ClusterSpec, this: &ThisNode, tools: &Tools) -> Self {
        let etcd = EtcdStart { sealed: false, token: TOKEN, initial_cluster: None };
        Self::render(&Input { spec, this, role: hamaster::token::Role::Master, tools, etcd, external_ca: false })
    }

    /// What a worker has.
    pub fn worker(spec: &ClusterSpec) -> Self {
        let etcd = EtcdStart { sealed: true, token: TOKEN, initial_cluster: None };
        let (this, tools) = (worker(), render::assumed_tools(spec));
        let role = hamaster::token::Role::Worker;
        Self::render(&Input { spec, this: &this, role, tools: &tools, etcd, external_ca: true })
    }

    pub fn render(input: &Input) -> Self {
        let files = render::files(input, templates()).unwrap();
        Self { files, units: render::units(input), argv: RefCell::default() }
    }

    pub fn file(&self, end: &str) -> &ManagedFile {
        self.find(end).unwrap_or_else(|| panic!("no {end} in {:?}", self.paths()))
    }

    pub fn find(&self, end: &str) -> Option<&ManagedFile> {
        self.files.iter().find(|f| f.path.ends_with(end))
    }

    pub fn text(&self, end: &str) -> &str {
        std::str::from_utf8(&self.file(end).bytes).unwrap()
    }

    pub fn paths(&self) -> Vec<&Path> {
        self.files.iter().map(|f| f.path.as_path()).collect()
    }

    /// A component's flags: from its manifest, or from the unit that runs it.
    pub fn argv(&self, component: &str) -> Vec<String> {
        let read = || match component {
            "kubelet" | "etcd" => exec(self.text(&format!("{component}.service")), "ExecStart"),
            _ => crate::pods::decode(self.text(&format!("{component}.yaml"))).spec.containers.remove(0).command,
        };
        self.argv.borrow_mut().entry(component.to_owned()).or_insert_with(read)[1..].to_vec()
    }

    /// The value of one flag.
    pub fn flag(&self, component: &str, name: &str) -> Option<String> {
        let prefix = format!("--{name}=");
        self.argv(component).iter().find_map(|a| a.strip_prefix(&prefix).map(str::to_owned))
    }
}

/// The last `key=` of a unit, split as systemd splits a command line (systemd.syntax(7), systemd.service(5)).
pub fn exec(unit: &str, key: &str) -> Vec<String> {
    let joined = unit.replace("\\\n", " ");
    let prefix = format!("{key}=");
    let line = joined.lines().rev().find_map(|l| l.strip_prefix(&prefix)).unwrap();
    let (mut words, mut word, mut quoted) = (vec![], None::<String>, false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            '\\' => {
                let word = word.get_or_insert_default();
                match chars.next().unwrap() {
                    'n' => word.push('\n'),
                    't' => word.push('\t'),
                    kind @ ('u' | 'U') => {
                        let digits: String = chars.by_ref().take(if kind == 'u' { 4 } else { 8 }).collect();
                        word.push(char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap());
                    }
                    c @ ('"' | '\\') => word.push(c),
                    c => panic!("unknown escape \\{c}"),
                }
            }
            '%' | '$' => {
                assert_eq!(chars.next(), Some(c), "a lone {c} in {line}");
                word.get_or_insert_default().push(c);
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    assert!(!quoted, "open quote in {line}");
    words.extend(word);
    words
}

/// Runs a program if it is installed; its exit status, stdout and stderr.
pub fn run(program: &str, args: &[&str], dir: &Path) -> Option<(bool, String, String)> {
    let out = Command::new(program).args(args).current_dir(dir).stdin(Stdio::null()).output();
    match out {
        Ok(out) => Some((
            out.status.success(),
            String::from_utf8_lossy(&out.stdout).into_owned(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("{program} is not installed: not checked");
            None
        }
        Err(e) => panic!("{program}: {e}"),
    }
}

/// A path in this test's own folder.
pub fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render").join(name)
}
