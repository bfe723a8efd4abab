//! True time, the order of what happens in it, and what must hold after each of it.

use std::collections::BTreeMap;

use hamaster::elect::event::{Count, Effect, Event, Exit, Interest, RequestId};
use hamaster::elect::instant::Instant;
use hamaster::elect::record::LeaseId;
use hamaster::elect::txn::{Answer, Txn};
use hamaster::elect::view::View;

use crate::chance::Chance;
use crate::node::{Clock, Node};
use crate::plant::Bug;
use crate::schedule::{Fault, MILLI, SECOND, Schedule};
use crate::store::Store;

/// More requests of one node within a second than this are a hot loop.
const REQUESTS: usize = 25;
/// The longest back-off of a node that lost its leadership again and again, and a wait or two.
const LONGEST: u64 = 400 * SECOND;
/// One leader must stay so for this long, undisturbed.
const STEADY: u64 = 15 * SECOND;

/// Something that happens at one moment. With `life`: to that process, not to the one after it; with `boot`: to that
/// boot of the host.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    Tick {
        n: usize,
        life: u64,
        number: u64,
    },
    /// At the etcd it was sent to; another cluster has other connections.
    Arrive {
        n: usize,
        life: u64,
        cluster: u64,
        id: RequestId,
        txn: Txn,
    },
    Respond {
        n: usize,
        life: u64,
        id: RequestId,
        answer: Answer,
    },
    GiveUp {
        n: usize,
        life: u64,
        id: RequestId,
    },
    Tell {
        n: usize,
        life: u64,
        event: Event,
    },
    Read {
        n: usize,
        life: u64,
        watch: u64,
    },
    Seen {
        n: usize,
        life: u64,
        watch: u64,
        view: View,
    },
    Pump {
        n: usize,
        life: u64,
        watch: u64,
    },
    KeepAlive {
        n: usize,
        life: u64,
    },
    Expire,
    Install {
        n: usize,
        life: u64,
        job: u64,
        until: Instant,
    },
    Rename {
        n: usize,
        life: u64,
        job: u64,
        until: Instant,
    },
    Remove {
        n: usize,
        life: u64,
        job: u64,
    },
    Confirm {
        n: usize,
        life: u64,
        job: u64,
    },
    /// systemd runs `elect fence`.
    Fence {
        n: usize,
        boot: u64,
    },
    PayloadUp {
        n: usize,
        boot: u64,
        install: u64,
    },
    PayloadDead {
        n: usize,
        boot: u64,
        install: u64,
    },
    Start {
        n: usize,
        boot: u64,
    },
    Boot {
        n: usize,
    },
    Watchdog {
        n: usize,
        life: u64,
        since: u64,
    },
    Resume {
        n: usize,
        life: u64,
        since: u64,
    },
    FreezeNow {
        n: usize,
        life: u64,
    },
    CutNow {
        n: usize,
        life: u64,
    },
    EtcdBack,
    Restore {
        store: Box<Store>,
        cluster: u64,
    },
    Fault(Fault),
}

/// What a run comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<String>,
    pub(crate) events: u64,
    pub(crate) leaderships: u64,
    /// Others' leaderships that ended in a fence.
    pub(crate) fences: u64,
    pub(crate) adoptions: u64,
    pub(crate) duplicates: u64,
    /// True time from the last fault to a steady leader, in milliseconds.
    pub(crate) recovery: u64,
}

pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) store: Store,
    pub(crate) cluster: u64,
    pub(crate) etcd_down: u64,
    /// The highest token of this etcd cluster under which anything was installed.
    pub(crate) highest: i64,
    pub(crate) bug: Bug,
    pub(crate) outcome: Outcome,
    pub(crate) trace: bool,
}

impl World {
    /// Plays one seed's schedule to the end, or to the first violation.
    pub(crate) fn play(seed: u64, bug: Bug, trace: bool) -> Outcome {
        let schedule = Schedule::new(seed);
        let clocks = schedule.clocks.iter().map(|(rate, shown)| Clock::new(*rate, *shown, 0));
        let nodes = schedule.nodes.iter().zip(clocks).enumerate();
        let mut world = Self {
            chance: Chance::new(seed),
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            nodes: nodes.map(|(n, (timing, clock))| Node::new(n, *timing, clock)).collect(),
            store: Store::default(),
            cluster: 1,
            etcd_down: 0,
            highest: 0,
            bug,
            outcome: Outcome::default(),
            trace,
        };
        if trace {
            for node in &world.nodes {
                eprintln!("node {}: {} {:?}", node.number, node.timing.consequences(), node.clock);
            }
        }
        for n in 0..world.nodes.len() {
            let after = world.chance.edge(3 * SECOND);
            world.after(after, Happening::Start { n, boot: 0 });
        }
        for (at, fault) in &schedule.faults {
            world.after(*at, Happening::Fault(*fault));
        }
        world.run(schedule.calm);
        world.outcome
    }

