//! A lab that grows and shrinks, one master at a time, as a cluster of hosts does.

use std::path::Path;
use std::time::Duration;

use super::adapt::ELECT_UNIT;
use super::admit;
use super::drive::{drive, is_there, record};
use super::status::{self, Status, find};
use super::up::{LabMaster, ready, this_node};
use crate::apply::event::{Event, Sink};
use crate::apply::leave::{self, Departure};
use crate::apply::members::Members;
use crate::apply::peers::Peers;
use crate::apply::turn::Line;
use crate::apply::{Outcome, perform};
use crate::error::{Error, Result};
use crate::etcd::keys;
use crate::host::supervisor::home::Home;
use crate::host::supervisor::{await_end, loopback};
use crate::host::{Host, NoUnits, Units};
use crate::spec::Node;
use crate::token::Role;

/// More than the stop timeouts of pods and units together.
const PATIENCE: Duration = Duration::from_secs(120);

/// Adds a master or a worker to the lab at `dir`, which joins the others; goes on with one that was killed while it
/// joined. `program` is this program.
///
/// # Errors
/// When there is no lab or no room in it, or as [`drive`].
pub fn add(dir: &Path, role: Role, program: &Path, sink: Sink<'_>) -> Result<(Outcome, Status)> {
    let home = find(dir)?;
    let lock = home.lock()?;
    let mut whole = true;
    match role {
        Role::Master => {
            for master in home.masters()? {
                whole &= is_there(&LabMaster::of(&master)?)?;
            }
        }
        Role::Worker => {
            let host = Host::new("/", Box::new(NoUnits))?;
            for worker in home.workers()? {
                whole &= admit::is_worker(&host, &this_node(&worker)?)?;
            }
        }
    }
    if whole {
        home.add(role)?;
    }
    let claim = loopback::claim(home.node()?.ip);
    let lab = ready(home, lock, claim, program)?;
    let outcome = drive(&lab, sink)?;
    Ok((outcome, status::of(&lab.home)?))
}

/// The master `name` leaves the lab at `dir`: by itself where it lives, removed by the others where it does not. A
/// worker's name is free again. Its host is gone then, with its disk. `program` is this program.
///
/// # Errors
/// When the others could not do without it, or as [`drive`] for those that stay.
pub fn remove(dir: &Path, name: &str, program: &Path, sink: Sink<'_>) -> Result<(Outcome, Status)> {
    let home = find(dir)?;
    let lock = home.lock()?;
    let going = home.host(name)?;
    match going.role() {
        Role::Master => {
            depart(&home, &going, sink)?;
            end(&going)?;
        }
        Role::Worker => forget(&home, &going)?,
    }
    going.remove()?;
    let claim = loopback::claim(home.node()?.ip);
    let lab = ready(home, lock, claim, program)?;
    let mut outcome = drive(&lab, sink)?;
    outcome.changed.insert(0, format!("remove {name}"));
    Ok((outcome, status::of(&lab.home)?))
}

fn depart(home: &Home, going: &Home, sink: Sink<'_>) -> Result<()> {
    let one = LabMaster::of(going)?;
    let mut others = vec![];
    for other in home.masters()?.iter().filter(|home| *home != going) {
        let other = LabMaster::of(other)?;
        if is_there(&other)? {
            others.push(other);
        }
    }
    let alone = || {
        let dir = home.dir().display();
        Error::refused(format!("{} is the only master: without it there is no cluster", going.name()))
            .hint(format!("hamaster lab down --purge --dir {dir}"))
    };
    let first = others.first().ok_or_else(alone)?;
    let host = Host::new("/", Box::new(first.units.clone()))?;
    let cluster_id = record(first)?.etcd.map(|member| member.cluster_id).unwrap_or_default();
    let tls = perform::etcd_tls(&host, &first.this)?;
    let peers = Peers::new(others.iter().map(|m| m.this.node.ip), &tls, &cluster_id)?;
    let url = format!("https://{}:2380", one.this.node.ip);
    let (_, members) = peers.voter(sink)?;
    // No member of etcd is 0: one that never got that far is only taken out of the spec.
    let id = members.iter().find(|m| m.peer_urls.contains(&url)).map_or(0, |m| m.id);
    let departure = Departure { id, name: going.name() };
    let own = perform::member_client(&host, &first.this, one.this.node.ip)?;
    let own = Some(own).filter(|own| own.lag().is_ok());
    if id != 0 {
        leave::may_go(&departure, &peers, own.as_ref(), sink)?;
    }
    if own.is_some() && one.units.report()?.is_some() {
        // It gives its leadership back before the etcd that it does so in ends.
        one.units.stop(ELECT_UNIT)?;
    }
    sink(Event::Note(&format!("{} leaves", going.name())));
    let masters = others.iter().map(|m| m.this.node.clone()).collect();
    let mut line = Line::new(&first.this, masters, "lab remove")?;
    line.dismiss(&going.name())?;
    line.holding(sink, |turn, sink| leave::depart(&departure, &peers, own.as_ref(), turn, sink))
}

/// What `hamaster worker remove` does.
fn forget(home: &Home, going: &Home) -> Result<()> {
    let masters: Vec<LabMaster> = home.masters()?.iter().map(LabMaster::of).collect::<Result<_>>()?;
    let nodes: Vec<Node> = masters.iter().map(|m| m.this.node.clone()).collect();
    let Some(first) = masters.first() else { return Ok(()) };
    let mut members = Members::new(Host::new("/", Box::new(NoUnits))?, first.this.clone(), &nodes);
    members.ask(|c| c.delete(&format!("{}{}", keys::WORKERS, going.name()))).map(drop)
}

/// Ends all that runs of a master.
fn end(going: &Home) -> Result<()> {
    let units = LabMaster::of(going)?.units;
    going.partition(false)?;
    if units.report()?.is_some() {
        units.freeze(false)?;
        units.shut_down()?;
    }
    await_end(going, PATIENCE).map(drop)
}
