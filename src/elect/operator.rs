//! What an operator asks of an election from any host that reaches etcd: who leads, let another lead, wait, go on.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::config::{Config, Group};
use super::event::Interest;
use super::record::{Pause, Term, TermState, Token, Transfer};
use super::store::{Store, StoreError, StoreErrorKind, StoreEvent};
use super::txn::{self, Answer};
use super::view::{Key, View};
use crate::error::{Error, Result};
use crate::host::clock::Stopwatch;
use crate::spec::mistake::nearest;
use crate::spec::units::show_duration;

/// One attempt at one member. The operator waits for it once for each member that does not answer.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A request for a transfer is forgotten after this long, should nobody be there to withdraw it.
const REQUEST: Duration = Duration::from_secs(120);
/// On top of the leader's B: the heir's way from its turn to leading.
const MARGIN: Duration = Duration::from_secs(10);

/// Exit code: etcd cannot be reached.
const UNREACHABLE: u8 = 4;
/// Exit code: etcd does not take this host's certificate or role.
const REFUSED: u8 = 5;

/// An operator at work.
pub struct Operator<'c> {
    config: &'c Config,
    store: Store,
    runtime: tokio::runtime::Runtime,
}

/// The lead went from one to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Who led.
    pub from: String,
    /// Who leads.
    pub to: String,
    /// The new fencing token.
    pub token: Token,
    /// From asking until the new leader was seen.
    pub took: Duration,
}

/// The group of a configuration, by name.
///
/// # Errors
/// There is none, with the nearest name as hint.
pub fn group<'c>(config: &'c Config, name: &str) -> Result<&'c Group> {
    let known = || config.groups.iter().map(|g| g.name.as_str());
    config.group(name).ok_or_else(|| {
        let error = Error::usage(format!("there is no group `{}` in the configuration", name.escape_debug()));
        match nearest(name, known()) {
            Some(near) => error.hint(format!("write `{near}`")),
            None => error.hint(format!("groups: {}", known().collect::<Vec<_>>().join(", "))),
        }
    })
}

impl<'c> Operator<'c> {
    /// An operator with the configuration's endpoints and certificates. Nothing is sent yet.
    ///
    /// # Errors
    /// When the files do not read or do not fit together.
    pub fn new(config: &'c Config) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::apply("cannot set up a connection to etcd").cause(e))?;
        let store = Store::new(&config.endpoints, config.tls.clone())?;
        Ok(Self { config, store, runtime })
    }

    /// A group as etcd has it now.
    ///
    /// # Errors
    /// No member answered.
    pub fn view(&self, group: &str) -> Result<View> {
        self.wait(self.read(group))
    }

    /// The token of a view's leader.
    pub fn token(&self, view: &View) -> Option<Token> {
        let revision = view.leader.as_ref()?.create;
        Some(Token { cluster_id: self.store.cluster_id().unwrap_or(0), revision })
    }

    /// Lets `to` lead, or whoever is next, and waits until it does. `tell` hears what it waits for. Nothing is done,
    /// and `None` returned, when `to` leads already.
    ///
    /// # Errors
    /// Nobody leads, the heir is no candidate, the group is paused; or the heir did not lead in time.
    pub fn transfer(&self, name: &str, to: Option<&str>, tell: &mut dyn FnMut(&str)) -> Result<Option<Handover>> {
        let group = group(self.config, name)?;
        self.wait(async {
            let view = self.read(name).await?;
            let leader = leader(name, &view)?;
            if Some(leader.0.as_str()) == to {
                return Ok(None);
            }
            able(name, &view, to)?;
            let (tell_of, mut events) = unbounded_channel();
            let silence = group.timing.renew() * 2 + group.timing.attempt();
            let _watch = self.store.watch(name, Interest::Group, silence, tell_of);
            let watch = Stopwatch::start();
            self.ask(name, &Transfer { to: to.map(str::to_owned) }, Some(REQUEST)).await?;
            let patience = leader.1.max(group.timing.bound()) + MARGIN;
            let follow = self.follow(&mut events, &leader.0, view.leader.map_or(0, |l| l.create), to, tell);
            match tokio::time::timeout(patience, follow).await {
                Ok(Some((to, token))) => Ok(Some(Handover { from: leader.0, to, token, took: watch.elapsed() })),
                _ => {
                    let heir = to.unwrap_or("another candidate");
                    let failed = Error::apply(format!("{heir} does not lead {name} after {}", show_duration(patience)));
                    let withdrawn = self.store.delete(name, Key::Transfer, ATTEMPT).await;
                    let failed = failed.hint(format!("hamaster elect status {name}"));
                    Err(withdrawn.err().into_iter().fold(failed, |f, e| f.cause(format!("the request stands: {e}"))))
                }
            }
        })
    }

