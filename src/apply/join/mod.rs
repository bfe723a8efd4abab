//! `hamaster join`: this host becomes a master of a cluster that is there.
//!
//! The order is the point. A marker first, so that a host that fails can never become a cluster of its own; then the
//! bundle, from a master whose CA was pinned; certificates; a learner of etcd, a voter once it has caught up; the spec,
//! which now names this master; and only then what serves: the manifests. Killed anywhere, the same command goes on.

mod marker;
mod member;
mod welcome;
pub mod worker;

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

pub use marker::{Cluster, Marker};
use member::{Membership, wait_for};
pub use welcome::welcome;

use crate::admission::{self, File, Welcome};
use crate::apply::event::{Event, Sink};
use crate::apply::peers::Peers;
use crate::apply::perform::{etcd_client, etcd_tls};
use crate::apply::record::Ledger;
use crate::apply::turn::{Line, Turn};
use crate::apply::wait::interrupted;
use crate::apply::{Master, Options, Outcome, Run, policy, refusal, selected, stamp};
use crate::error::{Error, Result};
use crate::etcd::client::{Client, Record, Registered};
use crate::etcd::keys;
use crate::etcd::membership::Member;
use crate::host::clock::{self, Waited};
use crate::host::{Host, fault, observe};
use crate::plan::master::{self, Policy};
use crate::plan::{Conflict, Phase};
use crate::spec::file::{self, Overrides};
use crate::spec::{ClusterSpec, Node};
use crate::state::observed::{FileRecord, JoiningMember, Observed, Worker};
use crate::state::{Digest, Owner, PhaseId};
use crate::token::Role;

/// How long a joiner waits for etcd's answer once it votes.
const PATIENCE: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(200);

/// What the operator chose for this run.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only these phases; empty means all.
    pub only: Vec<PhaseId>,
    /// Take over files that are not ours.
    pub adopt: bool,
    /// This node's voter has lost its disk: remove it and join anew.
    pub replace: bool,
}

/// All that a join will do, planned against one look at the host.
pub struct Preview {
    /// What happens before and between the phases.
    pub notes: Vec<String>,
    /// The phases.
    pub phases: Vec<Phase>,
    observed: Observed,
}

/// The spec of the cluster with `node` as one of its masters.
///
/// # Errors
/// When it does not read, as with another version's, or the node's name or address is another master's.
pub fn spec_with(registered: &str, node: &Node) -> Result<ClusterSpec> {
    let mut spec = file::load(Some(("the cluster's spec", registered)), &Overrides::default())?;
    let clash = |m: &&Node| (m.name == node.name) != (m.ip == node.ip);
    if let Some(other) = spec.masters.iter().find(clash) {
        let message = format!("the cluster has a master {} at {}", other.name, other.ip);
        return Err(Error::refused(format!("{message}; this one would be {} at {}", node.name, node.ip))
            .hint("hamaster join --name NAME --advertise-ip IP"));
    }
    if !spec.masters.contains(node) {
        spec.masters.push(node.clone());
    }
    Ok(spec)
}

/// Plans a join without touching anything. `files` is what the master gave; nothing when it is on this host already.
///
/// # Errors
/// All conflicts of all phases in one report; a template that does not render; an unreadable host.
pub fn preview(host: &Host, master: &Master, files: &[File], choice: &Choice) -> Result<Preview> {
    known(master, files)?;
    let mut observed = master.observe(host)?;
    let mut conflicts = vec![];
    let mut notes = given(host, master, files, choice, &mut observed, &mut conflicts)?;
    if master.role == Role::Master && observed.record.etcd.is_none() {
        notes.push("joins etcd as a learner, and votes once it has caught up".to_owned());
        let joining = JoiningMember { initial_cluster: Some("known-once-it-is-added".to_owned()), member_id: None };
        observed.record.joining.get_or_insert(joining);
    }
    let desired = master.desired(&observed)?;
    let policy = policy_of(host, choice);
    let mut phases = vec![];
    for id in selected(&options(choice)) {
        match master::plan(id, &desired, &observed, policy) {
            Ok(phase) => phases.push(phase),
            Err(found) => conflicts.extend(found),
        }
    }
    if !conflicts.is_empty() {
        return Err(refusal(host, conflicts, "; nothing was touched"));
    }
    notes.extend(desired.notes);
    Ok(Preview { notes, phases, observed })
}

/// Whoever gives the bundle is believed to be a master, and still does not write where no bundle is.
fn known(master: &Master, files: &[File]) -> Result<()> {
    let expected = match master.role {
        Role::Master => admission::shared(&master.spec),
        Role::Worker => admission::shared_with_workers(&master.spec),
    };
    match files.iter().find(|f| !expected.iter().any(|(path, mode)| *path == f.path && *mode == f.mode)) {
        None => Ok(()),
        Some(file) => Err(Error::refused(format!("the master gives {:?}, which is no file of a bundle", file.path))
            .hint("hamaster --version    # here and on the master")),
    }
}

