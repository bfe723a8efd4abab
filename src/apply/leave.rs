//! A master goes: by itself (`hamaster leave`), or removed by another because it is dead (`hamaster master remove`).

use std::time::Duration;

use crate::apply::event::{Event, Sink};
use crate::apply::peers::{self, Peers};
use crate::apply::perform::Performer;
use crate::apply::record::Ledger;
use crate::apply::wait::interrupted;
use crate::apply::{ETCD_UNIT, Outcome, stamp, step};
use crate::error::{Error, Result};
use crate::etcd::client::{Client, Registered};
use crate::etcd::reply::Reply;
use crate::etcd::{keys, membership};
use crate::host::clock::{self, Stopwatch};
use crate::host::{Host, fault, observe};
use crate::plan::Action;
use crate::plan::reset::Reset;
use crate::spec::ThisNode;
use crate::spec::file::{self, Overrides};

/// How long etcd may take to agree that a member is gone: an election in between takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(200);

/// A member that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// etcd's id.
    pub id: u64,
    /// Name of the master.
    pub name: String,
}

/// Whether the member may go, as things are.
///
/// # Errors
/// When the others could decide nothing without it, or nothing at all now; when none of them answers.
pub fn may_go(departure: &Departure, peers: &Peers, own: Option<&Client>, sink: Sink<'_>) -> Result<()> {
    let (_, members) = peers.voter(sink)?;
    let mut healthy = peers.healthy();
    healthy.extend(own.and_then(|own| own.lag().ok()).filter(|lag| lag.leader != 0).map(|lag| lag.member_id));
    membership::remove(departure.id, &members, &healthy).map_err(|r| peers::refused(&departure.name, r))
}

/// Removes the member from etcd and its master from the spec. `own`: its own client, if it lives: a leader hands over
/// first, since the others would need seconds to find out that it is gone.
///
/// # Errors
/// When it may not go, or etcd does not agree in time. What was asked may happen yet: asked again, it goes on.
pub fn depart(departure: &Departure, peers: &Peers, own: Option<&Client>, sink: Sink<'_>) -> Result<()> {
    let (id, watch) = (departure.id, Stopwatch::start());
    loop {
        if clock::interrupted() {
            return Err(interrupted("removing the member"));
        }
        let (client, members) = peers.voter(sink)?;
        if members.iter().all(|m| m.id != id) {
            break;
        }
        may_go(departure, peers, own, sink)?;
        if let Some(own) = own
            && own.lag().is_ok_and(|lag| lag.leader == id)
            && let Some(heir) = peers.furthest(id)
        {
            // A follower that fell behind is refused; then another is asked.
            if own.move_leader(heir).is_ok() {
                sink(Event::Note("etcd's lead is handed over"));
                fault::point("leader.moved");
            }
            clock::sleep(EVERY);
            if watch.elapsed() < PATIENCE {
                continue;
            }
        }
        match client.remove(id) {
            Ok(()) => fault::point("member.removed"),
            Err(Reply::NotFound) => {}
            Err(Reply::Unhealthy | Reply::NotEnoughStarted | Reply::Unknown(_)) if watch.elapsed() < PATIENCE => {
                sink(Event::Waiting { condition: "etcd to agree that it is gone", since: watch.elapsed() });
            }
            Err(reply) => return Err(reply.error(&format!("remove {}", departure.name))),
        }
        clock::sleep(EVERY);
    }
    let (client, _) = peers.voter(sink)?;
    unregister(client, &departure.name)?;
    fault::point("master.unregistered");
    Ok(())
}

/// Takes a master out of the registered spec, whoever else changes it meanwhile.
fn unregister(client: &Client, name: &str) -> Result<()> {
    client.delete(&format!("{}{name}", keys::MASTERS))?;
    loop {
        let Some(seen) = client.record(keys::SPEC)? else { return Ok(()) };
        let does_not_read = |e: serde_json::Error| Error::conflict("the registered spec does not read").cause(e);
        let registered: Registered = serde_json::from_slice(&seen.value).map_err(does_not_read)?;
        let mut spec = file::load(Some(("the cluster's spec", &registered.spec)), &Overrides::default())?;
        if !spec.masters.iter().any(|m| m.name == name) {
            return Ok(());
        }
        spec.masters.retain(|m| m.name != name);
        let next = Registered { generation: registered.generation + 1, spec: file::to_yaml(&spec) };
        let bytes = serde_json::to_vec(&next).map_err(|e| Error::apply("cannot encode the spec").cause(e))?;
        if client.replace(&seen, &bytes)? {
            return Ok(());
        }
    }
}

/// This host leaves: its manifests go first, so that load balancers notice; then its member; then all that is ours.
///
/// # Errors
/// What failed; run again it goes on.
pub fn leave(
    host: &mut Host,
    this: &ThisNode,
    departure: Option<(Departure, Peers, Client)>,
    plan: &Reset,
    sink: Sink<'_>,
) -> Result<Outcome> {
    let mut outcome = Outcome { changed: vec![], notes: plan.stays.clone() };
    let now = clock::now();
    let mut departure = departure;
    sink(Event::PhaseStarted { phase: "leave", steps: plan.steps.len() });
    let backup = this.layout.backup().join(stamp(now));
    for action in &plan.steps {
        if matches!(action, Action::SetUnit { unit, .. } if unit == ETCD_UNIT)
            && let Some((departure, peers, own)) = departure.take()
        {
            depart(&departure, &peers, Some(&own), sink)?;
            outcome.changed.push(format!("remove {} from etcd's members", departure.name));
            let mut ledger = Ledger::new(&this.layout, observe::record(host, &this.layout.record())?);
            // Gone for good: what is left is only this host's, and needs nobody's leave.
            (ledger.record.etcd, ledger.record.joining) = (None, None);
            ledger.save(host)?;
        }
        let mut ledger = Ledger::new(&this.layout, observe::record(host, &this.layout.record())?);
        let mut performer = Performer { host, ledger: &mut ledger, this, backup: backup.clone(), now, sink };
        step(&mut performer, action, &mut outcome).map_err(|e: Box<Error>| e.hint("hamaster leave (again)"))?;
    }
    sink(Event::Finished);
    Ok(outcome)
}
