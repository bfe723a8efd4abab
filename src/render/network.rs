//! The pod network: flannel on the host with its leases in our etcd, the CNI list, kernel modules and sysctls.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::{Input, Rendered, kubelet, runtime, text};
use crate::error::Result;
use crate::etcd::keys;
use crate::spec::{ClusterSpec, FlannelBackend, NetworkPath};
use crate::state::PhaseId;

/// Loads [`kernel_files`] without a reboot.
pub(super) const KERNEL_UNIT: &str = "hamaster-kernel.service";
/// Not below the layout's prefix: flannel, its CNI plugin and docker agree on this path.
const SUBNET_FILE: &str = "/run/flannel/subnet.env";

/// flanneld.service
#[derive(Serialize)]
struct FlannelUnit {
    argv: Vec<String>,
    /// The Node it keeps its lease on; none where leases are in etcd.
    node: Option<String>,
    /// There is an etcd on this host.
    etcd: bool,
    /// `modprobe@<name>.service` of each.
    modules: Vec<&'static str>,
    /// docker waits for the subnet.
    classic: bool,
}

/// Kernel modules loaded at boot.
#[derive(Serialize)]
struct Modules {
    modules: Vec<&'static str>,
}

/// Kernel settings.
#[derive(Serialize)]
struct Sysctl {
    ipv6: bool,
    /// What the kubelet demands with `protectKernelDefaults`.
    kubelet_defaults: bool,
}

/// hamaster-kernel.service
#[derive(Serialize)]
struct KernelUnit {
    modules_file: String,
    sysctl_file: String,
}

/// net-conf.json
#[derive(Serialize)]
struct NetConf {
    config: serde_json::Value,
}

/// The CNI list.
#[derive(Serialize)]
struct Conflist {
    subnet_file: &'static str,
}

pub(super) fn files(i: &Input, out: &mut Rendered) -> Result<()> {
    let layout = &i.this.layout;
    let phase = PhaseId::Network;
    let modules = Modules { modules: ["overlay"].into_iter().chain(flannel_modules(i)).collect() };
    let [modules_file, sysctl_file] = kernel_files(i);
    let unit = KernelUnit { modules_file: text(&modules_file), sysctl_file: text(&sysctl_file) };
    out.add(phase, layout.unit(KERNEL_UNIT), 0o644, "systemd/hamaster-kernel.service.hbs", &unit)?;
    out.add(phase, modules_file, 0o644, "network/modules.conf.hbs", &modules)?;
    let sysctl = Sysctl {
        ipv6: i.spec.kubernetes.pod_cidr.base.is_ipv6(),
        kubelet_defaults: kubelet::protect_kernel_defaults(i),
    };
    out.add(phase, sysctl_file, 0o644, "network/sysctl.conf.hbs", &sysctl)?;
    if !i.flannel() {
        return Ok(());
    }
    let unit = FlannelUnit {
        argv: flanneld(i),
        node: i.flannel_in_api().then(|| i.this.node.name.clone()),
        etcd: !i.worker(),
        modules: flannel_modules(i),
        classic: runtime::classic_docker(i),
    };
    out.add(phase, layout.unit("flanneld.service"), 0o644, "systemd/flanneld.service.hbs", &unit)?;
    if i.flannel_in_api() {
        let config: serde_json::Value = serde_json::from_str(&flannel_config(i.spec)).unwrap_or_default();
        let context = NetConf { config };
        out.add(phase, net_conf(i), 0o644, "network/net-conf.json.hbs", &context)?;
    }
    if i.spec.network.path == NetworkPath::Cni {
        let conflist = Conflist { subnet_file: SUBNET_FILE };
        out.add(phase, layout.cni().join("10-flannel.conflist"), 0o600, "network/10-flannel.conflist.hbs", &conflist)?;
    }
    Ok(())
}

