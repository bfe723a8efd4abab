//! The master a host can be: the spec, with the programs and templates that are there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::apply::Master;
use crate::error::Result;
use crate::etcd::client::Over;
use crate::host::operator;
use crate::preflight;
use crate::render::Templates;
use crate::spec::layout::Layout;
use crate::spec::{ClusterSpec, Node, ThisNode};
use crate::state::facts::HostFacts;
use crate::token::Role;

/// Units that cannot start without their program.
const UNIT_PROGRAMS: [(&str, &str); 5] = [
    ("kubelet.service", "kubelet"),
    ("flanneld.service", "flanneld"),
    ("docker.service", "dockerd"),
    ("cri-docker.service", "cri-dockerd"),
    ("containerd.service", "containerd"),
];

/// The master `node` of `spec`, as far as this host has the programs for it.
///
/// # Errors
/// When an operator's templates do not read.
pub fn assemble(spec: ClusterSpec, node: Node, facts: &HostFacts) -> Result<Master> {
    let layout = Layout::host();
    let tools = preflight::tools(facts, &spec);
    let missing: Vec<_> = UNIT_PROGRAMS.iter().filter(|(_, program)| !facts.programs.contains_key(*program)).collect();
    let path = |(name, program): (&String, &crate::state::facts::Program)| (name.clone(), program.path.clone());
    let programs: BTreeMap<String, PathBuf> = facts.programs.iter().map(path).collect();
    Ok(Master {
        role: Role::Master,
        templates: templates(spec.templates.as_deref())?,
        this: ThisNode { node, loopback: IpAddr::from([127, 0, 0, 1]), layout },
        tools,
        programs,
        over: Over::Nothing,
        spec,
        adapt: Box::new(move |desired| {
            for (unit, program) in &missing {
                if let Some(unit) = desired.units.iter_mut().find(|u| u.run && u.name == *unit) {
                    (unit.run, unit.enable) = (false, false);
                    desired.notes.push(format!(
                        "{} is not started: {program} is not installed; install it and run the same command again",
                        unit.name
                    ));
                }
            }
            let kubelet_runs = desired.units.iter().any(|u| u.name == "kubelet.service" && u.run);
            if !kubelet_runs {
                desired.bindings = None;
            }
        }),
    })
}

/// The embedded templates with the operator's overrides.
///
/// # Errors
/// When the directory or a template cannot be read or does not compile.
pub fn templates(dir: Option<&Path>) -> Result<Templates> {
    match dir {
        Some(dir) => Templates::with_overrides(&operator::templates(dir)?),
        None => Templates::with_overrides(&BTreeMap::new()),
    }
}
