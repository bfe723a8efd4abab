//! The table of every CA and leaf of a master, as rules: [`catalog`](crate::pki::catalog) resolves them for one node.

use crate::state::Owner;
use crate::state::desired::CaId;

/// The group of people who administer the cluster: a ClusterRoleBinding gives it cluster-admin and can take it back,
/// which nothing can do to `system:masters`.
pub const ADMINS: &str = "kubeadm:cluster-admins";

/// The group of every flanneld: `rbac.yaml` lets it see nodes and write their status, and nothing else.
pub const FLANNEL: &str = "hamaster:flannel";

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
    /// A worker has it too, and only such.
    pub worker: bool,
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
    /// Where flannel makes the pod network, with its leases in etcd.
    FlannelEtcd,
    /// Where flannel makes the pod network, with its leases in the API.
    FlannelApi,
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
    worker: false,
    kubeadm: None,
};

/// Every leaf of a master, and which of them a worker has.
pub static LEAVES: [LeafRow; 17] = [
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
        when: When::FlannelEtcd,
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
        worker: true,
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
        worker: true,
        ..CLIENT
    },
    LeafRow {
        id: "flannel",
        // Not the kubelet's: from 1.32 on that one sees no Node but its own.
        what: "flannel to the API: nodes and the subnets they have",
        name: Name::Node("hamaster:flannel:"),
        organization: Some(FLANNEL),
        place: Place::LocalConf("flannel"),
        when: When::FlannelApi,
        worker: true,
        ..CLIENT
    },
];

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
