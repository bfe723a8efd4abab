//! Programs: installed, and of a version the others take.

use std::path::PathBuf;

use super::Inspection;
use super::catalog::{self, Check};
use crate::spec::version::EtcdVersion;
use crate::spec::{ClusterSpec, FlannelBackend, NetworkPath, NetworkPlugin, Runtime};
use crate::state::facts::{HostFacts, Tools};

/// The programs rendered files refer to: those found, and where packages put the others.
pub fn tools(facts: &HostFacts, spec: &ClusterSpec) -> Tools {
    let path = |name: &str| {
        facts.programs.get(name).map_or_else(|| PathBuf::from("/usr/bin").join(name), |program| program.path.clone())
    };
    let etcd_version = etcd_version(facts).or(spec.etcd.version);
    let dirs: Vec<PathBuf> = facts.cni_plugins.keys().cloned().collect();
    Tools {
        etcd_version: etcd_version.unwrap_or_else(|| spec.kubernetes.version.default_etcd()),
        etcd: path("etcd"),
        hamaster: path("hamaster"),
        kubelet: path("kubelet"),
        flanneld: path("flanneld"),
        cri_dockerd: path("cri-dockerd"),
        containerd: match version(facts, "containerd") {
            Some([major, minor, _]) => (major, minor),
            // Kubernetes 1.35 is the last to take containerd 1.x.
            None if spec.kubernetes.version.minor > 35 => (2, 2),
            None => (1, 7),
        },
        cni_bin_dirs: if dirs.is_empty() { vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()] } else { dirs },
        resolv_conf: facts.systemd_resolved.then(|| "/run/systemd/resolve/resolv.conf".into()),
    }
}

/// What a program said about its version; `None` too where it is missing or was not asked.
fn version(facts: &HostFacts, program: &str) -> Option<[u32; 3]> {
    numbers(facts.programs.get(program)?.version.as_deref()?)
}

fn etcd_version(facts: &HostFacts) -> Option<EtcdVersion> {
    let [major, minor, patch] = version(facts, "etcd")?;
    Some(EtcdVersion { major, minor, patch })
}

/// The first `1.2.3` in a text, whatever stands before and behind it: `v1.2.3`, `1.6.20~ds1`, `29.0.1,`.
fn numbers(text: &str) -> Option<[u32; 3]> {
    text.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches('v').splitn(3, '.');
        let (major, minor, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let patch = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some([major.parse().ok()?, minor.parse().ok()?, patch.parse().ok()?])
    })
}

pub(super) fn binaries(i: &mut Inspection) {
    etcd(i);
    kubelet(i);
    runtime(i);
    network(i);
    commands(i);
}

/// Finds `check` if `program` is missing; says whether it is there.
fn installed(i: &mut Inspection, check: &Check, program: &str, hint: &str) -> bool {
    let there = i.facts.programs.contains_key(program);
    if !there {
        i.find(check, program, "is not installed", hint);
    }
    there
}

/// Releases that lose what hamaster relies on: first, first without the bug, what happens.
const ETCD_BUGS: [([u32; 3], [u32; 3], &str); 7] = [
    ([3, 4, 0], [3, 4, 31], "a deposed leader still answers lease keepalives (etcd #15247)"),
    ([3, 5, 0], [3, 5, 13], "a deposed leader still answers lease keepalives (etcd #15247)"),
    ([3, 4, 31], [3, 4, 38], "a lease just revoked still takes keepalives (etcd #20590)"),
    ([3, 5, 20], [3, 5, 23], "a lease just revoked still takes keepalives (etcd #20590)"),
    ([3, 6, 0], [3, 6, 5], "a lease just revoked still takes keepalives (etcd #20590)"),
    ([3, 5, 0], [3, 5, 3], "members may come to hold different data after a crash (etcd #13766)"),
    ([3, 5, 1], [3, 5, 20], "a promoted member may come back as a learner after an upgrade to 3.6 (fixed in 3.5.20)"),
];

fn etcd(i: &mut Inspection) {
    const INSTALL: &str = "apt-get install etcd-server    # or unpack a release of etcd into /usr/local/bin";
    if !installed(i, &catalog::BINARY_ETCD, "etcd", INSTALL) {
        return;
    }
    let Some(found) = version(i.facts, "etcd") else { return };
    let shown = found.map(|n| n.to_string()).join(".");
    let wanted = i.spec.kubernetes.version.default_etcd();
    let hint = format!("install etcd {wanted}, which Kubernetes {} is released with", i.spec.kubernetes.version);
    if found < [3, 4, 0] {
        i.find(&catalog::ETCD_VERSION, "etcd", format!("{shown} is too old: learners came with 3.4"), hint);
    } else if found >= [3, 8, 0] {
        i.warn(&catalog::ETCD_VERSION, "etcd", format!("{shown} is newer than the flags this hamaster knows"), hint);
    } else {
        for (_, _, bug) in ETCD_BUGS.iter().filter(|(from, to, _)| (*from..*to).contains(&found)) {
            i.find(&catalog::ETCD_BUGS, "etcd", format!("{shown}: {bug}"), hint.clone());
        }
    }
}

