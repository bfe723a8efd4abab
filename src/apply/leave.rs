//! A master goes: by itself (`hamaster leave`), or removed by another because it is dead (`hamaster master remove`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use time::OffsetDateTime;

use crate::apply::event::{Event, Sink};
use crate::apply::join::Marker;
use crate::apply::peers::{self, Peers};
use crate::apply::perform::Performer;
use crate::apply::record::Ledger;
use crate::apply::turn::{Line, Turn};
use crate::apply::wait::interrupted;
use crate::apply::{ETCD_UNIT, Outcome, stamp, step};
use crate::error::{Error, Result};
use crate::etcd::client::{Client, Over, Record, Registered};
use crate::etcd::reply::Reply;
use crate::etcd::{keys, membership};
use crate::host::clock::{self, Stopwatch};
use crate::host::{Host, fault, observe};
use crate::plan::Action;
use crate::plan::reset::Reset;
use crate::spec::file::{self, Overrides};
use crate::spec::{ClusterSpec, EtcdBootstrap, Node, ThisNode};

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
pub fn depart(departure: &Departure, peers: &Peers, own: Option<&Client>, turn: &Turn, sink: Sink<'_>) -> Result<()> {
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
        turn.check(client, &format!("{} is not removed", departure.name))?;
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
    // The place that was kept for it while it joined.
    client.delete(&format!("{}{}", keys::ADMITTED, departure.name))?;
    unregister(client, &departure.name, turn)?;
    fault::point("master.unregistered");
    Ok(())
}

/// Takes a master out of the registered spec, whoever else changes it meanwhile, with what its keeper said. Only in its
/// turn: who was suspended may find that the name is another's by now, who joined.
fn unregister(client: &Client, name: &str, turn: &Turn) -> Result<()> {
    loop {
        let Some((seen, generation, mut spec)) = registered(client)? else { return Ok(()) };
        let at = |m: &Node| format!("https://{}", SocketAddr::new(m.ip, 2380));
        let urls: Vec<String> = spec.masters.iter().filter(|m| m.name == name).map(at).collect();
        let members = client.members()?;
        if let Some(member) = members.iter().find(|m| m.name == name || m.peer_urls.iter().any(|u| urls.contains(u))) {
            let message = format!("{name} is a member of etcd, {:x}: the spec goes on to name it", member.id);
            return Err(Error::conflict(message).hint("hamaster master list"));
        }
        let report = format!("{}{name}", keys::MASTERS);
        let bytes = match urls.is_empty() {
            true => seen.value.clone(),
            false => {
                spec.masters.retain(|m| m.name != name);
                Registered { generation: generation + 1, spec: file::to_yaml(&shrunk(spec)) }.write()?
            }
        };
        if client.replace_in_turn(turn.lease(), &seen, &bytes, Some(&report))? {
            return Ok(());
        }
        turn.check(client, &format!("{name} is not removed"))?;
    }
}

/// The spec of a cluster that has lost masters. That some formed it together is history: one alone would be too few to.
pub(super) fn shrunk(mut spec: ClusterSpec) -> ClusterSpec {
    if spec.masters.len() < 2 && spec.etcd.bootstrap == EtcdBootstrap::Static {
        spec.etcd.bootstrap = EtcdBootstrap::New;
    }
    spec
}

/// The registered spec: as it was read, its generation, and what it says.
///
/// # Errors
/// When etcd does not answer, or it does not read.
pub fn registered(client: &Client) -> Result<Option<(Record, u64, ClusterSpec)>> {
    let Some(seen) = client.record(keys::SPEC)? else { return Ok(None) };
    let registered = Registered::read(&seen.value)?;
    let spec = file::load(Some(("the cluster's spec", &registered.spec)), &Overrides::default())?;
    Ok(Some((seen, registered.generation, spec)))
}

/// This host leaves: its manifests go first, so that load balancers notice; then its member; then all that is ours. Until
/// its member is gone it is its turn: two that go at once could be one too many.
///
/// # Errors
/// What failed; run again it goes on.
pub fn leave(
    host: &mut Host,
    this: &ThisNode,
    departure: Option<(Departure, Peers, Option<Client>, Line)>,
    plan: &Reset,
    sink: Sink<'_>,
) -> Result<Outcome> {
    let now = clock::now();
    let backup = this.layout.backup().join(stamp(now));
    let outcome = Outcome { changed: vec![], notes: plan.stays.clone() };
    sink(Event::PhaseStarted { phase: "leave", steps: plan.steps.len() });
    // An etcd that ran before hamaster came is not stopped: then the member goes first of all.
    let (before, after) = plan.until_stop_of(ETCD_UNIT);
    let mut leaver = Leaver { host, this, backup, now, outcome };
    match departure {
        None => leaver.steps(before, sink)?,
        Some((departure, peers, own, mut line)) => line.holding(sink, |turn, sink| {
            // Others may have gone while it waited.
            may_go(&departure, &peers, own.as_ref(), sink)?;
            leaver.steps(before, sink)?;
            depart(&departure, &peers, own.as_ref(), turn, sink)?;
            leaver.outcome.changed.push(format!("remove {} from etcd's members", departure.name));
            leaver.forget()
        })?,
    }
    leaver.steps(after, sink)?;
    sink(Event::Finished);
    Ok(leaver.outcome)
}

struct Leaver<'a> {
    host: &'a mut Host,
    this: &'a ThisNode,
    backup: PathBuf,
    now: OffsetDateTime,
    outcome: Outcome,
}

impl Leaver<'_> {
    fn steps(&mut self, steps: &[Action], sink: Sink<'_>) -> Result<()> {
        for action in steps {
            let mut ledger = self.ledger()?;
            let mut performer = Performer {
                host: self.host,
                ledger: &mut ledger,
                this: self.this,
                backup: self.backup.clone(),
                now: self.now,
                over: &Over::Nothing,
                sink,
            };
            step(&mut performer, action, &mut self.outcome)
                .map_err(|e: Box<Error>| e.hint("hamaster leave (again)"))?;
        }
        Ok(())
    }

    /// Gone for good: what is left is only this host's, and needs nobody's leave.
    fn forget(&mut self) -> Result<()> {
        let mut ledger = self.ledger()?;
        (ledger.record.etcd, ledger.record.joining) = (None, None);
        ledger.save(self.host)?;
        Marker::clear(self.host, &self.this.layout)?;
        fault::point("leave.forgotten");
        Ok(())
    }

    fn ledger(&self) -> Result<Ledger> {
        Ok(Ledger::new(&self.this.layout, observe::record(self.host, &self.this.layout.record())?))
    }
}
