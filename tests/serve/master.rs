//! A master: its bundle, its member of etcd and its door, on a loopback address of its own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use hamaster::admission::{Bytes, PORT, Request, Welcome};
use hamaster::apply::perform::etcd_client;
use hamaster::error::Result;
use hamaster::etcd::client::Client;
use hamaster::host::{Host, NoUnits, doorbell};
use hamaster::spec::file::{Overrides, load};
use hamaster::spec::layout::Layout;
use hamaster::spec::{ClusterSpec, ThisNode};
use hamaster::state::{Digest, Secret};
use hamaster::token::{Role, Token};
use rustix::process::{Pid, Signal, kill_process};

use crate::{DEADLINE, until};

pub(crate) const HAMASTER: &str = env!("CARGO_BIN_EXE_hamaster");

pub(crate) struct Master {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ip: Ipv4Addr,
    etcd: Option<Child>,
    serve: Option<Child>,
    notify: UnixDatagram,
}

/// One address for each master: those of other tests, in other processes, are never met.
fn address() -> Ipv4Addr {
    static MASTERS: AtomicU8 = AtomicU8::new(1);
    let pid = std::process::id();
    let number = MASTERS.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, 1 + (pid / 256 % 60) as u8, (pid % 256) as u8, number)
}

impl Master {
    /// With etcd and door, its spec registered.
    pub(crate) fn new() -> Self {
        let mut master = Self::dormant(None);
        master.start_etcd(&master.ip.to_string(), &master.dir.path().join("etc/etcd/pki"));
        let yaml = fs::read_to_string(master.layout().cluster_yaml()).unwrap();
        until("etcd answers", || master.client().put_spec(&yaml, &hamaster::etcd::client::Over::Anything).ok());
        master.start();
        master
    }

    /// Its bundle only; m1, or with `cluster` another master of it.
    pub(crate) fn dormant(cluster: Option<&Master>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ip = address();
        let mut command = Command::new(HAMASTER);
        command.args(["certs", "generate", "--quiet", "--out"]).arg(dir.path());
        command.args(["--advertise-ip", &ip.to_string()]);
        command.args(["--name", if cluster.is_some() { "m2" } else { "m1" }]);
        for pki in ["etc/etcd/pki", "etc/kubernetes/pki"] {
            let Some(m1) = cluster else { break };
            fs::create_dir_all(dir.path().join(pki)).unwrap();
            for file in ["ca.crt", "ca.key"] {
                fs::copy(m1.dir.path().join(pki).join(file), dir.path().join(pki).join(file)).unwrap();
            }
        }
        let made = command.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { dir, ip, etcd: None, serve: None, notify }
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::below(self.dir.path())
    }

    pub(crate) fn spec(&self) -> ClusterSpec {
        let text = fs::read_to_string(self.layout().cluster_yaml()).unwrap();
        load(Some(("cluster.yaml", &text)), &Overrides::default()).unwrap()
    }

    pub(crate) fn this(&self) -> ThisNode {
        let node = self.spec().masters.into_iter().find(|m| m.ip == IpAddr::V4(self.ip)).unwrap();
        ThisNode { node, loopback: self.ip.into(), layout: self.layout() }
    }

    pub(crate) fn client(&self) -> Client {
        etcd_client(&Host::new("/", Box::new(NoUnits)).unwrap(), &self.this()).unwrap()
    }

