//! The keeper: this master follows the cluster's spec. A thread of its own, which may take its time.
//!
//! It watches the registered spec; a new one, or a look every few minutes, is planned as `hamaster init` would. What is
//! left to do it does, one master at a time, and tells etcd how it stands.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use super::Log;
use super::report::Bulletin;
use crate::apply::apiserver::{self, KUBELET_UNIT, Serving};
use crate::apply::assembly::assemble;
use crate::apply::event::Event;
use crate::apply::members::Members;
use crate::apply::peers::Peers;
use crate::apply::perform::etcd_tls;
use crate::apply::record::Ledger;
use crate::apply::turn::Turn;
use crate::apply::{self, ETCD_UNIT, Master, Options, Preview};
use crate::error::{Error, Result};
use crate::etcd::client::Registered;
use crate::etcd::keys;
use crate::host::clock::{self, Stopwatch};
use crate::host::systemd::Systemd;
use crate::host::{Host, facts, identity, observe};
use crate::plan::keeping::{self, Duty, Look, duty};
use crate::plan::{Action, master as planner};
use crate::spec::file::{Overrides, load};
use crate::spec::{ClusterSpec, ThisNode};
use crate::state::Digest;
use crate::state::observed::{Proposal, Record};
use crate::state::report::{Report, Standing};

/// The unit it runs in.
const SERVE_UNIT: &str = "hamaster-serve.service";
/// How often the registered spec is read though etcd tells of no change: a watch can be lost without a word.
const ASK: Duration = Duration::from_secs(5);
/// How often this host is looked at though nothing is new.
const LOOK: Duration = Duration::from_secs(300);
/// The turn of a master that died ends by itself after this. Long: a master that is only slow, or cut off while etcd has
/// no majority, must not have company, and an operator has time to look.
const TURN: Duration = Duration::from_secs(600);
/// After a look at which it was another's turn.
const AGAIN: Duration = Duration::from_secs(10);
/// After a look that failed, and where a person has to decide.
const AFTER_TROUBLE: Duration = Duration::from_secs(60);

/// The keeper of one master.
pub(super) struct Keeper {
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts it; `None` where nothing is run: a lab, or a machine without systemd.
    ///
    /// # Errors
    /// When the system has no room for one more thread.
    pub(super) fn start(this: ThisNode, spec: &ClusterSpec, log: Log) -> Result<Option<Self>> {
        if this.layout.prefix() != Path::new("/") || !Systemd::is_running() {
            return Ok(None);
        }
        let masters = spec.masters.clone();
        let told = log.clone();
        let watch = move || -> Result<Watch> {
            let host = || Host::new("/", Box::new(Systemd));
            let members = Members::new(host()?, this.clone(), &masters);
            let bulletin = Bulletin::new(this.node.name.clone());
            Ok(Watch { host: host()?, this, members, bulletin, log, seen: None, unready: None, outdated: None })
        };
        let work = move || match watch() {
            Ok(watch) => watch.work(),
            Err(e) => told.say(None, &format!("keeper: {}", words(&e))),
        };
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(work);
        let thread = thread.map_err(|e| Error::apply("cannot start the keeper").cause(e))?;
        Ok(Some(Self { thread }))
    }

    /// It was told to end and has.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

struct Watch {
    host: Host,
    this: ThisNode,
    members: Members,
    bulletin: Bulletin,
    log: Log,
    /// The last look: the spec's generation, when it was, and how long it is good for.
    seen: Option<(u64, Stopwatch, Duration)>,
    /// For which generation, and since when, the kube-apiserver here is not ready.
    unready: Option<(u64, Stopwatch)>,
    /// The kube-apiserver that a new manifest was to end.
    outdated: Option<Serving>,
}

/// A master and what is left to do at it.
struct Plan {
    master: Master,
    preview: Preview,
}

impl Watch {
    fn work(mut self) {
        while !clock::interrupted() {
            let seen = self.attend();
            let next = |at| self.members.ask(|c| c.await_change(keys::SPEC, at, ASK, clock::interrupted));
            if let Err(e) = seen.and_then(next) {
                self.log.trouble(None, &format!("keeper: {}", words(&e)));
                clock::sleep(ASK);
            }
        }
    }

    /// One look at etcd, and at the host when it is due; etcd's revision then.
    fn attend(&mut self) -> Result<i64> {
        let (registered, revision) = self.members.ask(|c| c.spec_at())?;
        if let Some(registered) = registered {
            self.follow(&registered)?;
        }
        Ok(revision)
    }

