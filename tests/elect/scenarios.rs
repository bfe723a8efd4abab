//! One fault at a time, with what must follow from it beyond "never two and one again".

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::elector::{Elector, Profile};
use crate::fault::{Fault, Target};
use crate::group::{Cluster, Group, NODES};
use crate::network::{Cut, skipped, within};
use crate::node::Node;

/// Far beyond what anything here takes.
const SOON: Duration = Duration::from_secs(60);

fn cluster() -> Cluster {
    Cluster::new(Duration::from_millis(500))
}

/// A group that has a leader.
fn led<'a>(cluster: &'a Cluster, profile: &str) -> (Group<'a>, usize) {
    let group = cluster.group_with_clocks(Elector::Hamaster, Profile::named(profile), true);
    group.skip_first_wait();
    group.start();
    let leader = group.settle().unwrap_or_else(|| panic!("nobody leads\n{}", group.logs()));
    (group, leader)
}

fn clean(group: &Group<'_>) {
    let history = group.oracle.history();
    assert!(history.is_clean(), "{history:#?}\n{}", group.logs());
}

/// Says how long the last gap was.
fn last_gap(group: &Group<'_>, since: Instant, what: &str) -> Duration {
    let gaps = group.oracle.history().gaps(since);
    let gap = gaps.last().unwrap_or_else(|| panic!("the manifest never moved\n{}", group.logs())).1;
    println!(
        "{what}: {:.2} s without a manifest, B is {:.1} s",
        gap.as_secs_f64(),
        group.profile.bound().as_secs_f64()
    );
    gap
}

fn renews(node: &Node) {
    let last = node.status("renewedAtNs");
    within(SOON, "the leader renews", || node.status("renewedAtNs") != last);
}

/// The leader of a group, its token and its manifest's inode: what must stay the same.
struct Office<'a> {
    group: &'a Group<'a>,
    node: &'a Node,
    token: String,
    inode: u64,
}

impl<'a> Office<'a> {
    fn of(group: &'a Group<'a>, leader: usize) -> Self {
        let node = &group.nodes[leader];
        Self { group, node, token: node.status("token"), inode: fs::metadata(node.plan.manifest()).unwrap().ino() }
    }

    /// Awaits a renewal and finds that nothing changed.
    fn is_kept(&self, what: &str) {
        renews(self.node);
        let logs = || self.group.logs();
        assert_eq!(self.group.oracle.history().changes.len(), 1, "{what} moved the manifest\n{}", logs());
        assert_eq!(self.node.status("token"), self.token, "{what} cost the token\n{}", logs());
        let inode = fs::metadata(self.node.plan.manifest()).unwrap().ino();
        assert_eq!(inode, self.inode, "{what} touched the manifest\n{}", logs());
        clean(self.group);
    }
}

/// With the default times neither the daemon's death nor an operator's hand on the lesser keys touches the manifest.
#[test]
fn an_office_outlives_the_daemon() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new(Duration::from_secs(1));
    let (group, leader) = led(&cluster, "default");
    let (office, node) = (Office::of(&group, leader), &group.nodes[leader]);
    for _ in 0..3 {
        let (died, exits) = (Instant::now(), node.exits().len());
        node.signal(Signal::KILL);
        within(SOON, "the daemon is started anew", || node.exits().len() > exits && node.is_running());
        office.is_kept("SIGKILL");
        println!("killed and adopted: renews again after {:.2} s", died.elapsed().as_secs_f64());
    }
    node.signal(Signal::STOP);
    within(SOON, "the watchdog kills what is frozen", || node.bites() == 1);
    office.is_kept("SIGSTOP");
    for fault in [Fault::Revoke, Fault::Delete(Target::Queue), Fault::Junk(Target::Leader), Fault::StepClock] {
        fault.inject(&group, leader, 7000);
        office.is_kept(&fault.name());
    }
    within(SOON, "the step of the clock is noticed", || node.plan.log().contains("clock was stepped"));
}

