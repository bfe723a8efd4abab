//! What the operator wants, validated: the spec every other module starts from.
//!
//! [`mod@file`] reads the wire form (`cluster.yaml` and flags) and reports every mistake at once; [`version`] knows what a
//! Kubernetes or etcd version takes; [`network`] finds overlapping ranges; [`layout`] is every path we own.

pub mod address;
pub(crate) mod checks;
pub mod discovery;
pub mod file;
pub mod layout;
pub mod mistake;
pub mod network;
pub(crate) mod report;
pub mod units;
pub mod version;
pub(crate) mod wire;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use discovery::Discovery;
use network::Cidr;
use version::{EtcdVersion, KubeVersion};

/// A validated cluster. Building one by hand is for tests; operators write `cluster.yaml`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSpec {
    /// Cluster name: a DNS label. Default `kubernetes`.
    pub name: String,
    /// Versions, ranges and extra flags.
    pub kubernetes: KubernetesSpec,
    /// The address clients use; every entry is a SAN of the serving certificate.
    pub load_balancer: LoadBalancerSpec,
    /// The etcd member on each master.
    pub etcd: EtcdSpec,
    /// Which runtime the kubelet talks to. Default docker.
    pub runtime: Runtime,
    /// Pod network.
    pub network: NetworkSpec,
    /// Who runs the scheduler and the controller-manager.
    pub election: ElectionSpec,
    /// Static tokens and basic auth.
    pub auth: AuthSpec,
    /// Key algorithm and validities.
    pub pki: PkiSpec,
    /// Default `standard`.
    pub profile: Profile,
    /// Known masters, this one included once it is resolved: etcd endpoints and load-balancer backends.
    pub masters: Vec<Node>,
    /// A directory of templates that replace the embedded ones of the same name.
    pub templates: Option<PathBuf>,
}

/// `kubernetes:`
#[derive(Debug, Clone, PartialEq)]
pub struct KubernetesSpec {
    /// Default v1.34.1.
    pub version: KubeVersion,
    /// Default `registry.k8s.io`.
    pub image_repository: String,
    /// Default `10.96.0.0/12`; at most 20 host bits.
    pub service_cidr: Cidr,
    /// Default `10.244.0.0/16`.
    pub pod_cidr: Cidr,
    /// Default `cluster.local`.
    pub dns_domain: String,
    /// Flag name without dashes → value; replaces a flag of ours of the same name.
    pub apiserver_extra_args: BTreeMap<String, String>,
    /// As above, for kube-controller-manager.
    pub controller_manager_extra_args: BTreeMap<String, String>,
    /// As above, for kube-scheduler.
    pub scheduler_extra_args: BTreeMap<String, String>,
    /// As above, for kubelet.
    pub kubelet_extra_args: BTreeMap<String, String>,
}

/// `loadBalancer:`
#[derive(Debug, Clone, PartialEq)]
pub struct LoadBalancerSpec {
    /// IPs and DNS names. Empty: no load balancer yet.
    pub addresses: Vec<Address>,
    /// Default 6443.
    pub port: u16,
    /// Interface keepalived binds the first IP to. Default `eth0`.
    pub interface: String,
    /// keepalived's `virtual_router_id`, 1 to 255. Default 51.
    pub virtual_router_id: u8,
}

/// An IP or a DNS name, never anything else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// IPv4 or IPv6.
    Ip(IpAddr),
    /// A lower-case DNS name; a wildcard only as the whole first label.
    Dns(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(ip) => ip.fmt(f),
            Address::Dns(name) => name.fmt(f),
        }
    }
}

/// `etcd:`
#[derive(Debug, Clone, PartialEq)]
pub struct EtcdSpec {
    /// Default `/var/lib/etcd`.
    pub data_dir: PathBuf,
    /// How the first cluster comes to be.
    pub bootstrap: EtcdBootstrap,
    /// Where the founders find each other, for bootstrap `discovery` only.
    pub discovery: Option<Discovery>,
    /// `--quota-backend-bytes`. Default 8 GiB, which is also etcd's advised maximum.
    pub quota_bytes: u64,
    /// `--heartbeat-interval`. Default 100 ms.
    pub heartbeat_interval: Duration,
    /// `--election-timeout`, at least five heartbeats, at most 50 s. Default 1 s.
    pub election_timeout: Duration,
    /// Version to render for where no binary can be asked. Default: the one Kubernetes pins.
    pub version: Option<EtcdVersion>,
    /// Snapshots by a timer; `None` is `off`.
    pub snapshots: Option<SnapshotSpec>,
}

/// `etcd.snapshots:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// Time between two. Default 6 hours.
    pub every: Duration,
    /// How many of each master are kept. Default 8.
    pub keep: usize,
    /// Where. Default `/var/lib/hamaster/snapshots`.
    pub dir: PathBuf,
}

impl Default for SnapshotSpec {
    fn default() -> Self {
        Self { every: Duration::from_secs(6 * 3600), keep: 8, dir: layout::Layout::host().snapshots() }
    }
}