    fn follow(&mut self, registered: &Registered) -> Result<()> {
        self.bulletin.remember(&mut self.members)?;
        let due = self
            .seen
            .is_none_or(|(generation, since, good)| generation != registered.generation || since.elapsed() >= good);
        if due {
            let (standing, why) = match self.look(registered) {
                Ok(Some(seen)) => seen,
                // It joins, or it leaves: whoever does that is at work.
                Ok(None) => return Ok(()),
                Err(e) => (Standing::Blocked, lines(&e)),
            };
            let good = match standing {
                Standing::Current | Standing::Removed => LOOK,
                Standing::Waiting | Standing::Applying => AGAIN,
                Standing::Failed | Standing::Blocked | Standing::Unknown => AFTER_TROUBLE,
            };
            let said = self.say(registered.generation, standing, why);
            let good = if said.is_ok() { good } else { AGAIN };
            self.seen = Some((registered.generation, Stopwatch::start(), good));
            said?;
        }
        self.bulletin.stay(&mut self.members)
    }

    fn say(&mut self, generation: u64, standing: Standing, why: Vec<String>) -> Result<()> {
        let (generation, standing) = keeping::standing(self.bulletin.last(), generation, standing);
        if let Some(news) = self.bulletin.news(generation, standing, &why) {
            self.log.say(None, &format!("keeper: {news}"));
        }
        self.bulletin.put(&mut self.members, generation, standing, why)
    }

    /// Looks at this host and does what is its duty. `None` where it is no whole master.
    fn look(&mut self, registered: &Registered) -> Result<Option<(Standing, Vec<String>)>> {
        let Some(Plan { master, preview }) = self.plan(registered)? else {
            let named = read(registered)?.masters.iter().any(|m| m.name == self.this.node.name);
            return Ok((!named).then(|| (Standing::Removed, vec!["the cluster's spec does not name it".to_owned()])));
        };
        let look = self.survey(registered.generation, &master, &preview)?;
        Ok(Some(match duty(&look) {
            Duty::Rest => self.rest(registered.generation)?,
            Duty::Wait(why) => (Standing::Waiting, vec![why]),
            Duty::Stay(why) => (Standing::Blocked, why),
            Duty::Apply => self.take_turn(registered)?,
        }))
    }

    /// Its files are what the spec asks for. It is done with it only when its kube-apiserver runs by them: until then the
    /// next one waits, whoever wrote the files.
    fn rest(&mut self, generation: u64) -> Result<(Standing, Vec<String>)> {
        let Err(why) = self.serves()? else {
            self.unready = None;
            return Ok((Standing::Current, vec![]));
        };
        let why = vec![why];
        let since = match self.unready {
            Some((of, since)) if of == generation => since,
            _ => self.unready.insert((generation, Stopwatch::start())).1,
        };
        let failed = |last: &Report| (last.generation, last.standing) == (generation, Standing::Failed);
        let late = since.elapsed() > apiserver::DEADLINE || self.bulletin.last().is_some_and(failed);
        Ok((if late { Standing::Failed } else { Standing::Applying }, why))
    }

    /// Whether a kube-apiserver runs here by its manifest, where one is to run; if not, why.
    fn serves(&mut self) -> Result<std::result::Result<(), String>> {
        if !self.host.units().state(KUBELET_UNIT)?.active {
            let record = observe::record(&self.host, &self.this.layout.record())?;
            let kept = record.units.contains_key(KUBELET_UNIT);
            return Ok(if kept { Err(format!("{KUBELET_UNIT} does not run")) } else { Ok(()) });
        }
        if let Some(outdated) = &self.outdated {
            if outdated.is_outdated(&self.host, &self.this)? && outdated.runs() {
                return Ok(Err("the kubelet has not taken kube-apiserver's new manifest".to_owned()));
            }
            self.outdated = None;
        }
        Ok(apiserver::answers(&self.host, &self.this)?.map_err(|why| format!("its kube-apiserver is not ready: {why}")))
    }

