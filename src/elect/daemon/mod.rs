//! The election daemon: carries events to the machines and effects to etcd and the payloads.
//!
//! One thread runs all of it but the payloads, which may hang on a dead filesystem and have one each. The loop pings
//! the watchdog itself: whatever stops the loop stops the pings.

mod clocks;
mod ended;
pub mod listen;
mod message;
mod seat;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;

use super::actions::PayloadEvent;
use super::board::Board;
use super::config::Config;
use super::event::{Event, Exit, Unfit};
use super::health::Health;
use super::instant::Instant;
use super::predecessor;
use super::store::{SessionHandle, Store, StoreErrorKind, StoreEvent};
use super::txn::Answer;
use crate::error::{Error, Result};
use crate::host::alarm::Alarm;
use crate::host::clock::{self, boottime};
use crate::host::journal::Journal;
use crate::host::notify::Notify;
use crate::host::runtime_dir::RuntimeDir;
use crate::host::signals::{Asked, Signals};
use crate::host::{identity, probe};
use clocks::Clocks;
pub use ended::Ended;
use message::{Message, forward};
use seat::Seat;

/// A key in the queue outlives its process by at most this.
const QUEUE_LEASE: Duration = Duration::from_secs(15);

/// Runs the election of all groups of `config` until it is told to end. `reread` reads the configuration again when
/// SIGHUP asks for it: if it is good the daemon ends with [`Ended::Reload`].
///
/// # Errors
/// When it cannot begin: another process has its runtime directory, files of TLS are unusable. Nothing was installed.
pub fn run(config: Config, reread: Box<dyn Fn() -> Result<Config>>) -> Result<Ended> {
    let journal =
        Journal::new("elect", std::io::stderr()).map_err(|e| Error::apply("cannot start the journal").cause(e))?;
    let directory = RuntimeDir::open(&config.runtime_dir)?;
    let boot_id = identity::boot_id()?;
    // Before there is a runtime: a payload's death is asked for with one of its own.
    let others = predecessor::clear(&config, &directory, &boot_id, |group, line| journal.say(group, line))?;
    // What another process has is in the old file only.
    if others.is_empty()
        && let Err(e) = directory.accept(&super::config::to_yaml(&config))
    {
        journal.say("", &format!("cannot write {}: {e}", directory.accepted().display()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::apply("cannot start the daemon").cause(e))?;
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, async {
        let mut daemon = Daemon::new(config, directory, &boot_id, journal, reread)?;
        let ended = daemon.serve().await;
        daemon.close(ended).await;
        Ok(ended)
    });
    // A resolver that hangs must not keep the process.
    runtime.shutdown_background();
    ended
}

struct Daemon {
    config: Config,
    seats: Vec<Seat>,
    store: Store,
    session: SessionHandle,
    board: listen::Shared,
    directory: RuntimeDir,
    journal: Journal,
    notify: Notify,
    next_ping: Instant,
    /// As `systemctl status` shows it.
    told: String,
    inbox: UnboundedReceiver<Message>,
    outbox: UnboundedSender<Message>,
    alarm: Alarm,
    signals: Signals,
    health: Verdict,
    began: Instant,
    /// The store answered at least once.
    reached: bool,
    clocks: Clocks,
    reread: Box<dyn Fn() -> Result<Config>>,
    reloading: bool,
    /// SIGTERM came.
    terminating: bool,
    /// Starts anew once everything is let go.
    restarting: bool,
    refused: bool,
}

/// Health, and what a machine was told of it.
struct Verdict {
    counted: Health,
    said: Result<(), String>,
}

/// One round of the loop.
enum Woken {
    Message(Message),
    Asked(Asked),
    Tick,
}

impl Daemon {
    fn new(
        config: Config,
        directory: RuntimeDir,
        boot_id: &str,
        journal: Journal,
        reread: Box<dyn Fn() -> Result<Config>>,
    ) -> Result<Self> {
        let now = boottime();
        let id = config.id.clone().unwrap_or_else(identity::hostname);
        let who = super::record::Identity {
            id,
            machine_id: identity::machine_id(),
            boot_id: boot_id.to_owned(),
            nonce: identity::nonce()?,
        };
        let store = Store::new(&config.endpoints, config.tls.clone())?;
        let (outbox, inbox) = unbounded_channel();
        let board = Arc::new(Mutex::new(Board::new(config.groups.iter().map(|g| g.name.as_str()))));
        let session = store.session(QUEUE_LEASE, forward(&outbox, Message::Session));
        let mut seats = vec![];
        for (n, group) in config.groups.iter().enumerate() {
            let seat = Seat::new(n, group, &config, &who, &directory, &outbox, now)?;
            if let Some(lease) = seat.earlier_lease() {
                session.revoke(lease);
            }
            seats.push(seat);
        }
        let health = &config.health;
        let counted = Health::new(health.fall, health.rise, health.healthy_for);
        let said = match health.checks.is_empty() {
            true => Ok(()),
            false => Err("health is not known yet".to_owned()),
        };
        Ok(Self {
            seats,
            store,
            board,
            directory,
            journal,
            notify: Notify::from_env(),
            next_ping: now,
            told: String::new(),
            session,
            inbox,
            outbox,
            alarm: Alarm::new()?,
            signals: Signals::new()?,
            health: Verdict { counted, said },
            began: now,
            reached: false,
            clocks: Clocks::new(boot_id),
            reread,
            reloading: false,
            terminating: false,
            restarting: false,
            refused: false,
            config,
        })
    }

    async fn serve(&mut self) -> Ended {
        for note in self.config.notes.clone() {
            self.journal.say("", &note);
        }
        for seat in &self.seats {
            self.journal.say(seat.name(), &seat.timing().consequences());
        }
        let watchdog = self.seats.iter().map(|s| s.timing().watchdog()).min().unwrap_or_default();
        if let Some(gap) = self.notify.gap(watchdog) {
            self.journal.say("", &gap);
        }
        for trouble in listen::serve(&self.directory, self.config.listen, Arc::clone(&self.board), boottime).await {
            self.journal.say("", &trouble);
        }
        self.probe();
        for n in 0..self.seats.len() {
            self.step(n, Event::Tick);
        }
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            let due = self.due();
            self.alarm.set(Some(due));
            let woken = self.woken().await;
            self.look_at_clocks(due);
            match woken {
                Woken::Message(message) => self.take(message),
                Woken::Asked(Asked::Terminate) => {
                    (self.terminating, self.restarting) = (true, false);
                    self.all(&Event::Terminate);
                }
                Woken::Asked(Asked::Resign) => self.all(&Event::Resign),
                Woken::Asked(Asked::Reload) => match self.reconfigured() {
                    Ok(_) if self.terminating => {}
                    // What is led stays as it is, for the one who starts anew to go on with.
                    Ok(new) if self.is_same_payload(&new) => self.reloading = true,
                    // Nobody would look after it any more under the new file: it is let go first.
                    Ok(_) => {
                        self.journal.say("", "groups, times or directories changed: lets go before it starts anew");
                        self.restarting = true;
                        self.all(&Event::Terminate);
                    }
                    Err(e) => self.journal.say("", &format!("goes on with the configuration it has: {e}")),
                },
                Woken::Tick => {}
            }
            self.tick();
        }
    }

    async fn woken(&mut self) -> Woken {
        tokio::select! {
            biased;
            // What has happened goes before what is due: a renewal answered in time must not be fenced.
            Some(message) = self.inbox.recv() => Woken::Message(message),
            asked = self.signals.next() => Woken::Asked(asked),
            () = self.alarm.rings() => Woken::Tick,
        }
    }

    /// The next moment anything must be done.
    fn due(&self) -> Instant {
        let far = boottime() + Duration::from_secs(60);
        let mut due = self.seats.iter().filter_map(Seat::wake).fold(far, Instant::min);
        if self.notify.every().is_some() {
            due = due.min(self.next_ping);
        }
        match self.config.store_timeout {
            Some(timeout) if !self.reached => due.min(self.began + timeout),
            _ => due,
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Answered(n, id, answer) => {
                if !matches!(answer, Answer::Unknown) {
                    self.reached();
                }
                self.step(n, Event::Answered(id, answer));
            }
            Message::Store(n, event) => match event {
                StoreEvent::Seen(view) => {
                    self.reached();
                    self.step(n, Event::Seen(view));
                }
                StoreEvent::Changed(change) => self.step(n, Event::Changed(change)),
                StoreEvent::Replaced => self.step(n, Event::Replaced),
                other => self.tell_of(other),
            },
            Message::Session(StoreEvent::Lease(lease)) => self.all(&Event::Lease(lease)),
            Message::Session(other) => self.tell_of(other),
            Message::Payload(n, event) => self.payload(n, event),
            Message::Health(round) => {
                if let Some(verdict) = self.health.counted.round(boottime(), round) {
                    self.health.said = verdict;
                    for n in 0..self.seats.len() {
                        self.fitness(n);
                    }
                }
            }
        }
    }

    fn reached(&mut self) {
        self.reached = true;
        if let Some(id) = self.store.cluster_id() {
            self.seats.iter_mut().for_each(|seat| seat.machine.set_cluster(id));
        }
    }

    fn tell_of(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Trouble(error) => {
                self.refused = matches!(error.kind, StoreErrorKind::Auth | StoreErrorKind::Tls);
                self.journal.trouble(boottime(), "", &format!("{error}; hint: {}", error.hint));
            }
            StoreEvent::Back => self.journal.say("", "etcd answers"),
            _ => {}
        }
    }

    fn payload(&mut self, n: usize, event: PayloadEvent) {
        let board = Arc::clone(&self.board);
        self.seats[n].measure(&event, &board.lock().unwrap_or_else(PoisonError::into_inner).metrics);
        match event {
            PayloadEvent::Started(result) => self.step(n, Event::Started(result)),
            PayloadEvent::Stopped(result) => self.step(n, Event::Stopped(result)),
            PayloadEvent::Ended(code) => {
                self.seats[n].child = code.and_then(|c| u8::try_from(c).ok());
                self.step(n, Event::Ended);
            }
            PayloadEvent::Fitness(result) => {
                self.seats[n].usable = result;
                self.fitness(n);
            }
            PayloadEvent::Synced => {
                self.journal.say(self.seats[n].name(), "the payload's file was written anew");
            }
            PayloadEvent::SourceInvalid(why) => {
                self.journal.say(self.seats[n].name(), &format!("keeps the old content: {why}"));
            }
        }
    }

    fn fitness(&mut self, n: usize) {
        let fitness = match (&self.seats[n].usable, &self.health.said) {
            // A leader whose source does not read either must let go all the same.
            (_, Err(why)) => Err(Unfit::Health(why.clone())),
            (Err(why), _) => Err(Unfit::Payload(why.clone())),
            _ => Ok(()),
        };
        self.step(n, Event::Fitness(fitness));
    }

    fn all(&mut self, event: &Event) {
        for n in 0..self.seats.len() {
            self.step(n, event.clone());
        }
    }

    /// One event for one group; then the others hear whether this process leads it.
    fn step(&mut self, n: usize, event: Event) {
        let board = Arc::clone(&self.board);
        self.seats[n].step(event, &self.store, &self.outbox, &mut self.journal, &board);
        let held: Vec<&str> = self.seats.iter().filter(|s| s.machine.is_reaching()).map(Seat::name).collect();
        let biases: Vec<i8> = self.seats.iter().map(|seat| seat.bias(&held)).collect();
        for (other, bias) in biases.into_iter().enumerate().filter(|(other, _)| *other != n) {
            self.seats[other].lean(bias, &self.store, &self.outbox, &mut self.journal, &board);
        }
    }

    fn tick(&mut self) {
        let now = boottime();
        for n in 0..self.seats.len() {
            if self.seats[n].wake().is_some_and(|wake| now >= wake) {
                self.step(n, Event::Tick);
            }
        }
        let hung = self.seats.iter_mut().find_map(|seat| seat.is_hung(now).then(|| seat.name().to_owned()));
        if let (Some(name), true) = (&hung, self.notify.every().is_some()) {
            self.journal.trouble(now, name, "the payload's thread hangs in a stop: this process waits to be killed");
        }
        let sound = hung.is_none() && self.seats.iter().all(|seat| seat.machine.is_sound(now));
        // Whoever is overdue is to be killed: no more pings. Who is awake anyway pings early and sleeps the longer.
        let due = |every: &Duration| now + *every / 2 >= self.next_ping;
        if let Some(every) = self.notify.every().filter(due) {
            if sound {
                self.notify.ping();
            }
            self.next_ping = now + every;
        }
        self.announce();
    }

    /// Tells the service manager and those who ask what it does.
    fn announce(&mut self) {
        let unfenced = |s: &Seat| if s.is_unfenced() { " (CANNOT be stopped)" } else { "" };
        let told = self.seats.iter().map(|s| format!("{}: {}{}", s.name(), s.state(), unfenced(s)));
        let told = told.collect::<Vec<_>>().join(", ");
        self.expose();
        if told == self.told {
            return;
        }
        let clean = self.seats.iter().all(|s| s.state() != "cleaning");
        if clean && self.lock().ready.is_err() {
            self.notify.ready();
            self.lock().ready = Ok(());
        }
        self.notify.status(&told);
        let unfenced = self.seats.iter().find(|s| s.is_unfenced()).map(|s| format!("{} cannot be stopped", s.name()));
        self.lock().sound = unfenced.map_or(Ok(()), Err);
        self.told = told;
    }

    /// What the store counts for itself.
    fn expose(&self) {
        let board = self.lock();
        for (op, code, total) in self.store.requests() {
            board.metrics.store_requests(&op.to_string(), code, total);
        }
        board.metrics.lease_safe(self.store.lease_safe() == Some(true));
        let expires = self.store.certificate_expires();
        board.metrics.cert_expiry(expires.map_or(f64::INFINITY, |at| (at - clock::now()).as_seconds_f64()));
    }

    fn look_at_clocks(&mut self, due: Instant) {
        let Some(anomaly) = self.clocks.look(due) else { return };
        if anomaly.moved {
            self.journal.say("", "another boot: this process was moved from one host to another");
        }
        self.all(&Event::Anomaly(anomaly.what));
    }

    fn probe(&self) {
        if self.config.health.checks.is_empty() {
            return;
        }
        let (health, tell) = (self.config.health.clone(), self.outbox.clone());
        spawn_local(async move {
            loop {
                let round = probe::round(&health.checks, health.timeout).await;
                if tell.send(Message::Health(round)).is_err() {
                    return;
                }
                tokio::time::sleep(health.every).await;
            }
        });
    }

    fn ended(&mut self) -> Option<Ended> {
        if self.reloading {
            return Some(Ended::Reload);
        }
        let given_up = self.config.store_timeout.is_some_and(|t| !self.reached && boottime() >= self.began + t);
        let idle = self.seats.iter().all(|s| s.machine.is_at_rest());
        if given_up && idle {
            return Some(if self.refused { Ended::StoreRefuses } else { Ended::StoreUnreachable });
        }
        // One identity, one process: the other groups let go as well.
        let exits: Vec<Exit> = self.seats.iter().filter_map(|s| s.exit).collect();
        if exits.contains(&Exit::Duplicate) && exits.len() < self.seats.len() {
            self.all(&Event::Terminate);
        }
        let exits: Vec<Exit> = self.seats.iter().map(|s| s.exit).collect::<Option<_>>()?;
        if self.restarting && !exits.contains(&Exit::Unfenced) {
            return Some(Ended::Reload);
        }
        let child = self.seats.iter().find_map(|s| s.child);
        exits.into_iter().max_by_key(|exit| ended::severity(*exit)).map(|exit| Ended::of(exit, child))
    }

    /// The configuration as it is now, if a daemon could start with it.
    fn reconfigured(&self) -> Result<Config> {
        let new = (self.reread)()?;
        Store::new(&new.endpoints, new.tls.clone())?;
        Ok(new)
    }

    /// Whether a daemon started with `new` goes on with all that this one may lead.
    fn is_same_payload(&self, new: &Config) -> bool {
        let old = &self.config;
        (&new.groups, &new.runtime_dir, &new.id, &new.endpoints)
            == (&old.groups, &old.runtime_dir, &old.id, &old.endpoints)
    }

    async fn close(&mut self, ended: Ended) {
        if ended == Ended::Reload {
            self.journal.say("", "starts anew with its configuration read again");
            return;
        }
        self.notify.stopping();
        // The key in the queue goes with the lease; if etcd cannot be told, it goes by itself.
        self.session.close().await;
        self.seats.clear();
        self.journal.say("", &format!("ended: {ended}"));
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
