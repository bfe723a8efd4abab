//! The wire form of a cluster: `cluster.yaml` and the flags that override it, read with every mistake in one report,
//! and written out with every key.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::address;
use super::checks;
use super::discovery::{Discovery, Place, TlsFiles};
use super::mistake::Mistake;
use super::report::{Report, Section, scalar, unique};
use super::version::KubeVersion;
use super::{
    Address, AuthSpec, BasicAuth, ClusterSpec, ElectionMode, ElectionRunAs, ElectionSpec, EtcdBootstrap, EtcdSpec,
    FlannelBackend, FlannelLeases, KeyAlgorithm, KubernetesSpec, LoadBalancerSpec, NetworkPath, NetworkPlugin,
    NetworkSpec, Node, PkiSpec, Profile, Runtime, SnapshotSpec, units, wire,
};
use crate::error::{Error, Result};

/// The largest `cluster.yaml` that is read.
const MAX_BYTES: usize = 256 << 10;

/// What the command line says, as typed. A flag replaces what the file says; addresses are added to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--cluster-name`
    pub cluster_name: Option<String>,
    /// `--kubernetes-version`
    pub kubernetes_version: Option<String>,
    /// `--lb-ip`, any number of times.
    pub lb_ips: Vec<String>,
    /// `--lb-name`, any number of times.
    pub lb_names: Vec<String>,
    /// `--runtime`
    pub runtime: Option<String>,
    /// `--profile`
    pub profile: Option<String>,
    /// `--election`
    pub election: Option<String>,
    /// `--etcd-bootstrap`
    pub etcd_bootstrap: Option<String>,
    /// `--initial-master NAME=IP`, any number of times: all masters, in place of the file's.
    pub initial_masters: Vec<String>,
    /// `--discovery-url`
    pub discovery_url: Option<String>,
    /// `--templates`
    pub templates: Option<String>,
}

/// The text of a file that was read as bytes.
///
/// # Errors
/// Too large, or not UTF-8.
pub fn decode<'b>(name: &str, bytes: &'b [u8]) -> Result<&'b str> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::usage(format!("{name} has {} bytes, at most {MAX_BYTES} are read", bytes.len()))
            .hint("pass a configuration file"));
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Error::usage(format!("{name} is not UTF-8: first at line {line}")).hint(format!("iconv -t UTF-8 {name}"))
    })
}

/// The cluster that a file (its name and content) and the command line describe. Without a file all is default.
///
/// # Errors
/// Every mistake of both, each at `file:line:column` or at its flag.
pub fn load(source: Option<(&str, &str)>, overrides: &Overrides) -> Result<ClusterSpec> {
    let (name, text) = source.unwrap_or(("cluster.yaml", "{}"));
    let text = decode(name, text.as_bytes())?;
    let mut report = Report::new(name);
    let root = match wire::parse(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        Ok(Some(root)) => Some(root),
        Ok(None) => {
            return Err(Error::usage(format!("{name} is empty")).hint("write at least `name: kubernetes`"));
        }
        Err((place, mistake)) => {
            report.at(place, mistake);
            None
        }
    };
    let mut spec = Section::read(&mut report, "", root.as_ref(), cluster);
    override_with(&mut report, &mut spec, overrides);
    // Known only now: the profile may come from a flag.
    if spec.profile == Profile::Cis && !report.given("auth.staticTokens") {
        spec.auth.static_tokens = false;
    }
    if spec.network.path == NetworkPath::Classic && !report.given("network.leases") {
        spec.network.leases = FlannelLeases::Etcd;
    }
    checks::across(&mut report, &spec);
    report.finish()?;
    Ok(spec)
}

