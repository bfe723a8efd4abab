//! Static pods: the apiserver always runs; scheduler and controller-manager run here too (`native`) or wait on standby
//! for podmaster.

use std::path::PathBuf;

use serde::Serialize;

use super::flags::{self, Flags, SHUTDOWN_DELAY_SECONDS};
use super::{Input, Rendered, text};
use crate::error::Result;
use crate::state::PhaseId;
use crate::state::desired::INPUTS_DIGEST;

/// A component of the control plane as a static pod.
#[derive(Serialize)]
struct StaticPod {
    image: String,
    /// Program and flags.
    command: Vec<String>,
    /// Exactly what the flags name, at the same path inside as outside.
    mounts: Vec<Mount>,
    /// Stands for the digest of the mounted files: a new certificate makes a new pod.
    inputs_digest: &'static str,
    probe_host: String,
    /// The scheduler has `/livez` and `/readyz`.
    livez: bool,
    grace_seconds: u32,
    /// `seccompProfile` is a field.
    seccomp: bool,
}

#[derive(Serialize)]
struct Mount {
    name: String,
    path: String,
    read_only: bool,
    kind: &'static str,
}

pub(super) const APISERVER: &str = "kube-apiserver";
pub(super) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub(super) const SCHEDULER: &str = "kube-scheduler";

pub(super) fn files(i: &Input, out: &mut Rendered) -> Result<()> {
    let layout = &i.this.layout;
    let (phase, dir) = match i.podmaster() {
        true => (PhaseId::Election, layout.standby()),
        false => (PhaseId::ControlPlane, layout.manifests()),
    };
    let node_ip = i.this.node.ip.to_string();
    let loopback = i.this.loopback.to_string();
    add(i, out, PhaseId::ControlPlane, layout.manifests(), APISERVER, flags::apiserver(i), node_ip)?;
    add(i, out, phase, dir.clone(), CONTROLLER_MANAGER, flags::controller_manager(i), loopback.clone())?;
    add(i, out, phase, dir, SCHEDULER, flags::scheduler(i), loopback)
}

fn add(
    i: &Input,
    out: &mut Rendered,
    phase: PhaseId,
    dir: PathBuf,
    component: &str,
    flags: Flags,
    probe_host: String,
) -> Result<()> {
    let kubernetes = &i.spec.kubernetes;
    let needed = flags.needed();
    let mut command = vec![component.to_owned()];
    command.extend(flags.argv());
    let context = StaticPod {
        image: format!("{}/{component}:{}", kubernetes.image_repository, kubernetes.version),
        command,
        mounts: needed
            .iter()
            .map(|n| Mount {
                name: n.flag.clone(),
                path: text(&n.path),
                read_only: !n.log,
                kind: if n.log { "DirectoryOrCreate" } else { "File" },
            })
            .collect(),
        inputs_digest: INPUTS_DIGEST,
        probe_host,
        livez: i.minor() >= 32,
        grace_seconds: match component {
            // Long enough to drain after the delay.
            APISERVER => SHUTDOWN_DELAY_SECONDS + 75,
            // They have nothing to drain, and who follows waits for their end.
            _ if i.podmaster() => 2,
            _ => 30,
        },
        seccomp: i.minor() >= 19,
    };
    let inputs = needed.into_iter().filter(|n| !n.log).map(|n| n.path).collect();
    let path = dir.join(format!("{component}.yaml"));
    out.add_with_inputs(phase, path, 0o600, &format!("manifests/{component}.yaml.hbs"), &context, inputs)
}
