//! Runs of random faults. A run is a fresh group and a schedule that follows from its seed alone: the same seed replays it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::elector::{Elector, Profile};
use crate::fault::Fault;
use crate::group::{Cluster, Group, NODES};
use crate::report::{Blow, Report, Run};

/// What a run is drawn from: splitmix64.
pub(crate) struct Dice(u64);

impl Dice {
    /// The same seed, the same numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n` − 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.number() % n
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// One or two faults at once, for how long.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// What.
    pub(crate) faults: Vec<Fault>,
    /// To the leader; otherwise to the node this many places after it.
    pub(crate) distance: usize,
    /// Until it is healed.
    pub(crate) lasting: Duration,
    /// For what else a fault must choose.
    pub(crate) draw: u64,
}

/// What happens in the run of a seed.
pub(crate) fn schedule(seed: u64, elector: Elector, profile: Profile) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let all = Fault::all(elector);
    let mut step = || {
        let mut faults = vec![dice.pick(&all)];
        if dice.below(4) == 0 {
            let second = dice.pick(&all);
            let both_about_etcd = faults[0].is_about_etcd() && second.is_about_etcd();
            if faults[0].combines() && second.combines() && second != faults[0] && !both_about_etcd {
                faults.push(second);
                // What an operator does must reach etcd: before anything that lasts.
                faults.sort_by_key(|f| f.lasts());
            }
        }
        let bound = elector.takeover(profile).as_millis() as u64;
        let short = 50 + dice.below(bound / 3);
        let long = bound + dice.below(2000);
        let lasting = Duration::from_millis(dice.pick(&[short, long, long]));
        let anyone = faults.iter().all(|f| f.is_about_a_node());
        let distance = if anyone && dice.below(4) == 0 { 1 + dice.below(NODES as u64 - 1) as usize } else { 0 };
        Step { faults, distance, lasting, draw: dice.number() }
    };
    vec![step(), step()]
}

/// Plays a step on a settled group: injects, waits, heals, waits until one leads again.
pub(crate) fn play(group: &Group<'_>, step: &Step, leader: usize) -> Blow {
    let node = (leader + step.distance) % NODES;
    let before = group.oracle.history().changes.len();
    let at = Instant::now();
    step.faults.iter().for_each(|f| f.inject(group, node, step.draw));
    if step.faults.iter().any(|f| f.lasts()) {
        // A fault is a stretch of time, not a condition.
        std::thread::sleep(step.lasting);
    } else {
        std::thread::sleep(Duration::from_millis(1500));
    }
    group.heal();
    let settled = group.settle();
    let history = group.oracle.history();
    Blow {
        faults: step.faults.clone(),
        on_leader: step.distance == 0,
        lasting: step.lasting,
        gaps: history.gaps(at).into_iter().map(|(_, gap)| gap).collect(),
        changes: history.changes.len() - before,
        settled: settled.is_some(),
    }
}

/// A whole run.
pub(crate) fn run(cluster: &Cluster, seed: u64, elector: Elector, profile: Profile) -> Run {
    let started = Instant::now();
    let steps = schedule(seed, elector, profile);
    let steppable = steps.iter().any(|s| s.faults.contains(&Fault::StepClock));
    let group = cluster.group_with_clocks(elector, profile, steppable);
    if elector == Elector::Hamaster {
        group.skip_first_wait();
    }
    group.start();
    let mut run = Run::new(seed, steps);
    let mut leader = group.settle();
    run.started = leader.is_some();
    for step in run.steps.clone() {
        let Some(now) = leader else { break };
        run.blows.push(play(&group, &step, now));
        leader = group.oracle.holder();
    }
    run.history = group.oracle.history();
    run.bites = group.nodes.iter().map(crate::node::Node::bites).sum();
    if !run.is_good(elector, profile) {
        run.logs = group.logs();
    }
    run.took = started.elapsed();
    run
}

/// `tests/elect/run.sh` sets these; a short set runs without them.
fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    let text = std::env::var(format!("HAMASTER_ELECT_{name}"));
    text.map_or(default, |t| t.parse().unwrap_or_else(|_| panic!("HAMASTER_ELECT_{name}={t}")))
}

/// The long run: `HAMASTER_ELECT_RUNS` of them, several clusters side by side.
#[test]
fn nemesis() {
    let runs: u64 = setting("RUNS", 4);
    let elector = Elector::named(&setting("AGAINST", "hamaster".to_owned()));
    let profile = Profile::named(&setting("PROFILE", "plain".to_owned()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed: u64 = setting("SEED", now * 100_000);
    let workers = setting("WORKERS", 4).min(runs);
    println!("{runs} runs, profile {}, against {elector:?}, seeds from {seed}, {workers} clusters", profile.name);

    let (next, report) = (AtomicU64::new(0), Mutex::new(Report::new(elector, profile)));
    let election = if profile.lease < Duration::from_secs(10) { 500 } else { 1000 };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut cluster = None;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= runs {
                        return;
                    }
                    let seed = seed + number;
                    let result = catch_unwind(AssertUnwindSafe(|| {
                        let cluster = cluster.get_or_insert_with(|| Cluster::new(Duration::from_millis(election)));
                        run(cluster, seed, elector, profile)
                    }));
                    let run = result.unwrap_or_else(|panic| {
                        let why = panic.downcast_ref::<String>().map_or("panicked", String::as_str).to_owned();
                        // Whatever the run was about, the cluster is not to be trusted any more.
                        cluster = None;
                        Run::void(seed, schedule(seed, elector, profile), why)
                    });
                    report.lock().unwrap().add(number, run);
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    report.print();
    match elector {
        Elector::Hamaster => assert!(report.is_good(), "see above"),
        _ => println!("{elector:?} is measured, not judged"),
    }
}

#[test]
fn a_seed_is_a_schedule() {
    let text = |seed| format!("{:?}", schedule(seed, Elector::Hamaster, Profile::named("fast")));
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}