    /// What is left to do here. `None`: this host is no master of the spec, or not wholly.
    fn plan(&mut self, registered: &Registered) -> Result<Option<Plan>> {
        let spec = read(registered)?;
        self.members.follow(&spec.masters);
        let Some(node) = spec.masters.iter().find(|m| m.name == self.this.node.name).cloned() else { return Ok(None) };
        let record = observe::record(&self.host, &self.this.layout.record())?;
        if record.etcd.is_none() {
            return Ok(None);
        }
        self.settle(registered, &record)?;
        if identity::is_replaced() {
            return Err(Error::conflict("this program was replaced while it ran")
                .hint(format!("systemctl restart {SERVE_UNIT}")));
        }
        let mut master = assemble(spec, node, &facts::installed(&record.programs)?)?;
        let adapt = std::mem::replace(&mut master.adapt, Box::new(|_| {}));
        master.adapt = Box::new(move |desired| {
            adapt(desired);
            // The spec comes from there: a hamaster that writes it differently must not start a quarrel.
            desired.keys.retain(|key| key.key != keys::SPEC);
            for unit in desired.units.iter_mut().filter(|u| u.name == SERVE_UNIT) {
                // Restarted in the middle of its work it would begin anew, for ever: `renew` is last.
                unit.run = false;
            }
        });
        let preview = apply::preview(&self.host, &master, &Options::default())?;
        Ok(Some(Plan { master, preview }))
    }

    /// What a person proposed here is registered: from now on it is everybody's, whether the command came to its end.
    fn settle(&mut self, registered: &Registered, record: &Record) -> Result<()> {
        let settled = |p: &Proposal| p.spec == Digest::of(registered.spec.as_bytes());
        if !record.proposed.as_ref().is_some_and(settled) {
            return Ok(());
        }
        // Whoever is at work on this host settles it himself.
        let Ok(_lock) = self.host.lock() else { return Ok(()) };
        let mut ledger = Ledger::new(&self.this.layout, observe::record(&self.host, &self.this.layout.record())?);
        ledger.record.proposed = ledger.record.proposed.filter(|p| !settled(p));
        ledger.save(&mut self.host)
    }

    /// All that the decision needs.
    fn survey(&mut self, generation: u64, master: &Master, preview: &Preview) -> Result<Look> {
        let restarts_etcd = self.restarts_etcd(master, preview)?;
        let (voters, others_well) = if restarts_etcd { self.voters(master)? } else { (0, 0) };
        let others = self.bulletin.others(&mut self.members)?;
        let conflicts = preview.awaits().map(|c| format!("{} {}", c.path.display(), c.message)).collect();
        let edited = self.is_edited(master)?;
        let steps = preview.steps();
        let unfinished = self.bulletin.last().is_some_and(|last| last.standing.is_unfinished());
        Ok(Look { generation, steps, conflicts, edited, restarts_etcd, voters, others_well, unfinished, others })
    }

    /// Whether etcd here is restarted by it: by a step, or since something is written that its unit is told by.
    fn restarts_etcd(&self, master: &Master, preview: &Preview) -> Result<bool> {
        let desired = master.desired(&master.observe(&self.host)?)?;
        let inputs = desired.units.into_iter().find(|u| u.name == ETCD_UNIT).map(|u| u.inputs).unwrap_or_default();
        let told = |action: &Action| {
            stops_etcd(action) || action.writes().iter().any(|path| inputs.iter().any(|input| input == path))
        };
        Ok(preview.phases.iter().flat_map(|p| &p.steps).any(told))
    }

    fn voters(&mut self, master: &Master) -> Result<(usize, usize)> {
        let members = self.members.ask(|c| c.members())?;
        let cluster_id = self.members.ask(|c| c.status())?.cluster_id;
        let others = master.spec.masters.iter().filter(|m| m.name != self.this.node.name).map(|m| m.ip);
        let peers = Peers::new(others, &etcd_tls(&self.host, &self.this)?, &cluster_id)?;
        let well = peers.healthy();
        let voters = members.iter().filter(|m| !m.is_learner);
        Ok((voters.clone().count(), voters.filter(|m| well.contains(&m.id)).count()))
    }

    /// Whether `cluster.yaml` is neither what we wrote nor what we would write; or written for a person whose command did
    /// not come to its end.
    fn is_edited(&self, master: &Master) -> Result<bool> {
        let path = self.this.layout.cluster_yaml();
        let Some(found) = self.host.read(&path)?.map(|bytes| Digest::of(&bytes)) else { return Ok(false) };
        let record = observe::record(&self.host, &self.this.layout.record())?;
        let proposed = record.proposed.as_ref().is_some_and(|proposal| proposal.spec == found);
        let ours = !proposed && record.files.get(&path).is_some_and(|known| known.wrote(found));
        let wanted = Digest::of(crate::spec::file::to_yaml(&master.spec).as_bytes());
        Ok(found != wanted && !ours)
    }

