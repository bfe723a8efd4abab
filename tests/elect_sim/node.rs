//! One host: its clock, its kubelet's directory, and the process with the real machine.

use std::collections::{BTreeSet, VecDeque};

use hamaster::elect::event::{Interest, RequestId};
use hamaster::elect::instant::Instant;
use hamaster::elect::machine::{Machine, Me};
use hamaster::elect::record::{Identity, LeaseId};
use hamaster::elect::status::Status;
use hamaster::elect::timing::Timing;

use crate::schedule::SECOND;
use crate::world::Happening;

/// A boot-time clock: it has a rate of its own, and begins anew with each boot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    rate: i64,
    shown: u64,
    at: u64,
}

impl Clock {
    pub(crate) fn new(rate: i64, shown: u64, at: u64) -> Self {
        Self { rate, shown, at }
    }

    /// After a boot.
    pub(crate) fn anew(&self, shown: u64, at: u64) -> Self {
        Self { rate: self.rate, shown, at }
    }

    pub(crate) fn show(&self, now: u64) -> u64 {
        let passed = i128::from(now - self.at);
        self.shown + u64::try_from(passed + passed * i128::from(self.rate) / 1_000_000).unwrap()
    }

    /// When it shows at least `instant`.
    pub(crate) fn when(&self, instant: u64) -> u64 {
        let passed = i128::from(instant.saturating_sub(self.shown));
        self.at + u64::try_from(passed * 1_000_000 / i128::from(1_000_000 + self.rate)).unwrap() + 1
    }
}

/// What passes between a node and etcd; each is so until that moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) cut: u64,
    pub(crate) deaf: u64,
    pub(crate) slow: u64,
    pub(crate) blind: u64,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) timing: Timing,
    pub(crate) clock: Clock,
    pub(crate) link: Link,
    pub(crate) boot: u64,
    pub(crate) up: bool,
    pub(crate) manifest: bool,
    pub(crate) payload: bool,
    /// Counts installs: what a kubelet does about an earlier one is void.
    pub(crate) installs: u64,
    /// The payload is dead by then.
    pub(crate) dead_at: u64,
    /// The status file, on a tmpfs.
    pub(crate) file: Option<Status>,
    pub(crate) process: Option<Process>,
    pub(crate) lives: u64,
}

#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) interest: Interest,
    pub(crate) number: u64,
    /// Told up to here; `None`: the read has not come back.
    pub(crate) cursor: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) life: u64,
    pub(crate) machine: Machine,
    pub(crate) open: BTreeSet<RequestId>,
    /// Renewals under way, and when they were sent: for the planted bug only.
    pub(crate) renewals: Vec<(RequestId, u64)>,
    /// By how much a planted bug sets its clock back.
    pub(crate) falsehood: u64,
    pub(crate) watch: Option<Watch>,
    pub(crate) watches: u64,
    pub(crate) lease: Option<LeaseId>,
    /// The lease of an earlier life, to be revoked: its key would stand in the way.
    pub(crate) earlier: Option<LeaseId>,
    /// Since when it is stopped, and what waits for it.
    pub(crate) paused: Option<u64>,
    pub(crate) waiting: Vec<Happening>,
    pub(crate) ticks: u64,
    /// The payload's worker: what it was told last, by number.
    pub(crate) job: u64,
    /// It dies after so many more effects.
    pub(crate) dies_after: Option<u64>,
    /// When its last requests were sent.
    pub(crate) sent: VecDeque<u64>,
}

impl Node {
    pub(crate) fn new(number: usize, timing: Timing, clock: Clock) -> Self {
        Self {
            number,
            timing,
            clock,
            link: Link::default(),
            boot: 0,
            up: true,
            manifest: false,
            payload: false,
            installs: 0,
            dead_at: 0,
            file: None,
            process: None,
            lives: 0,
        }
    }

    pub(crate) fn boot_id(&self) -> String {
        format!("boot-{}-{}", self.number, self.boot)
    }

    /// A new process, which may find what an earlier one left.
    pub(crate) fn start(&mut self, now: u64) {
        self.lives += 1;
        let who = Identity {
            id: format!("m{}", self.number + 1),
            machine_id: format!("machine-{}", self.number),
            boot_id: self.boot_id(),
            nonce: format!("{}-{}", self.number, self.lives),
        };
        let shows = Instant::from_nanos(self.clock.show(now));
        let stored = self.file.as_ref().and_then(|f| f.adoptable(&self.boot_id(), shows));
        let unfinished = self.file.as_ref().and_then(|f| f.unfinished(&self.boot_id()));
        let me = Me {
            group: "scheduler".into(),
            who,
            timing: self.timing,
            priority: 0,
            preempt_after: None,
            min_term: std::time::Duration::from_secs(5),
            once: false,
        };
        self.process = Some(Process {
            life: self.lives,
            machine: Machine::new(me, stored, unfinished),
            open: BTreeSet::new(),
            renewals: vec![],
            falsehood: 0,
            watch: None,
            watches: 0,
            lease: None,
            earlier: self.file.as_ref().and_then(|f| LeaseId::parse(f.lease.as_deref()?)),
            paused: None,
            waiting: vec![],
            ticks: 0,
            job: 0,
            dies_after: None,
            sent: VecDeque::new(),
        });
    }

    /// When its current leadership ends unless it is renewed, in true time.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let status = self.process.as_ref()?.machine.status();
        status.is_leader.then_some(self.clock.when(status.deadline_ns?))
    }

    pub(crate) fn leads(&self) -> bool {
        self.manifest
            && self.process.as_ref().is_some_and(|p| p.paused.is_none() && p.machine.status().state == "leading")
    }
}

impl Process {
    /// Counts a request; how many there were within the last second.
    pub(crate) fn count(&mut self, now: u64) -> usize {
        self.sent.push_back(now);
        while self.sent.front().is_some_and(|at| at + SECOND <= now) {
            self.sent.pop_front();
        }
        self.sent.len()
    }
}
