//! Drivers: observe, plan, show, apply, observe again, one phase at a time.
//!
//! A run that fails or is interrupted puts everything back, until etcd has been healthy for the first time: from then on
//! the cluster exists, and running the command again finishes what is left. A run that is killed puts nothing back and
//! needs not: running it again ends at the same host.

pub mod apiserver;
pub mod assembly;
mod bindings;
pub mod discover;
pub mod event;
pub mod issue;
pub mod join;
pub mod leave;
pub mod members;
pub mod peers;
pub mod perform;
mod pods;
pub mod record;
pub mod recover;
pub mod reset;
pub mod restore;
pub mod snapshot;
pub mod turn;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::error::{Error, Problem, Result};
use crate::etcd::client::Over;
use crate::etcd::keys;
use crate::host::{Host, clock, fault, observe};
use crate::plan::compose::{self, Given};
use crate::plan::master::{self, Policy};
use crate::plan::{Action, Conflict, Phase};
use crate::render::Templates;
use crate::spec::{ClusterSpec, EtcdBootstrap, ThisNode};
use crate::state::desired::{Desired, DesiredUnit};
use crate::state::facts::Tools;
use crate::state::observed::{ContentFact, Observed, Proposal};
use crate::state::{Digest, PhaseId};
use crate::token::Role;
use apiserver::Serving;
use event::{Event, Sink};
use perform::Performer;
use record::Ledger;

/// Unit of the etcd member.
pub const ETCD_UNIT: &str = "etcd.service";

/// The master, or the worker, a run makes: everything that decides its desired state.
pub struct Master {
    /// What it is.
    pub role: Role,
    /// The resolved spec.
    pub spec: ClusterSpec,
    /// This node.
    pub this: ThisNode,
    /// Programs as found.
    pub tools: Tools,
    /// Where programs are, as the operator's `PATH` had them: a daemon has another one.
    pub programs: BTreeMap<String, PathBuf>,
    /// Templates with the operator's overrides.
    pub templates: Templates,
    /// What its spec is registered over: the one it was made from.
    pub over: Over,
    /// What this kind of host changes about the desired state: units a lab does not run, programs that are not there.
    pub adapt: Box<dyn Fn(&mut Desired)>,
}

/// How far this master's member of etcd is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its cluster does not exist yet.
    Founding,
    /// It becomes a member of one that does.
    Joining,
    /// It is a voter, and was healthy.
    Sealed,
}

/// What the operator chose for this run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these phases; empty means all.
    pub only: Vec<PhaseId>,
    /// Take over files that are not ours.
    pub adopt: bool,
}

/// All phases planned against one look at the host.
pub struct Preview {
    /// The phases, those with nothing to do included.
    pub phases: Vec<Phase>,
    /// What the operator should know.
    pub notes: Vec<String>,
    observed: Observed,
}

impl Preview {
    /// Nothing is left to do.
    pub fn is_empty(&self) -> bool {
        self.phases.iter().all(|p| p.steps.is_empty() && p.awaits.is_empty())
    }

    /// How many steps are left.
    pub fn steps(&self) -> usize {
        self.phases.iter().map(|p| p.steps.len()).sum()
    }

