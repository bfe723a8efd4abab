//! The founders of etcd's first cluster find each other: what is registered is looked at, this host registers, and waits
//! for the others. What was found is recorded, so that a run that goes on asks nobody again.
//!
//! A registration takes the place of another host and cannot be given to it: there is none before preflight has passed
//! and the operator has agreed.

use std::cell::RefCell;
use std::task::Poll;
use std::time::Duration;

use crate::apply::event::{Event, Sink};
use crate::apply::record::Ledger;
use crate::apply::wait::interrupted;
use crate::apply::{Master, Options, Preview, stamp};
use crate::error::{Error, Result};
use crate::etcd::bootstrap;
use crate::etcd::discovery::{Seeker, Standing, names};
use crate::host::clock::{self, Waited};
use crate::host::discovery::{self, Registry};
use crate::host::{Host, fault, observe};
use crate::spec::discovery::Place;
use crate::spec::{EtcdBootstrap, Node};
use crate::state::PhaseId;
use crate::state::observed::{ContentFact, Founders};

/// How long a founder waits for the others: as long as an operator takes to start each of them.
const TOGETHER: Duration = Duration::from_secs(600);
const EVERY: Duration = Duration::from_secs(1);

/// A master that has to find the others.
pub struct Search {
    seeker: Seeker,
    /// Nothing where the place is DNS: nobody registers there.
    registry: Option<Registry>,
}

/// What a look at the place says to the operator.
pub struct Found {
    /// The masters known so far, this one among them.
    pub masters: Vec<Node>,
    /// Who they are and how many are missing.
    pub note: String,
    /// What is not as it should be.
    pub warnings: Vec<String>,
}

impl Search {
    /// What `master` has to find. Nothing where its etcd is bootstrapped in another way, is there already, is not part of
    /// this run, or where it was found before.
    ///
    /// # Errors
    /// When a certificate for the place does not read.
    pub fn of(master: &Master, seen: &Preview, options: &Options) -> Result<Option<Self>> {
        let Some(discovery) = master.spec.etcd.discovery.as_ref() else { return Ok(None) };
        let record = &seen.observed.record;
        let found = record.founders.as_ref().is_some_and(|f| f.is_of(&discovery.place));
        let asked = options.only.is_empty() || options.only.contains(&PhaseId::Etcd);
        if master.spec.etcd.bootstrap != EtcdBootstrap::Discovery || master.is_sealed(&seen.observed) || found || !asked
        {
            return Ok(None);
        }
        let ca = seen.observed.at(&master.this.layout.etcd_pki().join("ca.crt")).map(|f| &f.content);
        let seeker = Seeker {
            this: master.this.node.clone(),
            named: master.spec.masters.clone(),
            ca: match ca {
                Some(ContentFact::Certs(certs)) => certs.first().map(|c| c.spki),
                _ => None,
            },
            place: discovery.place.clone(),
        };
        Ok(Some(Self { registry: Registry::of(discovery)?, seeker }))
    }

    /// What is there now. Nothing is registered.
    ///
    /// # Errors
    /// No answer, or everything that can never become a cluster with this host in it.
    pub fn look(&self) -> Result<Found> {
        let standing = self.ask().map_err(|why| self.silent(&why))??;
        let this = &self.seeker.this;
        let (masters, size) = match standing {
            Standing::Complete(masters) => (masters.clone(), masters.len()),
            Standing::Late(masters) => return Err(self.seeker.full(&masters)),
            Standing::Incomplete { size, mut there, registered } => {
                if !registered {
                    there.push(this.clone());
                }
                (there, size)
            }
        };
        let place = &self.seeker.place;
        let note = match size - masters.len() {
            0 => format!("masters found at {place}: {}", names(&masters)),
            n => format!("masters found at {place}: {}; etcd's unit will name the other {n} too", names(&masters)),
        };
        let mut warnings: Vec<String> = bootstrap::even(size).into_iter().collect();
        if place.is_open() {
            warnings.push(format!(
                "{place} is not TLS: whoever is on the way can keep the masters from finding each other"
            ));
        }
        Ok(Found { masters, note, warnings })
    }