    fn run(&mut self, calm: u64) {
        let mut steady = None;
        let mut calmed = false;
        while self.outcome.violation.is_none() {
            let Some(((at, _), happening)) = self.queue.pop_first() else { return };
            if at > calm && !calmed {
                calmed = true;
                self.now = calm;
                self.calm();
            }
            self.now = at;
            if self.trace && !matches!(happening, Happening::Tick { .. } | Happening::Pump { .. }) {
                eprintln!("{:>12.6} {}", at as f64 / SECOND as f64, readable(&format!("{happening:?}")));
            }
            self.outcome.events += 1;
            self.happen(happening);
            self.check();
            if !calmed {
                continue;
            }
            let leads = self.nodes.iter().filter(|n| n.leads()).count();
            match steady {
                _ if leads != 1 => steady = None,
                None => steady = Some(self.now),
                Some(since) if self.now >= since + STEADY => {
                    self.outcome.recovery = (since - calm) / MILLI;
                    return;
                }
                Some(_) => {}
            }
            if self.now > calm + LONGEST {
                self.violate(format!("no steady leader {} s after the last fault", LONGEST / SECOND));
            }
        }
    }

    pub(crate) fn after(&mut self, delay: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    pub(crate) fn violate(&mut self, what: String) {
        self.outcome.violation.get_or_insert(format!("{what}, at {:.6} s", self.now as f64 / SECOND as f64));
    }

    fn check(&mut self) {
        let holding: Vec<_> = self.nodes.iter().filter(|n| n.manifest).map(|n| n.number).collect();
        if holding.len() > 1 {
            self.violate(format!("S1: manifests on {holding:?}"));
        }
        let running: Vec<_> = self.nodes.iter().filter(|n| n.payload).map(|n| n.number).collect();
        if running.len() > 1 {
            self.violate(format!("S2: payloads on {running:?}"));
        }
    }

    /// The life of `n`, if that process still lives and runs; a stopped one gets it later.
    pub(crate) fn reaches(&mut self, n: usize, life: u64, what: impl FnOnce() -> Happening) -> bool {
        let Some(process) = self.nodes[n].process.as_mut().filter(|p| p.life == life) else { return false };
        if process.paused.is_some() {
            process.waiting.push(what());
            return false;
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        use Happening::*;
        // What concerns a process waits while that is stopped.
        if let Tick { n, life, .. }
        | Respond { n, life, .. }
        | GiveUp { n, life, .. }
        | Tell { n, life, .. }
        | Seen { n, life, .. }
        | Pump { n, life, .. }
        | KeepAlive { n, life }
        | Install { n, life, .. }
        | Rename { n, life, .. }
        | Remove { n, life, .. }
        | Confirm { n, life, .. } = happening
            && !self.reaches(n, life, || happening.clone())
        {
            return;
        }
        match happening {
            Tick { n, number, .. } => {
                if self.nodes[n].process.as_ref().is_some_and(|p| p.ticks == number) {
                    self.step(n, Event::Tick);
                }
            }
            Arrive { n, life, cluster, id, txn } if cluster == self.cluster => self.arrive(n, life, id, &txn),
            Arrive { .. } => {}
            Respond { n, id, answer, .. } => self.respond(n, id, answer),
            GiveUp { n, id, .. } => self.respond(n, id, Answer::Unknown),
            Tell { n, event, .. } => self.step(n, event),
            Read { n, life, watch } => self.read(n, life, watch),
            Seen { n, watch, view, .. } => self.seen(n, watch, view),
            Pump { n, life, watch } => self.pump(n, life, watch),
            KeepAlive { n, life } => self.keep_alive(n, life),
            Expire => self.expire(),
            Install { n, life, job, until } => self.install(n, life, job, until),
            Rename { n, job, until, .. } => self.rename(n, job, until),
            Remove { n, life, job } => self.remove(n, life, job),
            Confirm { n, job, .. } => {
                if self.nodes[n].process.as_ref().is_some_and(|p| p.job == job) {
                    self.step(n, Event::Stopped(Ok(())));
                }
            }
            Fence { n, boot } => {
                if self.nodes[n].boot == boot {
                    self.unlink(n);
                }
            }
            PayloadUp { n, boot, install } => {
                let node = &mut self.nodes[n];
                node.payload |= node.boot == boot && node.installs == install && node.manifest;
            }
            PayloadDead { n, boot, install } => {
                let node = &mut self.nodes[n];
                if node.boot == boot && node.installs == install {
                    node.payload = false;
                }
            }
            Start { n, boot } => self.start(n, boot),
            Boot { n } => self.boot(n),
            Watchdog { n, life, since } => {
                if self.is_paused(n, life, since) {
                    self.kill(n);
                }
            }
            Resume { n, life, since } => {
                if self.is_paused(n, life, since) {
                    self.resume(n);
                }
            }
            FreezeNow { n, life } => {
                if self.nodes[n].process.as_ref().is_some_and(|p| p.life == life) {
                    self.pause(n, 60 * SECOND);
                }
            }
            CutNow { n, life } => self.cut_now(n, life),
            EtcdBack => {
                if self.now >= self.etcd_down {
                    self.etcd_is_back();
                }
            }
            Restore { store, cluster } => self.restore(*store, cluster),
            Fault(fault) => self.fault(fault),
        }
    }

    /// Lets the real machine of `n` take a step, and does what it wants.
    pub(crate) fn step(&mut self, n: usize, event: Event) {
        let event = self.bug.distort(event, &self.nodes[n].timing);
        let shows = self.nodes[n].clock.show(self.now);
        let node = &mut self.nodes[n];
        let Some(process) = &mut node.process else { return };
        let life = process.life;
        let now = Instant::from_nanos(shows.saturating_sub(process.falsehood));
        let effects = process.machine.step(now, event);
        node.file = Some(process.machine.status());
        let wake = process.machine.wake().map(|w| node.clock.when(w.as_nanos() + process.falsehood));
        process.ticks += 1;
        let number = process.ticks;
        if let Some(wake) = wake {
            let late = if self.chance.percent(2) { self.chance.below(300 * MILLI) } else { self.chance.below(MILLI) };
            self.after(wake.saturating_sub(self.now) + late, Happening::Tick { n, life, number });
        }
        for effect in effects {
            let Some(process) = self.nodes[n].process.as_mut().filter(|p| p.life == life) else { return };
            match &mut process.dies_after {
                Some(0) => return self.kill(n),
                Some(left) => *left -= 1,
                None => {}
            }
            self.perform(n, life, effect);
        }
    }

    fn perform(&mut self, n: usize, life: u64, effect: Effect) {
        if self.trace {
            eprintln!("{:>20} m{} {}", "", n + 1, readable(&format!("{effect:?}")));
        }
        match effect {
            Effect::Send { id, txn, within } => {
                let now = self.now;
                if let Some(process) = &mut self.nodes[n].process
                    && process.count(now) > REQUESTS
                {
                    self.violate(format!("m{} asks etcd more than {REQUESTS} times in a second", n + 1));
                }
                self.send(n, life, id, txn, within);
            }
            Effect::Watch(interest) => self.watch(n, life, interest),
            Effect::Start { token, until } => self.begin(n, life, token, until),
            // The worker compares with the deadline it was given at first, which is stricter.
            Effect::Extend { .. } => {}
            Effect::Stop { .. } => self.stop(n, life),
            Effect::Say(line) => self.outcome.adoptions += u64::from(line.starts_with("adopted")),
            Effect::Count(Count::Transition("silence" | "released" | "vacant")) => self.outcome.leaderships += 1,
            Effect::Count(Count::Fence(_)) => self.outcome.fences += 1,
            Effect::Count(_) => {}
            Effect::Exit(exit) => {
                self.outcome.duplicates += u64::from(exit == Exit::Duplicate);
                if exit == Exit::Clean
                    && let Some(lease) = self.nodes[n].process.as_ref().and_then(|p| p.lease)
                {
                    self.revoke(lease);
                }
                self.kill(n);
            }
        }
    }

    /// One watch of everything that changed.
    pub(crate) fn changed(&mut self) {
        let watching: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|node| {
                Some((node.number, node.process.as_ref()?.life, node.process.as_ref()?.watch.as_ref()?.number))
            })
            .collect();
        for (n, life, watch) in watching {
            let delay = self.latency(n);
            self.after(delay, Happening::Pump { n, life, watch });
        }
    }

    pub(crate) fn revoke(&mut self, lease: LeaseId) {
        let before = self.store.revision;
        self.store.revoke(lease);
        if self.store.revision > before {
            self.changed();
        }
    }

    /// Which keys a new watch of `n` is to tell of.
    pub(crate) fn interest(&self, n: usize, watch: u64) -> Option<Interest> {
        let watch = self.nodes[n].process.as_ref()?.watch.as_ref().filter(|w| w.number == watch)?;
        Some(watch.interest)
    }
}

/// Bytes as the text they are, names left out, and not too long for a line.
fn readable(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, bytes)) = rest.split_once("[123, ") {
        let (bytes, after) = bytes.split_once(']').unwrap_or((bytes, ""));
        let bytes = bytes.split(", ").filter_map(|b| b.parse::<u8>().ok()).map(char::from);
        shown.extend(before.chars().chain(['{']).chain(bytes));
        rest = after;
    }
    (shown + rest).chars().take(420).collect()
}
