//! What a worker's token is worth, byte for byte, whatever is asked for with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hamaster::admission::{Pem, Request};
use hamaster::error::Kind;
use hamaster::pki::inspect;
use hamaster::spec::Address;
use hamaster::state::Digest;
use hamaster::token::{Role, Token};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};

use crate::master::{Master, request};

fn worker(token: &Token, node: &str, requests: Vec<Pem>) -> Request {
    Request { role: Role::Worker, ip: "192.0.2.21".parse().unwrap(), requests, ..request(token, node) }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A request that asks for everything.
fn greedy(key: &KeyPair) -> String {
    let mut params = CertificateParams::new(vec!["kubernetes.default.svc".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::IpAddress("203.0.113.10".parse().unwrap()));
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.distinguished_name.push(DnType::CommonName, "kubernetes-super-admin");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[test]
fn of_a_request_only_the_key_counts() {
    let m1 = Master::new();
    let token = m1.token(&["--worker"]);
    let keys: Vec<KeyPair> = (0..3).map(|_| key()).collect();
    let ids = ["kubelet-client", "kubelet-server", "flannel"];
    let requests = ids.iter().zip(&keys).map(|(id, key)| Pem { id: (*id).to_owned(), pem: greedy(key) }).collect();
    let welcome = m1.ask(&worker(&token, "w1", requests)).unwrap();

    let dns = Address::Dns("w1".into());
    let sans = [vec![], vec![dns, Address::Ip("192.0.2.21".parse().unwrap())], vec![]];
    let subjects = [
        ("system:node:w1", "system:nodes", false, true),
        ("system:node:w1", "system:nodes", true, false),
        ("hamaster:flannel:w1", "hamaster:flannel", false, true),
    ];
    assert_eq!(welcome.certificates.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ids);
    let ca = inspect::certs(&fs::read(m1.layout().pki().join("ca.crt")).unwrap()).unwrap().remove(0);
    for (((signed, key), subject), sans) in welcome.certificates.iter().zip(&keys).zip(subjects).zip(sans) {
        let certs = inspect::certs(signed.pem.as_bytes()).unwrap();
        let cert = &certs[0];
        assert_eq!(certs.len(), 1);
        assert_eq!((cert.common_name.as_str(), cert.organizations[0].as_str(), cert.server, cert.client), subject);
        assert!(cert.organizations.len() == 1 && !cert.is_ca, "{cert:?}");
        assert_eq!(cert.sans, sans);
        assert_eq!(cert.spki, Digest::of(&rcgen::PublicKeyData::subject_public_key_info(key)));
        assert!(hamaster::pki::judge::signed_by(&cert.der, &ca));
        assert!(cert.not_after <= ca.not_after);
    }
}

/// Every file of the bundle that is secret, by any of its lines: none of it is in the answer.
#[test]
fn a_worker_s_token_is_worth_no_secret() {
    let m1 = Master::new();
    let token = m1.token(&["--worker", "--uses", "9"]);
    let welcome =
        m1.ask(&worker(&token, "w1", vec![Pem { id: "kubelet-client".into(), pem: greedy(&key()) }])).unwrap();
    let given: Vec<_> = welcome.files.iter().map(|f| (f.path.to_str().unwrap(), f.mode)).collect();
    assert_eq!(given, [("/etc/kubernetes/pki/ca.crt", 0o644)]);
    let said = String::from_utf8(serde_json::to_vec(&welcome).unwrap()).unwrap()
        + &String::from_utf8_lossy(welcome.files[0].content.0.expose());
    let mut lines = BTreeSet::new();
    secrets(m1.dir.path(), &mut lines);
    assert!(lines.len() > 30, "{}", lines.len());
    for line in &lines {
        assert!(!said.contains(line.as_str()), "a line of a secret file is in it");
    }
    assert!(!said.contains("PRIVATE KEY"));

    // Not by asking for it either: these are no worker's, and what asks is told so.
    for id in ["admin", "super-admin", "server", "ca", "apiserver-etcd-client", "flannel-etcd-client", "../../ca", ""] {
        let asked = worker(&token, "w1", vec![Pem { id: id.to_owned(), pem: greedy(&key()) }]);
        let error = m1.ask(&asked).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{id}");
        assert!(format!("{error:?}").contains("no worker has a certificate"), "{error:?}");
    }
    // A worker's token makes no master, and a master's no worker.
    let as_master = Request { role: Role::Master, ..worker(&token, "w2", vec![]) };
    assert_eq!(m1.ask(&as_master).unwrap_err().kind(), Kind::Refused);
    m1.logged("made for another role");
    let master = m1.token(&[]);
    assert_eq!(m1.ask(&worker(&master, "w3", vec![])).unwrap_err().kind(), Kind::Refused);
}

/// Lines of what only root may read here, as they would be seen: base64 of keys and tokens.
fn secrets(dir: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            secrets(&entry, lines);
        } else if entry.extension().is_some_and(|e| e == "key" || e == "csv")
            || entry.ends_with("encryption-config.yaml")
        {
            let text = fs::read_to_string(&entry).unwrap();
            lines.extend(text.lines().filter(|l| l.len() > 20 && !l.contains("-----")).map(str::to_owned));
        }
    }
}

/// Whoever asks must have the key, a good one, and ask in the right form: else nothing is signed and no use is lost.
#[test]
fn a_request_that_is_not_good_is_not_signed() {
    let m1 = Master::new();
    let token = m1.token(&["--worker"]);
    let good = greedy(&key());
    let other = greedy(&key());
    // The body of one, the signature of the other.
    let mixed = {
        let der = |pem: &str| der_of(pem);
        let (one, two) = (der(&good), der(&other));
        let at = one.len() - 60;
        pem(&[&one[..at], &two[two.len() - 60..]].concat())
    };
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let certificate = fs::read_to_string(m1.layout().pki().join("ca.crt")).unwrap();
    let cut = good[..good.len() / 2].to_owned();
    for (what, bad) in [
        ("not its own signature", mixed),
        ("a key clients do not take", greedy(&ed25519)),
        ("a key clients do not take", greedy(&p521)),
        ("a certificate", certificate),
        ("cut off", cut),
        ("nothing", String::new()),
        ("garbage", "\u{0}\u{ff}".repeat(100)),
    ] {
        let error = m1.ask(&worker(&token, "w1", vec![Pem { id: "kubelet-client".into(), pem: bad }])).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{what}");
        assert!(format!("{error:?}").contains("the request for kubelet-client is not good"), "{what}: {error:?}");
    }
    let left = m1.client().token(&token.id).unwrap().unwrap().stored;
    assert_eq!((left.uses, left.bearers.len()), (1, 0));
    m1.ask(&worker(&token, "w1", vec![Pem { id: "kubelet-client".into(), pem: good }])).unwrap();
}

fn der_of(pem: &str) -> Vec<u8> {
    use base64::Engine;
    let body: String = pem.lines().filter(|l| !l.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
}
