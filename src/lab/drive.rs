//! Drives the masters of a lab, by the road of `init`: preview, apply, prove.
//!
//! A single master goes through all phases at once. Several share their CAs and secrets, which the first makes; their
//! members of etcd wait for each other, so they are started at the same time; the rest is one master after the other.

use std::path::Path;
use std::sync::mpsc;

use super::adapt::{PHASES, adapt};
use super::up::{Lab, LabMaster};
use crate::apply::event::{Event, Sink};
use crate::apply::{self, Master, Options, Outcome};
use crate::error::{Error, Result};
use crate::host::{Host, clock, facts};
use crate::pki::catalog;
use crate::preflight;
use crate::render::Templates;
use crate::state::desired::SecretKind;
use crate::state::{Owner, PhaseId, Secret};

/// Makes every master of `lab` what its spec asks for.
///
/// # Errors
/// As `apply::init`; what preflight finds.
pub fn drive(lab: &Lab, sink: Sink<'_>) -> Result<Outcome> {
    let [first, others @ ..] = lab.masters.as_slice() else { return Ok(Outcome::default()) };
    if others.is_empty() {
        return phases(lab, first, &PHASES, sink);
    }
    let mut outcome = Outcome::default();
    for master in &lab.masters {
        share(lab, first, master)?;
        merge(&mut outcome, phases(lab, master, &[PhaseId::Pki, PhaseId::Kubeconfig], sink)?);
    }
    merge(&mut outcome, members(lab, sink)?);
    for master in &lab.masters {
        let rest = [PhaseId::ControlPlane, PhaseId::Election, PhaseId::Register];
        merge(&mut outcome, phases(lab, master, &rest, sink)?);
    }
    Ok(outcome)
}

fn merge(all: &mut Outcome, more: Outcome) {
    all.changed.extend(more.changed);
    all.notes.extend(more.notes.into_iter().filter(|note| !all.notes.contains(note)).collect::<Vec<_>>());
}

fn phases(lab: &Lab, one: &LabMaster, only: &[PhaseId], sink: Sink<'_>) -> Result<Outcome> {
    let facts = facts::gather(Path::new("/"), &lab.spec, &one.this.layout);
    let master = Master {
        tools: preflight::tools(&facts, &lab.spec),
        spec: lab.spec.clone(),
        this: one.this.clone(),
        templates: Templates::embedded()?,
        adapt: Box::new(adapt),
    };
    let mut host = Host::new("/", Box::new(one.units.clone()))?;
    let observed = master.observe(&host)?;
    let findings = preflight::run(preflight::Scope::Lab, &master.spec, &master.this, &facts, &observed, clock::now());
    preflight::refuse(&findings, &[])?;
    let options = Options { only: only.to_vec(), adopt: false };
    let seen = apply::preview(&host, &master, &options)?;
    apply::init(&mut host, &master, &options, seen, sink)
}

/// All members of etcd at once. What each does is told as it is done.
fn members(lab: &Lab, sink: Sink<'_>) -> Result<Outcome> {
    let (tell, told) = mpsc::channel();
    let member = |master: &LabMaster, tell: mpsc::Sender<String>| {
        let name = &master.this.node.name;
        phases(lab, master, &[PhaseId::Etcd], &mut |event| {
            if let Event::StepDone { action, changed: true } = event {
                // Nobody listens any more when the command is ending.
                let _ = tell.send(format!("{name}: {action}"));
            }
        })
    };
    let results = std::thread::scope(|scope| {
        let started = |master| {
            let tell = tell.clone();
            scope.spawn(move || member(master, tell))
        };
        let running: Vec<_> = lab.masters.iter().map(started).collect();
        drop(tell);
        for line in told {
            sink(Event::Note(&line));
        }
        let lost = |_| Err(Error::apply("a member's own thread ended"));
        running.into_iter().map(|r| r.join().unwrap_or_else(lost)).collect::<Vec<_>>()
    });
    let (mut outcome, mut failed) = (Outcome::default(), None::<Box<Error>>);
    for result in results {
        match (result, failed.take()) {
            (Ok(done), before) => {
                merge(&mut outcome, done);
                failed = before;
            }
            (Err(error), None) => failed = Some(error),
            (Err(error), Some(before)) => failed = Some(before.cause(error.message())),
        }
    }
    failed.map_or(Ok(outcome), Err)
}

/// Gives `to` the first master's CAs and secrets: they are the cluster's. What `to` has already stays.
fn share(lab: &Lab, first: &LabMaster, to: &LabMaster) -> Result<()> {
    let mut host = Host::new("/", Box::new(to.units.clone()))?;
    let paths = |master: &LabMaster| {
        let cas = catalog::cas(&lab.spec, &master.this).into_iter().flat_map(|ca| [(ca.cert, 0o644), (ca.key, 0o600)]);
        let secrets = catalog::secrets(&lab.spec, &master.this).into_iter().flat_map(|secret| {
            let public = match secret.kind {
                SecretKind::ServiceAccountKey { public, .. } => Some((public, 0o644)),
                _ => None,
            };
            [Some((secret.path, 0o600)), public].into_iter().flatten()
        });
        cas.chain(secrets).collect::<Vec<_>>()
    };
    for ((from, _), (path, mode)) in paths(first).into_iter().zip(paths(to)) {
        let Some(bytes) = host.read(&from)?.map(Secret::new) else { continue };
        if host.stat(&path)?.is_none() {
            if let Some(dir) = path.parent() {
                host.ensure_dir(dir, 0o755, Owner::Root)?;
            }
            host.write(&path, bytes.expose(), mode, Owner::Root)?;
        }
    }
    Ok(())
}
