//! Servers that are not a master of the token's cluster: they hear nothing of the token.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hamaster::error::{Error, Kind};
use hamaster::host::doorbell;
use hamaster::state::Digest;
use hamaster::token::Token;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::master::{Master, request};

/// A server with a chain and key of its choice; it reads once and then hangs up.
struct Fake {
    at: SocketAddr,
    /// What it heard after the handshake.
    heard: JoinHandle<Vec<u8>>,
}

fn fake(chain: &[&[u8]], key: &[u8], version: &'static SupportedProtocolVersion) -> Fake {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let chain: Vec<CertificateDer<'static>> =
        chain.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem).map(Result::unwrap)).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key).unwrap())
        .unwrap();
    let heard = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
        let mut buffer = vec![0; 64 * 1024];
        let length = stream.read(&mut buffer).unwrap_or(0);
        buffer.truncate(length);
        buffer
    });
    Fake { at, heard }
}

fn pem(root: &Path, name: &str) -> Vec<u8> {
    std::fs::read(root.join(name)).unwrap()
}

/// What a joiner with the pin of `cluster` says of the fake, and what the fake heard.
fn asked(fake: Fake, pin: &Digest) -> (Box<Error>, Vec<u8>) {
    let token = Token::new(&[5; 40], *pin);
    let error = doorbell::ask(&[fake.at], pin, &request(&token, "m2")).unwrap_err();
    (error, fake.heard.join().unwrap())
}

fn is_told(error: &Error, words: &str) {
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    let said = &error.all_problems()[0].message;
    assert!(said.contains(words) && said.ends_with("nothing was sent to it"), "{said}");
}

/// Who serves, with which chain and key, and what the joiner says of it.
type Case<'c> = (&'c str, &'c [&'c [u8]], &'c [u8], &'c str);

/// First that the fake would notice: with a master's own certificate it hears the whole request.
#[test]
fn who_is_no_master_of_the_cluster_hears_nothing() {
    let m1 = Master::dormant(None);
    let other = Master::dormant(None);
    let (root, pin) = (m1.dir.path(), m1.pin());
    let (pki, tls13) = ("etc/kubernetes/pki", &rustls::version::TLS13);
    let of = |name: &str| pem(root, &format!("{pki}/{name}"));
    let (cert, key, ca) = (of("server.cert"), of("server.key"), of("ca.crt"));

    let (_, heard) = asked(fake(&[&cert, &ca], &key, tls13), &pin);
    assert!(String::from_utf8_lossy(&heard).starts_with("POST /v1/join"), "the fake sees what is sent");

    let foreign = |name: &str| pem(other.dir.path(), &format!("{pki}/{name}"));
    let (theirs, their_key, their_ca) = (foreign("server.cert"), foreign("server.key"), foreign("ca.crt"));
    let kubelet = "var/lib/kubelet/pki/kubelet";
    let (kubelet, kubelet_key) = (pem(root, &format!("{kubelet}.crt")), pem(root, &format!("{kubelet}.key")));
    let etcd = "etc/etcd/pki";
    let (etcd_cert, etcd_key) = (pem(root, &format!("{etcd}/server.crt")), pem(root, &format!("{etcd}/server.key")));
    let client = (of("kubecfg.crt"), of("kubecfg.key"));
    let (own_cert, own_key) = signed_by_another();
    let twin = twin_of(&ca);
    let cases: [Case<'_>; 9] = [
        ("another cluster's master", &[&theirs, &their_ca], &their_key, "another cluster's or an impostor"),
        ("a chain without any CA", &[&cert], &key, "another cluster's or an impostor"),
        ("a kubelet of the cluster", &[&kubelet, &ca], &kubelet_key, "does not prove to be a master"),
        ("a client of the cluster", &[&client.0, &ca], &client.1, "does not prove to be a master"),
        ("etcd, of another CA of the cluster", &[&etcd_cert, &ca], &etcd_key, "does not prove to be a master"),
        ("another's master with our CA shown", &[&theirs, &their_ca, &ca], &their_key, "does not prove"),
        ("the right name signed by itself", &[&own_cert, &ca], &own_key, "does not prove to be a master"),
        ("a CA of the same name", &[&twin.0, &twin.1, &ca], &twin.2, "does not prove to be a master"),
        ("the CA's certificate alone", &[&ca], &of("ca.key"), "another cluster's or an impostor"),
    ];
    for (who, chain, key, words) in cases {
        let (error, heard) = asked(fake(chain, key, tls13), &pin);
        assert!(heard.is_empty(), "{who} heard {} bytes", heard.len());
        is_told(&error, words);
    }
    let (error, heard) = asked(fake(&[&cert, &ca], &key, &rustls::version::TLS12), &pin);
    assert!(heard.is_empty() && error.kind() == Kind::Apply, "TLS 1.2 is not spoken: {error}");
}

#[test]
fn a_wrong_pin_sends_nothing_to_a_true_master() {
    let m1 = Master::new();
    let token = m1.token(&[]);
    let error = doorbell::ask(&[m1.door()], &Digest([0; 32]), &request(&token, "m2")).unwrap_err();
    is_told(&error, "another cluster's or an impostor");
    // The one that is asked next is the right one.
    let fakes = Master::dormant(None);
    let read = |name: &str| pem(fakes.dir.path(), &format!("etc/kubernetes/pki/{name}"));
    let (cert, key, ca) = (read("server.cert"), read("server.key"), read("ca.crt"));
    let fake = fake(&[&cert, &ca], &key, &rustls::version::TLS13);
    doorbell::ask(&[fake.at, m1.door()], &m1.pin(), &request(&token, "m2")).unwrap();
    assert!(fake.heard.join().unwrap().is_empty());
    m1.logged("admitted m2");
    assert!(!m1.log().contains("refused"), "{}", m1.log());
}

/// A certificate for the right name, by nobody.
fn signed_by_another() -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["kubernetes.default.svc".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem().into_bytes(), key.serialize_pem().into_bytes())
}

/// A leaf for the right name and its issuer, which has the true CA's name and another key; and the leaf's key.
fn twin_of(ca: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let name = hamaster::pki::inspect::certs(ca).unwrap()[0].common_name.clone();
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let twin = params.self_signed(&key).unwrap().pem().into_bytes();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec!["kubernetes.default.svc".to_owned()]).unwrap();
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    (leaf.pem().into_bytes(), twin, leaf_key.serialize_pem().into_bytes())
}
