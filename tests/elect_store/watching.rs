//! A watch tells everything and invents nothing.

use std::time::Duration;

use hamaster::elect::config::Endpoint;
use hamaster::elect::event::Interest;
use hamaster::elect::record::{Candidate, Identity, LeaseId};
use hamaster::elect::store::{Store, StoreEvent};
use hamaster::elect::txn::{self, Op, Txn};
use hamaster::elect::view::Key;
use rustix::process::Signal;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;

use crate::etcd::Cluster;
use crate::proxy::Proxy;
use crate::{ATTEMPT, GROUP, Watching, beat, done, lead, nop, run};

/// 2h + o of a fast profile.
const SILENCE: Duration = Duration::from_millis(1500);

/// A store of another host: it asks the other members.
fn writer(cluster: &Cluster, but: u16) -> Store {
    let others: Vec<_> = (0..cluster.size()).filter(|m| *m != but).map(|m| cluster.endpoint(m)).collect();
    cluster.store_at(&others)
}

/// Waits until an event came through the stream: a fault before that would only hit the read.
async fn flows(writer: &Store, watch: &mut Watching, n: u64) {
    watch.beat(n).await;
    done(writer, &beat(n)).await;
    let event = watch.next().await;
    assert!(matches!(event, StoreEvent::Changed(_)), "{event:?}");
}

/// Someone leads, and the member that tells a watch of it freezes. The store of another host, and the watch.
async fn freeze_under_a_watch(cluster: &Cluster, member: u16, endpoints: &[Endpoint]) -> (Store, Watching) {
    let other = writer(cluster, member);
    done(&other, &lead(1)).await;
    let mut watch = Watching::new(&cluster.store_at(endpoints), Interest::Group, SILENCE);
    flows(&other, &mut watch, 1).await;
    cluster.signal(member, Signal::STOP);
    (other, watch)
}

#[test]
fn first_the_group_then_every_change() {
    let cluster = Cluster::new(3);
    run(async {
        let store = cluster.store();
        let mut watch = Watching::new(&store, Interest::Group, SILENCE);
        let StoreEvent::Seen(view) = watch.next().await else { panic!("not read first") };
        assert_eq!((view.leader, view.candidates.len()), (None, 0));
        let (token, _) = done(&store, &lead(1)).await;
        watch.beat(1).await;
        done(&store, &beat(2)).await;
        watch.beat(2).await;
        done(&store, &Txn { when: vec![], then: vec![Op::Delete(Key::Leader)] }).await;
        let StoreEvent::Changed(change) = watch.next().await else { panic!("no change") };
        assert_eq!((change.key, change.bytes, change.create, change.modified), (Key::Leader, None, 0, token + 2));
    });
}

#[test]
fn a_member_that_dies_or_freezes_hides_nothing() {
    let mut cluster = Cluster::new(3);
    let (follower, endpoints) = cluster.follower_first();
    run(async {
        let (other, mut watch) = freeze_under_a_watch(&cluster, follower, &endpoints).await;
        done(&other, &beat(2)).await;
        watch.beat(2).await;
        cluster.signal(follower, Signal::CONT);
        cluster.wait();
        // A new watch, again at the follower.
        let store = cluster.store_at(&endpoints);
        let mut watch = Watching::new(&store, Interest::Group, SILENCE);
        flows(&other, &mut watch, 2).await;
        cluster.kill(follower);
        done(&other, &beat(3)).await;
        watch.beat(3).await;
    });
}

#[test]
fn a_compaction_is_not_a_deletion() {
    let mut cluster = Cluster::new(3);
    let (follower, endpoints) = cluster.follower_first();
    run(async {
        let (other, mut watch) = freeze_under_a_watch(&cluster, follower, &endpoints).await;
        let mut last = 0;
        for n in 2..20 {
            last = done(&other, &beat(n)).await.0;
        }
        compact(&cluster, last);
        cluster.kill(follower);
        cluster.start(follower);
        done(&other, &beat(20)).await;
        watch.beat(20).await;
    });
}

fn compact(cluster: &Cluster, revision: i64) {
    // Any one member: the first may be stopped.
    for member in 0..cluster.size() {
        let url = cluster.endpoint(member).to_string();
        if cluster.try_ctl(&["--endpoints", &url, "--command-timeout", "2s", "compact", &revision.to_string()]).0 {
            return;
        }
    }
    panic!("cannot compact");
}

#[test]
fn a_watch_that_begins_before_the_compaction_reads_again() {
    let cluster = Cluster::with(1, false, &[]);
    let local = LocalSet::new();
    run(local.run_until(async {
        let other = cluster.store();
        done(&other, &lead(1)).await;
        let proxy = Proxy::before(cluster.endpoint(0)).await;
        let store = cluster.store_at(std::slice::from_ref(&proxy.endpoint));
        // The answer to the read passes, the request for the watch does not, until its start is compacted.
        proxy.hold_after("\"beat\":1");
        let mut watch = Watching::new(&store, Interest::Group, Duration::from_secs(3600));
        proxy.holding().await;
        for n in 2..5 {
            done(&other, &beat(n)).await;
        }
        let (last, _) = done(&other, &beat(5)).await;
        compact(&cluster, last);
        proxy.release();
        watch.beat(5).await;
    }));
}

