//! What a host is like before hamaster touches it, as plain data: what preflight judges and what defaults come from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::spec::version::EtcdVersion;
use crate::state::observed::{HostNetwork, Listener};

/// The programs rendered files refer to, as found on the host or as assumed for `render`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// etcd's version decides its flags.
    pub etcd_version: EtcdVersion,
    /// Path of etcd.
    pub etcd: PathBuf,
    /// Path of this program.
    pub hamaster: PathBuf,
    /// Path of the kubelet.
    pub kubelet: PathBuf,
    /// Path of flanneld.
    pub flanneld: PathBuf,
    /// Path of cri-dockerd.
    pub cri_dockerd: PathBuf,
    /// Major and minor of containerd; 2.x has another configuration format than 1.x.
    pub containerd: (u32, u32),
    /// Where CNI plugins are: `/opt/cni/bin` and, on Debian, `/usr/lib/cni`.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// `/run/systemd/resolve/resolv.conf` where systemd-resolved runs, so that pods do not get its stub.
    pub resolv_conf: Option<PathBuf>,
}

/// Facts preflight judges. Gathering them never fails: what could not be learnt is `None` or absent, and
/// [`unknown`](Self::unknown) says why.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// Host name as the kernel says.
    pub hostname: String,
    /// Addresses the host has, without loopback.
    pub addresses: Vec<IpAddr>,
    /// Source address of the default route.
    pub default_ip: Option<IpAddr>,
    /// Interfaces' networks and routes.
    pub networks: Vec<HostNetwork>,
    /// TCP listeners.
    pub listeners: Vec<Listener>,
    /// Where other masters' etcd should be and no connection can be made; asked for where one joins.
    pub unreachable: Vec<Unreachable>,
    /// What could not be learnt.
    pub unknown: Vec<Unknown>,
    /// Effective uid of this process.
    pub uid: u32,
    /// `x86_64`, `aarch64`, …
    pub arch: String,
    /// Kernel release, `6.1.0-18-amd64`.
    pub kernel: String,
    /// CPUs this process may use.
    pub cpus: Option<usize>,
    /// All memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Swap devices and files in use.
    pub swaps: Option<Vec<String>>,
    /// How `/sys/fs/cgroup` is mounted.
    pub cgroups: Option<Cgroups>,
    /// Kernel parameters asked for, by dotted name; one the kernel does not have is absent.
    pub sysctls: BTreeMap<String, String>,
    /// systemd is PID 1.
    pub systemd: bool,
    /// Units asked for that are active.
    pub active_units: BTreeSet<String>,
    /// systemd-resolved's full list of name servers is there.
    pub systemd_resolved: bool,
    /// SELinux is enforcing.
    pub selinux_enforcing: bool,
    /// Whether the kernel says the clock is synchronised.
    pub clock_synchronised: Option<bool>,
    /// `/etc/machine-id` has an id.
    pub machine_id: bool,
    /// The user `etcd` exists.
    pub etcd_user: bool,
    /// Path of this program.
    pub exe: Option<PathBuf>,
    /// Programs found, by name.
    pub programs: BTreeMap<String, Program>,
    /// Plugins in each CNI directory that exists.
    pub cni_plugins: BTreeMap<PathBuf, BTreeSet<String>>,
    /// What the host name resolves to.
    pub hostname_lookup: Option<Resolution>,
    /// What the load balancer's DNS names resolve to.
    pub load_balancer_names: Vec<Resolution>,
    /// Where etcd keeps its data.
    pub data_dir: DataDir,
    /// Free bytes for what we write below `/etc` and `/var`.
    pub free_bytes: Option<u64>,
    /// etcd processes, ours and others'.
    pub etcd_processes: Vec<EtcdProcess>,
    /// Names in the static pod directory.
    pub manifests: BTreeSet<String>,
    /// Signs of another cluster on this host, of those looked for.
    pub installations: Vec<PathBuf>,
    /// Proxy variables that are set. Their values may hold passwords and are not kept.
    pub proxy_variables: Vec<String>,
    /// `NO_PROXY`.
    pub no_proxy: String,
}

/// A place that this host cannot connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// Where.
    pub at: SocketAddr,
    /// What happened.
    pub why: String,
}

/// A fact that could not be learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The file, call or program asked.
    pub what: String,
    /// Why there was no answer.
    pub why: String,
}

/// How cgroups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// One hierarchy per controller.
    V1,
    /// Controllers in v1, an empty v2 beside them.
    Hybrid,
    /// The unified hierarchy.
    V2,
}

/// A program found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where.
    pub path: PathBuf,
    /// What it says about its version; `None` if it was not asked or did not answer.
    pub version: Option<String>,
}

/// The answer to a name lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The name.
    pub name: String,
    /// Its addresses, or why there are none.
    pub addresses: Result<Vec<IpAddr>, String>,
}

/// etcd's data directory, or the nearest parent that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataDir {
    /// Names in it, without `lost+found`; empty also where it does not exist.
    pub entries: BTreeSet<String>,
    /// The directory itself or its nearest parent that exists: what the next three are about.
    pub nearest: PathBuf,
    /// `ext4`, `xfs`, `nfs`, …, or the magic number in hex.
    pub filesystem: Option<String>,
    /// Free bytes.
    pub free_bytes: Option<u64>,
    /// 99th percentile of 100 times 2300 bytes and `fdatasync`, the size of etcd's own probe.
    pub fsync_p99: Option<Duration>,
}

/// A running etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdProcess {
    /// Its pid.
    pub pid: u32,
    /// The unit it runs in.
    pub unit: Option<String>,
    /// `--data-dir` or `ETCD_DATA_DIR`, where they could be read.
    pub data_dir: Option<PathBuf>,
}
