//! One attempt at one member, and what its answer means.

use std::collections::BTreeSet;
use std::time::Duration;

use hamaster::elect::config::Endpoint;
use hamaster::elect::event::Interest;
use hamaster::elect::store::{StoreErrorKind, StoreEvent};
use hamaster::elect::txn::{self, Answer};
use hamaster::elect::view::Key;
use rustix::process::Signal;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;

use crate::etcd::Cluster;
use crate::proxy::Proxy;
use crate::{ATTEMPT, GROUP, Watching, beat, done, lead, leader, nop, run};

#[test]
fn a_transaction_happens_whole_or_says_how_things_are() {
    let cluster = Cluster::new(3);
    run(async {
        let store = cluster.store();
        let (token, _) = done(&store, &lead(1)).await;
        // Somebody leads already.
        let Answer::Refused(view) = store.run(GROUP, &lead(9), ATTEMPT).await else { panic!("not refused") };
        let found = view.leader.as_ref().unwrap();
        assert_eq!((found.create, found.value.as_ref().unwrap().beat), (token, 1));
        assert_eq!(view.revision, token, "a refusal writes nothing");
        // The token holds through renewals.
        let (renewed, _) = done(&store, &txn::renew(token, &leader(2))).await;
        assert_eq!(renewed, token + 1);
        assert!(matches!(store.run(GROUP, &txn::renew(token + 1, &leader(3)), ATTEMPT).await, Answer::Refused(_)));
        let view = store.read(GROUP, ATTEMPT).await.unwrap();
        let found = view.leader.unwrap();
        assert_eq!((found.create, found.modified, found.value.unwrap().beat), (token, renewed, 2));
        // Another group is another world.
        assert!(matches!(store.run("other", &lead(1), ATTEMPT).await, Answer::Done { .. }));
        assert!(store.cluster_id().is_some());
        assert_eq!(store.health(), None);
    });
}

#[test]
fn an_answer_that_never_came_leaves_it_open_and_is_not_retried() {
    let cluster = Cluster::new(3);
    let local = LocalSet::new();
    run(local.run_until(async {
        let proxy = Proxy::before(cluster.endpoint(0)).await;
        let store = cluster.store_at(&[proxy.endpoint.clone(), cluster.endpoint(1)]);
        let (token, _) = done(&store, &lead(1)).await;
        proxy.swallow(true);
        assert_eq!(store.run(GROUP, &txn::renew(token, &leader(2)), ATTEMPT).await, Answer::Unknown);
        // The next member is asked next, and knows: it happened, once.
        let view = store.read(GROUP, ATTEMPT).await.unwrap();
        let found = view.leader.unwrap();
        assert_eq!((found.value.unwrap().beat, found.modified), (2, token + 1));
        assert_eq!(view.revision, token + 1);
    }));
}

#[test]
fn a_connection_that_ended_while_idle_costs_no_attempt() {
    let mut cluster = Cluster::new(1);
    run(async {
        let store = cluster.store();
        done(&store, &nop()).await;
        cluster.kill(0);
        cluster.start(0);
        cluster.wait();
        assert_eq!(store.run(GROUP, &nop(), ATTEMPT).await, Answer::Done { revision: 1 }, "{:?}", store.health());
    });
}

#[test]
fn an_outage_leaves_no_stale_error_behind() {
    let mut cluster = Cluster::new(1);
    run(async {
        let store = cluster.store();
        done(&store, &nop()).await;
        cluster.kill(0);
        for _ in 0..3 {
            assert_eq!(store.run(GROUP, &nop(), ATTEMPT).await, Answer::Unknown);
        }
        assert_eq!(store.health().unwrap().0.kind, StoreErrorKind::Unreachable);
        cluster.start(0);
        cluster.wait();
        assert_eq!(done(&store, &nop()).await.1, 1);
        assert_eq!(store.health(), None);
    });
}

#[test]
fn a_paused_member_costs_one_attempt_and_a_dead_one_too() {
    let mut cluster = Cluster::new(3);
    let (follower, endpoints) = cluster.follower_first();
    run(async {
        let store = cluster.store_at(&endpoints);
        done(&store, &nop()).await;
        cluster.signal(follower, Signal::STOP);
        assert_eq!(store.run(GROUP, &nop(), ATTEMPT).await, Answer::Unknown);
        assert_eq!(store.run(GROUP, &nop(), ATTEMPT).await, Answer::Done { revision: 1 });
        // It stays where it was answered.
        for _ in 0..5 {
            assert_eq!(done(&store, &nop()).await.1, 1);
        }
        cluster.signal(follower, Signal::CONT);
        let store = cluster.store_at(&endpoints);
        done(&store, &nop()).await;
        cluster.kill(follower);
        assert!(done(&store, &nop()).await.1 <= 2);
    });
}