/// With the default times the loss of etcd's leader, however it is lost, touches nothing. Each on a cluster of its own:
/// etcd needs seconds to be whole again, and two losses in a row are one of quorum.
#[test]
fn an_office_outlives_the_leader_of_etcd() {
    if skipped() {
        return;
    }
    for fault in [Fault::EtcdKill, Fault::EtcdFreeze, Fault::EtcdCut, Fault::EtcdDisk] {
        let cluster = Cluster::new(Duration::from_secs(1));
        let (group, leader) = led(&cluster, "default");
        let office = Office::of(&group, leader);
        fault.inject(&group, leader, 0);
        office.is_kept(&fault.name());
        office.is_kept(&fault.name());
    }
}

/// The head waits its predecessor's B from the last beat it saw, whoever else died.
#[test]
fn a_takeover_comes_when_promised() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    for fault in [Fault::Crash, Fault::BothLeaders] {
        let (group, leader) = led(&cluster, "plain");
        let since = Instant::now();
        fault.inject(&group, leader, 0);
        within(SOON, "another leads", || group.oracle.holder().is_some_and(|n| n != leader));
        last_gap(&group, since, &fault.name());
        group.heal();
        group.settle().expect("one leads again");
        clean(&group);
    }
}

/// Nobody knows whether the one whose key was deleted still leads: all wait as if it did.
#[test]
fn a_deleted_key_costs_the_whole_wait() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    for (target, cut) in [(Target::Leader, false), (Target::Everything, false), (Target::Leader, true)] {
        let (group, leader) = led(&cluster, "plain");
        let since = Instant::now();
        if cut {
            group.nodes[leader].plan.host.cut(Cut::Drop);
        }
        Fault::Delete(target).inject(&group, leader, 0);
        let deleted = Instant::now();
        within(SOON, "the leader steps down", || group.oracle.holder().is_none());
        within(SOON, "one leads again", || group.oracle.holder().is_some());
        let waited = deleted.elapsed();
        assert!(waited >= group.profile.bound(), "{waited:?} is too early\n{}", group.logs());
        last_gap(&group, since, &format!("{target:?} deleted{}", if cut { ", leader cut off" } else { "" }));
        clean(&group);
    }
}

#[test]
fn a_clean_release_hands_over_at_once() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let (group, mut leader) = led(&cluster, "plain");
    let mut gaps: Vec<Duration> = vec![];
    for _ in 0..10 {
        let since = Instant::now();
        group.nodes[leader].stop();
        within(SOON, "another leads", || group.oracle.holder().is_some_and(|n| n != leader));
        gaps.push(last_gap(&group, since, "stopped"));
        let old = &group.nodes[leader];
        within(SOON, "the daemon ends", || !old.is_running());
        assert_eq!(old.exits().last().unwrap().code(), Some(0), "{}", old.plan.log());
        old.start();
        leader = group.settle().unwrap();
        within(SOON, "it waits again", || ["queued", "head"].contains(&old.status("state").as_str()));
    }
    gaps.sort();
    println!("handover: median {:?}, most {:?}", gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    clean(&group);
}

/// `systemctl stop` of a frozen leader: it is killed without having let go, and nobody starts it again.
#[test]
fn a_frozen_leader_that_is_stopped_leaves_nothing() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let (group, leader) = led(&cluster, "plain");
    let node = &group.nodes[leader];
    node.signal(Signal::STOP);
    node.stop();
    within(SOON, "it is killed", || !node.exits().is_empty());
    within(SOON, "another leads", || group.oracle.holder().is_some_and(|n| n != leader));
    clean(&group);
}

#[test]
fn who_cannot_write_does_not_lead() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let (group, leader) = led(&cluster, "plain");
    let unfit = (leader + 1) % NODES;
    Fault::Unwritable.inject(&group, unfit, 0);
    within(SOON, "it knows that it cannot", || group.nodes[unfit].status("eligible") == "false");
    Fault::Crash.inject(&group, leader, 0);
    within(SOON, "the third leads", || group.oracle.holder() == Some(NODES - leader - unfit));
    clean(&group);
}

