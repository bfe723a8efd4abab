//! Drives the masters of a lab, by the roads of `init` and `join`: preview, apply, prove.
//!
//! The first makes the cluster, the others join it one after the other. Members that were down wait for each other, so
//! they are started at the same time.

use std::path::Path;
use std::sync::mpsc;

use super::adapt::{PHASES, adapt};
use super::admit;
use super::up::{Lab, LabMaster};
use crate::apply::event::{Event, Sink};
use crate::apply::join::Marker;
use crate::apply::{self, Master, Options, Outcome};
use crate::error::{Error, Result};
use crate::etcd::client::Over;
use crate::host::{Host, clock, facts, observe};
use crate::preflight;
use crate::render::Templates;
use crate::spec::ThisNode;
use crate::state::PhaseId;
use crate::state::facts::HostFacts;
use crate::state::observed::Record;
use crate::token::Role;

/// Makes every master of `lab` what its spec asks for: those that are members are healed, the first makes the cluster
/// if there is none, all others join it.
///
/// # Errors
/// As `apply::init` and `apply::join`; what preflight finds.
pub fn drive(lab: &Lab, sink: Sink<'_>) -> Result<Outcome> {
    let Some(first) = lab.masters.first() else { return Ok(Outcome::default()) };
    let mut outcome = Outcome::default();
    let mut there: Vec<&LabMaster> = vec![];
    for master in &lab.masters {
        if is_there(master)? {
            there.push(master);
        }
    }
    if there.is_empty() {
        merge(&mut outcome, phases(lab, first, &PHASES, sink)?);
        there.push(first);
    } else {
        merge(&mut outcome, heal(lab, &there, sink)?);
    }
    for master in &lab.masters {
        if !there.iter().any(|t| t.this == master.this) {
            merge(&mut outcome, admit::master(lab, &there, master, sink)?);
            there.push(master);
        }
    }
    for worker in &lab.workers {
        merge(&mut outcome, admit::worker(lab, &there, worker, sink)?);
    }
    Ok(outcome)
}

/// It is a master of the cluster, and not in the middle of becoming one.
///
/// # Errors
/// When its files do not read.
pub(super) fn is_there(master: &LabMaster) -> Result<bool> {
    let host = Host::new("/", Box::new(master.units.clone()))?;
    Ok(record(master)?.etcd.is_some() && Marker::find(&host, &master.this.layout)?.is_none())
}

/// What it knows of itself.
///
/// # Errors
/// When it does not read.
pub(super) fn record(master: &LabMaster) -> Result<Record> {
    let host = Host::new("/", Box::new(master.units.clone()))?;
    observe::record(&host, &master.this.layout.record())
}

/// Masters that are members: all at once, since none of them may have a majority alone.
fn heal(lab: &Lab, masters: &[&LabMaster], sink: Sink<'_>) -> Result<Outcome> {
    if let [one] = masters {
        return phases(lab, one, &PHASES, sink);
    }
    let mut outcome = Outcome::default();
    for master in masters {
        merge(&mut outcome, phases(lab, master, &[PhaseId::Pki, PhaseId::Kubeconfig], sink)?);
    }
    merge(&mut outcome, members(lab, masters, sink)?);
    for master in masters {
        let rest = [PhaseId::ControlPlane, PhaseId::Election, PhaseId::Register];
        merge(&mut outcome, phases(lab, master, &rest, sink)?);
    }
    Ok(outcome)
}

fn merge(all: &mut Outcome, more: Outcome) {
    all.changed.extend(more.changed);
    all.notes.extend(more.notes.into_iter().filter(|note| !all.notes.contains(note)).collect::<Vec<_>>());
}

/// What it takes to plan and change one.
pub(super) fn master(lab: &Lab, this: &ThisNode) -> Result<(HostFacts, Master)> {
    let facts = facts::gather(Path::new("/"), &lab.spec, &this.layout);
    let master = Master {
        role: Role::Master,
        tools: preflight::tools(&facts, &lab.spec),
        spec: lab.spec.clone(),
        this: this.clone(),
        templates: Templates::embedded()?,
        programs: Default::default(),
        over: Over::Anything,
        adapt: Box::new(adapt),
    };
    Ok((facts, master))
}

fn phases(lab: &Lab, one: &LabMaster, only: &[PhaseId], sink: Sink<'_>) -> Result<Outcome> {
    let (facts, master) = master(lab, &one.this)?;
    let mut host = Host::new("/", Box::new(one.units.clone()))?;
    let observed = master.observe(&host)?;
    let findings = preflight::run(preflight::Scope::Lab, &master.spec, &master.this, &facts, &observed, clock::now());
    preflight::refuse(&findings, &[])?;
    let options = Options { only: only.to_vec(), adopt: false };
    let seen = apply::preview(&host, &master, &options)?;
    apply::init(&mut host, &master, &options, seen, sink)
}

/// All members of etcd at once. What each does is told as it is done.
fn members(lab: &Lab, masters: &[&LabMaster], sink: Sink<'_>) -> Result<Outcome> {
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
        let running: Vec<_> = masters.iter().copied().map(started).collect();
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
