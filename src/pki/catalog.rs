//! What one master is issued: the [`table`] resolved for a spec and a node. Generating, judging and checking iterate it.
//!
//! [`table`]: crate::pki::table

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::pki::auth;
use crate::pki::table::{ADMINS, CAS, CaRow, LEAVES, LeafRow, Name, Place, Sans, Stem, When};
use crate::spec::layout::Layout;
use crate::spec::{Address, BasicAuth, ClusterSpec, FlannelLeases, NetworkPlugin, ThisNode};
use crate::state::PhaseId;
use crate::state::desired::{CaSpec, CertSpec, Fraction, Placement, SecretKind, SecretSpec, StaticUser};

/// Port of the apiserver on each master.
pub const APISERVER_PORT: u16 = 6443;

/// The CAs of a cluster.
pub fn cas(spec: &ClusterSpec, this: &ThisNode) -> Vec<CaSpec> {
    let resolve = |row: &CaRow| CaSpec {
        id: row.id,
        common_name: row.common_name.to_owned(),
        cert: row.stem.path(&this.layout, "crt"),
        key: row.stem.path(&this.layout, "key"),
        validity: spec.pki.ca_validity,
        algorithm: spec.pki.key_algorithm,
    };
    CAS.iter().map(resolve).collect()
}

/// Every leaf of this master.
pub fn certs(spec: &ClusterSpec, this: &ThisNode) -> Vec<CertSpec> {
    leaves(spec, this, |_| true)
}

/// Every leaf of a worker: it has no apiserver of its own to talk to.
pub fn worker_certs(spec: &ClusterSpec, this: &ThisNode) -> Vec<CertSpec> {
    let mut certs = leaves(spec, this, |row| row.worker);
    for cert in &mut certs {
        if let Placement::Kubeconfig { server, .. } = &mut cert.placement {
            *server = worker_server(spec, this);
        }
    }
    certs
}

fn leaves(spec: &ClusterSpec, this: &ThisNode, of: impl Fn(&LeafRow) -> bool) -> Vec<CertSpec> {
    let flannel = |leases| spec.network.plugin == NetworkPlugin::Flannel && spec.network.leases == leases;
    let wanted = |row: &&LeafRow| {
        let there = match row.when {
            When::Always => true,
            When::FlannelEtcd => flannel(FlannelLeases::Etcd),
            When::FlannelApi => flannel(FlannelLeases::Kubernetes),
        };
        there && of(row)
    };
    let resolve = |row: &LeafRow| CertSpec {
        id: row.id,
        phase: row.place.phase(),
        issuer: row.issuer,
        common_name: row.name.resolve(&this.node.name),
        organization: row.organization.map(str::to_owned),
        server: row.usage.server(),
        client: row.usage.client(),
        sans: row.sans.resolve(spec, this),
        validity: spec.pki.leaf_validity,
        renew_at_fraction: Fraction(spec.pki.renew_at_fraction),
        algorithm: spec.pki.key_algorithm,
        placement: row.place.resolve(spec, this),
    };
    LEAVES.iter().filter(wanted).map(resolve).collect()
}

/// The secrets of a cluster that are not certificates.
pub fn secrets(spec: &ClusterSpec, this: &ThisNode) -> Vec<SecretSpec> {
    let secret = |name: &str, kind| SecretSpec { phase: PhaseId::Pki, path: this.layout.pki().join(name), kind };
    let mut all = vec![
        secret(
            "sa.key",
            SecretKind::ServiceAccountKey {
                public: this.layout.pki().join("sa.pub"),
                algorithm: spec.pki.key_algorithm,
            },
        ),
        secret(auth::ENCRYPTION_CONFIG, SecretKind::EncryptionConfig),
    ];
    if spec.auth.static_tokens {
        all.push(secret(auth::KNOWN_TOKENS, SecretKind::KnownTokens { users: token_users(&this.node.name) }));
    }
    if spec.auth.basic_auth == BasicAuth::Auto && spec.kubernetes.version.accepts_basic_auth() {
        all.push(secret(auth::BASIC_AUTH, SecretKind::BasicAuth { users: vec![user("kubecfg", &[ADMINS])] }));
    }
    all
}

/// Who gets a static token: nobody gets `system:masters`.
fn token_users(node: &str) -> Vec<StaticUser> {
    vec![
        user("kubecfg", &[ADMINS]),
        user("system:kube-controller-manager", &[]),
        user("system:kube-scheduler", &[]),
        user("system:kube-proxy", &["system:node-proxier"]),
        user(&format!("system:node:{node}"), &["system:nodes"]),
    ]
}

