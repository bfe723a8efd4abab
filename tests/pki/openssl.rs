//! openssl and kubectl read what we wrote and see the same things in it.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hamaster::pki::catalog;
use hamaster::spec::layout::Layout;
use hamaster::spec::{Address, KeyAlgorithm};
use hamaster::state::desired::{CertSpec, Placement};

use crate::common::{Made, node, now, run, spec, text};

#[test]
fn agree_on_every_leaf_ecdsa_p256() {
    agree(KeyAlgorithm::EcdsaP256, |_| true);
}

#[test]
fn agree_on_every_leaf_ecdsa_p384() {
    agree(KeyAlgorithm::EcdsaP384, |_| true);
}

#[test]
fn agree_on_every_leaf_rsa_2048() {
    agree(KeyAlgorithm::Rsa2048, |_| true);
}

// Making RSA keys this long takes seconds each in a debug build: one leaf of each CA shows the algorithm works.
const FEW: [&str; 3] = ["server", "etcd-peer", "front-proxy-client"];

#[test]
fn agree_on_rsa_3072() {
    agree(KeyAlgorithm::Rsa3072, |id| FEW.contains(&id));
}

#[test]
fn agree_on_rsa_4096() {
    agree(KeyAlgorithm::Rsa4096, |id| FEW.contains(&id));
}

fn agree(algorithm: KeyAlgorithm, only: impl Fn(&str) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let this = node(Layout::below(dir.path()));
    let mut certs = catalog::certs(&spec(algorithm), &this);
    certs.retain(|c| only(c.id));
    let made = Made::only(&spec(algorithm), &this, now(), certs);
    made.write();
    for ca in &made.cas {
        let shown = run("openssl", &["x509", "-in", text(&ca.cert), "-noout", "-text"]);
        assert!(shown.contains("CA:TRUE"), "{shown}");
        assert!(shown.contains("Digital Signature, Certificate Sign, CRL Sign"), "{shown}");
        run("openssl", &["verify", "-x509_strict", "-check_ss_sig", "-CAfile", text(&ca.cert), text(&ca.cert)]);
    }
    for want in &made.certs {
        let (cert, key) = as_pair(want, dir.path());
        leaf(want, &cert, &made.ca(want.issuer).cert);
        run("openssl", &["pkey", "-in", text(&key), "-check", "-noout"]);
        let of_key = run("openssl", &["pkey", "-in", text(&key), "-pubout"]);
        let of_cert = run("openssl", &["x509", "-in", text(&cert), "-noout", "-pubkey"]);
        assert_eq!(of_key, of_cert, "{}", want.id);
    }
    let pki = this.layout.pki();
    let public = run("openssl", &["pkey", "-in", text(&pki.join("sa.key")), "-pubout"]);
    assert_eq!(public, std::fs::read_to_string(pki.join("sa.pub")).unwrap());
    let reader = if matches!(algorithm, KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384) { "ec" } else { "rsa" };
    run("openssl", &[reader, "-in", text(&pki.join("sa.key")), "-noout", "-text"]);
}

fn leaf(want: &CertSpec, cert: &Path, ca: &Path) {
    for (usage, purpose) in [(want.server, "sslserver"), (want.client, "sslclient")] {
        let args = ["verify", "-x509_strict", "-CAfile", text(ca), "-purpose", purpose, text(cert)];
        let verdict = std::process::Command::new("openssl").args(args).output().unwrap();
        assert_eq!(verdict.status.success(), usage, "{} as {purpose}: {verdict:?}", want.id);
    }
    let names = "basicConstraints,keyUsage,authorityKeyIdentifier,subjectKeyIdentifier,extendedKeyUsage,subjectAltName";
    let shown =
        run("openssl", &["x509", "-in", text(cert), "-noout", "-subject", "-nameopt", "RFC2253", "-ext", names]);
    let organization = want.organization.as_ref().map(|o| format!(",O={o}")).unwrap_or_default();
    assert_eq!(shown.lines().next().unwrap(), format!("subject=CN={}{organization}", want.common_name));
    // A title, and the value on the indented line below it.
    let extension = |title: &str| shown.lines().skip_while(|l| !l.starts_with(title)).nth(1).unwrap_or_default().trim();
    assert_eq!(extension("X509v3 Basic Constraints: critical"), "CA:FALSE");
    assert!(extension("X509v3 Key Usage: critical").starts_with("Digital Signature"), "{shown}");
    assert!(!extension("X509v3 Authority Key").is_empty() && !extension("X509v3 Subject Key").is_empty(), "{shown}");
    let server = want.server.then_some("TLS Web Server Authentication");
    let client = want.client.then_some("TLS Web Client Authentication");
    let usages: Vec<&str> = [server, client].into_iter().flatten().collect();
    assert_eq!(extension("X509v3 Extended Key Usage"), usages.join(", "), "{}", want.id);
    assert_eq!(sans(extension("X509v3 Subject Alternative Name")), want.sans, "{}", want.id);
}

fn sans(shown: &str) -> Vec<Address> {
    let entry = |s: &str| match s.trim().split_once(':').unwrap() {
        ("DNS", name) => Address::Dns(name.to_owned()),
        ("IP Address", ip) => Address::Ip(ip.parse().unwrap()),
        other => panic!("{other:?}"),
    };
    shown.split(", ").filter(|s| !s.is_empty()).map(entry).collect()
}

/// Certificate and key as two files, taken out of a kubeconfig by kubectl.
fn as_pair(want: &CertSpec, dir: &Path) -> (PathBuf, PathBuf) {
    match &want.placement {
        Placement::Pair { cert, key, .. } => (cert.clone(), key.clone()),
        Placement::Combined { path } => (path.clone(), path.clone()),
        Placement::Kubeconfig { path, server, cluster } => {
            let view = run("kubectl", &["config", "view", "--raw", "-o", "json", "--kubeconfig", text(path)]);
            let view: serde_json::Value = serde_json::from_str(&view).unwrap();
            assert_eq!(view["clusters"][0]["cluster"]["server"], **server);
            assert_eq!(view["clusters"][0]["name"], **cluster);
            assert_eq!(view["current-context"], format!("{}@{cluster}", want.common_name));
            let data = |value: &serde_json::Value, name: &str| {
                let file = dir.join(format!("{}.{name}", want.id));
                std::fs::write(&file, STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap();
                file
            };
            let ca = data(&view["clusters"][0]["cluster"]["certificate-authority-data"], "ca");
            let user = &view["users"][0]["user"];
            let pair = (data(&user["client-certificate-data"], "crt"), data(&user["client-key-data"], "key"));
            run("openssl", &["verify", "-CAfile", text(&ca), text(&pair.0)]);
            pair
        }
    }
}

#[test]
fn every_load_balancer_address_verifies_as_host() {
    let dir = tempfile::tempdir().unwrap();
    let made = Made::new(&spec(KeyAlgorithm::EcdsaP256), &node(Layout::below(dir.path())), now());
    made.write();
    let (server, _) = as_pair(&made.cert("server"), dir.path());
    let ca = dir.path().join("etc/kubernetes/pki/ca.crt");
    for ip in ["203.0.113.10", "2001:db8::10", "10.96.0.1", "10.0.0.11", "127.0.0.1", "::1", "127.0.1.1"] {
        run("openssl", &["verify", "-CAfile", text(&ca), "-verify_ip", ip, text(&server)]);
    }
    for name in ["api.example.com", "m1", "kubernetes.default.svc.cluster.local", "localhost"] {
        run("openssl", &["verify", "-CAfile", text(&ca), "-verify_hostname", name, text(&server)]);
    }
}
