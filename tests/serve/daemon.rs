//! The daemon as its manager sees it, and its certificate as it is renewed.

use std::fs;
use std::process::{Command, Stdio};

use hamaster::etcd::client::Over;
use hamaster::etcd::keys;
use hamaster::pki::issue::{self, Issuer};
use hamaster::pki::{catalog, inspect};
use time::OffsetDateTime;

use crate::master::{HAMASTER, Master};
use crate::wire::{HERE, tls};
use crate::{DEADLINE, until};

#[test]
fn sigterm_ends_it_and_its_manager_hears_of_it() {
    let mut m1 = Master::new();
    assert!(m1.stop().success(), "{}", m1.log());
    assert_eq!(m1.told(), "STOPPING=1");
    m1.logged("ended");
}

/// What the keeper lives by.
#[test]
fn who_waits_for_a_change_of_the_spec_hears_of_it_and_of_nothing_else() {
    let (m1, never) = (Master::new(), 2 * DEADLINE);
    let client = m1.client();
    let (registered, revision) = client.spec_at().unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| m1.client().await_change(keys::SPEC, revision, never, || false));
        assert!(client.put_if_absent("/hamaster/v1/other", b"").unwrap());
        assert!(!waits.is_finished());
        let other = format!("{}# other\n", registered.unwrap().spec);
        assert!(client.put_spec(&other, &Over::Anything).unwrap());
        until("it hears of it", || waits.is_finished().then_some(()));
        waits.join().unwrap().unwrap();
    });
    // It was changed before anybody waited.
    client.await_change(keys::SPEC, revision, never, || false).unwrap();
    let (_, revision) = client.spec_at().unwrap();
    client.await_change(keys::SPEC, revision, never, || true).unwrap();
}

#[test]
fn without_a_bundle_or_with_its_port_taken_it_says_so() {
    let m1 = Master::new();
    let second = Command::new(HAMASTER).arg("serve").arg("--prefix").arg(m1.dir.path()).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(second.status.code() == Some(1) && said.contains(&format!("cannot listen on {}", m1.door())), "{said}");

    let bare = Master::dormant(None);
    fs::remove_file(bare.layout().pki().join("server.key")).unwrap();
    let mut serve = Command::new(HAMASTER);
    serve.arg("serve").arg("--prefix").arg(bare.dir.path()).stdin(Stdio::null());
    let said = String::from_utf8(serve.output().unwrap().stderr).unwrap();
    assert!(said.contains("server.key is missing") && said.contains("hint: "), "{said}");
    let empty = tempfile::tempdir().unwrap();
    let nobody = Command::new(HAMASTER).arg("serve").arg("--prefix").arg(empty.path()).output().unwrap();
    let said = String::from_utf8(nobody.stderr).unwrap();
    assert!(said.contains("this host is not a master") && said.contains("hint: hamaster init"), "{said}");
}

#[test]
fn a_renewed_certificate_is_used_at_once_and_half_of_one_never() {
    let m1 = Master::new();
    let shown = || {
        let stream = tls(&m1, HERE).unwrap();
        let chain = stream.conn.peer_certificates().unwrap();
        assert!(chain.len() == 2 && inspect::cert(&chain[1]).unwrap().spki == m1.pin(), "the CA is behind it");
        inspect::cert(&chain[0]).unwrap().serial
    };
    let pki = m1.layout().pki();
    let ca = Issuer::load(&fs::read(pki.join("ca.crt")).unwrap(), &fs::read(pki.join("ca.key")).unwrap()).unwrap();
    let certs = catalog::certs(&m1.spec(), &m1.this());
    let server = certs.iter().find(|c| c.id == "server").unwrap();
    let pair = issue::leaf(server, &ca, OffsetDateTime::now_utc()).unwrap();
    let wanted = inspect::certs(pair.cert_pem.as_bytes()).unwrap()[0].serial.clone();

    let before = shown();
    fs::write(pki.join("server.key"), pair.key_pem.expose()).unwrap();
    assert_eq!(shown(), before, "the key alone fits nothing");
    m1.logged("goes on with the certificate it has");
    fs::write(pki.join("server.cert"), &pair.cert_pem).unwrap();
    assert_eq!(shown(), wanted);
    assert_ne!(before, wanted);
    m1.still_admits("m2");
}