    /// Asks for a change of leadership though nobody waits: the first one to come takes over. Does not wait.
    ///
    /// # Errors
    /// Nobody leads, or no member answered.
    pub fn resign_to_anyone(&self, name: &str) -> Result<()> {
        self.wait(async {
            leader(name, &self.read(name).await?)?;
            self.ask(name, &Transfer { to: None }, None).await
        })
    }

    /// Nobody becomes leader from now on, for `time` or until [`Operator::resume`]; who leads goes on.
    ///
    /// # Errors
    /// No member answered.
    pub fn pause(&self, name: &str, by: &str, time: Option<Duration>) -> Result<()> {
        let bytes = json(&Pause { by: by.to_owned() });
        self.wait(async { self.store.put_control(name, Key::Pause, bytes, time, ATTEMPT * 2).await.map_err(error) })
    }

    /// Ends a pause; false if there was none.
    ///
    /// # Errors
    /// No member answered.
    pub fn resume(&self, name: &str) -> Result<bool> {
        self.wait(async { self.store.delete(name, Key::Pause, ATTEMPT * 2).await.map_err(error) })
    }

    /// Takes the lead from a holder that the operator knows to be dead, so that nobody waits for it. The token proves
    /// that this holder is meant and no later one. Returns whose lead it was.
    ///
    /// # Errors
    /// Another token, or a holder that renews: it is alive.
    pub fn break_lead(&self, name: &str, token: &str) -> Result<String> {
        let group = group(self.config, name)?;
        self.wait(async {
            let view = self.read(name).await?;
            let (holder, _) = leader(name, &view)?;
            let held = self.token(&view).filter(|t| t.to_string() == token || t.revision.to_string() == token);
            let Some(held) = held else {
                let now = self.token(&view).map(|t| t.to_string()).unwrap_or_default();
                return Err(Error::refused(format!("{name} is held by {holder} with another token, {now}"))
                    .hint(format!("hamaster elect break {name} --token {now}    # only if {holder} is dead")));
            };
            // Its payload may run until its next renewal fails and it has fenced: the next leader would run beside it.
            tokio::time::sleep(group.timing.renew() * 2 + group.timing.attempt()).await;
            let again = self.read(name).await?;
            let modified = |v: &View| v.leader.as_ref().map(|l| l.modified);
            if modified(&again) != modified(&view) {
                return Err(Error::refused(format!("{holder} is alive: it renewed its lead of {name} just now"))
                    .hint(format!("hamaster elect resign {name}")));
            }
            let release = txn::release(held.revision, &broken(&again, group), false);
            for _ in 0..=self.config.endpoints.len() {
                match self.store.run(name, &release, ATTEMPT).await {
                    Answer::Done { .. } => return Ok(holder),
                    Answer::Refused(view) if view.leader.is_none() => return Ok(holder),
                    Answer::Refused(_) => {
                        return Err(Error::refused(format!("another leads {name} meanwhile"))
                            .hint(format!("hamaster elect status {name}")));
                    }
                    Answer::Unknown => {}
                }
            }
            Err(self.unreachable())
        })
    }

    /// Waits for a leader other than the one of revision `old`.
    async fn follow(
        &self,
        events: &mut UnboundedReceiver<StoreEvent>,
        from: &str,
        old: i64,
        to: Option<&str>,
        tell: &mut dyn FnMut(&str),
    ) -> Option<(String, Token)> {
        let mut view = View::default();
        let mut said = String::new();
        while let Some(event) = events.recv().await {
            match event {
                StoreEvent::Seen(seen) => view = seen,
                StoreEvent::Changed(change) => view.apply(&change),
                _ => continue,
            }
            let now = view.leader.as_ref().filter(|l| l.create != old);
            let who = now.map(|l| l.value.as_ref().map_or_else(|| "someone".to_owned(), |l| l.who.id.clone()));
            let line = match (&who, view.leader.is_some()) {
                (Some(id), _) if to.is_none_or(|to| to == id) => {
                    return Some((id.clone(), self.token(&view)?));
                }
                (Some(id), _) => format!("{id} leads meanwhile"),
                (None, true) => format!("{from} stops its payload"),
                (None, false) => format!("{from} has let go"),
            };
            if line != said {
                tell(&line);
                said = line;
            }
        }
        None
    }