    /// Registers this host, waits until all have, and records who they are.
    ///
    /// # Errors
    /// A refusal as from [`Search::look`]; not all have registered in time; interrupted. The registration stays, and the
    /// next run goes on with it.
    pub fn find(&self, host: &mut Host, master: &Master, sink: Sink<'_>) -> Result<Vec<Node>> {
        sink(Event::PhaseStarted { phase: "discovery", steps: 1 });
        self.register(sink)?;
        let label = RefCell::new(self.seeker.place.to_string());
        let look = || match self.ask() {
            Ok(Ok(Standing::Complete(masters))) => Poll::Ready(Ok(masters)),
            Ok(Ok(Standing::Late(masters))) => Poll::Ready(Err(self.late(&masters))),
            Ok(Ok(Standing::Incomplete { size, there, .. })) => {
                *label.borrow_mut() = self.waiting(size, &there);
                Poll::Pending
            }
            Ok(Err(refusal)) => Poll::Ready(Err(refusal)),
            Err(why) => {
                *label.borrow_mut() = format!("{} to answer: {why}", self.seeker.place);
                Poll::Pending
            }
        };
        let waited =
            clock::poll(TOGETHER, EVERY, look, |since| sink(Event::Waiting { condition: &label.borrow(), since }));
        let masters = match waited {
            Waited::Ready(found) => found?,
            Waited::Interrupted => return Err(interrupted(&format!("waiting for {}", label.borrow()))),
            Waited::TimedOut => {
                let message = format!("still waiting after {} s for {}", TOGETHER.as_secs(), label.borrow());
                return Err(Error::apply(message)
                    .hint("hamaster init    # on those that are missing; then here again: it stays registered"));
            }
        };
        self.record(host, master, &masters)?;
        sink(Event::Note(&format!("etcd's first cluster is formed of {}", names(&masters))));
        Ok(masters)
    }

    /// What the place says; in words, when it does not.
    fn ask(&self) -> Result<Result<Standing>, String> {
        match (&self.registry, &self.seeker.place) {
            (Some(registry), _) => Ok(self.seeker.standing(&registry.listing()?)),
            (None, Place::Srv { domain }) => Ok(self.seeker.in_records(domain, &discovery::targets(domain)?)),
            (None, _) => Err("it is no place to register at".to_owned()),
        }
    }

    /// Registers this host, unless it is or there is nothing to register at.
    fn register(&self, sink: Sink<'_>) -> Result<()> {
        let Some(registry) = &self.registry else { return Ok(()) };
        let standing = self.ask().map_err(|why| self.silent(&why))??;
        let Standing::Incomplete { registered: false, .. } = standing else { return Ok(()) };
        let (id, value) = self.entry()?;
        fault::point("discovery.looked");
        registry.register(&id, &value).map_err(|why| self.silent(&why))?;
        fault::point("discovery.registered");
        sink(Event::Note(&format!("registered at {} as {value}", self.seeker.place)));
        Ok(())
    }

    fn entry(&self) -> Result<(String, String)> {
        let missing = || {
            Error::refused("without an etcd CA this host must not register: the others could never know it for theirs")
                .hint("hamaster init --only pki    # on the first master; then carry its bundle to the others")
        };
        Ok(self.seeker.entry(self.seeker.ca.as_ref().ok_or_else(missing)?))
    }

    /// Others were faster: what this host registered means nothing to anybody, and goes.
    fn late(&self, masters: &[Node]) -> Box<Error> {
        let full = self.seeker.full(masters);
        let Some(registry) = &self.registry else { return full };
        match self.entry().map_err(|e| e.to_string()).and_then(|(id, _)| registry.withdraw(&id)) {
            Ok(()) => full,
            Err(why) => full.cause(format!("what this host registered could not be taken back: {why}")),
        }
    }

    fn waiting(&self, size: usize, there: &[Node]) -> String {
        let missing: Vec<Node> = self.seeker.named.iter().filter(|m| !there.contains(m)).cloned().collect();
        let who = match (size - there.len(), missing.len()) {
            (n, m) if n == m => names(&missing),
            (1, _) => "1 more master".to_owned(),
            (n, _) => format!("{n} more masters"),
        };
        format!("{who} to register at {}; of {size} there are {}", self.seeker.place, names(there))
    }

    fn silent(&self, why: &str) -> Box<Error> {
        let place = &self.seeker.place;
        let hint = match place {
            Place::V2 { url } => format!("curl -v {url}"),
            Place::V3 { host, .. } => format!("etcdctl --endpoints https://{host} endpoint health"),
            Place::Srv { .. } => place.another(0),
        };
        let error = Error::refused(format!("{place} does not say who the masters are")).cause(why).hint(hint);
        match place.is_tls() {
            true => error.hint("etcd: {discovery: {url: URL, ca: FILE, cert: FILE, key: FILE}}    # for another CA"),
            false => error,
        }
    }

    /// From here on the list is fixed: a member may be started with it.
    fn record(&self, host: &mut Host, master: &Master, masters: &[Node]) -> Result<()> {
        let layout = &master.this.layout;
        let mut ledger = Ledger::new(layout, observe::record(host, &layout.record())?);
        let backup = layout.backup().join(stamp(clock::now()));
        let data_dir = layout.path(&master.spec.etcd.data_dir);
        ledger.claim(host, &self.seeker.this.name, &[], &backup, &data_dir)?;
        let masters = masters.iter().map(|m| (m.name.clone(), m.ip)).collect();
        ledger.record.founders = Some(Founders { place: self.seeker.place.to_string(), masters });
        ledger.save(host)?;
        fault::point("discovery.recorded");
        Ok(())
    }
}
