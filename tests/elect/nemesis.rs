//! Runs of random faults. A run is a fresh group and a schedule that follows from its seed alone: the same seed replays it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::chance::Chance;
use crate::elector::{Elector, Profile};
use crate::fault::Fault;
use crate::group::{Cluster, Group, NODES};
use crate::network::skipped;
use crate::node::Node;
use crate::report::{Blow, Report, Run};

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
    let mut chance = Chance::new(seed);
    let all = Fault::all(elector);
    let mut step = || {
        let mut faults = vec![chance.pick(&all)];
        if chance.below(4) == 0 {
            let second = chance.pick(&all);
            let both_about_etcd = faults[0].is_about_etcd() && second.is_about_etcd();
            if faults[0].combines() && second.combines() && second != faults[0] && !both_about_etcd {
                faults.push(second);
                // What an operator does must reach etcd: before anything that lasts.
                faults.sort_by_key(|f| f.lasts());
            }
        }
        let bound = elector.takeover(profile).as_millis() as u64;
        let short = 50 + chance.below(bound / 3);
        let long = bound + chance.below(2000);
        let lasting = Duration::from_millis(chance.pick(&[short, long, long]));
        let anyone = faults.iter().all(|f| f.is_about_a_node());
        let distance = if anyone && chance.below(4) == 0 { 1 + chance.below(NODES as u64 - 1) as usize } else { 0 };
        Step { faults, distance, lasting, draw: chance.next() }
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
        fresh: true,
        lasting: step.lasting,
        gaps: history.gaps(at).into_iter().map(|(_, gap)| gap).collect(),
        changes: history.changes.len() - before,
        settled: settled.is_some(),
    }
}

/// A whole run.
pub(crate) fn run(cluster: &Cluster, seed: u64, steps: Vec<Step>, elector: Elector, profile: Profile) -> Run {
    let started = Instant::now();
    let steppable = steps.iter().any(|s| s.faults.contains(&Fault::StepClock));
    let group = cluster.group_with_clocks(elector, profile, steppable);
    if elector == Elector::Hamaster {
        group.skip_first_wait();
    }
    group.start();
    let mut run = Run::new(seed);
    let mut leader = group.settle();
    run.started = leader.is_some();
    for step in steps {
        let Some(now) = leader else { break };
        let fresh = !run.blows.iter().flat_map(|b| &b.faults).any(|f| f.is_about_etcd());
        run.blows.push(Blow { fresh, ..play(&group, &step, now) });
        leader = group.oracle.holder();
    }
    run.history = group.oracle.history();
    run.bites = group.nodes.iter().map(Node::bites).sum();
    run.lateness = group.nodes.iter().map(Node::lateness).max().unwrap_or_default();
    if !run.is_good(elector, profile) {
        run.logs = group.logs();
    }
    run.took = started.elapsed();
    run
}

/// `tests/elect/run.sh` sets these.
fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(format!("HAMASTER_ELECT_{name}")).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("HAMASTER_ELECT_{name}={text}")))
}

/// The long run, `HAMASTER_ELECT_RUNS` of random faults; without that every fault once. Several clusters side by side.
#[test]
fn nemesis() {
    if skipped() {
        return;
    }
    let elector = Elector::named(&setting("AGAINST").unwrap_or("hamaster".to_owned()));
    let profile = Profile::named(&setting("PROFILE").unwrap_or("plain".to_owned()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first: u64 = setting("SEED").unwrap_or(now * 100_000);
    let runs: Vec<(u64, Vec<Step>)> = match setting::<u64>("RUNS") {
        Some(runs) => (first..first + runs).map(|seed| (seed, schedule(seed, elector, profile))).collect(),
        None => (0..).zip(each_once(elector, profile)).collect(),
    };
    let workers = setting("WORKERS").unwrap_or(4).min(runs.len());
    println!(
        "{} runs, profile {}, against {elector:?}, seeds from {first}, {workers} clusters",
        runs.len(),
        profile.name
    );

    let (next, report) = (AtomicUsize::new(0), Mutex::new(Report::new(elector, profile)));
    // With etcd's own default of a second a leader of the short profiles would fence whenever etcd's dies.
    let election = if profile.lease < Duration::from_secs(10) { 500 } else { 1000 };
    let end = setting::<u64>("MINUTES").map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let work = || {
        let mut cluster = None;
        while let Some((seed, steps)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if end.is_some_and(|end| Instant::now() > end) {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| {
                let cluster = cluster.get_or_insert_with(|| Cluster::new(Duration::from_millis(election)));
                run(cluster, *seed, steps.clone(), elector, profile)
            }));
            let run = result.unwrap_or_else(|panic| {
                // Whatever it was about, the cluster is not to be trusted any more.
                cluster = None;
                Run::void(*seed, panic.downcast_ref::<String>().map_or("panicked", String::as_str))
            });
            report.lock().unwrap().add(run);
        }
    };
    std::thread::scope(|scope| (0..workers).for_each(|_| _ = scope.spawn(work)));
    let report = report.into_inner().unwrap();
    report.print();
    match elector {
        Elector::Hamaster => assert!(report.is_good(), "see above"),
        _ => println!("{elector:?} is measured, not judged"),
    }
}

/// Every fault to the leader once, two in a run.
fn each_once(elector: Elector, profile: Profile) -> Vec<Vec<Step>> {
    let lasting = elector.takeover(profile) + Duration::from_secs(1);
    let step = |fault: &Fault| Step { faults: vec![*fault], distance: 0, lasting, draw: 5000 };
    Fault::all(elector).chunks(2).map(|faults| faults.iter().map(step).collect()).collect()
}

#[test]
fn a_seed_is_a_schedule() {
    let text = |seed| format!("{:?}", schedule(seed, Elector::Hamaster, Profile::named("fast")));
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}
