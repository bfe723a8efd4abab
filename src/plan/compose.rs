//! Spec → [`Desired`]: everything one node should hold, rendered whole before anything is touched.

use crate::error::Result;
use crate::etcd::keys;
use crate::pki::catalog;
use crate::render::{self, EtcdStart, Input, Templates};
use crate::spec::{ClusterSpec, FlannelLeases, NetworkPlugin, ThisNode};
use crate::state::desired::CaId;
use crate::state::desired::{Desired, ManagedDir, ManagedFile, StoreKey};
use crate::state::facts::Tools;
use crate::state::{Owner, PhaseId};
use crate::token::Role;

/// What has been observed of this master that its files depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// It has been healthy once: its unit says `existing`, so that a wiped disk can never become a new empty cluster.
    pub sealed: bool,
    /// `--initial-cluster-token`, one per cluster.
    pub token: String,
    /// `--initial-cluster` while this master joins a cluster that is there; none where it makes one, and once it is sealed.
    pub initial_cluster: Option<String>,
    /// The cluster CA's certificate is here and its key is not.
    pub external_ca: bool,
}

/// Everything `this` master of `spec` should hold.
///
/// # Errors
/// When a template does not render.
pub fn desired(
    spec: &ClusterSpec,
    this: &ThisNode,
    tools: &Tools,
    templates: &Templates,
    given: &Given,
) -> Result<Desired> {
    let layout = &this.layout;
    let etcd =
        EtcdStart { sealed: given.sealed, token: &given.token, initial_cluster: given.initial_cluster.as_deref() };
    let input = Input { spec, this, role: Role::Master, tools, etcd, external_ca: given.external_ca };
    let mut files = render::files(&input, templates)?;
    files.push(cluster_yaml(spec, this));
    let mut keys = vec![];
    if spec.network.plugin == NetworkPlugin::Flannel && spec.network.leases == FlannelLeases::Etcd {
        keys.push(StoreKey {
            phase: PhaseId::Network,
            key: keys::FLANNEL.to_owned(),
            value: render::flannel_config(spec).into_bytes(),
            spec: false,
        });
    }
    keys.push(StoreKey {
        phase: PhaseId::Register,
        key: keys::SPEC.to_owned(),
        value: crate::spec::file::to_yaml(spec).into_bytes(),
        spec: true,
    });
    let rbac = layout.config().join("rbac.yaml");
    Ok(Desired {
        dirs: dirs(spec, this),
        cas: catalog::cas(spec, this),
        certs: catalog::certs(spec, this),
        secrets: catalog::secrets(spec, this),
        bindings: files.iter().any(|f| f.path == rbac).then_some(rbac),
        files,
        units: render::units(&input),
        keys,
        notes: render::notes(spec),
    })
}

/// Everything `this` worker of `spec` should hold: its own certificates, the network, the runtime, a kubelet. Nothing of
/// etcd, nothing that runs without the API having asked for it, and of the CAs the cluster's certificate alone.
///
/// # Errors
/// When a template does not render.
pub fn worker(spec: &ClusterSpec, this: &ThisNode, tools: &Tools, templates: &Templates) -> Result<Desired> {
    let etcd = EtcdStart { sealed: true, token: "", initial_cluster: None };
    let input = Input { spec, this, role: Role::Worker, tools, etcd, external_ca: true };
    let mut files = render::files(&input, templates)?;
    files.push(cluster_yaml(spec, this));
    let here = |d: &ManagedDir| match d.phase {
        PhaseId::Pki => d.path != this.layout.etcd_pki(),
        phase => phase == PhaseId::Kubelet,
    };
    Ok(Desired {
        dirs: dirs(spec, this).into_iter().filter(here).collect(),
        cas: catalog::cas(spec, this).into_iter().filter(|ca| ca.id == CaId::Cluster).collect(),
        certs: catalog::worker_certs(spec, this),
        files,
        units: render::units(&input),
        ..Desired::default()
    })
}

/// First, not last: after a run that was cut short, the same command without its flags must mean the same cluster.
fn cluster_yaml(spec: &ClusterSpec, this: &ThisNode) -> ManagedFile {
    ManagedFile {
        phase: PhaseId::Pki,
        path: this.layout.cluster_yaml(),
        mode: 0o600,
        owner: Owner::Root,
        bytes: crate::spec::file::to_yaml(spec).into_bytes(),
        inputs: vec![],
    }
}

/// The directories whose mode matters, or that something expects to be there.
fn dirs(spec: &ClusterSpec, this: &ThisNode) -> Vec<ManagedDir> {
    let l = &this.layout;
    let dir = |phase, path, mode, owner| ManagedDir { phase, path, mode, owner, scratch: false };
    let data = dir(PhaseId::Etcd, l.path(&spec.etcd.data_dir), 0o700, Owner::Etcd);
    vec![
        dir(PhaseId::Pki, l.state(), 0o700, Owner::Root),
        dir(PhaseId::Pki, l.config(), 0o755, Owner::Root),
        dir(PhaseId::Pki, l.pki(), 0o755, Owner::Root),
        dir(PhaseId::Pki, l.etcd_pki(), 0o755, Owner::Root),
        ManagedDir { scratch: true, ..data },
        dir(PhaseId::Kubelet, l.kubelet(), 0o755, Owner::Root),
        dir(PhaseId::ControlPlane, l.manifests(), 0o755, Owner::Root),
        dir(PhaseId::ControlPlane, l.audit_log_dir(), 0o700, Owner::Root),
        dir(PhaseId::Election, l.standby(), 0o755, Owner::Root),
    ]
}