    /// Applies what is left as soon as no other master changes.
    fn take_turn(&mut self, registered: &Registered) -> Result<(Standing, Vec<String>)> {
        let (this, masters) = (self.this.clone(), read(registered)?.masters);
        let renewal = move || Ok(Members::new(Host::new("/", Box::new(Systemd))?, this, &masters));
        let (name, lease) = (&self.this.node.name, self.bulletin.lease());
        let turn = match Turn::take(&mut self.members, name, TURN, renewal, lease, || {})? {
            Ok(turn) => turn,
            Err(holder) => return Ok((Standing::Waiting, vec![format!("{holder} changes")])),
        };
        let done = self.apply(registered);
        // It must stand in etcd before anybody else takes the turn.
        if let Err(e) = &done {
            self.say(registered.generation, Standing::Failed, lines(e))?;
        }
        turn.release(&mut self.members)?;
        Ok(match done {
            Ok(seen) => seen,
            Err(e) => (Standing::Failed, lines(&e)),
        })
    }

    /// Plans once more, with the turn, and does it.
    fn apply(&mut self, registered: &Registered) -> Result<(Standing, Vec<String>)> {
        let _lock = match self.host.lock() {
            Ok(lock) => lock,
            Err(held) => return Ok((Standing::Waiting, lines(&held))),
        };
        let Some(Plan { master, preview }) = self.plan(registered)? else { return Ok((Standing::Current, vec![])) };
        let look = self.survey(registered.generation, &master, &preview)?;
        match duty(&look) {
            Duty::Rest => return self.rest(registered.generation),
            Duty::Wait(why) => return Ok((Standing::Waiting, vec![why])),
            Duty::Stay(why) => return Ok((Standing::Blocked, why)),
            Duty::Apply => {}
        }
        self.say(registered.generation, Standing::Applying, vec![])?;
        let serving = Serving::of(&self.host, &self.this)?;
        let log = self.log.clone();
        let mut tell = |event: Event<'_>| match event {
            Event::StepDone { action, changed: true } => log.say(None, &format!("keeper: {action}")),
            Event::Note(note) => log.say(None, &format!("keeper: {note}")),
            _ => {}
        };
        let done = apply::init(&mut self.host, &master, &Options::default(), preview, &mut tell);
        // The one that was to end before this change may be there still.
        self.outdated = match self.outdated.take() {
            Some(old) if old.is_outdated(&self.host, &self.this)? && old.runs() => Some(old),
            _ => serving,
        };
        done?;
        self.renew(&master)?;
        self.rest(registered.generation)
    }

    /// Has this daemon itself restarted when its unit changed.
    fn renew(&mut self, master: &Master) -> Result<()> {
        let observed = master.observe(&self.host)?;
        let desired = master.desired(&observed)?;
        let Some(unit) = desired.units.iter().find(|u| u.name == SERVE_UNIT) else { return Ok(()) };
        let Some(known) = observed.record.units.get(SERVE_UNIT) else { return Ok(()) };
        let stamp = planner::inputs_digest(&unit.inputs, &desired, &observed);
        if known.inputs == Some(stamp) {
            return Ok(());
        }
        // In this order: killed in between, it is restarted once more. It is given the time to write this down.
        self.host.unit_restart(SERVE_UNIT)?;
        Ledger::new(&self.this.layout, observed.record).stamp(&mut self.host, SERVE_UNIT, Some(stamp))
    }
}

fn stops_etcd(action: &Action) -> bool {
    matches!(action, Action::SetUnit { unit, run, .. } if unit == ETCD_UNIT && *run == crate::plan::Run::Restart)
}

fn read(registered: &Registered) -> Result<ClusterSpec> {
    load(Some((keys::SPEC, &registered.spec)), &Overrides::default())
}

fn words(error: &Error) -> String {
    lines(error).join("; ")
}

/// An error as a report has it: what, on which objects, why.
fn lines(error: &Error) -> Vec<String> {
    let causes = error.causes().iter().map(String::as_str);
    let first = std::iter::once(error.message()).chain(causes).collect::<Vec<_>>().join(": ");
    let problems = error.all_problems().iter().map(|p| format!("{}: {}", p.at, p.message));
    std::iter::once(first).chain(problems).collect()
}