    /// What must be signed by an external CA before the run can go on.
    pub fn awaits(&self) -> impl Iterator<Item = &Conflict> {
        self.phases.iter().flat_map(|p| &p.awaits)
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Outcome {
    /// Each step that changed something.
    pub changed: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

impl Master {
    /// The desired state, given what has been observed of the member.
    ///
    /// # Errors
    /// When a template does not render.
    pub fn desired(&self, observed: &Observed) -> Result<Desired> {
        self.desired_as(observed, self.stage(observed))
    }

    /// How far the member is. The unit itself is asked too: with a lost record it must never go back from `existing` to
    /// `new`, where a wiped disk would become a new, empty cluster.
    fn stage(&self, observed: &Observed) -> Stage {
        let unit = observed.at(&self.this.layout.unit(ETCD_UNIT)).map(|f| &f.content);
        let says_existing =
            |text: &[u8]| String::from_utf8_lossy(text).lines().any(|l| l.contains("--initial-cluster-state=existing"));
        match &observed.record {
            record if record.joining.is_some() => Stage::Joining,
            record if record.etcd.is_some() => Stage::Sealed,
            _ if matches!(unit, Some(ContentFact::Public(text)) if says_existing(text)) => Stage::Sealed,
            _ => Stage::Founding,
        }
    }

    /// Whether the member's cluster exists.
    fn is_sealed(&self, observed: &Observed) -> bool {
        self.stage(observed) != Stage::Founding
    }

    fn desired_as(&self, observed: &Observed, stage: Stage) -> Result<Desired> {
        let ca = self.this.layout.etcd_pki().join("ca.crt");
        // One token per cluster without one more secret to keep: the etcd CA is made anew for each.
        let token = match observed.at(&ca).map(|f| &f.content) {
            Some(ContentFact::Certs(certs)) if !certs.is_empty() => certs[0].spki.to_string()[..32].to_owned(),
            _ => "known-once-the-etcd-ca-exists".to_owned(),
        };
        let pki = self.this.layout.pki();
        let external_ca = observed.at(&pki.join("ca.crt")).is_some() && observed.at(&pki.join("ca.key")).is_none();
        // Only until it is sealed: a voter whose disk is lost then finds no other member. With a list of them it would go
        // on as the voter it was, and not know for whom it has voted.
        let joining = observed.record.joining.as_ref().filter(|_| stage == Stage::Joining);
        let initial_cluster = joining.and_then(|j| j.initial_cluster.clone());
        let given = Given { sealed: stage != Stage::Founding, token, initial_cluster, external_ca };
        let mut desired = match self.role {
            Role::Master => compose::desired(&self.spec, &self.this, &self.tools, &self.templates, &given)?,
            Role::Worker => compose::worker(&self.spec, &self.this, &self.tools, &self.templates)?,
        };
        (self.adapt)(&mut desired);
        Ok(desired)
    }

    /// Looks at everything a plan of this master depends on.
    ///
    /// # Errors
    /// When the host cannot be read.
    pub fn observe(&self, host: &Host) -> Result<Observed> {
        self.look(host, |_| true)
    }

    /// As [`Master::observe`], but of the units only those of `phase` and etcd's: the service manager is asked for each
    /// in a process of its own.
    fn observe_for(&self, phase: PhaseId, host: &Host) -> Result<Observed> {
        self.look(host, |unit| unit.phase == phase || unit.name == ETCD_UNIT)
    }

    fn look(&self, host: &Host, asked: impl Fn(&DesiredUnit) -> bool) -> Result<Observed> {
        let blank = self.desired(&Observed::default())?;
        let paths = master::paths_of_interest(&blank);
        let units: Vec<String> = blank.units.iter().filter(|u| asked(u)).map(|u| u.name.clone()).collect();
        let mut observed = observe::observe(host, &paths, &units, &self.this.layout.record())?;
        if observed.units.get(ETCD_UNIT).is_some_and(|u| u.active) && observed.record.etcd.is_some() {
            observed.store = self.store(host).ok();
        }
        Ok(observed)
    }

    fn store(&self, host: &Host) -> Result<BTreeMap<String, Vec<u8>>> {
        let client = perform::etcd_client(host, &self.this)?;
        let mut store = BTreeMap::new();
        if let Some(registered) = client.spec()? {
            store.insert(keys::SPEC.to_owned(), registered.spec.into_bytes());
        }
        if let Some(value) = client.get(keys::FLANNEL)? {
            store.insert(keys::FLANNEL.to_owned(), value);
        }
        Ok(store)
    }
}

fn selected(options: &Options) -> impl Iterator<Item = PhaseId> + '_ {
    PhaseId::ALL.into_iter().filter(|id| options.only.is_empty() || options.only.contains(id))
}

fn policy(host: &Host, options: &Options, now: OffsetDateTime) -> Policy {
    Policy { adopt: options.adopt, starts_units: host.starts_units(), now }
}

/// Plans all phases against the host as it is, and touches nothing.
///
/// # Errors
/// All conflicts of all phases in one report; a template that does not render; an unreadable host.
pub fn preview(host: &Host, master: &Master, options: &Options) -> Result<Preview> {
    let observed = master.observe(host)?;
    let desired = master.desired(&observed)?;
    let policy = policy(host, options, clock::now());
    let (mut phases, mut conflicts) = (vec![], vec![]);
    let mut made = BTreeSet::new();
    for id in selected(options) {
        if waits_for_a_ca(id, phases.iter().any(|p: &Phase| !p.awaits.is_empty())) {
            break;
        }
        match master::plan(id, &desired, &observed, policy) {
            Ok(mut phase) => {
                // Each phase is planned against the same look: a directory that several want is made by the first.
                phase.steps.retain(
                    |s| !matches!(s, Action::EnsureDir { path, mode, .. } if !made.insert((path.clone(), *mode))),
                );
                if id == PhaseId::Etcd && policy.starts_units {
                    let sealed = master.desired_as(&observed, Stage::Sealed)?;
                    phase.steps.extend(master::seal(&sealed, &observed, ETCD_UNIT).into_iter().flat_map(|p| p.steps));
                }
                phases.push(phase);
            }
            Err(found) => conflicts.extend(found),
        }
    }
    // Notes are about the whole master; who asks for single phases knows what he leaves out.
    let notes = if options.only.is_empty() { desired.notes } else { vec![] };
    if conflicts.is_empty() {
        Ok(Preview { phases, notes, observed })
    } else {
        Err(refusal(host, conflicts, "; nothing was touched"))
    }
}

/// Nothing after the bundle can begin before all of it is signed.
fn waits_for_a_ca(next: PhaseId, awaited: bool) -> bool {
    awaited && !matches!(next, PhaseId::Pki | PhaseId::Kubeconfig)
}

/// Conflicts as the operator reads and pastes them: below `--root` every path of the image is named where it is here.
fn problems(host: &Host, conflicts: Vec<Conflict>) -> Vec<Problem> {
    let problem = |c: Conflict| Problem {
        at: host.shown(&c.path).display().to_string(),
        message: host.paths_shown(&c.message),
        hint: Some(host.paths_shown(&c.hint)),
    };
    conflicts.into_iter().map(problem).collect()
}

fn unsigned(host: &Host, awaited: Vec<Conflict>) -> Box<Error> {
    let message = match awaited.len() {
        1 => "1 certificate waits for an external CA; its request is written".to_owned(),
        n => format!("{n} certificates wait for an external CA; their requests are written"),
    };
    let hint = "sign each one, put it where its line says, and run the same command again";
    Error::conflict(message).hint(hint).problems(problems(host, awaited))
}

fn refusal(host: &Host, conflicts: Vec<Conflict>, after: &str) -> Box<Error> {
    let n = conflicts.len();
    let objects = if n == 1 { "1 object is".to_owned() } else { format!("{n} objects are") };
    Error::conflict(format!("{objects} in the way{after}")).problems(problems(host, conflicts))
}

/// Makes this host the master, from a preview the operator has seen.
///
/// # Errors
/// What failed, after everything was put back; or, once etcd has been healthy, what is left for the next run.
pub fn init(host: &mut Host, master: &Master, options: &Options, seen: Preview, sink: Sink<'_>) -> Result<Outcome> {
    // A cluster that exists is never taken back: what is left is finished by the next run. One that founders form
    // together may exist from the first start of this member on.
    let started = master.spec.etcd.bootstrap != EtcdBootstrap::New && seen.observed.record.data_dir.is_some();
    if !master.is_sealed(&seen.observed) && !started {
        host.begin_undo();
    }
    let mut outcome = Outcome { changed: vec![], notes: seen.notes.clone() };
    let mut run = Run { master, options, seen: &seen, started: clock::now(), written: BTreeSet::new() };
    run.propose(host)?;
    match run.phases(host, &mut outcome, sink) {
        Ok(()) => {
            if run.registers() {
                run.note(host, None)?;
            }
            host.commit();
            sink(Event::Finished);
            Ok(outcome)
        }
        Err(error) => Err(put_back(host, error, sink)),
    }
}

fn put_back(host: &mut Host, mut error: Box<Error>, sink: Sink<'_>) -> Box<Error> {
    if host.has_undo() {
        sink(Event::PuttingBack);
    }
    for left in host.rollback() {
        error = error.cause(format!("could not be put back: {left}"));
    }
    error
}

struct Run<'a> {
    master: &'a Master,
    options: &'a Options,
    seen: &'a Preview,
    started: OffsetDateTime,
    /// What the phases before have written.
    written: BTreeSet<PathBuf>,
}

impl Run<'_> {
    /// What a run that begins to change the cluster's spec is known by, if it does not come to its end.
    fn propose(&self, host: &mut Host) -> Result<()> {
        let registers = |a: &Action| matches!(a, Action::PutSpec { .. });
        match &self.master.over {
            Over::This(registered) if self.seen.phases.iter().flat_map(|p| &p.steps).any(registers) => {
                let spec = Digest::of(crate::spec::file::to_yaml(&self.master.spec).as_bytes());
                self.note(host, Some(Proposal { spec, over: Digest::of(registered.as_bytes()) }))
            }
            _ => Ok(()),
        }
    }