/// How the first etcd cluster comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdBootstrap {
    /// Grow from one member: `init` makes it, each `join` adds a learner.
    New,
    /// All masters are named, have the same CAs, and are started together.
    Static,
    /// As static, but the masters find each other: hamaster makes the list from [`EtcdSpec::discovery`].
    Discovery,
}

/// The container runtime below the kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// docker: dockershim up to 1.23, cri-dockerd from 1.24.
    Docker,
    /// containerd.
    Containerd,
}

/// `network:`
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSpec {
    /// flannel, or bring your own CNI.
    pub plugin: NetworkPlugin,
    /// flannel's backend. Default vxlan; always written, since flannel's code defaults to udp.
    pub backend: FlannelBackend,
    /// How pods reach flannel. Default CNI.
    pub path: NetworkPath,
    /// Where flannel keeps who has which subnet. Default the API; etcd for the classic path.
    pub leases: FlannelLeases,
}

/// Who makes the pod network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkPlugin {
    /// flanneld on the host.
    Flannel,
    /// Nothing is installed.
    None,
}

/// flannel's way of carrying packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlannelBackend {
    /// VXLAN, UDP 8472: works everywhere. The default.
    Vxlan,
    /// Routes on one layer-2 network.
    HostGw,
    /// Encrypted, kernel 5.6 or newer.
    Wireguard,
}

/// Where flannel keeps which node has which subnet: one place for the whole cluster, since nodes only find those in the
/// same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlannelLeases {
    /// In the API, on each Node: the controller-manager allocates, and flanneld has an identity that can do no more than
    /// that. The only one that takes workers.
    Kubernetes,
    /// In our etcd, as in 2015. Whoever can write there rules the cluster, so only masters are given that.
    Etcd,
}

/// How containers get onto the flannel network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkPath {
    /// `/etc/cni/net.d/10-flannel.conflist`.
    Cni,
    /// docker's own bridge on the flannel subnet (`--bip`), as in 2015. docker up to Kubernetes 1.23 only.
    Classic,
}

/// `election:`
#[derive(Debug, Clone, PartialEq)]
pub struct ElectionSpec {
    /// Default podmaster.
    pub mode: ElectionMode,
    /// `leaseDuration`: the manifest is gone this long after the last renewal. Default 10 s.
    pub lease_duration: Duration,
    /// Whether the election daemon is a unit (default) or a static pod.
    pub run_as: ElectionRunAs,
    /// Image of the static pod form.
    pub image: String,
}

/// Who decides where the scheduler and the controller-manager run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionMode {
    /// The holder of an etcd lease has the manifests; the others keep them on standby.
    Podmaster,
    /// Both run on every master and elect among themselves.
    Native,
}

/// How the election daemon is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionRunAs {
    /// `hamaster-elect.service`: systemd's watchdog covers a frozen daemon.
    Unit,
    /// A static pod, as podmaster was in 2015: no boot fence, no watchdog.
    StaticPod,
}

/// `auth:`
#[derive(Debug, Clone, PartialEq)]
pub struct AuthSpec {
    /// `known_tokens.csv` wired to the apiserver. Default true, except in profile cis.
    pub static_tokens: bool,
    /// `basic_auth.csv`. Default auto.
    pub basic_auth: BasicAuth,
}

/// When `basic_auth.csv` is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BasicAuth {
    /// Only where the version still accepts it (1.18 and older).
    Auto,
    /// Never.
    Off,
}

/// `pki:`
#[derive(Debug, Clone, PartialEq)]
pub struct PkiSpec {
    /// Default ecdsa-p256.
    pub key_algorithm: KeyAlgorithm,
    /// Default 10 years.
    pub ca_validity: Duration,
    /// Default 1 year; a leaf never outlives its issuer.
    pub leaf_validity: Duration,
    /// A leaf is re-issued once this fraction of its life is over. Default 0.66.
    pub renew_at_fraction: f64,
}

/// Algorithm of every key we make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// The default: small, fast, read by every client.
    EcdsaP256,
    /// For those whose policy asks for it.
    EcdsaP384,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits.
    Rsa3072,
    /// RSA with 4096 bits.
    Rsa4096,
}

/// How strict the rendered cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Sound defaults, static tokens as in the classic bundle.
    Standard,
    /// Every scored CIS check passes.
    Cis,
}

/// One master: its node name and the address others reach it at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// A lower-case DNS subdomain; also the etcd member's name.
    pub name: String,
    /// Advertised to etcd peers and in the `kubernetes` service.
    pub ip: IpAddr,
}

/// The node a plan is for, with what differs between a real host and a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThisNode {
    /// Name and address.
    pub node: Node,
    /// Where loopback services of this master listen: `127.0.0.1` on a host, an address of its own in a lab.
    pub loopback: IpAddr,
    /// Where everything lives.
    pub layout: layout::Layout,
}
