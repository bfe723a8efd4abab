//! Which units a master runs, and every file whose change must restart them.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{ETCD_METRICS_PORT, Input, election, etcd, kubelet, network, runtime, snapshots};
use crate::spec::{BasicAuth, ClusterSpec, ElectionMode, ElectionRunAs, Profile, Runtime};
use crate::state::PhaseId;
use crate::state::desired::{DesiredUnit, Readiness};

/// The units of this node in start order.
pub fn units(i: &Input) -> Vec<DesiredUnit> {
    let layout = &i.this.layout;
    let own = |name: &str, mut read: Vec<PathBuf>| {
        read.insert(0, layout.unit(name));
        read
    };
    let mut out = vec![];
    if !i.worker() {
        out.push(running(PhaseId::Etcd, "etcd.service", own("etcd.service", etcd::inputs(i)), etcd_ready(i)));
    }

    let read = own(network::KERNEL_UNIT, network::kernel_files(i).into());
    out.push(running(PhaseId::Network, network::KERNEL_UNIT, read, Readiness::Active));
    if i.flannel() {
        let read = own("flanneld.service", network::inputs(i));
        out.push(running(PhaseId::Network, "flanneld.service", read, Readiness::Active));
    }

    if i.spec.runtime == Runtime::Docker {
        let mut read = vec![layout.path("/etc/docker/daemon.json")];
        if runtime::classic_docker(i) {
            read.push(layout.unit("docker.service.d/40-hamaster.conf"));
        }
        out.push(running(PhaseId::Runtime, "docker.service", read, Readiness::Active));
    }
    match kubelet::runtime_unit(i) {
        "docker.service" => {}
        unit => {
            let read = match i.spec.runtime {
                Runtime::Docker => layout.unit("cri-docker.service.d/10-hamaster.conf"),
                Runtime::Containerd => layout.path("/etc/containerd/config.toml"),
            };
            out.push(running(PhaseId::Runtime, unit, vec![read], Readiness::Active));
        }
    }

    let read = own("kubelet.service", kubelet::inputs(i));
    out.push(running(PhaseId::Kubelet, "kubelet.service", read, Readiness::Active));
    if i.worker() {
        return out;
    }

    if i.podmaster() && !i.podmaster_pod() {
        let mut read = election::inputs(i);
        read.push(election::config(i));
        for (unit, read) in [("hamaster-fence.service", vec![]), ("hamaster-elect.service", read)] {
            out.push(running(PhaseId::Election, unit, own(unit, read), Readiness::Active));
        }
    }
    if i.spec.etcd.snapshots.is_some() {
        let read = own(snapshots::TIMER, vec![layout.unit(snapshots::SERVICE)]);
        out.push(running(PhaseId::Register, snapshots::TIMER, read, Readiness::Active));
    }
    out.push(running(
        PhaseId::Register,
        "hamaster-serve.service",
        own("hamaster-serve.service", vec![]),
        Readiness::Active,
    ));
    out
}

/// What the operator should know about the rendered set that is not a mistake.
pub fn notes(spec: &ClusterSpec) -> Vec<String> {
    let mut out = vec![];
    if spec.election.mode == ElectionMode::Podmaster && spec.election.run_as == ElectionRunAs::StaticPod {
        out.push(
            "podmaster.yaml elects as a static pod: after a crash of the host the kubelet may run what this master led \
             before the pod is there to remove it, and nothing kills a frozen daemon; election.runAs unit covers both"
                .into(),
        );
    }
    let version = &spec.kubernetes.version;
    if spec.auth.basic_auth == BasicAuth::Auto && spec.profile == Profile::Standard && !version.accepts_basic_auth() {
        out.push(format!("basic_auth.csv is left out: {version} does not take it, v1.18 was the last that did"));
    }
    if spec.profile == Profile::Cis && spec.kubernetes.version.minor <= 21 {
        out.push("CIS 1.20 also scores PodSecurityPolicy, which blocks every pod until policies are written".into());
    }
    out
}

fn running(phase: PhaseId, name: &str, inputs: Vec<PathBuf>, ready: Readiness) -> DesiredUnit {
    DesiredUnit { phase, name: name.to_owned(), enable: true, run: true, inputs, ready: Some(ready) }
}

fn etcd_ready(i: &Input) -> Readiness {
    let (ip, port) = (i.this.loopback, ETCD_METRICS_PORT);
    let others = etcd::founders(i).iter().filter(|m| **m != i.this.node);
    match others.map(|m| SocketAddr::new(m.ip, 2380)).collect::<Vec<_>>() {
        peers if peers.is_empty() => Readiness::EtcdHealthy { ip, port },
        peers => Readiness::EtcdFormed { ip, port, peers },
    }
}
