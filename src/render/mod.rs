//! From the spec to bytes: every public file of a master, every unit it should run, and the load balancer before it.
//!
//! [`templates`] turns a typed context into text and is the only way a value gets into a file: each target syntax has
//! its own escaping, applied to every `{{value}}`. The other modules each own one component's context and decide, by
//! version and profile, what goes into it.

mod balancer;
mod election;
mod escape;
mod etcd;
mod flags;
mod kubelet;
mod manifests;
mod network;
mod policy;
mod runtime;
mod snapshots;
pub mod templates;
mod tools;
mod units;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use balancer::load_balancer;
pub use network::flannel_config;
pub use templates::Templates;
pub use tools::assumed_tools;
pub use units::{notes, units};

use crate::error::Result;
use crate::spec::{ClusterSpec, ElectionMode, ElectionRunAs, FlannelLeases, NetworkPlugin, Profile, ThisNode};
use crate::state::desired::ManagedFile;
use crate::state::facts::Tools;
use crate::state::{Owner, PhaseId};
use crate::token::Role;

/// Port of etcd's plain `/health` and `/metrics`, on loopback only.
pub const ETCD_METRICS_PORT: u16 = 2381;

/// Everything rendering depends on besides the templates.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The cluster.
    pub spec: &'a ClusterSpec,
    /// The node the files are for.
    pub this: &'a ThisNode,
    /// What that node is.
    pub role: Role,
    /// Programs and versions the files refer to.
    pub tools: &'a Tools,
    /// How this master's etcd member starts.
    pub etcd: EtcdStart<'a>,
    /// `ca.key` is not here on purpose, so the controller-manager must not sign with it.
    pub external_ca: bool,
}

/// How the etcd member starts. Once it has been healthy, `sealed` keeps an emptied data directory from quietly
/// becoming a new cluster.
#[derive(Debug, Clone, Copy)]
pub struct EtcdStart<'a> {
    /// `--initial-cluster-state=existing` instead of `new`.
    pub sealed: bool,
    /// `--initial-cluster-token`: the same on every member, made once per cluster.
    pub token: &'a str,
    /// `--initial-cluster` of a member that joined; none for one that made its cluster, alone.
    pub initial_cluster: Option<&'a str>,
}

/// Every rendered file of this node, sorted by phase.
///
/// # Errors
/// When a template (an operator's, usually) does not render, or a value cannot be written in the file's syntax.
pub fn files(input: &Input, templates: &Templates) -> Result<Vec<ManagedFile>> {
    let mut out = Rendered { templates, files: vec![] };
    network::files(input, &mut out)?;
    runtime::files(input, &mut out)?;
    kubelet::files(input, &mut out)?;
    if input.role == Role::Master {
        etcd::files(input, &mut out)?;
        policy::files(input, &mut out)?;
        manifests::files(input, &mut out)?;
        election::files(input, &mut out)?;
        snapshots::files(input, &mut out)?;
        balancer::files(input, &mut out)?;
    }
    out.files.sort_by_key(|f| f.phase);
    Ok(out.files)
}

/// The files rendered so far.
struct Rendered<'t> {
    templates: &'t Templates,
    files: Vec<ManagedFile>,
}

impl Rendered<'_> {
    /// Renders `template` into a file of root's.
    fn add(
        &mut self,
        phase: PhaseId,
        path: PathBuf,
        mode: u32,
        template: &str,
        context: &impl Serialize,
    ) -> Result<()> {
        self.add_with_inputs(phase, path, mode, template, context, vec![])
    }

    /// As [`Self::add`], for a file that must change when one of `inputs` does.
    fn add_with_inputs(
        &mut self,
        phase: PhaseId,
        path: PathBuf,
        mode: u32,
        template: &str,
        context: &impl Serialize,
        inputs: Vec<PathBuf>,
    ) -> Result<()> {
        let bytes = self.templates.render(template, context)?.into_bytes();
        self.files.push(ManagedFile { phase, path, mode, owner: Owner::Root, bytes, inputs });
        Ok(())
    }
}

impl Input<'_> {
    fn minor(&self) -> u32 {
        self.spec.kubernetes.version.render_minor()
    }

    fn cis(&self) -> bool {
        self.spec.profile == Profile::Cis
    }

    fn podmaster(&self) -> bool {
        self.spec.election.mode == ElectionMode::Podmaster
    }

    fn podmaster_pod(&self) -> bool {
        self.podmaster() && self.spec.election.run_as == ElectionRunAs::StaticPod
    }

    fn flannel(&self) -> bool {
        self.spec.network.plugin == NetworkPlugin::Flannel
    }

    /// flannel finds its leases in the API.
    fn flannel_in_api(&self) -> bool {
        self.flannel() && self.spec.network.leases == FlannelLeases::Kubernetes
    }

    fn worker(&self) -> bool {
        self.role == Role::Worker
    }

    /// A lab master shares the host's network with others: it listens on its own addresses only.
    fn lab(&self) -> bool {
        self.this.loopback != IpAddr::from([127, 0, 0, 1])
    }

    /// A file of the bundle.
    fn pki(&self, name: &str) -> PathBuf {
        self.this.layout.pki().join(name)
    }

    /// A file of etcd's own.
    fn etcd_pki(&self, name: &str) -> PathBuf {
        self.this.layout.etcd_pki().join(name)
    }

    /// Client URLs of every member, this master's first.
    fn etcd_endpoints(&self) -> Vec<String> {
        let others = self.spec.masters.iter().filter(|m| m.name != self.this.node.name).map(|m| m.ip);
        std::iter::once(self.this.node.ip).chain(others).map(|ip| url("https", ip, 2379)).collect()
    }
}

/// `scheme://ip:port`, an IPv6 address in brackets.
fn url(scheme: &str, ip: IpAddr, port: u16) -> String {
    format!("{scheme}://{}", std::net::SocketAddr::new(ip, port))
}

/// A path as text. Paths come from the spec and the layout, which are UTF-8.
fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}
