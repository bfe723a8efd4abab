//! A small etcd cluster of its own for each test, with certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use hamaster::elect::config::{Endpoint, TlsFiles};
use hamaster::elect::store::Store;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Use, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustix::process::{Pid, Signal, kill_process};

/// A CA and what it signs.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

impl Ca {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let file = dir.join(format!("{name}.crt"));
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Writes `<name>.crt` and `<name>.key` into `dir`, by rename.
    pub(crate) fn sign(&self, dir: &Path, name: &str, ips: &[String], uses: &[Use]) -> TlsFiles {
        let mut params = CertificateParams::new(ips).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = uses.to_vec();
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        for (extension, text) in [("key", key.serialize_pem()), ("crt", cert)] {
            fs::write(dir.join("new"), text).unwrap();
            fs::rename(dir.join("new"), dir.join(format!("{name}.{extension}"))).unwrap();
        }
        let file = |extension| dir.join(format!("{name}.{extension}"));
        TlsFiles { ca: self.file.clone(), cert: file("crt"), key: file("key") }
    }
}

pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ca: Ca,
    pub(crate) client: TlsFiles,
    pub(crate) ip: String,
    base: u16,
    tls: bool,
    token: u32,
    extra: Vec<String>,
    members: Vec<Option<Child>>,
}

static CLUSTERS: AtomicU16 = AtomicU16::new(0);

impl Cluster {
    pub(crate) fn new(size: u16) -> Self {
        Self::with(size, true, &[])
    }

    pub(crate) fn with(size: u16, tls: bool, extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // One loopback address for each process: tests of several processes never meet.
        let pid = std::process::id();
        let ip = format!("127.{}.{}.1", 64 + pid / 256 % 128, pid % 256);
        let base = 20_000 + 100 * CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let ca = Ca::new(dir.path(), "ca");
        ca.sign(dir.path(), "server", std::slice::from_ref(&ip), &[Use::ServerAuth, Use::ClientAuth]);
        let client = ca.sign(dir.path(), "client", &[], &[Use::ClientAuth]);
        let extra = extra.iter().map(|e| (*e).to_owned()).collect();
        let members = (0..size).map(|_| None).collect();
        let mut cluster = Self { dir, ca, client, ip, base, tls, token: 0, extra, members };
        (0..size).for_each(|m| cluster.start(m));
        cluster.wait();
        cluster
    }

    pub(crate) fn size(&self) -> u16 {
        u16::try_from(self.members.len()).unwrap()
    }

    pub(crate) fn port(&self, member: u16) -> u16 {
        self.base + 2 * member
    }

    pub(crate) fn endpoint(&self, member: u16) -> Endpoint {
        Endpoint { tls: self.tls, host: self.ip.clone(), port: self.port(member) }
    }

    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        (0..self.size()).map(|m| self.endpoint(m)).collect()
    }

    pub(crate) fn tls(&self) -> Option<TlsFiles> {
        self.tls.then(|| self.client.clone())
    }

    pub(crate) fn store(&self) -> Store {
        self.store_at(&self.endpoints())
    }

    pub(crate) fn store_at(&self, endpoints: &[Endpoint]) -> Store {
        Store::new(endpoints, self.tls()).unwrap()
    }

    pub(crate) fn data(&self, member: u16) -> PathBuf {
        self.dir.path().join(format!("m{member}"))
    }

    pub(crate) fn start(&mut self, member: u16) {
        let peer = |m: u16| format!("http://{}:{}", self.ip, self.base + 2 * m + 1);
        let url = self.endpoint(member).to_string();
        let all: Vec<String> = (0..self.size()).map(|m| format!("m{m}={}", peer(m))).collect();
        let mut command = Command::new("etcd");
        command.arg("--name").arg(format!("m{member}")).arg("--data-dir").arg(self.data(member));
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer(member), "--initial-advertise-peer-urls", &peer(member)]);
        command.args(["--initial-cluster", &all.join(",")]);
        command.args(["--initial-cluster-token", &format!("t{}", self.token)]);
        command.args(["--heartbeat-interval", "100", "--election-timeout", "1000"]).args(&self.extra);
        if self.tls {
            let file = |name: &str| self.dir.path().join(name);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&self.ca.file);
            command.arg("--cert-file").arg(file("server.crt")).arg("--key-file").arg(file("server.key"));
        }
        let log = fs::File::create(self.dir.path().join(format!("m{member}.log"))).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("etcd is installed");
        self.members[usize::from(member)] = Some(child);
    }

    /// Waits until every member answers a linearizable read.
    pub(crate) fn wait(&self) {
        let deadline = std::time::Instant::now() + crate::DEADLINE;
        while !self.try_ctl(&["endpoint", "health"]).0 {
            assert!(std::time::Instant::now() < deadline, "etcd does not come up");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    pub(crate) fn signal(&self, member: u16, signal: Signal) {
        let child = self.members[usize::from(member)].as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    pub(crate) fn kill(&mut self, member: u16) {
        let mut child = self.members[usize::from(member)].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Another cluster at the same place: everything is forgotten.
    pub(crate) fn replace(&mut self) {
        (0..self.size()).for_each(|m| self.kill(m));
        self.token += 1;
        for member in 0..self.size() {
            fs::remove_dir_all(self.data(member)).unwrap();
            self.start(member);
        }
        self.wait();
    }

    /// A member that does not lead.
    pub(crate) fn follower(&self) -> u16 {
        let status: serde_json::Value = serde_json::from_str(&self.ctl(&["endpoint", "status", "-w", "json"])).unwrap();
        let of = |s: &serde_json::Value| s["Status"]["leader"] != s["Status"]["header"]["member_id"];
        let found = status.as_array().unwrap().iter().find(|s| of(s)).unwrap();
        let endpoint = found["Endpoint"].as_str().unwrap().to_owned();
        (0..self.size()).find(|m| self.endpoint(*m).to_string() == endpoint).unwrap()
    }

    /// The members, a follower first.
    pub(crate) fn follower_first(&self) -> (u16, Vec<Endpoint>) {
        let follower = self.follower();
        let others = (0..self.size()).filter(|m| *m != follower);
        (follower, std::iter::once(follower).chain(others).map(|m| self.endpoint(m)).collect())
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> String {
        let (ok, out) = self.try_ctl(args);
        assert!(ok, "etcdctl {args:?}: {out}");
        out
    }

    pub(crate) fn try_ctl(&self, args: &[&str]) -> (bool, String) {
        let urls: Vec<String> = self.endpoints().iter().map(ToString::to_string).collect();
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(urls.join(","));
        if self.tls {
            command.arg("--cacert").arg(&self.client.ca);
            command.arg("--cert").arg(&self.client.cert).arg("--key").arg(&self.client.key);
        }
        let out = command.args(args).stderr(Stdio::null()).output().unwrap();
        (out.status.success(), String::from_utf8(out.stdout).unwrap())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.members.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