#[test]
fn another_cluster_is_said_to_be_one() {
    let mut cluster = Cluster::new(3);
    run(async {
        let store = cluster.store();
        for n in 1..5 {
            done(&store, &beat(n)).await;
        }
        let before = store.cluster_id();
        let mut watch = Watching::new(&store, Interest::Group, SILENCE);
        watch.beat(4).await;
        cluster.replace();
        let mut replaced = false;
        loop {
            match watch.next().await {
                StoreEvent::Replaced => replaced = true,
                StoreEvent::Seen(view) if view.leader.is_none() => break,
                event => assert!(!matches!(event, StoreEvent::Changed(_)), "nothing was deleted: {event:?}"),
            }
        }
        assert!(replaced, "an empty group, and no word that the cluster is another");
        assert_ne!(store.cluster_id(), before);
    });
}

#[test]
fn a_cluster_set_back_is_another_one() {
    let mut cluster = Cluster::new(1);
    run(async {
        let store = cluster.store();
        done(&store, &lead(1)).await;
        cluster.kill(0);
        let (data, backup) = (cluster.data(0), cluster.dir.path().join("backup"));
        let copy = |from: &std::path::Path, to: &std::path::Path| {
            assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
        };
        copy(&data, &backup);
        cluster.start(0);
        cluster.wait();
        let mut watch = Watching::new(&store, Interest::Group, SILENCE);
        watch.beat(1).await;
        for n in 2..6 {
            done(&store, &beat(n)).await;
        }
        watch.beat(5).await;
        cluster.kill(0);
        std::fs::remove_dir_all(&data).unwrap();
        copy(&backup, &data);
        cluster.start(0);
        cluster.wait();
        loop {
            match watch.next().await {
                StoreEvent::Replaced => break,
                event => assert!(!matches!(event, StoreEvent::Changed(_)), "not a change: {event:?}"),
            }
        }
        watch.beat(1).await;
    });
}

#[test]
fn a_renewal_by_another_cluster_is_no_renewal() {
    let mut cluster = Cluster::new(1);
    run(async {
        let store = cluster.store();
        let (token, _) = done(&store, &lead(1)).await;
        cluster.replace();
        // The same token by accident: the first write there has the same revision.
        let (same, _) = done(&cluster.store(), &lead(1)).await;
        assert_eq!(same, token);
        let renewal = txn::renew(token, &crate::leader(2));
        assert_eq!(store.run(GROUP, &renewal, ATTEMPT).await, hamaster::elect::txn::Answer::Unknown);
    });
}

#[test]
fn an_idle_standby_asks_nothing_while_the_leader_renews() {
    let cluster = Cluster::new(3);
    run(async {
        let leader = cluster.store();
        done(&leader, &lead(0)).await;
        let standby = cluster.store();
        let mut watch = Watching::new(&standby, Interest::Group, Duration::from_secs(20));
        watch.beat(0).await;
        done(&leader, &beat(1)).await;
        watch.beat(1).await;
        let before = standby.requests();
        for n in 2..50 {
            done(&leader, &beat(n)).await;
            watch.beat(n).await;
        }
        assert_eq!(standby.requests(), before);
    });
}

#[test]
fn a_waiter_hears_of_its_own_key_its_predecessors_and_the_operators_only() {
    let cluster = Cluster::new(3);
    run(async {
        let store = cluster.store();
        let (tell, mut heard) = unbounded_channel();
        let sessions = [(); 3].map(|()| store.session(Duration::from_secs(30), tell.clone()));
        let mut leases: Vec<LeaseId> = vec![];
        while leases.len() < 3 {
            if let Some(StoreEvent::Lease(Some(lease))) = heard.recv().await {
                leases.push(lease);
            }
        }
        let text = |t: &str| t.to_owned();
        let who = Identity { id: text("m1"), machine_id: text("m"), boot_id: text("b"), nonce: text("n") };
        let me = Candidate { who, priority: 0, bias: 0 };
        for lease in &leases {
            done(&store, &txn::enqueue(*lease, &me)).await;
        }
        let [before, own, after] = leases[..] else { panic!() };
        let mut watch = Watching::new(&store, Interest::Queue { own, before }, SILENCE);
        let StoreEvent::Seen(view) = watch.next().await else { panic!("not read first") };
        assert_eq!(view.candidates.len(), 3);
        done(&store, &beat(1)).await;
        done(&store, &txn::dequeue(after)).await;
        store.put_control(GROUP, Key::Pause, b"{\"by\":\"me\"}".to_vec(), None, ATTEMPT * 4).await.unwrap();
        let mut heard = vec![];
        for lease in [before, own] {
            done(&store, &nop()).await;
            done(&store, &txn::dequeue(lease)).await;
        }
        // Each key has a watch of its own: what comes first is nobody's promise.
        let awaited = [(Key::Candidate(own), true), (Key::Candidate(before), true), (Key::Pause, false)];
        while !awaited.iter().all(|event| heard.contains(event)) {
            match watch.next().await {
                StoreEvent::Changed(c) => heard.push((c.key, c.bytes.is_none())),
                event => panic!("{event:?}"),
            }
        }
        assert!(heard.iter().all(|(key, _)| *key != Key::Leader && *key != Key::Candidate(after)), "{heard:?}");
        drop(sessions);
    });
}
