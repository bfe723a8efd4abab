//! What came of the runs: for a person, and as one line of JSON.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::elector::{Elector, Profile};
use crate::fault::Fault;
use crate::oracle::History;

/// One or two faults and what followed.
#[derive(Debug)]
pub(crate) struct Blow {
    /// What was done.
    pub(crate) faults: Vec<Fault>,
    /// To the leader, or to one that waits.
    pub(crate) on_leader: bool,
    /// Etcd was whole: after an earlier fault its members need seconds to find each other again.
    pub(crate) fresh: bool,
    /// For how long.
    pub(crate) lasting: Duration,
    /// How long there was no manifest, each time.
    pub(crate) gaps: Vec<Duration>,
    /// How often a manifest appeared or disappeared.
    pub(crate) changes: usize,
    /// One led again in the end.
    pub(crate) settled: bool,
}

impl Blow {
    fn name(&self) -> String {
        let names: Vec<String> = self.faults.iter().map(|f| f.name()).collect();
        format!("{}{}", names.join("+"), if self.on_leader { "" } else { " on a standby" })
    }

    /// The leader lost its office, or its manifest for a moment, to a fault that alone must not cost that.
    fn is_costly(&self, elector: Elector, profile: Profile) -> bool {
        self.changes > 0 && self.fresh && self.faults.len() == 1 && self.faults[0].is_harmless(elector, profile)
    }
}

/// One run.
#[derive(Debug)]
pub(crate) struct Run {
    /// Replays it.
    pub(crate) seed: u64,
    /// What happened.
    pub(crate) blows: Vec<Blow>,
    /// One led before the first fault.
    pub(crate) started: bool,
    /// What the oracle saw.
    pub(crate) history: History,
    /// How often a watchdog killed a daemon.
    pub(crate) bites: usize,
    /// By how much what plays systemd was late at worst: an overlap after a freeze may be its fault.
    pub(crate) lateness: Duration,
    /// What the nodes said, if it went wrong.
    pub(crate) logs: String,
    /// Wall time.
    pub(crate) took: Duration,
}

impl Run {
    /// Nothing happened yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            blows: vec![],
            started: false,
            history: History::default(),
            bites: 0,
            lateness: Duration::ZERO,
            logs: String::new(),
            took: Duration::ZERO,
        }
    }

    /// Nothing can be said about it.
    pub(crate) fn void(seed: u64, why: &str) -> Self {
        let mut run = Self::new(seed);
        run.history.void = Some(why.to_owned());
        run
    }

    /// Never two, always one again, and no office lost for nothing.
    pub(crate) fn is_good(&self, elector: Elector, profile: Profile) -> bool {
        self.wrongs(elector, profile).is_empty()
    }

    /// What is wrong with it, in words.
    fn wrongs(&self, elector: Elector, profile: Profile) -> Vec<String> {
        if let Some(why) = &self.history.void {
            return vec![format!("void: {why}")];
        }
        let mut found: Vec<String> = vec![];
        for overlap in &self.history.overlaps {
            found.push(format!(
                "OVERLAP of {:?} for {:?}, watchdog late by {:?}",
                overlap.nodes, overlap.lasted, self.lateness
            ));
        }
        found.extend(self.history.strangers.iter().map(|s| format!("stranger {s}")));
        if !self.started {
            found.push("STUCK before any fault".into());
        }
        for blow in &self.blows {
            if !blow.settled {
                found.push(format!("STUCK after {}", blow.name()));
            }
            if blow.is_costly(elector, profile) {
                found.push(format!("COSTLY: {} changes after {}", blow.changes, blow.name()));
            }
        }
        found
    }
}

/// All runs.
pub(crate) struct Report {
    elector: Elector,
    profile: Profile,
    since: Instant,
    runs: Vec<Run>,
}

impl Report {
    /// Of no runs.
    pub(crate) fn new(elector: Elector, profile: Profile) -> Self {
        Self { elector, profile, since: Instant::now(), runs: vec![] }
    }

    /// Takes in a run and says how it went.
    pub(crate) fn add(&mut self, run: Run) {
        let wrong = run.wrongs(self.elector, self.profile);
        let blows: Vec<String> =
            run.blows.iter().map(|b| format!("{} {:.1}s", b.name(), b.lasting.as_secs_f64())).collect();
        let verdict = if wrong.is_empty() { "ok".to_owned() } else { wrong.join("; ") };
        let number = self.runs.len() + 1;
        println!("run {number} seed {} [{}] {:.0}s: {verdict}", run.seed, blows.join(", "), run.took.as_secs_f64());
        if !wrong.is_empty() && self.elector == Elector::Hamaster {
            for change in &run.history.changes {
                let elapsed = change.at - run.history.changes[0].at;
                println!(
                    "  {:8.3}s n{} {}",
                    elapsed.as_secs_f64(),
                    change.node,
                    if change.present { "+" } else { "-" }
                );
            }
            println!("{}", run.logs);
        }
        self.runs.push(run);
    }