fn kubelet(i: &mut Inspection) {
    let target = i.spec.kubernetes.version.clone();
    let hint = format!("install the kubelet of {target}");
    if !installed(i, &catalog::BINARY_KUBELET, "kubelet", &hint) {
        return;
    }
    let Some([_, minor, patch]) = version(i.facts, "kubelet") else { return };
    // Three minors back are supported since 1.28, for kubelets from 1.25.
    let oldest = if minor < 25 { target.minor.saturating_sub(2) } else { target.minor.saturating_sub(3) };
    let shown = format!("v1.{minor}.{patch}");
    if minor > target.minor {
        i.find(
            &catalog::KUBELET_VERSION,
            "kubelet",
            format!("{shown} is newer than the control plane, {target}"),
            hint,
        );
    } else if minor < oldest {
        i.find(
            &catalog::KUBELET_VERSION,
            "kubelet",
            format!("{shown} is too old for the control plane, {target}"),
            hint,
        );
    }
}

fn runtime(i: &mut Inspection) {
    let minor = i.minor();
    match i.spec.runtime {
        Runtime::Docker => {
            let there = installed(i, &catalog::BINARY_DOCKER, "dockerd", "apt-get install docker.io");
            if minor < 24 {
                return;
            }
            const RELEASES: &str = "install cri-dockerd from https://github.com/Mirantis/cri-dockerd/releases, \
                                    or write `runtime: containerd`";
            installed(i, &catalog::BINARY_CRI_DOCKERD, "cri-dockerd", RELEASES);
            if let Some([major @ ..23, ..]) = version(i.facts, "dockerd").filter(|_| there) {
                let message = format!("docker {major} has an API older than 1.42, which cri-dockerd 0.4 wants");
                i.warn(
                    &catalog::RUNTIME_VERSION,
                    "dockerd",
                    message,
                    "install docker 23 or newer, or an older cri-dockerd",
                );
            }
        }
        Runtime::Containerd => {
            installed(i, &catalog::BINARY_CONTAINERD, "containerd", "apt-get install containerd");
            if let Some([1, older, _]) = version(i.facts, "containerd").filter(|_| minor > 35) {
                let message = format!("containerd 1.{older} is too old: Kubernetes 1.35 was the last to take 1.x");
                i.find(&catalog::RUNTIME_VERSION, "containerd", message, "install containerd 2.2 or newer");
            }
        }
    }
}

/// What flannel's CNI list calls; `flannel` itself left the common plugins with their 1.0.
const CNI_PLUGINS: [&str; 5] = ["bridge", "flannel", "host-local", "loopback", "portmap"];

fn network(i: &mut Inspection) {
    if i.spec.network.plugin != NetworkPlugin::Flannel {
        return;
    }
    const RELEASES: &str = "install flanneld from https://github.com/flannel-io/flannel/releases into /usr/local/bin, \
                            or write `network: { plugin: none }`";
    installed(i, &catalog::BINARY_FLANNELD, "flanneld", RELEASES);
    if i.spec.network.path == NetworkPath::Cni {
        let found = |name: &&str| i.facts.cni_plugins.values().any(|plugins| plugins.contains(*name));
        let missing: Vec<&str> = CNI_PLUGINS.into_iter().filter(|name| !found(name)).collect();
        if !missing.is_empty() {
            let hint = "apt-get install containernetworking-plugins    # flannel's own is at \
                        https://github.com/flannel-io/cni-plugin/releases, for /opt/cni/bin";
            i.find(&catalog::CNI_PLUGINS, "/opt/cni/bin", format!("missing: {}", missing.join(", ")), hint);
        }
    }
    let kernel = i.facts.kernel.split(['.', '-']).map_while(|n| n.parse::<u32>().ok()).collect::<Vec<_>>();
    if i.spec.network.backend == FlannelBackend::Wireguard && !kernel.is_empty() && kernel < vec![5, 6] {
        let message = format!("kernel {} has no wireguard, which came with 5.6", i.facts.kernel);
        i.find(&catalog::KERNEL_VERSION, "kernel", message, "network: { backend: vxlan }");
    }
}

fn commands(i: &mut Inspection) {
    let minor = i.minor();
    let flannel = i.spec.network.plugin == NetworkPlugin::Flannel;
    installed(i, &catalog::FILE_MOUNT, "mount", "apt-get install mount");
    installed(i, &catalog::FILE_NSENTER, "nsenter", "apt-get install util-linux");
    if minor < 32 {
        installed(i, &catalog::FILE_CONNTRACK, "conntrack", "apt-get install conntrack");
    }
    if minor < 33 {
        installed(i, &catalog::FILE_IP, "ip", "apt-get install iproute2");
    }
    if minor < 33 || flannel {
        installed(i, &catalog::FILE_IPTABLES, "iptables", "apt-get install iptables");
    }
}