    /// In the end the spec that is registered is the one that this host has.
    fn registers(&self) -> bool {
        selected(self.options).any(|id| id == PhaseId::Register)
    }

    fn note(&self, host: &mut Host, proposed: Option<Proposal>) -> Result<()> {
        let layout = &self.master.this.layout;
        let mut ledger = Ledger::new(layout, observe::record(host, &layout.record())?);
        if ledger.record.proposed == proposed {
            return Ok(());
        }
        ledger.record.proposed = proposed;
        ledger.save(host)
    }

    fn phases(&mut self, host: &mut Host, outcome: &mut Outcome, sink: Sink<'_>) -> Result<()> {
        let mut awaited = vec![];
        for id in selected(self.options) {
            if waits_for_a_ca(id, !awaited.is_empty()) {
                break;
            }
            let serving = match id {
                PhaseId::ControlPlane => Serving::of(host, &self.master.this)?,
                _ => None,
            };
            awaited.extend(self.phase(id, host, outcome, sink)?);
            if id == PhaseId::Etcd && host.starts_units() {
                self.seal(host, outcome, sink)?;
            }
            if let Some(old) = serving
                && old.is_outdated(host, &self.master.this)?
            {
                // Before the spec is registered: then the next master may stop its own.
                apiserver::replaced(host, &self.master.this, &old, sink)?;
            }
        }
        if awaited.is_empty() {
            return Ok(());
        }
        // The requests and their keys must stay for the CA to sign: this is not a failure that is put back.
        host.commit();
        Err(unsigned(host, awaited))
    }