    /// Not one overlap, nobody stuck, no office lost for nothing; and there is something to judge.
    pub(crate) fn is_good(&self) -> bool {
        let voids = self.count(|r| usize::from(r.history.void.is_some()));
        let good = |r: &Run| r.history.void.is_some() || r.is_good(self.elector, self.profile);
        self.runs.iter().all(good) && voids * 20 <= self.runs.len()
    }

    /// For a person, then for a machine.
    pub(crate) fn print(&self) {
        println!("\nfaults, how often, and the time without a manifest after them (s)");
        println!("{:44} {:>5} {:>5} {:>6} {:>6} {:>6} {:>6}", "", "times", "gaps", "p50", "p90", "p99", "max");
        let mut kinds: BTreeMap<String, (usize, Vec<Duration>)> = BTreeMap::new();
        for blow in self.runs.iter().flat_map(|r| &r.blows) {
            let single = blow.faults.len() == 1;
            let kind = kinds.entry(if single { blow.name() } else { "two at once".into() }).or_default();
            kind.0 += 1;
            kind.1.extend(&blow.gaps);
        }
        let mut all = vec![];
        for (name, (times, gaps)) in kinds {
            println!("{}", row(&name, times, &gaps));
            all.extend(gaps);
        }
        println!("{}", row("all", self.count(|r| r.blows.len()), &all));
        let summary = self.summary(&all);
        println!("\n{summary}");
    }

    fn summary(&self, gaps: &[Duration]) -> Value {
        let of = |wrong: &dyn Fn(&Run) -> bool| -> Vec<u64> {
            self.runs.iter().filter(|r| wrong(r)).map(|r| r.seed).collect()
        };
        let longest = self.runs.iter().flat_map(|r| &r.history.overlaps).filter_map(|o| o.lasted).max();
        json!({
            "against": format!("{:?}", self.elector).to_lowercase(),
            "profile": self.profile.name,
            "runs": self.runs.len(),
            "wallSeconds": self.since.elapsed().as_secs(),
            "faults": self.count(|r| r.blows.iter().map(|b| b.faults.len()).sum()),
            "overlaps": self.count(|r| r.history.overlaps.len()),
            "longestOverlapMs": longest.map(|d| d.as_millis() as u64),
            "strangers": self.count(|r| r.history.strangers.len()),
            "gaps": gaps.len(),
            "gapMs": quantiles(gaps).map(|d| d.as_millis() as u64),
            "watchdogLateMs": self.runs.iter().map(|r| r.lateness.as_millis() as u64).max(),
            "watchdogKills": self.count(|r| r.bites),
            "seedsOverlap": of(&|r| !r.history.overlaps.is_empty()),
            "seedsVoid": of(&|r| r.history.void.is_some()),
            "seedsStuck": of(&|r| r.history.void.is_none() && (!r.started || r.blows.iter().any(|b| !b.settled))),
            "seedsCostly": of(&|r| r.blows.iter().any(|b| b.is_costly(self.elector, self.profile))),
            "seeds": [self.runs.iter().map(|r| r.seed).min(), self.runs.iter().map(|r| r.seed).max()],
        })
    }

    fn count(&self, of: impl Fn(&Run) -> usize) -> usize {
        self.runs.iter().map(of).sum()
    }
}

fn row(name: &str, times: usize, gaps: &[Duration]) -> String {
    let [_, p50, p90, p99, max] = quantiles(gaps).map(|d| format!("{:.2}", d.as_secs_f64()));
    format!("{name:44} {times:5} {:5} {p50:>6} {p90:>6} {p99:>6} {max:>6}", gaps.len())
}

/// The least, the median, the 90th and the 99th of a hundred, and the most; zeros of nothing.
fn quantiles(values: &[Duration]) -> [Duration; 5] {
    let mut sorted = values.to_vec();
    sorted.sort();
    [0, 50, 90, 99, 100].map(|p| {
        let rank = (sorted.len() * p).div_ceil(100).saturating_sub(1);
        sorted.get(rank).copied().unwrap_or_default()
    })
}