fn cluster(s: &mut Section<'_, '_, '_>) -> ClusterSpec {
    s.value("apiVersion", (), checks::exactly("hamaster/v1"));
    s.value("kind", (), checks::exactly("Cluster"));
    ClusterSpec {
        name: s.value("name", "kubernetes".to_owned(), address::label),
        kubernetes: s.section("kubernetes", kubernetes),
        load_balancer: s.section("loadBalancer", load_balancer),
        etcd: s.section("etcd", etcd),
        runtime: s.value("runtime", Runtime::Docker, Runtime::parse),
        network: s.section("network", |s| NetworkSpec {
            plugin: s.value("plugin", NetworkPlugin::Flannel, NetworkPlugin::parse),
            backend: s.value("backend", FlannelBackend::Vxlan, FlannelBackend::parse),
            path: s.value("path", NetworkPath::Cni, NetworkPath::parse),
            leases: s.value("leases", FlannelLeases::Kubernetes, FlannelLeases::parse),
        }),
        election: s.section("election", |s| ElectionSpec {
            mode: s.value("mode", ElectionMode::Podmaster, ElectionMode::parse),
            lease_duration: s.value("leaseDuration", Duration::from_secs(10), checks::lease),
            run_as: s.value("runAs", ElectionRunAs::Unit, ElectionRunAs::parse),
            image: s.value("image", concat!("hamaster:", env!("CARGO_PKG_VERSION")).to_owned(), checks::image),
        }),
        auth: s.section("auth", |s| AuthSpec {
            static_tokens: s.value("staticTokens", true, checks::boolean),
            basic_auth: s.value("basicAuth", BasicAuth::Auto, BasicAuth::parse),
        }),
        pki: s.section("pki", |s| PkiSpec {
            key_algorithm: s.value("keyAlgorithm", KeyAlgorithm::EcdsaP256, KeyAlgorithm::parse),
            ca_validity: s.value("caValidity", checks::YEAR * 10, checks::validity),
            leaf_validity: s.value("leafValidity", checks::YEAR, checks::validity),
            renew_at_fraction: s.value("renewAtFraction", 0.66, checks::fraction),
        }),
        profile: s.value("profile", Profile::Standard, Profile::parse),
        masters: masters(s),
        templates: s.optional("templates", checks::path),
    }
}

fn kubernetes(s: &mut Section<'_, '_, '_>) -> KubernetesSpec {
    KubernetesSpec {
        version: s.value("version", KubeVersion::default(), KubeVersion::parse),
        image_repository: s.value("imageRepository", "registry.k8s.io".to_owned(), checks::repository),
        service_cidr: s.value("serviceCIDR", checks::SERVICES, checks::service_cidr),
        pod_cidr: s.value("podCIDR", checks::PODS, checks::pod_cidr),
        dns_domain: s.value("dnsDomain", "cluster.local".to_owned(), checks::domain),
        apiserver_extra_args: s.table("apiserverExtraArgs", checks::flag_name, checks::text),
        controller_manager_extra_args: s.table("controllerManagerExtraArgs", checks::flag_name, checks::text),
        scheduler_extra_args: s.table("schedulerExtraArgs", checks::flag_name, checks::text),
        kubelet_extra_args: s.table("kubeletExtraArgs", checks::flag_name, checks::text),
    }
}

fn load_balancer(s: &mut Section<'_, '_, '_>) -> LoadBalancerSpec {
    let mut seen = vec![];
    LoadBalancerSpec {
        addresses: s.list("addresses", |report, path, node| {
            let parse = |text: &str| unique(&mut seen, Address::parse(text)?, "the address");
            scalar(report, path.to_owned(), node, parse)
        }),
        port: s.value("port", 6443, checks::port),
        interface: s.value("interface", "eth0".to_owned(), checks::interface),
        virtual_router_id: s.value("virtualRouterId", 51, checks::router_id),
    }
}

fn etcd(s: &mut Section<'_, '_, '_>) -> EtcdSpec {
    EtcdSpec {
        data_dir: s.value("dataDir", PathBuf::from("/var/lib/etcd"), checks::directory),
        bootstrap: s.value("bootstrap", EtcdBootstrap::New, EtcdBootstrap::parse),
        discovery: discovery(s),
        quota_bytes: s.value("quotaBytes", 8 << 30, checks::quota),
        heartbeat_interval: s.value("heartbeatInterval", Duration::from_millis(100), units::duration),
        election_timeout: s.value("electionTimeout", Duration::from_secs(1), units::duration),
        version: s.optional("version", checks::etcd_version),
        snapshots: snapshots(s),
    }
}

