//! podmaster: the daemon that gives scheduler and controller-manager to one master at a time, its boot fence, and the
//! join endpoint's unit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::manifests::{CONTROLLER_MANAGER, SCHEDULER};
use super::{Input, Rendered, runtime, text, url};
use crate::admission;
use crate::error::Result;
use crate::state::PhaseId;
use crate::state::desired::INPUTS_DIGEST;

/// K: a pod of ours is dead this long after its manifest went. Its grace is below half of it, where the daemon begins to
/// kill.
const STOP: Duration = Duration::from_millis(4500);

/// elect.yaml
#[derive(Serialize)]
struct Elect {
    id: String,
    endpoints: Vec<String>,
    ca: String,
    cert: String,
    key: String,
    lease_duration: String,
    stop_timeout: String,
    runtime_dir: String,
    /// The local one's readiness. Nothing in a lab, which may run without an apiserver.
    apiserver: Option<String>,
    apiserver_ca: String,
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: &'static str,
    source: String,
    dest: String,
    /// What says that the pod is gone, where there is no container runtime to ask.
    gone: Vec<String>,
    /// Nothing in a lab: its pods are plain processes, known to no runtime.
    cri_socket: Option<&'static str>,
}

/// hamaster-elect.service
#[derive(Serialize)]
struct ElectUnit {
    hamaster: String,
    config: String,
    /// What the manifests' directory is in.
    writable: String,
    /// How long a frozen daemon goes unnoticed.
    watchdog: String,
    /// Time to release.
    stop: String,
    /// Its own name, for whoever asks systemd; nothing in a lab, which has none.
    unit: Option<&'static str>,
}

/// hamaster-fence.service
#[derive(Serialize)]
struct FenceUnit {
    hamaster: String,
    config: String,
    writable: String,
    /// Bound on all of it: each group has a few seconds.
    stop: String,
}

/// hamaster-serve.service
#[derive(Serialize)]
struct ServeUnit {
    hamaster: String,
    /// Of a lab's master.
    prefix: Option<String>,
    /// Behind a lab's relay.
    listen: Option<String>,
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
    /// Status files and the runtime's socket.
    run: String,
    inputs_digest: &'static str,
    /// Time to release.
    grace_seconds: u64,
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
    let serve = ServeUnit {
        hamaster: hamaster.clone(),
        prefix: i.lab().then(|| text(layout.prefix())),
        listen: i.lab().then(|| SocketAddr::new(i.this.loopback, admission::PORT).to_string()),
    };
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
    let (config, writable) = (text(config(i)), text(layout.kubernetes()));
    let stop = format!("{}s", release(i).as_secs());
    let fence = FenceUnit {
        hamaster: hamaster.clone(),
        config: config.clone(),
        writable: writable.clone(),
        stop: stop.clone(),
    };
    out.add(phase, layout.unit("hamaster-fence.service"), 0o644, "systemd/hamaster-fence.service.hbs", &fence)?;
    let watchdog = format!("{}ms", watchdog(i.spec.election.lease_duration).as_millis());
    let unit = (!i.lab()).then_some("hamaster-elect.service");
    let elect = ElectUnit { hamaster, config, writable, watchdog, stop, unit };
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

/// The part of a lease in which systemd must have noticed and killed a frozen daemon: what the daemon itself counts on.
fn watchdog(lease: Duration) -> Duration {
    (lease * 3 / 20).clamp(Duration::from_secs(1), Duration::from_secs(5))
}

/// Until a leader that is told to end has stopped its payload in any case and said so in etcd.
fn release(i: &Input) -> Duration {
    i.spec.election.lease_duration + STOP + Duration::from_secs(15)
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
    let cri_socket = (!i.lab()).then_some(match runtime::access(i) {
        runtime::Access::Dockershim => "unix:///run/dockershim.sock",
        runtime::Access::Cri(socket) => socket,
    });
    let group = |name, component: &str| Group {
        cri_socket,
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
        stop_timeout: format!("{}ms", STOP.as_millis()),
        runtime_dir: text(layout.path("/run/hamaster/elect")),
        apiserver: (!i.lab()).then(|| format!("{}/readyz", url("https", i.this.node.ip, 6443))),
        apiserver_ca: text(i.pki("ca.crt")),
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
            ("ca", i.pki("ca.crt")),
            ("machine-id", PathBuf::from("/etc/machine-id")),
        ]
        .map(|(name, path)| PodmasterFile { name, path: text(path) })
        .into(),
        standby: text(layout.standby()),
        manifests: text(layout.manifests()),
        run: text(layout.path("/run")),
        inputs_digest: INPUTS_DIGEST,
        grace_seconds: release(i).as_secs(),
        seccomp: i.minor() >= 19,
    }
}
