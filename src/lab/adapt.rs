//! What of a master's plan holds in a lab.

use crate::apply::ETCD_UNIT;
use crate::host::supervisor::programs;
use crate::state::desired::{Desired, Placement, Readiness};
use crate::state::{Owner, PhaseId};

/// The phases that apply: the others change the kernel, the container runtime or the kubelet of the machine itself.
pub const PHASES: [PhaseId; 6] =
    [PhaseId::Pki, PhaseId::Kubeconfig, PhaseId::Etcd, PhaseId::ControlPlane, PhaseId::Election, PhaseId::Register];

/// The candidate.
pub(super) const ELECT_UNIT: &str = "hamaster-elect.service";
/// The door for joiners; its keeper does not run in a lab.
const SERVE_UNIT: &str = "hamaster-serve.service";

/// Turns what a host should hold into what a lab should: every file is the operator's own, since a lab makes no user
/// `etcd` and drops no privileges, and of all units only etcd's, the election's and the door's run. What only an apiserver could
/// take is left out where there is none.
pub fn adapt(desired: &mut Desired) {
    let owners = desired.dirs.iter_mut().map(|d| &mut d.owner).chain(desired.files.iter_mut().map(|f| &mut f.owner));
    let keys = desired.certs.iter_mut().filter_map(|c| match &mut c.placement {
        Placement::Pair { owner, .. } => Some(owner),
        _ => None,
    });
    owners.chain(keys).for_each(|owner| *owner = Owner::Root);
    if programs::find(&programs::search_dirs(), "kube-apiserver").is_none() {
        desired.bindings = None;
        desired.notes.push(
            "no kube-apiserver on PATH or in KUBEBUILDER_ASSETS: its manifest is written, and run once there is one"
                .to_owned(),
        );
    }
    for unit in &mut desired.units {
        (unit.enable, unit.run, unit.ready) = match unit.name.as_str() {
            ETCD_UNIT => continue,
            ELECT_UNIT | SERVE_UNIT => (true, true, Some(Readiness::Active)),
            // At each boot, before any pod.
            "hamaster-fence.service" => (true, false, None),
            _ => (false, false, None),
        };
    }
}