fn discovery(s: &mut Section<'_, '_, '_>) -> Option<Discovery> {
    if s.is_scalar("discovery") || !s.has("discovery") {
        return s.optional("discovery", Discovery::parse);
    }
    let at = s.find("discovery")?.at;
    let read = s.section("discovery", |s| {
        let place = s.required("url", at, Place::parse);
        let mut file = |key| s.optional(key, checks::absolute);
        let tls = TlsFiles { ca: file("ca"), cert: file("cert"), key: file("key") };
        Some(Discovery { place: place?, tls })
    });
    if read.is_none() {
        s.report().doubt("etcd.discovery");
    }
    read
}

fn snapshots(s: &mut Section<'_, '_, '_>) -> Option<SnapshotSpec> {
    let default = SnapshotSpec::default();
    if s.is_scalar("snapshots") {
        return s.optional("snapshots", checks::exactly("off")).map_or(Some(default), |()| None);
    }
    Some(s.section("snapshots", |s| SnapshotSpec {
        every: s.value("every", default.every, checks::snapshot_interval),
        keep: s.value("keep", default.keep, checks::snapshot_count),
        dir: s.value("dir", default.dir, checks::absolute),
    }))
}

fn masters(s: &mut Section<'_, '_, '_>) -> Vec<Node> {
    let (mut names, mut ips) = (vec![], vec![]);
    s.list("masters", |report, path, node| {
        let at = node.at;
        Section::read(report, path, Some(node), |s| {
            let name = s.required("name", at, |t| unique(&mut names, address::node_name(t)?, "the name"));
            let ip = s.required("ip", at, |t| unique(&mut ips, address::ip(t)?, "the address"));
            Some(Node { name: name?, ip: ip? })
        })
    })
}

fn override_with(report: &mut Report<'_>, spec: &mut ClusterSpec, flags: &Overrides) {
    fn replace<T>(value: &mut T, read: Option<T>) {
        if let Some(read) = read {
            *value = read;
        }
    }
    let f = flags;
    let tls = spec.etcd.discovery.as_ref().map(|d| d.tls.clone()).unwrap_or_default();
    macro_rules! replace {
        ($($flag:literal $typed:ident -> $key:literal $parse:expr => $value:expr;)+) => {$(
            replace(&mut $value, f.$typed.as_deref().and_then(|text| report.flag($flag, $key, text, $parse)));
        )+};
    }
    replace! {
        "--cluster-name" cluster_name -> "name" address::label => spec.name;
        "--kubernetes-version" kubernetes_version -> "kubernetes.version" KubeVersion::parse => spec.kubernetes.version;
        "--runtime" runtime -> "runtime" Runtime::parse => spec.runtime;
        "--profile" profile -> "profile" Profile::parse => spec.profile;
        "--election" election -> "election.mode" ElectionMode::parse => spec.election.mode;
        "--etcd-bootstrap" etcd_bootstrap -> "etcd.bootstrap" EtcdBootstrap::parse => spec.etcd.bootstrap;
        "--discovery-url" discovery_url -> "etcd.discovery" |t| Place::parse(t).map(|place| Some(Discovery { place, tls })) => spec.etcd.discovery;
        "--templates" templates -> "templates" |t| checks::path(t).map(Some) => spec.templates;
    }
    initial_masters(report, spec, &f.initial_masters);
    let addresses = &mut spec.load_balancer.addresses;
    let ips = f.lb_ips.iter().map(|text| ("--lb-ip", text));
    let names = f.lb_names.iter().map(|text| ("--lb-name", text));
    for (flag, text) in ips.chain(names) {
        let key = format!("loadBalancer.addresses.{}", addresses.len());
        let read = report.flag(flag, key, text, |text| match flag {
            "--lb-ip" => address::ip(text).map(Address::Ip),
            _ => address::dns_name(text).map(Address::Dns),
        });
        addresses.extend(read.filter(|a| !addresses.contains(a)));
    }
}