#[test]
fn whichever_member_fails_the_renewals_go_on() {
    let mut cluster = Cluster::new(3);
    run(async {
        let store = cluster.store();
        let (token, _) = done(&store, &lead(0)).await;
        for member in 0..3 {
            cluster.signal(member, Signal::STOP);
            done(&store, &txn::renew(token, &leader(1))).await;
            cluster.signal(member, Signal::CONT);
            cluster.wait();
            cluster.kill(member);
            done(&store, &txn::renew(token, &leader(2))).await;
            cluster.start(member);
            cluster.wait();
        }
    });
}

#[test]
fn an_outage_is_not_hammered_at_and_not_shouted_about() {
    let mut cluster = Cluster::new(3);
    run(async {
        let store = cluster.store();
        done(&store, &nop()).await;
        let (tell, mut heard) = unbounded_channel();
        let session = store.session(Duration::from_secs(5), tell);
        let watches = [(); 4].map(|()| Watching::new(&store, Interest::Group, Duration::from_secs(1)));
        while session.lease().is_none() {
            heard.recv().await;
        }
        (0..3).for_each(|m| cluster.kill(m));
        let total = || store.requests().iter().map(|(_, _, n)| n).sum::<u64>();
        let groups = async {
            loop {
                store.run(GROUP, &nop(), ATTEMPT).await;
            }
        };
        // The onset is noticed by all at once.
        let _ = tokio::time::timeout(Duration::from_secs(1), groups).await;
        let before = total();
        let groups = async {
            loop {
                store.run(GROUP, &nop(), ATTEMPT).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(4), groups).await;
        // 5 in a second; a window's edges may catch one burst more.
        assert!(total() - before <= 25, "{} attempts in 4 s", total() - before);
        let mut troubles = 0;
        while let Ok(event) = heard.try_recv() {
            troubles += u32::from(matches!(event, StoreEvent::Trouble(_)));
        }
        assert!((1..=2).contains(&troubles), "{troubles} complaints");
        (0..3).for_each(|m| cluster.start(m));
        while heard.recv().await != Some(StoreEvent::Back) {}
        drop(watches);
    });
}

#[test]
fn the_operator_writes_lists_and_deletes() {
    let cluster = Cluster::new(3);
    let (follower, endpoints) = cluster.follower_first();
    run(async {
        // Member after member, within one deadline.
        cluster.signal(follower, Signal::STOP);
        let store = cluster.store_at(&endpoints);
        let within = Duration::from_secs(10);
        assert_eq!(store.groups(within).await.unwrap(), BTreeSet::new());
        let pause = br#"{"by":"me"}"#.to_vec();
        store.put_control("a", Key::Pause, pause.clone(), None, within).await.unwrap();
        store
            .put_control("b", Key::Transfer, br#"{"to":"m2"}"#.to_vec(), Some(Duration::from_secs(2)), within)
            .await
            .unwrap();
        assert_eq!(store.groups(within).await.unwrap(), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert_eq!(store.read("a", ATTEMPT).await.unwrap().pause.unwrap().value.unwrap().by, "me");
        assert!(store.delete("a", Key::Pause, within).await.unwrap());
        assert!(!store.delete("a", Key::Pause, within).await.unwrap());
        // The transfer's time runs out by itself.
        while store.read("b", ATTEMPT).await.is_ok_and(|v| v.transfer.is_some()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(store.groups(within).await.unwrap(), BTreeSet::new());
    });
}

#[test]
fn a_call_ends_in_time_whatever_is_there() {
    run(async {
        // Accepts and says nothing; and an address nobody answers at all.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        for endpoint in [
            Endpoint { tls: false, host: "127.0.0.1".into(), port },
            Endpoint { tls: false, host: "192.0.2.1".into(), port: 2379 },
            Endpoint { tls: false, host: "nowhere.invalid".into(), port: 2379 },
        ] {
            let store = hamaster::elect::store::Store::new(&[endpoint], None).unwrap();
            let answer = tokio::time::timeout(ATTEMPT * 20, store.run(GROUP, &beat(1), ATTEMPT)).await;
            assert_eq!(answer, Ok(Answer::Unknown));
        }
    });
}