    /// Observe, plan, apply, and prove that nothing is left but what an external CA must sign.
    fn phase(&mut self, id: PhaseId, host: &mut Host, outcome: &mut Outcome, sink: Sink<'_>) -> Result<Vec<Conflict>> {
        let (phase, observed) = self.plan(id, host)?;
        if phase.steps.is_empty() {
            return Ok(phase.awaits);
        }
        self.fresh(&phase, &observed)?;
        self.apply(&phase, host, observed, outcome, sink)?;
        let (left, _) = self.plan(id, host)?;
        match left.steps.first() {
            None => Ok(left.awaits),
            Some(step) => Err(Error::apply(format!("phase {id} did not converge: still wanted: {step}"))
                .hint("hamaster doctor; then run the same command again")),
        }
    }

    fn plan(&self, id: PhaseId, host: &Host) -> Result<(Phase, Observed)> {
        let observed = self.master.observe_for(id, host)?;
        let desired = self.master.desired(&observed)?;
        let policy = policy(host, self.options, clock::now());
        let phase = master::plan(id, &desired, &observed, policy).map_err(|found| refusal(host, found, ""))?;
        Ok((phase, observed))
    }

    /// The member is healthy for the first time: its unit changes to `existing` without a restart.
    fn seal(&mut self, host: &mut Host, outcome: &mut Outcome, sink: Sink<'_>) -> Result<()> {
        let observed = self.master.observe_for(PhaseId::Etcd, host)?;
        let sealed = self.master.desired_as(&observed, Stage::Sealed)?;
        if let Some(phase) = master::seal(&sealed, &observed, ETCD_UNIT) {
            self.apply(&phase, host, observed, outcome, sink)?;
            self.phase(PhaseId::Etcd, host, outcome, sink)?;
        }
        Ok(())
    }