fn user(name: &str, groups: &[&str]) -> StaticUser {
    StaticUser { name: name.to_owned(), uid: name.to_owned(), groups: groups.iter().map(|g| (*g).to_owned()).collect() }
}

/// `https://` and an address with its port; an IPv6 address in brackets.
pub fn url(address: &Address, port: u16) -> String {
    match address {
        Address::Ip(ip) => format!("https://{}", SocketAddr::new(*ip, port)),
        Address::Dns(name) => format!("https://{name}:{port}"),
    }
}

/// This master's own apiserver.
pub fn local_server(this: &ThisNode) -> String {
    url(&Address::Ip(this.node.ip), APISERVER_PORT)
}

/// Where a worker's kubeconfigs point: a name of the load balancer, which can be pointed elsewhere; else its first
/// address; else the first master, without which the worker then is cut off.
pub fn worker_server(spec: &ClusterSpec, this: &ThisNode) -> String {
    let addresses = &spec.load_balancer.addresses;
    let name = |a: &&Address| matches!(a, Address::Dns(name) if !name.starts_with('*'));
    let ip = |a: &&Address| matches!(a, Address::Ip(_));
    match addresses.iter().find(name).or_else(|| addresses.iter().find(ip)) {
        Some(address) => url(address, spec.load_balancer.port),
        None => spec.masters.first().map_or_else(|| local_server(this), |m| url(&Address::Ip(m.ip), APISERVER_PORT)),
    }
}

/// Where people's kubeconfigs point: the load balancer, or this master while there is none. A wildcard names nothing
/// that could be dialled.
pub fn shared_server(spec: &ClusterSpec, this: &ThisNode) -> String {
    let dialable = |a: &&Address| !matches!(a, Address::Dns(name) if name.starts_with('*'));
    match spec.load_balancer.addresses.iter().find(dialable) {
        Some(address) => url(address, spec.load_balancer.port),
        None => local_server(this),
    }
}

impl Name {
    fn resolve(self, node: &str) -> String {
        match self {
            Name::Fixed(name) => name.to_owned(),
            Name::Node(prefix) => format!("{prefix}{node}"),
        }
    }
}

impl Stem {
    /// The path on a master.
    pub fn path(self, layout: &Layout, extension: &str) -> PathBuf {
        match self {
            Stem::Bundle(stem) => layout.pki().join(format!("{stem}.{extension}")),
            Stem::Etcd(stem) => layout.etcd_pki().join(format!("{stem}.{extension}")),
            Stem::Kubelet(stem) => layout.kubelet().join(format!("pki/{stem}.{extension}")),
        }
    }
}

impl Place {
    fn phase(self) -> PhaseId {
        match self {
            Place::Pair(Stem::Bundle(_) | Stem::Etcd(_), ..) => PhaseId::Pki,
            _ => PhaseId::Kubeconfig,
        }
    }

    fn resolve(self, spec: &ClusterSpec, this: &ThisNode) -> Placement {
        let kubeconfig = |name, server| Placement::Kubeconfig {
            path: this.layout.kubeconfig(name),
            server,
            cluster: spec.name.clone(),
        };
        match self {
            Place::Pair(stem, extension, owner) => {
                Placement::Pair { cert: stem.path(&this.layout, extension), key: stem.path(&this.layout, "key"), owner }
            }
            Place::SharedConf(name) => kubeconfig(name, shared_server(spec, this)),
            Place::LocalConf(name) => kubeconfig(name, local_server(this)),
            Place::KubeletClient => Placement::Combined { path: this.layout.kubelet_client_pem() },
        }
    }
}

impl Sans {
    fn resolve(self, spec: &ClusterSpec, this: &ThisNode) -> Vec<Address> {
        let dns = |name: &str| Address::Dns(name.to_owned());
        let node = dns(&this.node.name);
        let ip = Address::Ip(this.node.ip);
        let near =
            || [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST), this.loopback].map(Address::Ip);
        let mut all = match self {
            Sans::None => vec![],
            Sans::Kubelet => vec![node, ip],
            Sans::Etcd => [node, dns("localhost"), ip].into_iter().chain(near()).collect(),
            Sans::Apiserver => {
                let full = format!("kubernetes.default.svc.{}", spec.kubernetes.dns_domain);
                let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", &full, "localhost"];
                // The address the `kubernetes` service gets.
                let service = spec.kubernetes.service_cidr.nth(1).map(Address::Ip);
                std::iter::once(node)
                    .chain(names.map(dns))
                    .chain(service)
                    .chain([ip])
                    .chain(near())
                    .chain(spec.load_balancer.addresses.iter().cloned())
                    .collect()
            }
        };
        let mut seen = std::collections::HashSet::new();
        all.retain(|san| seen.insert(san.clone()));
        all
    }
}
