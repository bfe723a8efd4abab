//! A cluster, its bundle in memory, and a way to put it on disk for other programs.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use hamaster::pki::judge::Paths;
use hamaster::pki::{auth, catalog, inspect, issue, kubeconfig};
use hamaster::spec::layout::Layout;
use hamaster::spec::network::Cidr;
use hamaster::spec::version::KubeVersion;
use hamaster::spec::*;
use hamaster::state::Digest;
use hamaster::state::desired::{CaId, CaSpec, CertSpec, Placement, SecretSpec};
use hamaster::state::observed::{PathFact, PathKind};
use time::OffsetDateTime;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// The same moment in the whole test, in whole seconds: what a certificate can hold.
pub(crate) fn now() -> OffsetDateTime {
    static NOW: LazyLock<OffsetDateTime> = LazyLock::new(|| OffsetDateTime::now_utc().replace_nanosecond(0).unwrap());
    *NOW
}

pub(crate) fn spec(algorithm: KeyAlgorithm) -> ClusterSpec {
    let cidr = |base: &str, prefix| Cidr { base: base.parse().unwrap(), prefix };
    ClusterSpec {
        name: "prod".into(),
        kubernetes: KubernetesSpec {
            version: KubeVersion { minor: 34, patch: 1, pre: String::new() },
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
            addresses: vec![
                Address::Dns("api.example.com".into()),
                Address::Ip("203.0.113.10".parse().unwrap()),
                Address::Ip("2001:db8::10".parse().unwrap()),
            ],
            port: 8443,
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
            image: "hamaster".into(),
        },
        auth: AuthSpec { static_tokens: true, basic_auth: BasicAuth::Auto },
        pki: PkiSpec {
            key_algorithm: algorithm,
            ca_validity: 3650 * DAY,
            leaf_validity: 365 * DAY,
            renew_at_fraction: 0.66,
        },
        profile: Profile::Standard,
        masters: vec![],
        templates: None,
    }
}

pub(crate) fn node(layout: Layout) -> ThisNode {
    ThisNode {
        node: Node { name: "m1".into(), ip: "10.0.0.11".parse().unwrap() },
        loopback: "127.0.1.1".parse().unwrap(),
        layout,
    }
}

/// Everything of one master, made and kept in memory.
pub(crate) struct Made {
    pub(crate) cas: Vec<CaSpec>,
    pub(crate) certs: Vec<CertSpec>,
    pub(crate) secrets: Vec<SecretSpec>,
    pub(crate) files: BTreeMap<PathBuf, (Vec<u8>, u32)>,
}

impl Made {
    pub(crate) fn new(spec: &ClusterSpec, this: &ThisNode, now: OffsetDateTime) -> Self {
        Self::only(spec, this, now, catalog::certs(spec, this))
    }

    pub(crate) fn only(spec: &ClusterSpec, this: &ThisNode, now: OffsetDateTime, certs: Vec<CertSpec>) -> Self {
        let mut made = Made {
            cas: catalog::cas(spec, this),
            certs,
            secrets: catalog::secrets(spec, this),
            files: BTreeMap::new(),
        };
        for ca in made.cas.clone() {
            let pair = issue::new_ca(&ca, now).unwrap();
            made.put(&ca.cert, pair.cert_pem.as_bytes(), 0o644);
            made.put(&ca.key, pair.key_pem.expose(), 0o600);
        }
        let issuers: BTreeMap<_, _> = made.cas.iter().map(|ca| (ca.id, made.issuer(ca.id))).collect();
        for cert in made.certs.clone() {
            let pair = issue::leaf(&cert, &issuers[&cert.issuer], now).unwrap();
            made.place(&cert, &pair);
        }
        for secret in made.secrets.clone() {
            for (path, bytes) in auth::make(&secret, None).unwrap() {
                let mode = if path.extension().is_some_and(|e| e == "pub") { 0o644 } else { 0o600 };
                made.put(&path, bytes.expose(), mode);
            }
        }
        made
    }

    pub(crate) fn place(&mut self, cert: &CertSpec, pair: &issue::Pair) {
        match &cert.placement {
            Placement::Pair { cert, key, .. } => {
                self.put(cert, pair.cert_pem.as_bytes(), 0o644);
                self.put(key, pair.key_pem.expose(), 0o600);
            }
            Placement::Kubeconfig { path, server, cluster } => {
                let ca = String::from_utf8(self.files[&self.ca(cert.issuer).cert].0.clone()).unwrap();
                let bytes = kubeconfig::render(cluster, server, &ca, &cert.common_name, pair).unwrap();
                self.put(path, bytes.expose(), 0o600);
            }
            Placement::Combined { path } => {
                self.put(path, &[pair.cert_pem.as_bytes(), pair.key_pem.expose()].concat(), 0o600);
            }
        }
    }

    pub(crate) fn put(&mut self, path: &Path, bytes: &[u8], mode: u32) {
        self.files.insert(path.to_owned(), (bytes.to_owned(), mode));
    }

    pub(crate) fn ca(&self, id: CaId) -> &CaSpec {
        self.cas.iter().find(|c| c.id == id).unwrap()
    }

    pub(crate) fn cert(&self, id: &str) -> CertSpec {
        self.certs.iter().find(|c| c.id == id).unwrap().clone()
    }

    pub(crate) fn issuer(&self, id: CaId) -> issue::Issuer {
        let ca = self.ca(id);
        issue::Issuer::load(&self.files[&ca.cert].0, &self.files[&ca.key].0).unwrap()
    }

    pub(crate) fn facts(&self) -> Paths {
        let fact = |(path, (bytes, mode)): (&PathBuf, &(Vec<u8>, u32))| (path.clone(), fact(path, bytes, *mode));
        self.files.iter().map(fact).collect()
    }

    pub(crate) fn write(&self) {
        for (path, (bytes, mode)) in &self.files {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(*mode).open(path).unwrap();
            std::io::Write::write_all(&mut file, bytes).unwrap();
        }
    }
}

pub(crate) fn fact(path: &Path, bytes: &[u8], mode: u32) -> PathFact {
    PathFact {
        kind: PathKind::File,
        mode,
        uid: 0,
        gid: 0,
        digest: Some(Digest::of(bytes)),
        content: inspect::content(path, bytes),
    }
}

/// Runs a program that must succeed; its stdout.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {stderr}{}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stdout).unwrap()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
