//! Every way etcd says no, in words with a command that helps.

use std::time::Duration;

use hamaster::elect::config::{Endpoint, TlsFiles};
use hamaster::elect::store::{Store, StoreError, StoreErrorKind};
use hamaster::elect::txn::Answer;
use rcgen::ExtendedKeyUsagePurpose as Use;

use crate::etcd::{Ca, Cluster};
use crate::{ATTEMPT, GROUP, beat, nop, run};

async fn refused(endpoint: Endpoint, tls: Option<TlsFiles>) -> StoreError {
    let store = Store::new(&[endpoint], tls).unwrap();
    // More than once: a stored error must not read differently.
    let mut error = store.read(GROUP, ATTEMPT * 3).await.unwrap_err();
    for _ in 0..5 {
        error = store.read(GROUP, ATTEMPT * 3).await.unwrap_err();
        // Go closes a connection it does not understand with a reset, which may overtake what it said.
        if !error.words.contains("reset by peer") {
            break;
        }
    }
    error
}

fn says(error: &StoreError, kind: StoreErrorKind, words: &str, hint: &str) {
    assert_eq!(error.kind, kind, "{error} / {}", error.hint);
    assert!(error.words.contains(words), "{words} is not in {error}");
    assert!(error.hint.contains(hint), "{hint} is not in {}", error.hint);
}

#[test]
fn certificates_that_do_not_fit() {
    let cluster = Cluster::new(1);
    let dir = cluster.dir.path();
    run(async {
        let at = || cluster.endpoint(0);
        let foreign = Ca::new(dir, "foreign");
        let trusts = TlsFiles { ca: foreign.file.clone(), ..cluster.client.clone() };
        let error = refused(at(), Some(trusts)).await;
        says(&error, StoreErrorKind::Tls, "not signed by the CA in", "openssl s_client");
        let unusable = cluster.ca.sign(dir, "noclient", &[], &[Use::ServerAuth]);
        let error = refused(at(), Some(unusable)).await;
        says(&error, StoreErrorKind::Tls, "lacks the extended key usage clientAuth", "openssl");
        let stranger =
            TlsFiles { ca: cluster.client.ca.clone(), ..foreign.sign(dir, "stranger", &[], &[Use::ClientAuth]) };
        let error = refused(at(), Some(stranger)).await;
        says(&error, StoreErrorKind::Tls, "client certificate", "openssl");
        let elsewhere = Endpoint { host: "localhost".into(), ..at() };
        if std::net::ToSocketAddrs::to_socket_addrs("localhost:1").unwrap().any(|a| a.ip().to_string() == cluster.ip) {
            says(&refused(elsewhere, cluster.tls()).await, StoreErrorKind::Tls, "is not made for localhost", "openssl");
        }
    });
}

#[test]
fn files_that_do_not_fit_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new(dir.path(), "ca");
    let [one, two] = ["one", "two"].map(|name| ca.sign(dir.path(), name, &[], &[Use::ClientAuth]));
    let at = [Endpoint { tls: true, host: "127.0.0.1".into(), port: 2379 }];
    let refused = |files: TlsFiles| Store::new(&at, Some(files)).err().expect("refused");
    let error = refused(TlsFiles { key: two.key.clone(), ..one.clone() });
    assert!(error.to_string().contains("does not belong to the certificate"), "{error}");
    assert!(error.hints()[0].starts_with("openssl x509"), "{:?}", error.hints());
    std::fs::write(&two.cert, "junk").unwrap();
    assert!(!refused(TlsFiles { ca: two.cert.clone(), ..one.clone() }).hints().is_empty());
    assert!(!refused(two).hints().is_empty());
    let missing = TlsFiles { ca: dir.path().join("none"), ..one };
    assert!(refused(missing).to_string().contains("none"));
    assert!(Store::new(&at, None).is_err(), "https without files");
    assert!(Store::new(&[], None).is_err(), "no endpoint");
}

#[test]
fn plain_text_and_tls_at_the_wrong_port() {
    let [plain, secret] = [Cluster::with(1, false, &[]), Cluster::new(1)];
    run(async {
        let tls = Endpoint { tls: true, ..plain.endpoint(0) };
        let error = refused(tls, Some(secret.client.clone())).await;
        says(&error, StoreErrorKind::NotEtcd, "TLS", "write `http://");
        let open = Endpoint { tls: false, ..secret.endpoint(0) };
        let error = refused(open, None).await;
        says(&error, StoreErrorKind::NotEtcd, "without TLS", "https://");
        // And where it fits, it works.
        assert!(plain.store().read(GROUP, ATTEMPT * 3).await.is_ok());
    });
}

#[test]
fn nobody_there() {
    run(async {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = refused(Endpoint { tls: false, host: "127.0.0.1".into(), port: free }, None).await;
        says(&error, StoreErrorKind::Unreachable, "refused", "endpoint health");
        assert_eq!(error.member, format!("http://127.0.0.1:{free}"));
    });
}

#[test]
fn a_full_database() {
    let cluster = Cluster::with(1, true, &["--quota-backend-bytes", "16384"]);
    run(async {
        let store = cluster.store();
        assert_eq!(store.run(GROUP, &beat(1), ATTEMPT * 3).await, Answer::Unknown);
        let (error, since) = store.health().unwrap();
        says(&error, StoreErrorKind::NoSpace, "full", "alarm disarm");
        // Reads work, and do not make it well.
        store.read(GROUP, ATTEMPT * 3).await.unwrap();
        assert_eq!(store.health(), Some((error, since)));
    });
}

#[test]
fn a_role_without_the_right() {
    let cluster = Cluster::new(1);
    for args in [
        &["user", "add", "root:secret"][..],
        &["user", "add", "client:secret"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        // The role root is made on the way, or there already.
        if args[1] == "grant-role" {
            cluster.try_ctl(&["role", "add", "root"]);
        }
        cluster.ctl(args);
    }
    run(async {
        let store = cluster.store();
        let error = store.read(GROUP, ATTEMPT * 3).await.unwrap_err();
        says(&error, StoreErrorKind::Auth, "may not use /hamaster/elect/", "role grant-permission");
    });
}

#[test]
fn a_member_without_a_leader_says_so_at_once() {
    let mut cluster = Cluster::new(3);
    run(async {
        let store = cluster.store_at(&[cluster.endpoint(0)]);
        store.read(GROUP, ATTEMPT * 3).await.unwrap();
        cluster.kill(1);
        cluster.kill(2);
        // It notices after its election timeout; until then it does not answer.
        loop {
            let error = store.read(GROUP, Duration::from_secs(10)).await.unwrap_err();
            if error.kind == StoreErrorKind::NoLeader {
                return says(&error, StoreErrorKind::NoLeader, "no leader", "endpoint status");
            }
            assert_eq!(store.run(GROUP, &nop(), ATTEMPT).await, Answer::Unknown);
        }
    });
}
