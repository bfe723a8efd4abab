//! Command lines of the Kubernetes components by version and profile. A flag that a version lacks makes its binary
//! exit at start, so every flag with a history carries its minors here, and a test holds them against the flag table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Input, text};
use crate::pki::catalog::APISERVER_PORT;
use crate::spec::BasicAuth;

/// TLS 1.2 suites that CIS calls strong. The CHACHA names go without `_SHA256`: that spelling is the one that every
/// minor and every benchmark accepts.
pub(super) const CIPHER_SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
];

/// Seconds an apiserver keeps serving while `/readyz` already fails: longer than the load balancer's three checks, two
/// seconds apart.
pub(super) const SHUTDOWN_DELAY_SECONDS: u32 = 15;

/// Flags in the order they were given.
#[derive(Debug, Clone, Default)]
pub(super) struct Flags(Vec<Flag>);

#[derive(Debug, Clone)]
struct Flag {
    name: String,
    value: String,
    names: Named,
}

/// What a flag's value is the path of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Nothing,
    File,
    /// A log file, written by the process.
    Log,
}

/// A path that a process needs because a flag names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needed {
    /// The flag, without dashes.
    pub(super) flag: String,
    /// The file, or the directory of a log.
    pub(super) path: PathBuf,
    /// It is written to.
    pub(super) log: bool,
}

impl Flags {
    fn put(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(Flag { name: name.to_owned(), value: value.into(), names: Named::Nothing });
    }

    fn file(&mut self, name: &str, path: impl AsRef<Path>) {
        self.0.push(Flag { name: name.to_owned(), value: text(path), names: Named::File });
    }

    fn log(&mut self, name: &str, path: impl AsRef<Path>) {
        self.0.push(Flag { name: name.to_owned(), value: text(path), names: Named::Log });
    }

    /// The operator's flags: in place of ours of the same name, else at the end.
    fn extra(mut self, args: &BTreeMap<String, String>) -> Self {
        for (name, value) in args {
            match self.0.iter_mut().find(|f| f.name == *name) {
                Some(flag) => flag.value.clone_from(value),
                None => self.put(name, value),
            }
        }
        self
    }

    /// `--name=value`: one word per flag, as kube-bench greps for it.
    pub(super) fn argv(&self) -> Vec<String> {
        self.0.iter().map(|f| format!("--{}={}", f.name, f.value)).collect()
    }

    /// The paths our flags name, each once. A file that only an extra flag names is not known to be one.
    pub(super) fn needed(&self) -> Vec<Needed> {
        let mut out: Vec<Needed> = vec![];
        for flag in self.0.iter().filter(|f| f.names != Named::Nothing) {
            let log = flag.names == Named::Log;
            let path = Path::new(&flag.value);
            let path = if log { path.parent().unwrap_or(path) } else { path };
            if !out.iter().any(|n| n.path == path) {
                out.push(Needed { flag: flag.name.clone(), path: path.to_owned(), log });
            }
        }
        out
    }
}

pub(super) fn apiserver(i: &Input) -> Flags {
    let (spec, minor, node) = (i.spec, i.minor(), &i.this.node);
    let mut f = Flags::default();
    f.put("advertise-address", node.ip.to_string());
    f.put("bind-address", if i.lab() { i.this.loopback.to_string() } else { any_address(i).into() });
    f.put("secure-port", APISERVER_PORT.to_string());
    if minor <= 21 {
        f.put("insecure-port", "0");
    }
    f.put("allow-privileged", "true");
    f.put("authorization-mode", "Node,RBAC");
    f.file("client-ca-file", i.pki("ca.crt"));
    if let Some(path) = super::policy::authentication_config(i) {
        f.file("authentication-config", path);
    }
    f.put("enable-bootstrap-token-auth", "true");
    if spec.auth.static_tokens {
        f.file("token-auth-file", i.pki("known_tokens.csv"));
    }
    if spec.auth.basic_auth == BasicAuth::Auto && spec.kubernetes.version.accepts_basic_auth() {
        f.file("basic-auth-file", i.pki("basic_auth.csv"));
    }
    f.put("enable-admission-plugins", admission_plugins(i));
    if i.cis() {
        f.file("admission-control-config-file", super::policy::admission_config(i));
    }
    f.put("etcd-servers", i.etcd_endpoints().join(","));
    f.file("etcd-cafile", i.etcd_pki("ca.crt"));
    f.file("etcd-certfile", i.pki("apiserver-etcd-client.crt"));
    f.file("etcd-keyfile", i.pki("apiserver-etcd-client.key"));
    f.file("encryption-provider-config", i.pki("encryption-config.yaml"));
    f.file("tls-cert-file", i.pki("server.cert"));
    f.file("tls-private-key-file", i.pki("server.key"));
    tls(&mut f);
    f.put("service-cluster-ip-range", spec.kubernetes.service_cidr.to_string());
    f.put("service-account-issuer", format!("https://kubernetes.default.svc.{}", spec.kubernetes.dns_domain));
    f.file("service-account-key-file", i.pki("sa.pub"));
    f.file("service-account-signing-key-file", i.pki("sa.key"));
    f.put("service-account-lookup", "true");
    if minor >= 20 {
        f.put("service-account-extend-token-expiration", "false");
    }
    f.file("kubelet-client-certificate", i.pki("apiserver-kubelet-client.crt"));
    f.file("kubelet-client-key", i.pki("apiserver-kubelet-client.key"));
    f.file("kubelet-certificate-authority", i.pki("ca.crt"));
    f.put("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname");
    f.file("proxy-client-cert-file", i.pki("front-proxy-client.crt"));
    f.file("proxy-client-key-file", i.pki("front-proxy-client.key"));
    f.file("requestheader-client-ca-file", i.pki("front-proxy-ca.crt"));
    f.put("requestheader-allowed-names", "front-proxy-client");
    f.put("requestheader-username-headers", "X-Remote-User");
    f.put("requestheader-group-headers", "X-Remote-Group");
    f.put("requestheader-extra-headers-prefix", "X-Remote-Extra-");
    f.file("audit-policy-file", super::policy::audit_policy(i));
    f.log("audit-log-path", i.this.layout.audit_log_dir().join("audit.log"));
    f.put("audit-log-maxage", "30");
    f.put("audit-log-maxbackup", "10");
    f.put("audit-log-maxsize", "100");
    f.put("profiling", "false");
    if !spec.load_balancer.addresses.is_empty() {
        f.put("shutdown-delay-duration", format!("{SHUTDOWN_DELAY_SECONDS}s"));
        // Moves long-lived connections to a master that came back; with one master it would only cut them.
        if spec.masters.len() > 1 && minor >= 18 {
            f.put("goaway-chance", "0.001");
        }
    }
    f.extra(&spec.kubernetes.apiserver_extra_args)
}

