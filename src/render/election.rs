//! podmaster: the daemon that gives scheduler and controller-manager to one master at a time, its boot fence, and the
//! join endpoint's unit.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::manifests::{CONTROLLER_MANAGER, SCHEDULER};
use super::{Input, Rendered, text};
use crate::error::Result;
use crate::state::PhaseId;
use crate::state::desired::INPUTS_DIGEST;

/// elect.yaml
#[derive(Serialize)]
struct Elect {
    id: String,
    endpoints: Vec<String>,
    ca: String,
    cert: String,
    key: String,
    lease_duration: String,
    /// Where it is not `/run/hamaster/elect`.
    runtime_dir: Option<String>,
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: &'static str,
    source: String,
    dest: String,
    /// What says that the pod is gone, where there is no container runtime to ask.
    gone: Vec<String>,
}

/// hamaster-elect.service
#[derive(Serialize)]
struct ElectUnit {
    hamaster: String,
    config: String,
    manifests: String,
    /// How long a frozen daemon goes unnoticed.
    watchdog: String,
}

/// hamaster-fence.service
#[derive(Serialize)]
struct FenceUnit {
    hamaster: String,
    config: String,
    manifests: String,
}

/// hamaster-serve.service
#[derive(Serialize)]
struct ServeUnit {
    hamaster: String,
}

/// podmaster.yaml
#[derive(Serialize)]
struct Podmaster {
    image: String,
    config: String,
    /// Files read, each mounted where it is outside.
    files: Vec<PodmasterFile>,
    standby: String,
    manifests: String,
    inputs_digest: &'static str,
    seccomp: bool,
}

#[derive(Serialize)]
struct PodmasterFile {
    name: &'static str,
    path: String,
}

pub(super) fn files(i: &Input, out: &mut Rendered) -> Result<()> {
    let layout = &i.this.layout;
    let hamaster = text(&i.tools.hamaster);
    let serve = ServeUnit { hamaster: hamaster.clone() };
    let path = layout.unit("hamaster-serve.service");
    out.add(PhaseId::Register, path, 0o644, "systemd/hamaster-serve.service.hbs", &serve)?;
    if !i.podmaster() {
        return Ok(());
    }
    let phase = PhaseId::Election;
    out.add(phase, config(i), 0o600, "election/elect.yaml.hbs", &elect(i))?;
    if i.podmaster_pod() {
        let mut inputs = inputs(i);
        inputs.push(config(i));
        let path = layout.manifests().join("podmaster.yaml");
        return out.add_with_inputs(phase, path, 0o600, "manifests/podmaster.yaml.hbs", &podmaster(i), inputs);
    }
    let (config, manifests) = (text(config(i)), text(layout.manifests()));
    let fence = FenceUnit { hamaster: hamaster.clone(), config: config.clone(), manifests: manifests.clone() };
    out.add(phase, layout.unit("hamaster-fence.service"), 0o644, "systemd/hamaster-fence.service.hbs", &fence)?;
    let watchdog = format!("{}ms", watchdog(i.spec.election.lease_duration).as_millis());
    let elect = ElectUnit { hamaster, config, manifests, watchdog };
    out.add(phase, layout.unit("hamaster-elect.service"), 0o644, "systemd/hamaster-elect.service.hbs", &elect)
}

/// `/etc/hamaster/elect.yaml`
pub(super) fn config(i: &Input) -> PathBuf {
    i.this.layout.config().join("elect.yaml")
}

/// Files the daemon reads besides its configuration.
pub(super) fn inputs(i: &Input) -> Vec<PathBuf> {
    ["ca.crt", "hamaster.crt", "hamaster.key"].map(|f| i.etcd_pki(f)).into()
}

/// The part of a lease in which systemd must have noticed and killed a frozen daemon.
fn watchdog(lease: Duration) -> Duration {
    (lease * 3 / 20).max(Duration::from_secs(1))
}

fn elect(i: &Input) -> Elect {
    let layout = &i.this.layout;
    // The directory of a lab, its master, and the pod: who runs that is asked.
    let gone = |component: &str| match layout.prefix().parent() {
        Some(lab) if i.lab() => {
            let hamaster = text(&i.tools.hamaster);
            vec![hamaster, "lab".into(), "gone".into(), text(lab), i.this.node.name.clone(), component.into()]
        }
        _ => vec![],
    };
    let group = |name, component: &str| Group {
        name,
        source: text(layout.standby().join(format!("{component}.yaml"))),
        dest: text(layout.manifests().join(format!("{component}.yaml"))),
        gone: gone(component),
    };
    Elect {
        id: i.this.node.name.clone(),
        endpoints: i.etcd_endpoints(),
        ca: text(i.etcd_pki("ca.crt")),
        cert: text(i.etcd_pki("hamaster.crt")),
        key: text(i.etcd_pki("hamaster.key")),
        lease_duration: format!("{}ms", i.spec.election.lease_duration.as_millis()),
        runtime_dir: i.lab().then(|| text(layout.path("/run/hamaster/elect"))),
        groups: vec![group("scheduler", SCHEDULER), group("controller-manager", CONTROLLER_MANAGER)],
    }
}

fn podmaster(i: &Input) -> Podmaster {
    let layout = &i.this.layout;
    Podmaster {
        image: i.spec.election.image.clone(),
        config: text(config(i)),
        files: [
            ("config", config(i)),
            ("etcd-ca", i.etcd_pki("ca.crt")),
            ("etcd-cert", i.etcd_pki("hamaster.crt")),
            ("etcd-key", i.etcd_pki("hamaster.key")),
        ]
        .map(|(name, path)| PodmasterFile { name, path: text(path) })
        .into(),
        standby: text(layout.standby()),
        manifests: text(layout.manifests()),
        inputs_digest: INPUTS_DIGEST,
        seccomp: i.minor() >= 19,
    }
}