/// What the host will be like once `files` are on it, and what is in their way.
fn given(
    host: &Host,
    master: &Master,
    files: &[File],
    choice: &Choice,
    observed: &mut Observed,
    conflicts: &mut Vec<Conflict>,
) -> Result<Vec<String>> {
    let mut imported = vec![];
    for file in files {
        let path = master.this.layout.path(&file.path);
        let wanted = observe::file_fact(host, &path, file.content.0.expose(), file.mode)?;
        match observed.at(&path) {
            Some(fact) if fact.digest == wanted.digest => continue,
            Some(_) if !choice.adopt && !observed.record.files.contains_key(&path) => conflicts.push(Conflict {
                message: "exists, differs from the cluster's, and is not ours".to_owned(),
                hint: format!("mv {0} {0}.old, or run again with --adopt (it is backed up first)", path.display()),
                path: path.clone(),
            }),
            _ => imported.push(path.file_name().unwrap_or_default().display().to_string()),
        }
        observed.paths.insert(path, wanted);
    }
    Ok(match imported.is_empty() {
        true => vec![],
        false => vec![format!("takes from the cluster: {}", imported.join(", "))],
    })
}

impl Preview {
    /// Nothing is left to do.
    pub fn is_empty(&self) -> bool {
        let record = &self.observed.record;
        (record.etcd.is_some() || record.worker.is_some())
            && self.phases.iter().all(|p| p.steps.is_empty() && p.awaits.is_empty())
    }
}

fn options(choice: &Choice) -> Options {
    Options { only: choice.only.clone(), adopt: choice.adopt }
}

fn policy_of(host: &Host, choice: &Choice) -> Policy {
    policy(host, &options(choice), clock::now())
}

/// Puts what a master gave where it belongs, and notes that it is there: from here on no token is needed.
///
/// # Errors
/// When a file cannot be written.
pub fn import(host: &mut Host, master: &Master, mut marker: Marker, welcome: &Welcome) -> Result<Marker> {
    let layout = &master.this.layout;
    let mut ledger = Ledger::new(layout, observe::record(host, &layout.record())?);
    let backup = layout.backup().join(stamp(clock::now()));
    for file in &welcome.files {
        let path = layout.path(&file.path);
        if !ledger.record.files.contains_key(&path) {
            let original = host.backup(&path, &backup)?;
            ledger.record.files.insert(path.clone(), FileRecord { original, ..FileRecord::default() });
        }
    }
    ledger.record.node = Some(master.this.node.name.clone());
    // A voter whose disk was lost is none any more: it joins anew.
    ledger.record.etcd = None;
    if master.role == Role::Worker {
        ledger.record.worker = Some(Worker { cluster_id: welcome.cluster_id.clone(), ip: master.this.node.ip });
    }
    ledger.save(host)?;
    for file in &welcome.files {
        let path = layout.path(&file.path);
        if let Some(dir) = path.parent() {
            for made in host.ensure_dir(dir, 0o755, Owner::Root)? {
                ledger.record.dirs.push(made);
            }
        }
        host.write(&path, file.content.0.expose(), file.mode, Owner::Root)?;
        if master.role == Role::Worker {
            // Nothing of it is secret or rare: a reset takes it away.
            ledger.record.files.entry(path).or_default().digest = Some(Digest::of(file.content.0.expose()));
        }
        fault::point("join.imported");
    }
    ledger.record.dirs.sort();
    ledger.record.dirs.dedup();
    ledger.save(host)?;
    marker.cluster = Some(Cluster::from(welcome));
    marker.save(host, layout, &master.this.node.name)?;
    fault::point("join.bundle");
    Ok(marker)
}

