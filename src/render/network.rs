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
    let unit = FlannelUnit { argv: flanneld(i), modules: flannel_modules(i), classic: runtime::classic_docker(i) };
    out.add(phase, layout.unit("flanneld.service"), 0o644, "systemd/flanneld.service.hbs", &unit)?;
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
    let node_subnet = |usual: u8| if pods.prefix + 2 > usual { pods.prefix + 2 } else { usual };
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

/// Kernel modules and kernel settings, where systemd finds them at boot.
pub(super) fn kernel_files(i: &Input) -> [PathBuf; 2] {
    ["/etc/modules-load.d/hamaster.conf", "/etc/sysctl.d/90-hamaster.conf"].map(|path| i.this.layout.path(path))
}

/// Files flanneld reads at start besides its unit.
pub(super) fn inputs(i: &Input) -> Vec<PathBuf> {
    ["ca.crt", "flannel.crt", "flannel.key"].map(|f| i.etcd_pki(f)).into()
}

fn flanneld(i: &Input) -> Vec<String> {
    let prefix = keys::FLANNEL.trim_end_matches("/config");
    vec![
        text(&i.tools.flanneld),
        format!("--etcd-endpoints={}", i.etcd_endpoints().join(",")),
        format!("--etcd-prefix={prefix}"),
        format!("--etcd-cafile={}", text(i.etcd_pki("ca.crt"))),
        format!("--etcd-certfile={}", text(i.etcd_pki("flannel.crt"))),
        format!("--etcd-keyfile={}", text(i.etcd_pki("flannel.key"))),
        format!("--iface={}", i.this.node.ip),
        "--ip-masq=true".into(),
        format!("--subnet-file={}", SUBNET_FILE),
        format!("--healthz-ip={}", i.this.loopback),
        "--healthz-port=8471".into(),
    ]
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
