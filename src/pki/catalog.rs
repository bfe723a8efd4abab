//! The table of everything a master is issued. Generating, judging, checking and documenting all iterate it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::pki::auth;
use crate::spec::layout::Layout;
use crate::spec::network::Cidr;
use crate::spec::{Address, BasicAuth, ClusterSpec, NetworkPlugin, ThisNode};
use crate::state::desired::{CaId, CaSpec, CertSpec, Fraction, Placement, SecretKind, SecretSpec, StaticUser};
use crate::state::{Owner, PhaseId};

/// Port of the apiserver on each master.
pub const APISERVER_PORT: u16 = 6443;

/// The group of people who administer the cluster: a ClusterRoleBinding gives it cluster-admin and can take it back,
/// which nothing can do to `system:masters`.
pub const ADMINS: &str = "kubeadm:cluster-admins";

/// A row of the CA table.
#[derive(Debug)]
pub struct CaRow {
    /// Which.
    pub id: CaId,
    /// Subject common name, as kubeadm has it.
    pub common_name: &'static str,
    /// Path of `.crt` and `.key` without the extension.
    pub stem: Stem,
    /// Where kubeadm keeps it, below `/etc/kubernetes/pki`.
    pub kubeadm: &'static str,
}

/// A row of the leaf table.
#[derive(Debug)]
pub struct LeafRow {
    /// Stable id.
    pub id: &'static str,
    /// What it is for.
    pub what: &'static str,
    /// Who signs.
    pub issuer: CaId,
    /// Subject common name.
    pub name: Name,
    /// Subject organization.
    pub organization: Option<&'static str>,
    /// Extended key usages.
    pub usage: Usage,
    /// Subject alternative names.
    pub sans: Sans,
    /// Where it is kept.
    pub place: Place,
    /// When it is there at all.
    pub when: When,
    /// Where kubeadm keeps it, below `/etc/kubernetes/pki` without the extension.
    pub kubeadm: Option<&'static str>,
}

/// A subject common name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Always the same.
    Fixed(&'static str),
    /// The node's name after this prefix.
    Node(&'static str),
}

/// Extended key usages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// serverAuth.
    Server,
    /// clientAuth.
    Client,
    /// Both: etcd's gateway dials its own server, peers dial each other.
    Both,
}

/// A rule for subject alternative names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sans {
    /// None: a client.
    None,
    /// Every name and address the API is reached at.
    Apiserver,
    /// The member, from near and far.
    Etcd,
    /// The node, as the apiserver dials it.
    Kubelet,
}

