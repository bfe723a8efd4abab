//! One group of the daemon: its machine, its payload, its status file.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_local;

use super::message::{Message, forward};
use crate::elect::actions::{Payload, PayloadEvent};
use crate::elect::board::Board;
use crate::elect::config::{Config, Group};
use crate::elect::event::{Effect, Event, Exit};
use crate::elect::instant::Instant;
use crate::elect::machine::{Machine, Me};
use crate::elect::metrics::Metrics;
use crate::elect::record::{Identity, LeaseId, Token};
use crate::elect::status::Status;
use crate::elect::store::{Store, WatchHandle};
use crate::elect::timing::Timing;
use crate::error::Result;
use crate::host::clock::boottime;
use crate::host::journal::Journal;
use crate::host::runtime_dir::{GroupLock, RuntimeDir};
use crate::state::Digest;

/// What a payload does between two signs of life takes a second or two where a runtime does not answer. One that is
/// silent for this long will not stop: the daemon lets itself be killed, and whoever comes after it fences.
const HUNG: Duration = Duration::from_secs(15);

pub(super) struct Seat {
    number: usize,
    group: Group,
    timing: Timing,
    pub(super) machine: Machine,
    payload: Payload,
    watch: Option<WatchHandle>,
    directory: RuntimeDir,
    _lock: GroupLock,
    /// As last written.
    status: Option<Status>,
    earlier: Option<Status>,
    /// What the payload's side says of source and destination.
    pub(super) usable: Result<(), String>,
    /// How the payload's process ended.
    pub(super) child: Option<u8>,
    pub(super) exit: Option<Exit>,
    /// Since when the payload is being stopped, and whether it is fenced.
    stopping: Option<(Instant, bool)>,
    installed: Option<Digest>,
    /// The payload's count of signs of life, and since when it stands there.
    alive: (u64, Instant),
}