/// The value of [`keys::FLANNEL`]: must be there before flanneld starts, which otherwise waits for it.
pub fn flannel_config(spec: &ClusterSpec) -> String {
    let pods = spec.kubernetes.pod_cidr;
    // The backend is always written: flannel's documentation says vxlan is the default, its code takes udp.
    let backend = match spec.network.backend {
        FlannelBackend::Vxlan => "vxlan",
        FlannelBackend::HostGw => "host-gw",
        FlannelBackend::Wireguard => "wireguard",
    };
    let node_subnet = |usual| node_prefix(spec, usual);
    let config = if pods.base.is_ipv6() {
        json!({
            "EnableIPv4": false,
            "EnableIPv6": true,
            "IPv6Network": pods.to_string(),
            "IPv6SubnetLen": node_subnet(64),
            "Backend": { "Type": backend },
        })
    } else {
        json!({ "Network": pods.to_string(), "SubnetLen": node_subnet(24), "Backend": { "Type": backend } })
    };
    config.to_string()
}

/// How long the prefix of one node's subnet is: as `usual` unless that leaves less than four of them.
fn node_prefix(spec: &ClusterSpec, usual: u8) -> u8 {
    usual.max(spec.kubernetes.pod_cidr.prefix + 2)
}

/// The same for the controller-manager, where it allocates for flannel and its default is another.
pub(super) fn node_mask(i: &Input) -> Option<u8> {
    let usual = if i.spec.kubernetes.pod_cidr.is_ipv4() { 24 } else { 64 };
    Some(node_prefix(i.spec, usual)).filter(|prefix| i.flannel_in_api() && *prefix != usual)
}

/// What flannel finds in etcd where its leases are there.
fn net_conf(i: &Input) -> PathBuf {
    i.this.layout.path("/etc/kube-flannel/net-conf.json")
}

/// Kernel modules and kernel settings, where systemd finds them at boot.
pub(super) fn kernel_files(i: &Input) -> [PathBuf; 2] {
    ["/etc/modules-load.d/hamaster.conf", "/etc/sysctl.d/90-hamaster.conf"].map(|path| i.this.layout.path(path))
}

/// Files flanneld reads at start besides its unit.
pub(super) fn inputs(i: &Input) -> Vec<PathBuf> {
    if i.flannel_in_api() {
        return vec![net_conf(i), i.this.layout.kubeconfig("flannel")];
    }
    ["ca.crt", "flannel.crt", "flannel.key"].map(|f| i.etcd_pki(f)).into()
}

fn flanneld(i: &Input) -> Vec<String> {
    let mut argv = vec![text(&i.tools.flanneld)];
    if i.flannel_in_api() {
        argv.push("--kube-subnet-mgr".into());
        argv.push(format!("--kubeconfig-file={}", text(i.this.layout.kubeconfig("flannel"))));
        argv.push(format!("--net-config-path={}", text(net_conf(i))));
    } else {
        argv.push(format!("--etcd-endpoints={}", i.etcd_endpoints().join(",")));
        argv.push(format!("--etcd-prefix={}", keys::FLANNEL.trim_end_matches("/config")));
        argv.push(format!("--etcd-cafile={}", text(i.etcd_pki("ca.crt"))));
        argv.push(format!("--etcd-certfile={}", text(i.etcd_pki("flannel.crt"))));
        argv.push(format!("--etcd-keyfile={}", text(i.etcd_pki("flannel.key"))));
    }
    argv.push(format!("--iface={}", i.this.node.ip));
    argv.push("--ip-masq=true".into());
    argv.push(format!("--subnet-file={SUBNET_FILE}"));
    argv.push(format!("--healthz-ip={}", i.this.loopback));
    argv.push("--healthz-port=8471".into());
    argv
}

/// flanneld exits without br_netfilter.
fn flannel_modules(i: &Input) -> Vec<&'static str> {
    let backend = match i.spec.network.backend {
        _ if !i.flannel() => None,
        FlannelBackend::Vxlan => Some("vxlan"),
        FlannelBackend::Wireguard => Some("wireguard"),
        FlannelBackend::HostGw => None,
    };
    std::iter::once("br_netfilter").chain(backend).collect()
}