/// A place for a leaf or a CA, without the extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stem {
    /// In the bundle.
    Bundle(&'static str),
    /// In etcd's own directory.
    Etcd(&'static str),
    /// In `/var/lib/kubelet/pki`.
    Kubelet(&'static str),
}

/// How and where a leaf is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Two files; `cert` is the extension of the certificate, `crt` almost always.
    Pair(Stem, &'static str, Owner),
    /// `/etc/kubernetes/<name>.conf` that talks to the load balancer.
    SharedConf(&'static str),
    /// `/etc/kubernetes/<name>.conf` that talks to this master's apiserver: never newer than the component itself.
    LocalConf(&'static str),
    /// The kubelet's rotating PEM.
    KubeletClient,
}

/// When a leaf is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// On every master.
    Always,
    /// Where flannel makes the pod network.
    Flannel,
}

/// The certificate authorities, in issuing order.
pub static CAS: [CaRow; 3] = [
    CaRow { id: CaId::Cluster, common_name: "kubernetes", stem: Stem::Bundle("ca"), kubeadm: "ca" },
    CaRow {
        id: CaId::FrontProxy,
        common_name: "front-proxy-ca",
        stem: Stem::Bundle("front-proxy-ca"),
        kubeadm: "front-proxy-ca",
    },
    CaRow { id: CaId::Etcd, common_name: "etcd-ca", stem: Stem::Etcd("ca"), kubeadm: "etcd/ca" },
];

/// What most rows share: a client of the cluster without a group.
const CLIENT: LeafRow = LeafRow {
    id: "",
    what: "",
    issuer: CaId::Cluster,
    name: Name::Fixed(""),
    organization: None,
    usage: Usage::Client,
    sans: Sans::None,
    place: Place::KubeletClient,
    when: When::Always,
    kubeadm: None,
};

/// Every leaf of a master.
pub static LEAVES: [LeafRow; 16] = [
    LeafRow {
        id: "server",
        what: "what the apiserver and hamaster's join endpoint show",
        name: Name::Fixed("kube-apiserver"),
        usage: Usage::Server,
        sans: Sans::Apiserver,
        place: Place::Pair(Stem::Bundle("server"), "cert", Owner::Root),
        kubeadm: Some("apiserver"),
        ..CLIENT
    },
    LeafRow {
        id: "apiserver-kubelet-client",
        // No group: a binding of system:kubelet-api-admin gives it what it needs and no more (kubeadm#3310).
        what: "the apiserver to kubelets: logs, exec, metrics",
        name: Name::Fixed("kube-apiserver-kubelet-client"),
        place: Place::Pair(Stem::Bundle("apiserver-kubelet-client"), "crt", Owner::Root),
        kubeadm: Some("apiserver-kubelet-client"),
        ..CLIENT
    },
    LeafRow {
        id: "apiserver-etcd-client",
        what: "the apiserver to etcd",
        issuer: CaId::Etcd,
        name: Name::Fixed("kube-apiserver-etcd-client"),
        place: Place::Pair(Stem::Bundle("apiserver-etcd-client"), "crt", Owner::Root),
        kubeadm: Some("apiserver-etcd-client"),
        ..CLIENT
    },
    LeafRow {
        id: "front-proxy-client",
        what: "the apiserver to aggregated API servers",
        issuer: CaId::FrontProxy,
        name: Name::Fixed("front-proxy-client"),
        place: Place::Pair(Stem::Bundle("front-proxy-client"), "crt", Owner::Root),
        kubeadm: Some("front-proxy-client"),
        ..CLIENT
    },
    LeafRow {
        id: "kubecfg",
        what: "an administrator, as two files",
        name: Name::Fixed("kubernetes-admin"),
        organization: Some(ADMINS),
        place: Place::Pair(Stem::Bundle("kubecfg"), "crt", Owner::Root),
        ..CLIENT
    },
    LeafRow {
        id: "etcd-server",
        what: "what etcd shows its clients",
        issuer: CaId::Etcd,
        name: Name::Node(""),
        usage: Usage::Both,
        sans: Sans::Etcd,
        place: Place::Pair(Stem::Etcd("server"), "crt", Owner::Etcd),
        kubeadm: Some("etcd/server"),
        ..CLIENT
    },
    LeafRow {
        id: "etcd-peer",
        what: "what etcd members show each other",
        issuer: CaId::Etcd,
        name: Name::Node(""),
        usage: Usage::Both,
        sans: Sans::Etcd,
        place: Place::Pair(Stem::Etcd("peer"), "crt", Owner::Etcd),
        kubeadm: Some("etcd/peer"),
        ..CLIENT
    },
    LeafRow {
        id: "etcd-healthcheck-client",
        what: "health probes and etcdctl",
        issuer: CaId::Etcd,
        name: Name::Fixed("kube-etcd-healthcheck-client"),
        place: Place::Pair(Stem::Etcd("healthcheck-client"), "crt", Owner::Root),
        kubeadm: Some("etcd/healthcheck-client"),
        ..CLIENT
    },
    LeafRow {
        id: "hamaster-etcd-client",
        what: "hamaster to etcd: membership, election, the spec",
        issuer: CaId::Etcd,
        name: Name::Fixed("hamaster"),
        place: Place::Pair(Stem::Etcd("hamaster"), "crt", Owner::Root),
        ..CLIENT
    },
    LeafRow {
        id: "flannel-etcd-client",
        what: "flannel to etcd: its leases",
        issuer: CaId::Etcd,
        name: Name::Fixed("flannel"),
        place: Place::Pair(Stem::Etcd("flannel"), "crt", Owner::Root),
        when: When::Flannel,
        ..CLIENT
    },
    LeafRow {
        id: "admin",
        what: "an administrator, as a kubeconfig",
        name: Name::Fixed("kubernetes-admin"),
        organization: Some(ADMINS),
        place: Place::SharedConf("admin"),
        ..CLIENT
    },
    LeafRow {
        id: "super-admin",
        what: "break glass: works without RBAC and cannot be revoked",
        name: Name::Fixed("kubernetes-super-admin"),
        organization: Some("system:masters"),
        place: Place::SharedConf("super-admin"),
        ..CLIENT
    },
    LeafRow {
        id: "controller-manager",
        what: "the controller-manager",
        name: Name::Fixed("system:kube-controller-manager"),
        place: Place::LocalConf("controller-manager"),
        ..CLIENT
    },
    LeafRow {
        id: "scheduler",
        what: "the scheduler",
        name: Name::Fixed("system:kube-scheduler"),
        place: Place::LocalConf("scheduler"),
        ..CLIENT
    },
    LeafRow {
        id: "kubelet-client",
        what: "the kubelet to the apiserver; the kubelet rotates it",
        name: Name::Node("system:node:"),
        organization: Some("system:nodes"),
        place: Place::KubeletClient,
        ..CLIENT
    },
    LeafRow {
        id: "kubelet-server",
        what: "what the kubelet shows the apiserver",
        name: Name::Node("system:node:"),
        organization: Some("system:nodes"),
        usage: Usage::Server,
        sans: Sans::Kubelet,
        place: Place::Pair(Stem::Kubelet("kubelet"), "crt", Owner::Root),
        ..CLIENT
    },
];

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
    let wanted = |row: &&LeafRow| match row.when {
        When::Always => true,
        When::Flannel => spec.network.plugin == NetworkPlugin::Flannel,
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
    // --basic-auth-file is an unknown flag from 1.19 on: the apiserver would not start.
    if spec.auth.basic_auth == BasicAuth::Auto && spec.kubernetes.version.minor <= 18 {
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

impl Usage {
    /// serverAuth is in it.
    pub fn server(self) -> bool {
        self != Usage::Client
    }

    /// clientAuth is in it.
    pub fn client(self) -> bool {
        self != Usage::Server
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
                let service = Address::Ip(first(&spec.kubernetes.service_cidr));
                std::iter::once(node)
                    .chain(names.map(dns))
                    .chain([service, ip])
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

/// The address the `kubernetes` service gets.
fn first(cidr: &Cidr) -> IpAddr {
    match cidr.base {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().saturating_add(1))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().saturating_add(1))),
    }
}