/// A name unknown to the version makes the apiserver exit; DenyServiceExternalIPs is wanted by the benchmarks from 1.25
/// on and forbidden by the ones before.
fn admission_plugins(i: &Input) -> String {
    let mut plugins = vec!["NodeRestriction"];
    if i.cis() {
        plugins.push("EventRateLimit");
        if i.minor() >= 25 {
            plugins.push("DenyServiceExternalIPs");
        }
    }
    plugins.join(",")
}

pub(super) fn controller_manager(i: &Input) -> Flags {
    let spec = i.spec;
    let mut f = Flags::default();
    component(i, &mut f, "controller-manager");
    f.file("client-ca-file", i.pki("ca.crt"));
    f.file("requestheader-client-ca-file", i.pki("front-proxy-ca.crt"));
    f.file("root-ca-file", i.pki("ca.crt"));
    f.file("service-account-private-key-file", i.pki("sa.key"));
    if !i.external_ca {
        f.file("cluster-signing-cert-file", i.pki("ca.crt"));
        f.file("cluster-signing-key-file", i.pki("ca.key"));
    }
    f.put("use-service-account-credentials", "true");
    f.put("controllers", "*,bootstrapsigner,tokencleaner");
    // Where flannel leases subnets in etcd by itself, allocating here as well would make every node's podCIDR a lie.
    let allocate = !i.flannel() || i.flannel_in_api();
    f.put("allocate-node-cidrs", allocate.to_string());
    if allocate {
        f.put("cluster-cidr", spec.kubernetes.pod_cidr.to_string());
    }
    if let Some(size) = super::network::node_mask(i) {
        f.put("node-cidr-mask-size", size.to_string());
    }
    f.put("service-cluster-ip-range", spec.kubernetes.service_cidr.to_string());
    f.put("cluster-name", spec.name.clone());
    f.put("terminated-pod-gc-threshold", "1000");
    f.extra(&spec.kubernetes.controller_manager_extra_args)
}

pub(super) fn scheduler(i: &Input) -> Flags {
    let mut f = Flags::default();
    component(i, &mut f, "scheduler");
    f.extra(&i.spec.kubernetes.scheduler_extra_args)
}

/// What scheduler and controller-manager share.
fn component(i: &Input, f: &mut Flags, kubeconfig: &str) {
    let kubeconfig = i.this.layout.kubeconfig(kubeconfig);
    for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        f.file(flag, &kubeconfig);
    }
    f.put("bind-address", i.this.loopback.to_string());
    // Up to 1.21 both also serve without TLS on every address unless told not to; the flag is gone in 1.24.
    if i.minor() <= 22 {
        f.put("port", "0");
    }
    // Their own election stays on below podmaster's: a second belt that costs one lease.
    f.put("leader-elect", "true");
    f.put("profiling", "false");
    tls(f);
}

fn tls(f: &mut Flags) {
    f.put("tls-min-version", "VersionTLS12");
    f.put("tls-cipher-suites", CIPHER_SUITES.join(","));
}

fn any_address(i: &Input) -> &'static str {
    if i.this.node.ip.is_ipv6() { "::" } else { "0.0.0.0" }
}

pub(super) fn kubelet(i: &Input) -> Flags {
    let (layout, minor) = (&i.this.layout, i.minor());
    let mut f = Flags::default();
    f.file("config", layout.kubelet_config());
    f.file("kubeconfig", layout.kubeconfig("kubelet"));
    f.put("node-ip", i.this.node.ip.to_string());
    super::runtime::kubelet_flags(i, |name, value| f.put(name, value));
    if minor <= 22 && !i.worker() {
        f.put("register-with-taints", super::kubelet::taints(minor).join(","));
    }
    f.put("v", "2");
    f.extra(&i.spec.kubernetes.kubelet_extra_args)
}
