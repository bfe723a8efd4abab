//! One more host of a lab joins: as `hamaster join` does, with a token of its own, at the doors of the masters that are
//! there.

use std::net::SocketAddr;
use std::time::Duration;

use super::adapt::PHASES;
use super::drive;
use super::up::{Lab, LabMaster};
use crate::admission::{self, Pem, Welcome};
use crate::apply::event::{Event, Sink};
use crate::apply::issue::{Wanted, issue};
use crate::apply::join::{self, Choice, Marker};
use crate::apply::{Outcome, perform};
use crate::error::{Error, Result};
use crate::host::{Host, NoUnits, clock, doorbell, observe};
use crate::preflight;
use crate::spec::{Node, ThisNode};
use crate::state::PhaseId;
use crate::token::{Role, Token};

/// A token is used at once.
const TTL: Duration = Duration::from_secs(60);

/// `one` becomes a master, beside those that are `there`.
///
/// # Errors
/// As `apply::join`; what preflight finds.
pub(super) fn master(lab: &Lab, there: &[&LabMaster], one: &LabMaster, sink: Sink<'_>) -> Result<Outcome> {
    let (facts, mut master) = drive::master(lab, &one.this)?;
    let mut host = Host::new("/", Box::new(one.units.clone()))?;
    let layout = &one.this.layout;
    let choice = Choice { only: PHASES.to_vec(), ..Choice::default() };
    let found = Marker::find(&host, layout)?;
    let mut begin = || Marker::begin(&mut host, layout, &one.this.node, Role::Master, None);
    let marker = found.map_or_else(&mut begin, Ok)?;
    let welcome = match &marker.cluster {
        Some(_) => None,
        None => Some(ask(there, &one.this.node, &marker, vec![])?),
    };
    let files = welcome.as_ref().map_or(&[][..], |w| &w.files);
    let plan = join::preview(&host, &master, files, &choice)?;
    let observed = master.observe(&host)?;
    let findings = preflight::run(preflight::Scope::Lab, &master.spec, &master.this, &facts, &observed, clock::now());
    preflight::refuse(&findings, &[])?;
    sink(Event::Note(&format!("{} joins", one.this.node.name)));
    let marker = match &welcome {
        Some(welcome) => join::import(&mut host, &master, marker, welcome)?,
        None => marker,
    };
    let cluster = marker.cluster.ok_or_else(|| Error::conflict("the marker names no cluster"))?;
    join::join(&mut host, &mut master, &cluster, &choice, plan, sink).map(|(outcome, _)| outcome)
}

/// The host of `this` becomes a worker. It runs nothing: a kubelet would change the machine itself.
///
/// # Errors
/// As `apply::join::worker`.
pub(super) fn worker(lab: &Lab, there: &[&LabMaster], this: &ThisNode, sink: Sink<'_>) -> Result<Outcome> {
    let mut host = Host::new("/", Box::new(NoUnits))?;
    if is_worker(&host, this)? {
        return Ok(Outcome::default());
    }
    let (_, mut master) = drive::master(lab, this)?;
    master.role = Role::Worker;
    let choice = Choice { only: vec![PhaseId::Pki, PhaseId::Kubeconfig, PhaseId::Kubelet], ..Choice::default() };
    let found = Marker::find(&host, &this.layout)?;
    let mut begin = || Marker::begin(&mut host, &this.layout, &this.node, Role::Worker, None);
    let marker = found.map_or_else(&mut begin, Ok)?;
    let welcome = match &marker.cluster {
        Some(_) => None,
        None => Some(ask(there, &this.node, &marker, vec![])?),
    };
    let files = welcome.as_ref().map_or(&[][..], |w| &w.files);
    let plan = join::preview(&host, &master, files, &choice)?;
    sink(Event::Note(&format!("{} joins as a worker", this.node.name)));
    let marker = match &welcome {
        Some(welcome) => join::import(&mut host, &master, marker, welcome)?,
        None => marker,
    };
    let mut sign = |requests| Ok(ask(there, &this.node, &marker, requests)?.certificates);
    join::worker::join(&mut host, &master, &choice, plan, &mut sign, sink)
}

/// It is a worker of the cluster, and not in the middle of becoming one.
///
/// # Errors
/// When its files do not read.
pub(super) fn is_worker(host: &Host, this: &ThisNode) -> Result<bool> {
    let record = observe::record(host, &this.layout.record())?;
    Ok(record.worker.is_some() && Marker::find(host, &this.layout)?.is_none())
}

/// Asks the masters that are there, with a token that one of them makes.
fn ask(there: &[&LabMaster], node: &Node, marker: &Marker, requests: Vec<Pem>) -> Result<Welcome> {
    let token = token(there, node, marker.role)?;
    let doors: Vec<_> = there.iter().map(|m| SocketAddr::new(m.this.node.ip, admission::PORT)).collect();
    doorbell::ask(&doors, &token.ca_pin, &marker.request(&token, node, requests))
}

fn token(there: &[&LabMaster], node: &Node, role: Role) -> Result<Token> {
    let wanted = Wanted { role, life: TTL, uses: 1, node: Some(node.name.clone()) };
    let mut failed = None;
    for master in there {
        let host = Host::new("/", Box::new(master.units.clone()))?;
        match issue(&host, &master.this, &perform::etcd_client(&host, &master.this)?, &wanted) {
            Ok((token, _)) => return Ok(token),
            Err(e) => failed = Some(e),
        }
    }
    Err(failed.unwrap_or_else(|| Error::conflict("there is no cluster to join")))
}