    /// A cluster of one at `ip`, with the certificates in `pki`.
    pub(crate) fn start_etcd(&mut self, ip: &str, pki: &Path) {
        let (client, peer) = (format!("https://{ip}:2379"), format!("http://{ip}:2380"));
        let mut command = Command::new("etcd");
        command.args(["--name", "m1", "--data-dir"]).arg(self.dir.path().join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("m1={peer}"), "--client-cert-auth"]);
        for (flag, file) in [("trusted-ca-file", "ca.crt"), ("cert-file", "server.crt"), ("key-file", "server.key")] {
            command.arg(format!("--{flag}")).arg(pki.join(file));
        }
        let log = fs::File::create(self.dir.path().join("etcd.log")).unwrap();
        self.etcd = Some(command.stdout(Stdio::null()).stderr(log).spawn().expect("etcd is installed"));
    }

    /// Opens the door and waits until it says that it is ready.
    pub(crate) fn start(&mut self) {
        let log = fs::File::create(self.log_file()).unwrap();
        let mut command = Command::new(HAMASTER);
        command.arg("serve").arg("--prefix").arg(self.dir.path()).env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        self.serve = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        assert_eq!(self.told(), "READY=1");
        assert!(self.told().starts_with("STATUS=m"));
    }

    /// What the daemon says next to its manager.
    pub(crate) fn told(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.notify.recv(&mut buffer).unwrap_or_else(|e| panic!("{e}: {}", self.log()));
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Ends the daemon as systemd would; how it ended.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let mut serve = self.serve.take().unwrap();
        kill_process(Pid::from_child(&serve), Signal::TERM).unwrap();
        serve.wait().unwrap()
    }

    pub(crate) fn kill_etcd(&mut self) {
        let mut etcd = self.etcd.take().unwrap();
        etcd.kill().unwrap();
        etcd.wait().unwrap();
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("serve.log")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Waits until the log says it: lines go through a thread.
    pub(crate) fn logged(&self, words: &str) {
        until(&format!("the log says `{words}`: {}", self.log()), || self.log().contains(words).then_some(()));
    }

    pub(crate) fn door(&self) -> SocketAddr {
        SocketAddr::new(self.ip.into(), PORT)
    }

    /// `hamaster token …`
    pub(crate) fn command(&self, args: &[&str]) -> Output {
        Command::new(HAMASTER).arg("token").args(args).arg("--prefix").arg(self.dir.path()).output().unwrap()
    }

    /// A token made on the command line.
    pub(crate) fn token(&self, args: &[&str]) -> Token {
        let made = self.command(&[&["create"], args].concat());
        assert!(made.status.success(), "{made:?}");
        let text = String::from_utf8(made.stdout).unwrap();
        Token::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// `token list`, as JSON.
    pub(crate) fn tokens(&self) -> Vec<serde_json::Value> {
        let listed = self.command(&["list", "-o", "json"]);
        assert!(listed.status.success(), "{listed:?}");
        let value: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        value["tokens"].as_array().unwrap().clone()
    }

    pub(crate) fn pin(&self) -> Digest {
        let pem = fs::read(self.dir.path().join("etc/kubernetes/pki/ca.crt")).unwrap();
        hamaster::pki::inspect::certs(&pem).unwrap()[0].spki
    }

    /// The joiner's side.
    pub(crate) fn ask(&self, request: &Request) -> Result<Welcome> {
        doorbell::ask(&[self.door()], &self.pin(), request)
    }

    /// A new host is admitted, whatever happened before.
    pub(crate) fn still_admits(&self, node: &str) {
        let token = self.token(&[]);
        self.ask(&request(&token, node)).unwrap_or_else(|e| panic!("{e}\n{}", self.log()));
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        for mut child in [self.serve.take(), self.etcd.take()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the host `node` asks at its first attempt. Each name has an address of its own.
pub(crate) fn request(token: &Token, node: &str) -> Request {
    let bytes = |bytes: &[u8]| Bytes(Secret::new(bytes.to_vec()));
    let [a, b, ..] = Digest::of(node.as_bytes()).0;
    Request {
        token: token.id.clone(),
        secret: bytes(token.secret().expose()),
        attempt: bytes(format!("the first attempt of {node}").as_bytes()),
        node: node.to_owned(),
        ip: IpAddr::from([198, 18, a, b]),
        role: Role::Master,
        requests: vec![],
    }
}
