//! What a host is like before hamaster touches it, as plain data: what preflight judges and what defaults come from.

use std::net::IpAddr;
use std::path::PathBuf;

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

/// Facts preflight judges.
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
}