    async fn ask(&self, group: &str, wish: &Transfer, ttl: Option<Duration>) -> Result<()> {
        self.store.put_control(group, Key::Transfer, json(wish), ttl, ATTEMPT * 2).await.map_err(error)
    }

    async fn read(&self, group: &str) -> Result<View> {
        let mut last = None;
        for _ in &self.config.endpoints {
            match self.store.read(group, ATTEMPT).await {
                Ok(view) => return Ok(view),
                Err(e) => last = Some(e),
            }
        }
        Err(last.map_or_else(|| self.unreachable(), error))
    }

    fn unreachable(&self) -> Box<Error> {
        let members: Vec<_> = self.config.endpoints.iter().map(ToString::to_string).collect();
        Error::apply(format!("no answer from etcd at {}", members.join(", ")))
            .hint(format!("etcdctl --endpoints={} endpoint health", members.join(",")))
            .exits(UNREACHABLE)
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::task::LocalSet::new().block_on(&self.runtime, work)
    }
}

/// The leader's id and B.
fn leader(name: &str, view: &View) -> Result<(String, Duration)> {
    match view.leader.as_ref().map(|l| l.value.as_ref()) {
        Some(Some(leader)) => Ok((leader.who.id.clone(), leader.bound)),
        Some(None) => Ok(("someone whose record does not read".to_owned(), Duration::ZERO)),
        None => Err(Error::refused(format!("nobody leads {name}")).hint(format!("hamaster elect status {name}"))),
    }
}

/// Whether `to`, or anybody, could take over.
fn able(name: &str, view: &View, to: Option<&str>) -> Result<()> {
    if view.pause.is_some() {
        return Err(Error::refused(format!("{name} is paused: nobody becomes its leader"))
            .hint(format!("hamaster elect resume {name}")));
    }
    let queue = view.queue();
    let waiting: Vec<&str> = queue.iter().filter_map(|(_, c)| Some(c.value.as_ref()?.who.id.as_str())).collect();
    match to {
        _ if waiting.is_empty() => Err(Error::refused(format!("nobody else waits to lead {name}"))
            .hint("hamaster elect status    # on the other hosts: why they are not fit")),
        Some(to) if !waiting.contains(&to) => {
            let error = Error::refused(format!("{to} is no candidate of {name}"));
            Err(match nearest(to, waiting.iter().copied()) {
                Some(near) => error.hint(format!("hamaster elect transfer {name} --to {near}")),
                None => error.hint(format!("candidates: {}", waiting.join(", "))),
            })
        }
        _ => Ok(()),
    }
}

/// The history after the operator's word: whoever is next need not wait.
fn broken(view: &View, group: &Group) -> Term {
    let leader = view.leader.as_ref().and_then(|l| l.value.clone());
    let bound = leader.as_ref().map_or(group.timing.bound(), |l| l.bound);
    let term = view.term.as_ref().and_then(|t| t.value.clone());
    let term = term.unwrap_or_else(|| Term {
        number: leader.as_ref().map_or(0, |l| l.term),
        holder: leader.as_ref().map(|l| l.who.id.clone()).unwrap_or_default(),
        nonce: leader.as_ref().map(|l| l.who.nonce.clone()).unwrap_or_default(),
        state: TermState::Held,
        cause: String::new(),
        heir: None,
        bound,
        largest_bound: bound,
    });
    Term { state: TermState::Released, cause: "broken by operator".to_owned(), heir: None, ..term }
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // These are structs of strings: they always encode.
    serde_json::to_vec(value).unwrap_or_default()
}

fn error(e: StoreError) -> Box<Error> {
    let code = match e.kind {
        StoreErrorKind::Auth | StoreErrorKind::Tls => REFUSED,
        _ => UNREACHABLE,
    };
    Error::apply(e.to_string()).hint(e.hint).exits(code)
}
