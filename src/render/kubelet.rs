//! The kubelet: its unit, its configuration and the kubeconfig that refers to the certificate it rotates.

use std::path::PathBuf;

use serde::Serialize;

use super::runtime::Access;
use super::{Input, Rendered, flags, text};
use crate::error::{Error, Result};
use crate::pki::catalog;
use crate::spec::Runtime;
use crate::state::PhaseId;

/// kubelet.service
#[derive(Serialize)]
struct KubeletUnit {
    argv: Vec<String>,
    /// The runtime's unit.
    runtime: &'static str,
}

/// KubeletConfiguration. The kubelet only warns about a field it does not know, so fields are gated here by version.
#[derive(Serialize)]
struct KubeletConfig {
    /// None on a worker: nobody but the API gives it pods.
    static_pod_path: Option<String>,
    client_ca: String,
    cert: String,
    key: String,
    cluster_dns: Vec<String>,
    cluster_domain: String,
    health_ip: String,
    cipher_suites: [&'static str; 6],
    /// From 1.27 on; a flag before.
    runtime_endpoint: Option<&'static str>,
    /// A master's, from 1.23 on; a flag before.
    taint_keys: Option<&'static [&'static str]>,
    /// From 1.25 on: needs a feature gate before.
    seccomp_default: bool,
    /// Needs the sysctls that `network/sysctl.conf` then sets.
    protect_kernel_defaults: bool,
    resolv_conf: Option<String>,
}

/// kubelet.conf
#[derive(Serialize)]
struct KubeletKubeconfig {
    cluster: String,
    server: String,
    ca: String,
    user: String,
    client_pem: String,
}

pub(super) fn files(i: &Input, out: &mut Rendered) -> Result<()> {
    let layout = &i.this.layout;
    let phase = PhaseId::Kubelet;
    // 0600, all three: CIS 4.1.1, 4.1.5 and 4.1.9.
    out.add(phase, layout.unit("kubelet.service"), 0o600, "systemd/kubelet.service.hbs", &unit(i))?;
    out.add(phase, layout.kubelet_config(), 0o600, "kubelet/config.yaml.hbs", &config(i)?)?;
    out.add(phase, layout.kubeconfig("kubelet"), 0o600, "kubelet/kubelet.conf.hbs", &kubeconfig(i))
}

/// `key=:NoSchedule` for each taint of a master.
pub(super) fn taints(minor: u32) -> Vec<String> {
    master_taints(minor).iter().map(|key| format!("{key}=:NoSchedule")).collect()
}

/// The kernel settings the kubelet would otherwise change itself: CIS scores this up to 1.24.
pub(super) fn protect_kernel_defaults(i: &Input) -> bool {
    i.cis() && i.minor() <= 24
}

/// The unit of the runtime the kubelet waits for.
pub(super) fn runtime_unit(i: &Input) -> &'static str {
    match (i.spec.runtime, super::runtime::access(i)) {
        (Runtime::Containerd, _) => "containerd.service",
        (Runtime::Docker, Access::Dockershim) => "docker.service",
        (Runtime::Docker, Access::Cri(_)) => "cri-docker.service",
    }
}

fn unit(i: &Input) -> KubeletUnit {
    let mut argv = vec![text(&i.tools.kubelet)];
    argv.extend(flags::kubelet(i).argv());
    KubeletUnit { argv, runtime: runtime_unit(i) }
}

fn config(i: &Input) -> Result<KubeletConfig> {
    let (layout, minor) = (&i.this.layout, i.minor());
    let service_cidr = i.spec.kubernetes.service_cidr;
    let dns = service_cidr.nth(10).ok_or_else(|| {
        Error::usage(format!("kubernetes.serviceCIDR {service_cidr} has no tenth address for the cluster's DNS"))
            .hint("take a range of /28 or wider")
    })?;
    Ok(KubeletConfig {
        static_pod_path: (!i.worker()).then(|| text(layout.manifests())),
        client_ca: text(i.pki("ca.crt")),
        cert: text(layout.kubelet().join("pki/kubelet.crt")),
        key: text(layout.kubelet().join("pki/kubelet.key")),
        cluster_dns: vec![dns.to_string()],
        cluster_domain: i.spec.kubernetes.dns_domain.clone(),
        health_ip: i.this.loopback.to_string(),
        cipher_suites: flags::CIPHER_SUITES,
        runtime_endpoint: match super::runtime::access(i) {
            Access::Cri(socket) if minor >= 27 => Some(socket),
            _ => None,
        },
        taint_keys: (minor >= 23 && !i.worker()).then(|| master_taints(minor)),
        seccomp_default: minor >= 25,
        protect_kernel_defaults: protect_kernel_defaults(i),
        resolv_conf: i.tools.resolv_conf.as_ref().map(text),
    })
}

fn kubeconfig(i: &Input) -> KubeletKubeconfig {
    KubeletKubeconfig {
        cluster: i.spec.name.clone(),
        // A master's not through the load balancer: a kubelet must never be newer than the apiserver it talks to.
        server: if i.worker() { catalog::worker_server(i.spec, i.this) } else { catalog::local_server(i.this) },
        ca: text(i.pki("ca.crt")),
        user: format!("system:node:{}", i.this.node.name),
        client_pem: text(i.this.layout.kubelet_client_pem()),
    }
}

/// Keys of the taints that keep workloads off masters.
fn master_taints(minor: u32) -> &'static [&'static str] {
    const MASTER: &str = "node-role.kubernetes.io/master";
    const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
    match minor {
        ..=23 => &[MASTER],
        24 => &[MASTER, CONTROL_PLANE],
        _ => &[CONTROL_PLANE],
    }
}

/// Files the kubelet reads at start besides its unit. Not its client certificate: it rotates that one itself.
pub(super) fn inputs(i: &Input) -> Vec<PathBuf> {
    let layout = &i.this.layout;
    let pki = layout.kubelet().join("pki");
    vec![
        layout.kubelet_config(),
        layout.kubeconfig("kubelet"),
        i.pki("ca.crt"),
        pki.join("kubelet.crt"),
        pki.join("kubelet.key"),
    ]
}