    /// What the operator saw is what is there: a file that changed since the preview, and not by this run, stops it.
    fn fresh(&self, phase: &Phase, observed: &Observed) -> Result<()> {
        let moved = phase
            .steps
            .iter()
            .flat_map(Action::writes)
            .find(|path| !self.written.contains(*path) && self.seen.observed.at(path) != observed.at(path));
        match moved {
            None => Ok(()),
            Some(path) => Err(Error::conflict(format!("{} changed while the plan was shown", path.display()))
                .hint("run the same command again and look at the new plan")),
        }
    }

    fn apply(
        &mut self,
        phase: &Phase,
        host: &mut Host,
        observed: Observed,
        outcome: &mut Outcome,
        sink: Sink<'_>,
    ) -> Result<()> {
        let layout = &self.master.this.layout;
        let backup = layout.backup().join(stamp(self.started));
        let mut ledger = Ledger::new(layout, observed.record);
        sink(Event::PhaseStarted { phase: phase.id.name(), steps: phase.steps.len() });
        self.written.extend(phase.steps.iter().flat_map(Action::writes).map(Path::to_path_buf));
        let data_dir = layout.path(&self.master.spec.etcd.data_dir);
        ledger.record.programs.clone_from(&self.master.programs);
        ledger.claim(host, &self.master.this.node.name, &phase.steps, &backup, &data_dir)?;
        let mut performer = Performer {
            host,
            ledger: &mut ledger,
            this: &self.master.this,
            backup,
            now: self.started,
            over: &self.master.over,
            sink,
        };
        for action in &phase.steps {
            step(&mut performer, action, outcome)?;
        }
        Ok(())
    }
}

/// One step, with its events and the points where a run can be interrupted or, in tests, killed.
fn step(performer: &mut Performer<'_>, action: &Action, outcome: &mut Outcome) -> Result<()> {
    if clock::interrupted() {
        return Err(wait::interrupted(&format!("about to {action}")));
    }
    (performer.sink)(Event::StepStarted { action });
    let changed = performer.perform(action)?;
    fault::point("step");
    if changed {
        // Killed here again and again, a run comes to its end all the same.
        fault::point("step.changed");
        outcome.changed.push(action.to_string());
    }
    (performer.sink)(Event::StepDone { action, changed });
    Ok(())
}

/// `20261122T170301`: names backups and what a reset moves aside.
fn stamp(at: OffsetDateTime) -> String {
    let (h, m, s) = at.to_hms();
    format!("{}{:02}{:02}T{h:02}{m:02}{s:02}", at.year(), u8::from(at.month()), at.day())
}