impl Seat {
    pub(super) fn new(
        number: usize,
        group: &Group,
        config: &Config,
        who: &Identity,
        directory: &RuntimeDir,
        outbox: &UnboundedSender<Message>,
        now: Instant,
    ) -> Result<Self> {
        let timing = config.timing(group);
        let lock = directory.lock(&group.name)?;
        let earlier = directory.read(&group.name);
        let stored = earlier.as_ref().and_then(|s| s.adoptable(&who.boot_id, now));
        let unfinished = earlier.as_ref().and_then(|s| s.unfinished(&who.boot_id));
        let me = Me {
            group: group.name.clone(),
            who: who.clone(),
            timing,
            priority: config.priority,
            preempt_after: config.preempt_after,
            min_term: config.min_term,
            once: config.once,
        };
        let tell = outbox.clone();
        let tell = move |event| {
            // Nobody listens any more when the daemon ends.
            let _ = tell.send(Message::Payload(number, event));
        };
        Ok(Self {
            number,
            group: group.clone(),
            timing,
            machine: Machine::new(me, stored, unfinished),
            payload: Payload::spawn(group, config.on_unfenceable, Box::new(tell))?,
            watch: None,
            directory: directory.clone(),
            _lock: lock,
            status: None,
            earlier,
            usable: Err("source and destination were not looked at yet".to_owned()),
            child: None,
            exit: None,
            stopping: None,
            installed: None,
            alive: (0, now),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.group.name
    }

    pub(super) fn timing(&self) -> Timing {
        self.timing
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        self.machine.wake()
    }

    pub(super) fn state(&self) -> &str {
        self.status.as_ref().map_or("starting", |s| &s.state)
    }

    pub(super) fn is_unfenced(&self) -> bool {
        self.status.as_ref().is_some_and(|s| s.unfenced)
    }

    /// The lease of this group's earlier life: its key in the queue would stand in the way.
    pub(super) fn earlier_lease(&self) -> Option<LeaseId> {
        LeaseId::parse(self.earlier.as_ref()?.lease.as_deref()?)
    }

    /// −1 if this process leads a group that this one should be apart from, 1 if together with.
    pub(super) fn bias(&self, held: &[&str]) -> i8 {
        let any = |names: &[String]| names.iter().any(|name| held.contains(&name.as_str()));
        i8::from(any(&self.group.together)) - i8::from(any(&self.group.spread))
    }

    pub(super) fn lean(
        &mut self,
        bias: i8,
        store: &Store,
        outbox: &UnboundedSender<Message>,
        journal: &mut Journal,
        board: &Mutex<Board>,
    ) {
        if self.machine.bias() != bias {
            self.step(Event::Bias(bias), store, outbox, journal, board);
        }
    }

    /// The payload is to be stopped and its thread has not given a sign of life for [`HUNG`].
    pub(super) fn is_hung(&mut self, now: Instant) -> bool {
        let progress = self.payload.progress();
        if self.alive.0 != progress || !self.machine.is_stopping() {
            self.alive = (progress, now);
        }
        now.since(self.alive.1) >= HUNG
    }

    /// Counts what the payload tells.
    pub(super) fn measure(&mut self, event: &PayloadEvent, metrics: &Metrics) {
        let name = &self.group.name;
        match event {
            PayloadEvent::Stopped(Ok(())) => {
                if let Some((since, fenced)) = self.stopping.take() {
                    metrics.stopped(name, boottime().since(since), fenced);
                }
            }
            PayloadEvent::Fitness(fitness) => metrics.standby_ready(name, fitness.is_ok()),
            PayloadEvent::Synced => {
                metrics.synced(name);
                metrics.source_invalid(name, false);
            }
            PayloadEvent::SourceInvalid(_) => metrics.source_invalid(name, true),
            _ => {}
        }
        let new = self.payload.digest();
        if self.installed != new {
            let [old, new] = [std::mem::replace(&mut self.installed, new), new].map(|d| d.map(|d| d.to_string()));
            metrics.manifest(name, old.as_deref(), new.as_deref());
        }
    }

    pub(super) fn step(
        &mut self,
        event: Event,
        store: &Store,
        outbox: &UnboundedSender<Message>,
        journal: &mut Journal,
        board: &Mutex<Board>,
    ) {
        let now = boottime();
        let effects = self.machine.step(now, event);
        // Before anything is done: who is killed in the middle must find in the file what it may go on with, and
        // nothing that it is about to give away.
        self.publish(journal, board);
        for effect in effects {
            self.perform(effect, store, outbox, journal, board);
        }
    }

    fn publish(&mut self, journal: &mut Journal, board: &Mutex<Board>) {
        let status = self.machine.status();
        if self.status.as_ref() == Some(&status) {
            return;
        }
        if let Err(e) = self.directory.write(&status) {
            let file = self.directory.status_file(&self.group.name);
            journal.trouble(boottime(), &self.group.name, &format!("cannot write {}: {e}", file.display()));
        }
        let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
        board.groups.insert(self.group.name.clone(), status.clone());
        drop(board);
        self.status = Some(status);
    }

    fn perform(
        &mut self,
        effect: Effect,
        store: &Store,
        outbox: &UnboundedSender<Message>,
        journal: &mut Journal,
        board: &Mutex<Board>,
    ) {
        let number = self.number;
        match effect {
            Effect::Send { id, txn, within } => {
                let (store, group, outbox) = (store.clone(), self.group.name.clone(), outbox.clone());
                spawn_local(async move {
                    let answer = store.run(&group, &txn, within).await;
                    // Nobody waits for it any more when the daemon ends.
                    let _ = outbox.send(Message::Answered(number, id, answer));
                });
            }
            Effect::Watch(interest) => {
                // Renewals come every h: without any for this long, the watch itself may be dead.
                let silence = self.timing.renew() * 2 + self.timing.attempt();
                let tell = forward(outbox, move |event| Message::Store(number, event));
                self.watch = Some(store.watch(&self.group.name, interest, silence, tell));
            }
            Effect::Start { token, until } => {
                let token = Token { cluster_id: store.cluster_id().unwrap_or(0), revision: token };
                self.payload.start(token, until);
            }
            Effect::Extend { until } => self.payload.extend(until),
            Effect::Stop { gone, dead } => {
                let fences = self.machine.is_fencing();
                self.stopping.get_or_insert((boottime(), fences)).1 |= fences;
                self.payload.stop(gone, dead);
            }
            Effect::Say(line) => journal.say(&self.group.name, &line),
            Effect::Count(count) => {
                board.lock().unwrap_or_else(PoisonError::into_inner).metrics.count(&self.group.name, &count);
            }
            Effect::Exit(exit) => {
                if exit == Exit::Duplicate {
                    let id = self.machine.status().id;
                    let line = format!("another process uses the identity `{id}`; hint: give each host its own `id`");
                    journal.say(&self.group.name, &line);
                }
                self.exit = Some(exit);
            }
        }
    }
}
