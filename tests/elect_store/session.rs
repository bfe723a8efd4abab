//! The lease, and the certificates it is held with.

use std::time::Duration;

use hamaster::elect::record::LeaseId;
use hamaster::elect::store::{StoreErrorKind, StoreEvent};
use hamaster::elect::txn::Answer;
use rcgen::ExtendedKeyUsagePurpose as Use;
use rustix::process::Signal;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::LocalSet;

use crate::etcd::{Ca, Cluster};
use crate::proxy::Proxy;
use crate::{ATTEMPT, GROUP, done, nop, run};

const TTL: Duration = Duration::from_secs(3);

async fn lease(heard: &mut UnboundedReceiver<StoreEvent>) -> Option<LeaseId> {
    loop {
        if let StoreEvent::Lease(lease) = heard.recv().await.unwrap() {
            return lease;
        }
    }
}

#[test]
fn a_lease_that_is_lost_is_said_to_be_and_replaced() {
    let cluster = Cluster::new(3);
    run(async {
        let store = cluster.store();
        let (tell, mut heard) = unbounded_channel();
        let session = store.session(TTL, tell);
        let first = lease(&mut heard).await.unwrap();
        assert_eq!(session.lease(), Some(first));
        cluster.ctl(&["lease", "revoke", &first.to_string()]);
        assert_eq!(lease(&mut heard).await, None);
        let second = lease(&mut heard).await.unwrap();
        assert_ne!(first, second);
        // Given back on the way out.
        session.close().await;
        assert!(!cluster.ctl(&["lease", "list"]).contains(&second.to_string()));
    });
}

#[test]
fn a_frozen_member_does_not_cost_the_lease() {
    let cluster = Cluster::new(3);
    let (follower, endpoints) = cluster.follower_first();
    run(async {
        let store = cluster.store_at(&endpoints);
        let (tell, mut heard) = unbounded_channel();
        let session = store.session(TTL, tell);
        let first = lease(&mut heard).await;
        cluster.signal(follower, Signal::STOP);
        // Longer than it would live without a renewal.
        let lost = tokio::time::timeout(TTL * 3, lease(&mut heard)).await;
        assert!(lost.is_err(), "{lost:?}");
        assert_eq!(session.lease(), first);
    });
}

#[test]
fn a_lease_without_answers_is_given_up_by_the_own_clock() {
    let cluster = Cluster::new(3);
    run(async {
        let store = cluster.store();
        let (tell, mut heard) = unbounded_channel();
        let _session = store.session(TTL, tell);
        let first = lease(&mut heard).await;
        (0..3).for_each(|m| cluster.signal(m, Signal::STOP));
        assert_eq!(lease(&mut heard).await, None);
        (0..3).for_each(|m| cluster.signal(m, Signal::CONT));
        assert_ne!(lease(&mut heard).await, first);
    });
}

#[test]
fn a_predecessors_lease_is_given_back() {
    let cluster = Cluster::new(1);
    run(async {
        let store = cluster.store();
        let (tell, mut heard) = unbounded_channel();
        drop(store.session(TTL * 20, tell.clone()));
        let session = store.session(TTL * 20, tell.clone());
        let left = lease(&mut heard).await.unwrap();
        drop(session);
        store.revoke(left, Duration::from_secs(5)).await.unwrap();
        assert!(!cluster.ctl(&["lease", "list"]).contains(&left.to_string()));
        // Once more is no mistake.
        store.revoke(left, Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn certificates_change_under_a_session_and_nothing_fails() {
    let cluster = Cluster::new(3);
    let local = LocalSet::new();
    run(local.run_until(async {
        let proxy = Proxy::before(cluster.endpoint(0)).await;
        let store = cluster.store_at(std::slice::from_ref(&proxy.endpoint));
        let (tell, mut heard) = unbounded_channel();
        let _session = store.session(TTL, tell);
        let first = lease(&mut heard).await;
        done(&store, &nop()).await;
        let sign = |ca: &Ca| ca.sign(cluster.dir.path(), "client", &[], &[Use::ClientAuth]);
        let renew = async |until: &dyn Fn() -> bool| {
            while !until() {
                assert!(matches!(store.run(GROUP, &nop(), ATTEMPT).await, Answer::Done { .. }));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // A good one: a new connection, the same lease.
        let before = proxy.accepted();
        sign(&cluster.ca);
        renew(&|| proxy.accepted() > before).await;
        assert_eq!(store.health(), None);
        // One that etcd does not take, then one that does not read: said, and the old one goes on.
        let foreign = Ca::new(cluster.dir.path(), "foreign");
        sign(&foreign);
        renew(&|| {
            store.health().is_some_and(|(e, _)| e.kind == StoreErrorKind::Tls && e.words.contains("new TLS files"))
        })
        .await;
        std::fs::write(&cluster.client.cert, "junk").unwrap();
        renew(&|| store.health().is_some_and(|(e, _)| e.words.contains("cannot be used"))).await;
        // Repaired.
        sign(&cluster.ca);
        renew(&|| store.health().is_none()).await;
        let mut told = vec![];
        while let Ok(event) = heard.try_recv() {
            told.push(event);
        }
        assert!(told.iter().any(|e| matches!(e, StoreEvent::Trouble(_))), "{told:?}");
        assert_eq!(told.last(), Some(&StoreEvent::Back));
        assert!(!told.iter().any(|e| matches!(e, StoreEvent::Lease(_))), "{told:?}");
        assert_eq!(_session.lease(), first);
    }));
}
