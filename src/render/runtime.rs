//! docker or containerd, and what the kubelet has to know about it.

use serde::Serialize;

use super::{Input, Rendered, text};
use crate::error::Result;
use crate::spec::{NetworkPath, Runtime};
use crate::state::PhaseId;

/// cri-docker.service's drop-in.
#[derive(Serialize)]
struct CriDocker {
    argv: Vec<String>,
}

/// containerd's configuration, of either format.
#[derive(Serialize)]
struct Containerd {
    sandbox_image: String,
    cni_bin_dirs: Vec<String>,
    /// Format 2 takes one directory only.
    cni_bin_dir: String,
    cni_conf_dir: String,
}

/// A template that needs nothing.
#[derive(Serialize)]
struct Nothing {}

/// How the kubelet reaches the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Built into the kubelet up to 1.23.
    Dockershim,
    /// A CRI socket.
    Cri(&'static str),
}

pub(super) fn access(i: &Input) -> Access {
    match i.spec.runtime {
        Runtime::Docker if i.minor() <= 23 => Access::Dockershim,
        Runtime::Docker => Access::Cri("unix:///run/cri-dockerd.sock"),
        Runtime::Containerd => Access::Cri("unix:///run/containerd/containerd.sock"),
    }
}

/// docker's bridge is put on flannel's subnet, as in 2015.
pub(super) fn classic_docker(i: &Input) -> bool {
    i.flannel() && i.spec.network.path == NetworkPath::Classic && access(i) == Access::Dockershim
}

pub(super) fn files(i: &Input, out: &mut Rendered) -> Result<()> {
    let layout = &i.this.layout;
    let phase = PhaseId::Runtime;
    if i.spec.runtime == Runtime::Containerd {
        let template =
            if i.tools.containerd.0 >= 2 { "runtime/containerd-2.toml.hbs" } else { "runtime/containerd-1.toml.hbs" };
        return out.add(phase, layout.path("/etc/containerd/config.toml"), 0o644, template, &containerd(i));
    }
    out.add(phase, layout.path("/etc/docker/daemon.json"), 0o644, "runtime/daemon.json.hbs", &Nothing {})?;
    if classic_docker(i) {
        let path = layout.unit("docker.service.d/40-hamaster.conf");
        out.add(phase, path, 0o644, "systemd/docker-classic.conf.hbs", &Nothing {})?;
    }
    if access(i) != Access::Dockershim {
        let path = layout.unit("cri-docker.service.d/10-hamaster.conf");
        out.add(phase, path, 0o644, "systemd/cri-docker.conf.hbs", &CriDocker { argv: cri_dockerd(i) })?;
    }
    Ok(())
}

/// Flags of the kubelet about the runtime; from 1.27 on its configuration file has the socket.
pub(super) fn kubelet_flags(i: &Input, mut put: impl FnMut(&str, String)) {
    let minor = i.minor();
    match access(i) {
        Access::Dockershim if classic_docker(i) => {}
        Access::Dockershim => {
            put("network-plugin", "cni".into());
            put("cni-bin-dir", cni_bin_dirs(i).join(","));
            put("cni-conf-dir", text(i.this.layout.cni()));
        }
        Access::Cri(socket) => {
            if minor <= 23 {
                put("container-runtime", "remote".into());
            }
            if minor <= 26 {
                put("container-runtime-endpoint", socket.into());
            }
        }
    }
    if minor <= 26 {
        put("pod-infra-container-image", pause_image(i));
    }
}

fn containerd(i: &Input) -> Containerd {
    let cni_bin_dirs = cni_bin_dirs(i);
    Containerd {
        sandbox_image: pause_image(i),
        cni_bin_dir: cni_bin_dirs.first().cloned().unwrap_or_else(|| "/opt/cni/bin".into()),
        cni_bin_dirs,
        cni_conf_dir: text(i.this.layout.cni()),
    }
}

fn cri_dockerd(i: &Input) -> Vec<String> {
    vec![
        text(&i.tools.cri_dockerd),
        "--container-runtime-endpoint=fd://".into(),
        "--network-plugin=cni".into(),
        format!("--cni-bin-dir={}", cni_bin_dirs(i).join(",")),
        format!("--cni-conf-dir={}", text(i.this.layout.cni())),
        format!("--pod-infra-container-image={}", pause_image(i)),
        // By default it listens on every address.
        "--streaming-bind-addr=127.0.0.1:0".into(),
    ]
}

fn cni_bin_dirs(i: &Input) -> Vec<String> {
    i.tools.cni_bin_dirs.iter().map(text).collect()
}

fn pause_image(i: &Input) -> String {
    format!("{}/pause:{}", i.spec.kubernetes.image_repository, i.spec.kubernetes.version.pause_image_tag())
}
