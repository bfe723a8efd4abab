//! Real servers to find each other at: a discovery service, an etcd with TLS, a DNS server.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

/// Ends with its test.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    pub(crate) fn start(command: &mut Command, listens: &str) -> Self {
        let server = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until(&format!("{listens} to listen"), || TcpStream::connect(listens).is_ok());
        server
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An address of `ip` that was free a moment ago.
pub(crate) fn free(ip: &str) -> String {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().to_string()
}

/// An etcd that keeps a registry, over TLS where certificates are in `tls`.
pub(crate) fn etcd(dir: &Path, ip: &str, tls: Option<&Pki>) -> (Server, String) {
    let (client, peer) = (free(ip), free(ip));
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut command = Command::new("etcd");
    command.args(["--enable-v2", "--name", "registry", "--data-dir"]).arg(dir.join("registry"));
    command.arg(format!("--listen-client-urls={scheme}://{client}"));
    command.arg(format!("--advertise-client-urls={scheme}://{client}"));
    command.arg(format!("--listen-peer-urls=http://{peer}"));
    command.arg(format!("--initial-advertise-peer-urls=http://{peer}"));
    command.arg(format!("--initial-cluster=registry=http://{peer}"));
    if let Some(pki) = tls {
        command.arg("--client-cert-auth").arg(format!("--trusted-ca-file={}", pki.ca.display()));
        command.arg(format!("--cert-file={}", pki.server.0.display()));
        command.arg(format!("--key-file={}", pki.server.1.display()));
    }
    (Server::start(&mut command, &client), client)
}

/// Debian's discovery service, with the etcd behind it.
pub(crate) struct Service {
    _servers: [Server; 2],
    url: String,
}

impl Service {
    pub(crate) fn start(dir: &Path, ip: &str) -> Self {
        let (etcd, behind) = etcd(dir, ip, None);
        let at = free(ip);
        let url = format!("http://{at}");
        let mut command = Command::new("discovery.etcd.io");
        command.args(["--addr", &at, "--host", &url, "--etcd", &format!("http://{behind}")]);
        let service = Self { _servers: [Server::start(&mut command, &at), etcd], url };
        until("the registry to take tokens", || service.token(1).is_some());
        service
    }

    fn token(&self, size: usize) -> Option<String> {
        let url = curl(&[&format!("{}/new?size={size}", self.url)]);
        url.starts_with(&self.url).then_some(url)
    }

    /// A discovery URL for a cluster of `size`.
    pub(crate) fn new_token(&self, size: usize) -> String {
        self.token(size).unwrap()
    }
}

/// What a server answers, certificates and all.
pub(crate) fn curl(words: &[&str]) -> String {
    let out = Command::new("curl").args(["-s", "--noproxy", "*", "--max-time", "10"]).args(words).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// What is registered at a URL of the v2 protocol, in no order.
pub(crate) fn registered(url: &str, more: &[&str]) -> Vec<String> {
    let answer: serde_json::Value = serde_json::from_str(&curl(&[more, &[url]].concat())).unwrap();
    let nodes = answer["node"]["nodes"].as_array().cloned().unwrap_or_default();
    let mut values: Vec<_> = nodes.iter().map(|n| n["value"].as_str().unwrap().to_owned()).collect();
    values.sort();
    values
}

/// A CA, a server's certificate for an address, and a client's.
pub(crate) struct Pki {
    pub(crate) ca: PathBuf,
    pub(crate) server: (PathBuf, PathBuf),
    pub(crate) client: (PathBuf, PathBuf),
}

impl Pki {
    pub(crate) fn new(dir: &Path, ip: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = write(dir, "registry-ca.crt", &params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let leaf = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.subject_alt_names = vec![SanType::IpAddress(ip.parse().unwrap())];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let cert = params.signed_by(&key, &issuer).unwrap();
            let at = |kind: &str| format!("registry-{name}.{kind}");
            (write(dir, &at("crt"), &cert.pem()), write(dir, &at("key"), &key.serialize_pem()))
        };
        Self { ca, server: leaf("server"), client: leaf("client") }
    }
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