fn initial_masters(report: &mut Report<'_>, spec: &mut ClusterSpec, flags: &[String]) {
    if flags.is_empty() {
        return;
    }
    spec.masters.clear();
    let (mut names, mut ips) = (vec![], vec![]);
    for (n, text) in flags.iter().enumerate() {
        let read = report.flag("--initial-master", format!("masters.{n}"), text, |text| {
            let (name, ip) = text.split_once('=').ok_or_else(|| {
                Mistake::new(format!("`{}` is not NAME=IP", text.escape_debug())).hint("write e.g. `m1=192.0.2.11`")
            })?;
            let name = unique(&mut names, address::node_name(name)?, "the name")?;
            Ok::<_, Mistake>(Node { name, ip: unique(&mut ips, address::ip(ip)?, "the address")? })
        });
        spec.masters.extend(read);
    }
    // Too few may be left over only because one of them was refused.
    if spec.masters.len() < flags.len() {
        report.doubt("masters");
    }
}

/// The resolved form, with every key. [`load`] reads it back to the same cluster.
pub fn to_yaml(spec: &ClusterSpec) -> String {
    let k = &spec.kubernetes;
    let (lb, etcd, network, election, pki) =
        (&spec.load_balancer, &spec.etcd, &spec.network, &spec.election, &spec.pki);
    let addresses: Vec<String> = lb.addresses.iter().map(Address::to_string).collect();
    let masters: Vec<_> = spec.masters.iter().map(|m| json!({ "name": m.name, "ip": m.ip.to_string() })).collect();
    let wire = json!({
        "apiVersion": "hamaster/v1",
        "kind": "Cluster",
        "name": spec.name,
        "kubernetes": {
            "version": k.version.to_string(),
            "imageRepository": k.image_repository,
            "serviceCIDR": k.service_cidr.to_string(),
            "podCIDR": k.pod_cidr.to_string(),
            "dnsDomain": k.dns_domain,
            "apiserverExtraArgs": k.apiserver_extra_args,
            "controllerManagerExtraArgs": k.controller_manager_extra_args,
            "schedulerExtraArgs": k.scheduler_extra_args,
            "kubeletExtraArgs": k.kubelet_extra_args,
        },
        "loadBalancer": {
            "addresses": addresses,
            "port": lb.port,
            "interface": lb.interface,
            "virtualRouterId": lb.virtual_router_id,
        },
        "etcd": {
            "dataDir": etcd.data_dir,
            "bootstrap": etcd.bootstrap.as_str(),
            "discovery": etcd.discovery.as_ref().map(Discovery::wire),
            "quotaBytes": units::show_bytes(etcd.quota_bytes),
            "heartbeatInterval": units::show_duration(etcd.heartbeat_interval),
            "electionTimeout": units::show_duration(etcd.election_timeout),
            "version": etcd.version.map(|v| v.to_string()),
            "snapshots": match &etcd.snapshots {
                None => json!("off"),
                Some(s) => json!({ "every": units::show_duration(s.every), "keep": s.keep, "dir": s.dir }),
            },
        },
        "runtime": spec.runtime.as_str(),
        "network": {
            "plugin": network.plugin.as_str(),
            "backend": network.backend.as_str(),
            "path": network.path.as_str(),
            "leases": network.leases.as_str(),
        },
        "election": {
            "mode": election.mode.as_str(),
            "leaseDuration": units::show_duration(election.lease_duration),
            "runAs": election.run_as.as_str(),
            "image": election.image,
        },
        "auth": { "staticTokens": spec.auth.static_tokens, "basicAuth": spec.auth.basic_auth.as_str() },
        "pki": {
            "keyAlgorithm": pki.key_algorithm.as_str(),
            "caValidity": units::show_duration(pki.ca_validity),
            "leafValidity": units::show_duration(pki.leaf_validity),
            "renewAtFraction": pki.renew_at_fraction,
        },
        "profile": spec.profile.as_str(),
        "masters": masters,
        "templates": spec.templates,
    });
    // One value, one line, whatever its length: it stays greppable and its quoting is the same everywhere.
    let options = serde_yaml::ser_options! { prefer_block_scalars: false };
    // JSON is YAML: should the writer ever refuse a value, what is written still reads back.
    serde_yaml::to_string_with_options(&wire, options).unwrap_or_else(|_| wire.to_string())
}