/// Makes this host a master of `cluster`, whose bundle is here. Returns the members in the end.
///
/// # Errors
/// What failed; run again it goes on.
pub fn join(
    host: &mut Host,
    master: &mut Master,
    cluster: &Cluster,
    choice: &Choice,
    seen: Preview,
    sink: Sink<'_>,
) -> Result<(Outcome, Vec<Member>)> {
    let options = options(choice);
    let mut outcome = Outcome { changed: vec![], notes: seen.notes };
    let seen = super::Preview { phases: seen.phases, notes: vec![], observed: seen.observed };
    let started = clock::now();
    let (tls, spec);
    let written = {
        let mut run = Run { master, options: &options, seen: &seen, started, written: BTreeSet::new() };
        for id in [PhaseId::Pki, PhaseId::Kubeconfig] {
            let awaited = run.phase(id, host, &mut outcome, sink)?;
            if !awaited.is_empty() {
                return Err(super::unsigned(host, awaited));
            }
        }
        tls = etcd_tls(host, &run.master.this)?;
        let others = cluster.masters.iter().filter(|m| m.name != run.master.this.node.name);
        let peers = Peers::new(others.map(|m| m.ip), &tls, &cluster.id)?;
        peers.voter(sink)?;
        let masters = cluster.masters.iter().map(|m| Node { name: m.name.clone(), ip: m.ip }).collect();
        let mut line = Line::new(&run.master.this, masters, "join")?;
        spec = loop {
            let voted = line.holding(sink, |turn, sink| {
                let peers = peers.renewed(run.master.this.node.ip, &tls, sink)?;
                run.vote(host, (&peers, choice.replace, turn), &mut outcome, sink)
            });
            match voted? {
                Ok(spec) => break spec,
                Err(first) => wait_for(&first, &peers, sink)?,
            }
        };
        run.written
    };
    master.spec = spec;
    // It is registered, and the next one may be by now: that is for the keeper, and must not be undone here.
    let adapt = std::mem::replace(&mut master.adapt, Box::new(|_| {}));
    master.adapt = Box::new(move |desired| {
        adapt(desired);
        desired.keys.retain(|key| key.key != keys::SPEC);
    });
    let mut run = Run { master, options: &options, seen: &seen, started, written };
    run.phases(host, &mut outcome, sink)?;
    Marker::clear(host, &master.this.layout)?;
    fault::point("join.done");
    sink(Event::Finished);
    let members = etcd_client(host, &master.this)?.members()?;
    Ok((outcome, members))
}

impl Run<'_> {
    /// From a host with a bundle to a voter, and the spec that names it; or whose learner comes first.
    fn vote(
        &mut self,
        host: &mut Host,
        (peers, replace, turn): (&Peers, bool, &Turn),
        outcome: &mut Outcome,
        sink: Sink<'_>,
    ) -> Result<Result<ClusterSpec, Member>> {
        if !self.is_voter(host, peers, sink)?
            && let Some(first) = (Membership { run: self, peers, turn, replace }).vote(host, outcome, sink)?
        {
            return Ok(Err(first));
        }
        self.seal(host, outcome, sink)?;
        let this = &self.master.this;
        let client = etcd_client(host, this)?;
        let spec = register(&client, &this.node, turn, sink)?;
        fault::point("join.registered");
        // From here on the spec keeps its place. Left where it is, it ends by itself.
        let _ = client.delete(&format!("{}{}", keys::ADMITTED, this.node.name));
        Ok(Ok(spec))
    }

    /// The member here has been promoted in an earlier run, and nobody removed it since.
    fn is_voter(&self, host: &mut Host, peers: &Peers, sink: Sink<'_>) -> Result<bool> {
        let layout = &self.master.this.layout;
        let mut ledger = Ledger::new(layout, observe::record(host, &layout.record())?);
        let Some(sealed) = &ledger.record.etcd else { return Ok(false) };
        let id = u64::from_str_radix(&sealed.member_id, 16).ok();
        let (_, members) = peers.voter(sink)?;
        if members.iter().any(|m| Some(m.id) == id && !m.is_learner) {
            return Ok(true);
        }
        ledger.record.etcd = None;
        ledger.save(host)?;
        Ok(false)
    }
}

/// The registered spec, as soon as etcd answers: with one voter more it may have to elect its leader anew.
fn registered(client: &Client, sink: Sink<'_>) -> Result<Option<Record>> {
    let condition = "etcd to answer, with one voter more";
    let mut said = None;
    let read = || match client.record(keys::SPEC) {
        Ok(record) => Poll::Ready(record),
        Err(e) => {
            said = Some(e);
            Poll::Pending
        }
    };
    match clock::poll(PATIENCE, EVERY, read, |since| sink(Event::Waiting { condition, since })) {
        Waited::Ready(record) => Ok(record),
        Waited::Interrupted => Err(interrupted(&format!("waiting for {condition}"))),
        Waited::TimedOut => Err(said.unwrap_or_else(|| Error::apply("etcd does not answer"))),
    }
}

/// Names `node` in the registered spec, whoever else changes it meanwhile. Only in its turn: who was suspended may find
/// that this master was removed.
fn register(client: &Client, node: &Node, turn: &Turn, sink: Sink<'_>) -> Result<ClusterSpec> {
    loop {
        let missing =
            || Error::conflict("the cluster has no spec in etcd").hint("hamaster init    # on its first master");
        let seen = registered(client, sink)?.ok_or_else(missing)?;
        let registered = Registered::read(&seen.value)?;
        let spec = spec_with(&registered.spec, node)?;
        let yaml = file::to_yaml(&spec);
        if yaml == registered.spec {
            return Ok(spec);
        }
        let bytes = Registered { generation: registered.generation + 1, spec: yaml }.write()?;
        if client.replace_in_turn(turn.lease(), &seen, &bytes, None)? {
            return Ok(spec);
        }
        turn.check(client, "this host is not registered")?;
    }
}
