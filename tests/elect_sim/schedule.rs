//! What goes wrong and when: everything follows from the seed.

use std::time::Duration;

use hamaster::elect::timing::{Timing, Wanted};

use crate::chance::Chance;

/// A second of true time, which is counted in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MILLI: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    DeleteLeader,
    DeleteTerm,
    DeleteCandidate,
    DeleteAll,
    SpoilLeader,
    SpoilTerm,
    SpoilCandidate,
    Pause,
    Unpause,
    Transfer(Option<usize>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing passes between a node and etcd.
    Cut(usize, u64),
    /// Requests pass, answers do not.
    Deaf(usize, u64),
    /// Answers take about as long as they may.
    Slow(usize, u64),
    /// Watches say nothing, reads and transactions pass.
    Blind(usize, u64),
    EtcdDown(u64),
    /// etcd is away for long and comes back with what it held when this began.
    Restored(u64),
    EtcdRestart,
    Kill(usize),
    /// Killed after some of what its next step wants done.
    KillInStep(usize),
    Reboot(usize),
    Pause(usize, u64),
    /// Whoever leads gets its answers late, then none, and is frozen shortly before its deadline.
    FreezeLeader,
    CutLeader(u64),
    KillLeader,
    LeaseLost(usize),
    BreakWatch(usize),
    Sick(usize, u64),
    Bias(usize, i8),
    Resign(usize),
    Terminate(usize),
    Operator(Operator),
}

#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) nodes: Vec<Timing>,
    /// By how much each clock is off, in millionths, and what it shows at first.
    pub(crate) clocks: Vec<(i64, u64)>,
    pub(crate) faults: Vec<(u64, Fault)>,
    /// The last fault is over.
    pub(crate) calm: u64,
}

/// ρ is 1 %: each may be off by half of it.
const DRIFT: i64 = 4_975;

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x5eed);
        let timing = |(lease, stop): (u64, u64)| {
            Timing::new(Wanted::new(Duration::from_millis(lease), Duration::from_millis(stop))).unwrap()
        };
        let profiles = [(5_000, 0), (5_000, 1_500), (10_000, 4_500), (10_000, 0)].map(timing);
        let count = chance.pick(&[3, 3, 3, 4, 5]);
        let mixed = chance.percent(40);
        let one = chance.pick(&profiles);
        let nodes: Vec<_> = (0..count).map(|_| if mixed { chance.pick(&profiles) } else { one }).collect();
        let clocks = nodes.iter().map(|_| {
            let between = chance.below(2 * DRIFT as u64) as i64 - DRIFT;
            let rate = chance.pick(&[-DRIFT, DRIFT, between]);
            (rate, chance.below(1_000_000 * SECOND))
        });
        let clocks = clocks.collect();
        let mut faults = vec![];
        let mut at = chance.below(20 * SECOND);
        for _ in 0..chance.between(2, 12) {
            faults.push((at, Self::fault(&mut chance, count, mixed)));
            // Together, shortly after one another, or once the last one has been overcome.
            at += match chance.below(4) {
                0 => chance.below(20 * MILLI),
                1 | 2 => chance.below(4 * SECOND),
                _ => chance.below(30 * SECOND),
            };
        }
        let longest = faults.iter().map(|(at, fault)| at + fault.lasts()).max().unwrap_or(0);
        Self { nodes, clocks, faults, calm: longest + SECOND }
    }

    fn fault(chance: &mut Chance, count: usize, mixed: bool) -> Fault {
        let n = chance.below(count as u64) as usize;
        let time = chance.edge(25 * SECOND);
        match chance.below(28) {
            0 | 1 => Fault::Cut(n, time),
            2 => Fault::Deaf(n, time),
            3 => Fault::Slow(n, time),
            4 | 5 => Fault::Blind(n, time),
            6 => Fault::EtcdDown(time),
            7 => Fault::EtcdRestart,
            8 => Fault::Kill(n),
            9 => Fault::KillInStep(n),
            10 => Fault::Reboot(n),
            11 => Fault::Pause(n, time),
            12..=14 => Fault::FreezeLeader,
            15 => Fault::CutLeader(time),
            16 => Fault::KillLeader,
            17 => Fault::LeaseLost(n),
            18 => Fault::BreakWatch(n),
            19 => Fault::Sick(n, time),
            20 => Fault::Bias(n, chance.below(3) as i8 - 1),
            21 => Fault::Resign(n),
            22 => Fault::Terminate(n),
            23 if chance.percent(30) => Fault::Restored(time),
            _ => Fault::Operator(Self::operator(chance, n, mixed)),
        }
    }

    /// Where nodes have different times the operator leaves `term` alone: with both `leader` and `term` gone nothing
    /// tells a newcomer how long a leader that is cut off may live. That is not promised.
    fn operator(chance: &mut Chance, n: usize, mixed: bool) -> Operator {
        use Operator::*;
        let to = chance.percent(70).then_some(n);
        let harmless = [DeleteLeader, DeleteCandidate, SpoilLeader, SpoilCandidate, Pause, Unpause, Transfer(to)];
        let all = [DeleteLeader, DeleteTerm, DeleteAll, SpoilLeader, SpoilTerm];
        if mixed || chance.percent(50) { chance.pick(&harmless) } else { chance.pick(&all) }
    }
}

impl Fault {
    /// How long until it is over.
    fn lasts(self) -> u64 {
        match self {
            Fault::Cut(_, time)
            | Fault::Deaf(_, time)
            | Fault::Slow(_, time)
            | Fault::Blind(_, time)
            | Fault::EtcdDown(time)
            | Fault::Pause(_, time)
            | Fault::CutLeader(time)
            | Fault::Sick(_, time) => time,
            Fault::Restored(time) => time + 20 * SECOND,
            Fault::FreezeLeader => 30 * SECOND,
            _ => 0,
        }
    }
}