/// Told to end while its manifest cannot be removed, the leader must neither let go nor let another in.
#[test]
fn what_cannot_be_removed_is_not_let_go() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let (group, leader) = led(&cluster, "plain");
    let key = group.key("leader");
    let created =
        || cluster.etcd.ctl(&["get", &key, "-w", "fields"]).lines().find(|l| l.contains("Create")).map(str::to_owned);
    let before = created();
    Fault::UnwritableTerminate.inject(&group, leader, 0);
    // A stretch of time in which nothing may happen.
    std::thread::sleep(group.profile.bound() + Duration::from_secs(3));
    assert_eq!(group.oracle.holder(), Some(leader), "{}", group.logs());
    assert_eq!(created(), before, "the key stays\n{}", group.logs());
    group.heal();
    group.settle().expect("one leads again");
    clean(&group);
}

/// A manifest of an earlier life goes before anything else, etcd or not.
#[test]
fn what_is_left_of_an_earlier_life_goes_first() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let (group, leader) = led(&cluster, "plain");
    (0..2).for_each(|m| cluster.etcd.signal(m, Signal::KILL));
    // Another boot: there is nothing to go on with.
    let node = &group.nodes[leader];
    node.crash();
    let host = group.oracle.history().changes.len();
    fs::write(node.plan.manifest(), "left over\n").unwrap();
    node.start();
    within(SOON, "it is removed", || !node.plan.manifest().exists());
    assert_eq!(group.oracle.history().changes.len(), host + 2);
    group.heal();
    group.settle().expect("one leads again");
}

#[test]
fn one_identity_is_one_process() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let (group, leader) = led(&cluster, "plain");
    let twin = &group.nodes[(leader + 1) % NODES];
    twin.stop();
    within(SOON, "it ends", || !twin.is_running());
    twin.rewrite(|text| text.replace(&format!("id: {}", twin.plan.id), &format!("id: n{leader}")));
    let exits = twin.exits().len();
    twin.start();
    within(SOON, "the twin gives up", || twin.exits().len() > exits);
    assert_eq!(twin.exits()[exits].code(), Some(3), "{}", twin.plan.log());
    assert_eq!(group.oracle.holder(), Some(leader));
    assert_eq!(group.oracle.history().changes.len(), 1, "{}", group.logs());
}

/// While the group is paused nobody becomes leader, whatever becomes of the one there is.
#[test]
fn a_paused_group_gets_no_new_leader() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let (group, leader) = led(&cluster, "plain");
    let other = &group.nodes[(leader + 1) % NODES];
    other.ask(&["pause", &group.name]);
    within(SOON, "the pause is known", || other.status("paused") == "true");
    Fault::Crash.inject(&group, leader, 0);
    // A stretch of time in which nothing may happen.
    std::thread::sleep(group.profile.bound() + Duration::from_secs(3));
    assert_eq!(group.oracle.holder(), None, "{}", group.logs());
    other.ask(&["resume", &group.name]);
    within(SOON, "one leads again", || group.oracle.holder().is_some());
    clean(&group);
}

#[test]
fn an_operator_chooses_the_next() {
    if skipped() {
        return;
    }
    let cluster = cluster();
    let (group, leader) = led(&cluster, "plain");
    let (heir, other) = (&group.nodes[(leader + 2) % NODES], &group.nodes[(leader + 1) % NODES]);
    let since = Instant::now();
    other.ask(&["transfer", &group.name, "--to", &heir.plan.id]);
    within(SOON, "the heir leads", || group.oracle.holder() == Some((leader + 2) % NODES));
    last_gap(&group, since, "transfer");
    let since = Instant::now();
    heir.ask(&["resign", &group.name]);
    within(SOON, "another leads", || group.oracle.holder().is_some_and(|n| n != (leader + 2) % NODES));
    last_gap(&group, since, "resign");
    clean(&group);
}
