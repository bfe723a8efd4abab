//! What a worker is given is a node's, and nothing of a master's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hamaster::pki::catalog;
use hamaster::render;
use hamaster::spec::*;
use hamaster::state::PhaseId;
use hamaster::state::desired::Placement;

use crate::samples::{Set, cis, spec, worker};
use crate::units::verify;

/// Runtimes and versions, with flannel and without.
fn specs() -> Vec<ClusterSpec> {
    let mut out = vec![];
    for minor in [18, 20, 22, 23, 24, 26, 31, 34, 37] {
        for runtime in [Runtime::Docker, Runtime::Containerd] {
            for plugin in [NetworkPlugin::Flannel, NetworkPlugin::None] {
                let mut spec = if plugin == NetworkPlugin::None { cis(spec(minor)) } else { spec(minor) };
                (spec.runtime, spec.network.plugin) = (runtime, plugin);
                spec.network.leases = FlannelLeases::Kubernetes;
                out.push(spec);
            }
        }
    }
    out
}

#[test]
fn nothing_of_it_is_about_etcd_or_runs_unasked() {
    for spec in specs() {
        let set = Set::worker(&spec);
        let version = &spec.kubernetes.version;
        for file in &set.files {
            let (path, text) = (file.path.display(), String::from_utf8_lossy(&file.bytes));
            assert!(
                matches!(file.phase, PhaseId::Network | PhaseId::Runtime | PhaseId::Kubelet),
                "{version}: {path} is of phase {}",
                file.phase
            );
            // Said of the order of units on masters, in a comment.
            let lines: Vec<_> = text.lines().filter(|l| !l.trim_start().starts_with('#')).collect();
            for word in ["etcd", "staticPodPath", "manifests", "NoSchedule", "node-role"] {
                assert!(!lines.iter().any(|l| l.contains(word)), "{version}: {path} speaks of {word}:\n{text}");
            }
        }
        let units: Vec<_> = set.units.iter().map(|u| u.name.as_str()).collect();
        assert!(units.iter().all(|u| !u.contains("etcd") && !u.starts_with("hamaster-e")), "{units:?}");
        assert!(units.contains(&"kubelet.service") && !units.contains(&"hamaster-serve.service"), "{units:?}");
        assert_eq!(units.contains(&"flanneld.service"), spec.network.plugin == NetworkPlugin::Flannel);
    }
}

#[test]
fn whatever_it_reads_is_made_by_someone() {
    for spec in specs() {
        let (set, this) = (Set::worker(&spec), worker());
        let mut made: BTreeSet<PathBuf> = set.paths().into_iter().map(Path::to_owned).collect();
        made.insert(this.layout.pki().join("ca.crt"));
        for cert in catalog::worker_certs(&spec, &this) {
            match cert.placement {
                Placement::Pair { cert, key, .. } => made.extend([cert, key]),
                Placement::Kubeconfig { path, .. } | Placement::Combined { path } => made.extend([path]),
            }
        }
        let missing: Vec<_> = set.units.iter().flat_map(|u| &u.inputs).filter(|path| !made.contains(*path)).collect();
        assert!(missing.is_empty(), "{}: nobody makes {missing:?}", spec.kubernetes.version);
        assert!(made.contains(&this.layout.kubelet_client_pem()));
    }
}

#[test]
fn its_certificates_are_its_own_and_no_master_s() {
    let mut spec = spec(34);
    spec.network.leases = FlannelLeases::Kubernetes;
    let certs = catalog::worker_certs(&spec, &worker());
    let subjects: Vec<_> = certs.iter().map(|c| (c.common_name.as_str(), c.organization.as_deref().unwrap())).collect();
    let wanted = [
        ("system:node:w1", "system:nodes"),
        ("system:node:w1", "system:nodes"),
        ("hamaster:flannel:w1", "hamaster:flannel"),
    ];
    assert_eq!(subjects, wanted);
    spec.network.plugin = NetworkPlugin::None;
    assert_eq!(catalog::worker_certs(&spec, &worker()).len(), 2);
}

/// A name can be pointed elsewhere; an address cannot; a master can die.
#[test]
fn its_api_is_a_name_else_an_address_else_the_first_master() {
    let mut spec = spec(34);
    let dns = |name: &str| Address::Dns(name.into());
    let ip = Address::Ip("203.0.113.10".parse().unwrap());
    for (addresses, server) in [
        (vec![ip.clone(), dns("*.example.com"), dns("api.example.com")], "https://api.example.com:8443"),
        (vec![dns("*.example.com"), ip], "https://203.0.113.10:8443"),
        (vec![dns("*.example.com")], "https://10.0.0.1:6443"),
        (vec![], "https://10.0.0.1:6443"),
    ] {
        (spec.load_balancer.addresses, spec.load_balancer.port) = (addresses, 8443);
        assert_eq!(catalog::worker_server(&spec, &worker()), server);
        assert!(Set::worker(&spec).text("kubelet.conf").contains(&format!("server: \"{server}\"")));
    }
}

#[test]
fn flannel_has_in_a_file_what_it_would_find_in_etcd() {
    let mut spec = spec(34);
    spec.network.leases = FlannelLeases::Kubernetes;
    for set in [Set::of(&spec), Set::worker(&spec)] {
        let config: serde_json::Value = serde_json::from_str(set.text("net-conf.json")).unwrap();
        let wanted: serde_json::Value = serde_json::from_str(&render::flannel_config(&spec)).unwrap();
        assert_eq!(config, wanted);
        let unit = set.text("flanneld.service");
        assert!(unit.contains("--kube-subnet-mgr") && !unit.contains("--etcd"), "{unit}");
        assert!(unit.contains("\nType=exec\nEnvironment=NODE_NAME="), "{unit}");
    }
    let set = Set::of(&spec);
    assert_eq!(set.flag("kube-controller-manager", "allocate-node-cidrs").unwrap(), "true");
    assert_eq!(set.flag("kube-controller-manager", "cluster-cidr").unwrap(), "10.244.0.0/16");
    assert_eq!(set.flag("kube-controller-manager", "node-cidr-mask-size"), None);
    // Four nodes must fit at least, and both allot the same size.
    spec.kubernetes.pod_cidr = crate::samples::cidr("10.244.0.0", 24);
    assert_eq!(Set::of(&spec).flag("kube-controller-manager", "node-cidr-mask-size").unwrap(), "26");
    assert!(render::flannel_config(&spec).contains("\"SubnetLen\":26"));
    spec.network.leases = FlannelLeases::Etcd;
    assert_eq!(Set::of(&spec).flag("kube-controller-manager", "allocate-node-cidrs").unwrap(), "false");
}

#[test]
fn systemd_has_nothing_to_say() {
    for spec in specs().into_iter().filter(|s| [22, 34].contains(&s.kubernetes.version.minor)) {
        let Some(said) = verify(&Set::worker(&spec)) else { return };
        assert_eq!(said, "");
    }
}
