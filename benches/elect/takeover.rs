//! From one leader to the next: asked to let go, lost with its host, or killed and started anew.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::elector::{Elector, PROFILES, Profile};
use crate::group::{Cluster, Group};
use crate::network::within;
use crate::{say, spread};

const PLAIN: &str = "plain";

/// A group with a leader, every node in it.
pub(crate) fn begun<'a>(cluster: &'a Cluster, elector: Elector, profile: Profile) -> Group<'a> {
    let group = cluster.group(elector, profile);
    if elector == Elector::Hamaster {
        group.skip_first_wait();
    }
    group.start();
    group.settle().expect("a leader");
    group.nodes.iter().enumerate().for_each(|(n, _)| joined(&group, n));
    group
}

/// What the status file of a node says.
pub(crate) fn status(group: &Group<'_>, node: usize) -> Option<serde_json::Value> {
    let file = group.nodes[node].plan.place.join(format!("run/{}.json", group.name));
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Waits until a node leads or waits its turn.
pub(crate) fn joined(group: &Group<'_>, node: usize) {
    match group.elector {
        Elector::Hamaster => within(Duration::from_secs(120), "a place in the queue", || {
            status(group, node).is_some_and(|s| ["leading", "head", "queued"].iter().any(|state| s["state"] == *state))
        }),
        // They say nothing of themselves.
        Elector::Naive | Elector::Etcdctl => std::thread::sleep(Duration::from_secs(2)),
    }
}

/// Who leads.
pub(crate) fn holder(group: &Group<'_>) -> usize {
    let mut holder = None;
    within(Duration::from_secs(60), "a leader", || {
        holder = group.oracle.holder();
        holder.is_some()
    });
    holder.unwrap()
}

/// Waits for another leader than `old`.
fn successor(group: &Group<'_>, old: usize) {
    let limit = group.elector.takeover(group.profile) + Duration::from_secs(60);
    within(limit, "a successor", || group.oracle.holder().is_some_and(|h| h != old));
}

/// From each moment asked to the next manifest that appeared.
fn until_visible(group: &Group<'_>, asked: &[Instant]) -> Vec<Duration> {
    let changes = group.oracle.history().changes;
    let next = |at: &Instant| changes.iter().find(|c| c.present && c.at > *at).map(|c| c.at - *at);
    asked.iter().filter_map(next).collect()
}

/// The leader is asked to let another lead, again and again.
pub(crate) fn handoff(cluster: &Cluster) {
    let profile = Profile::named(PLAIN);
    for (elector, times) in [(Elector::Hamaster, 300), (Elector::Naive, 10), (Elector::Etcdctl, 30)] {
        let group = begun(cluster, elector, profile);
        let (begin, mut asked) = (Instant::now(), vec![]);
        for _ in 0..times {
            let leader = holder(&group);
            asked.push(Instant::now());
            match elector {
                Elector::Hamaster => group.nodes[leader].signal(Signal::USR1),
                Elector::Naive | Elector::Etcdctl => group.nodes[leader].stop(),
            }
            successor(&group, leader);
            if elector != Elector::Hamaster {
                group.nodes[leader].start();
            }
            joined(&group, leader);
        }
        say(
            elector,
            profile,
            &format!("asked to let go → next manifest visible: {}", spread(until_visible(&group, &asked))),
        );
        let history = group.oracle.history();
        if elector == Elector::Hamaster {
            let gaps = history.gaps(begin).into_iter().map(|(_, gap)| gap).collect();
            say(
                elector,
                profile,
                &format!("manifest gone → next visible (aim: p50 20 ms, p99 100 ms): {}", spread(gaps)),
            );
        }
        say(elector, profile, &format!("two manifests at once: {} times", history.overlaps.len()));
    }
}

/// The leader's host loses power; then also etcd's leader in the same instant.
pub(crate) fn crash(cluster: &Cluster) {
    for profile in PROFILES {
        for (with_etcd, times) in [(false, 3), (true, 3)] {
            lost(cluster, Elector::Hamaster, profile, with_etcd, times);
        }
    }
    lost(cluster, Elector::Naive, Profile::named(PLAIN), false, 3);
    lost(cluster, Elector::Naive, Profile::named(PLAIN), true, 3);
    lost(cluster, Elector::Etcdctl, Profile::named(PLAIN), false, 1);
}

fn lost(cluster: &Cluster, elector: Elector, profile: Profile, with_etcd: bool, times: usize) {
    let group = begun(cluster, elector, profile);
    let mut asked = vec![];
    for _ in 0..times {
        let leader = holder(&group);
        let member = cluster.etcd.leader();
        asked.push(Instant::now());
        if with_etcd {
            cluster.etcd.signal(member, Signal::KILL);
        }
        group.nodes[leader].crash();
        successor(&group, leader);
        cluster.etcd.heal();
        group.nodes[leader].start();
        joined(&group, leader);
    }
    let what = if with_etcd { "host and etcd leader lost" } else { "host lost" };
    let bound = profile.bound() + profile.bound() / 100 + Duration::from_millis(300);
    let aim =
        if elector == Elector::Hamaster { format!(" (aim: {:.1} s)", bound.as_secs_f64()) } else { String::new() };
    say(elector, profile, &format!("{what} → next manifest{aim}: {}", spread(until_visible(&group, &asked))));
}

/// The daemon alone is killed and started anew by its unit: the payload must not notice.
pub(crate) fn kill(cluster: &Cluster) {
    let profile = Profile::named(PLAIN);
    let group = begun(cluster, Elector::Hamaster, profile);
    let leader = holder(&group);
    let before = group.oracle.history().changes.len();
    let mut adopted = vec![];
    for _ in 0..20 {
        let (asked, boottime) = (Instant::now(), hamaster::host::clock::boottime().as_nanos());
        group.nodes[leader].signal(Signal::KILL);
        within(Duration::from_secs(30), "the daemon leads again", || {
            let status = status(&group, leader);
            status.is_some_and(|s| s["state"] == "leading" && s["renewedAtNs"].as_u64() > Some(boottime))
        });
        adopted.push(asked.elapsed());
    }
    let transitions = group.oracle.history().changes.len() - before;
    say(Elector::Hamaster, profile, &format!("SIGKILL → adopted (aim: 2 s): {}", spread(adopted)));
    say(Elector::Hamaster, profile, &format!("manifests that came or went meanwhile (aim: 0): {transitions}"));
}
