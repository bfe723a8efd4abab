//! A real etcd cluster of three members with mutual TLS, each member on a host and a disk of its own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::certs::{Certs, Pair};
use crate::network::{Host, Network, quiet, tool, within};

/// How many members.
pub(crate) const MEMBERS: usize = 3;

/// The cluster and the network it is in.
pub(crate) struct Etcd {
    /// The network; candidates are plugged into it as well.
    pub(crate) network: Arc<Network>,
    /// Who issued all certificates.
    pub(crate) certs: Certs,
    /// What every client shows.
    pub(crate) client: Pair,
    members: Vec<Member>,
}

struct Member {
    host: Host,
    child: Mutex<Option<Child>>,
}

impl Etcd {
    /// Starts it and waits until it takes writes. `election` is etcd's election timeout; a tenth is its heartbeat.
    pub(crate) fn start(election: Duration) -> Self {
        let network = Arc::new(Network::new());
        let certs = Certs::new(&network.dir().join("pki"));
        let client = certs.issue("client", &[], &[ClientAuth]);
        let hosts: Vec<Host> = (0..MEMBERS).map(|i| network.host(&format!("e{i}"), 11 + i as u8)).collect();
        for host in &hosts {
            certs.issue(&host.name, &[host.ip.to_string()], &[ServerAuth, ClientAuth]);
        }
        let members = hosts.into_iter().map(|host| Member { host, child: Mutex::new(None) }).collect();
        let etcd = Self { network, certs, client, members };
        for member in 0..MEMBERS {
            etcd.make_disk(member);
            etcd.write_config(member, election);
            etcd.run(member);
        }
        etcd.healthy();
        etcd
    }

    /// `https://10.77.0.11:2379` and so on.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|m| format!("https://{}:2379", m.host.ip)).collect()
    }

    /// A member's host.
    pub(crate) fn host(&self, member: usize) -> &Host {
        &self.members[member].host
    }

    /// Sends a signal to a member; after SIGKILL it is down until [`Etcd::heal`].
    pub(crate) fn signal(&self, member: usize, signal: Signal) {
        let mut slot = self.members[member].child.lock().unwrap();
        let Some(child) = slot.as_mut() else { return };
        kill_process(Pid::from_child(child), signal).unwrap();
        if signal == Signal::KILL {
            child.wait().unwrap();
            *slot = None;
        }
    }

    /// Every write to the member's disk blocks until [`Etcd::heal`].
    pub(crate) fn stall_disk(&self, member: usize) {
        tool("fsfreeze", &["--freeze", &self.disk(member).display().to_string()]);
    }

    /// Takes back whatever was done to the members and waits until they take writes.
    pub(crate) fn heal(&self) {
        for (index, member) in self.members.iter().enumerate() {
            quiet("fsfreeze", &["--unfreeze", &self.disk(index).display().to_string()]);
            member.host.heal();
            self.signal(index, Signal::CONT);
            if member.child.lock().unwrap().is_none() {
                self.run(index);
            }
        }
        self.healthy();
    }

    /// Which member leads the others.
    pub(crate) fn leader(&self) -> usize {
        let mut leader = None;
        within(Duration::from_secs(30), "etcd has a leader", || {
            let out = self.etcdctl(&["--command-timeout=1s", "-w", "json", "endpoint", "status"]);
            let answers: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
            let leads = |a: &&Value| a["Status"]["leader"] == a["Status"]["header"]["member_id"];
            let found = answers.as_array().into_iter().flatten().find(leads).map(|a| a["Endpoint"].clone());
            leader = found.and_then(|e| self.endpoints().iter().position(|known| e == *known));
            leader.is_some()
        });
        leader.unwrap()
    }

    /// Waits until every member answers and the cluster takes a write.
    pub(crate) fn healthy(&self) {
        within(Duration::from_secs(60), "etcd is healthy", || {
            self.etcdctl(&["--command-timeout=2s", "endpoint", "health"]).status.success()
        });
    }

    /// Runs `etcdctl` from a place that no fault reaches.
    pub(crate) fn etcdctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.network.command("etcdctl");
        self.client_environment(&mut command);
        command.args(arguments).output().unwrap()
    }

    /// The same, and it must succeed.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let out = self.etcdctl(arguments);
        assert!(out.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// What etcdctl must know to reach the cluster.
    pub(crate) fn client_environment(&self, command: &mut Command) {
        command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", self.endpoints().join(","))
            .env("ETCDCTL_CACERT", self.certs.ca())
            .env("ETCDCTL_CERT", &self.client.cert)
            .env("ETCDCTL_KEY", &self.client.key);
    }

    fn run(&self, member: usize) {
        let Member { host, child } = &self.members[member];
        let log = File::options().create(true).append(true).open(self.file(member, "log")).unwrap();
        let mut etcd = host.command("etcd");
        etcd.arg(format!("--config-file={}", self.file(member, "yaml").display()));
        *child.lock().unwrap() = Some(etcd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    fn file(&self, member: usize, extension: &str) -> PathBuf {
        self.network.dir().join(format!("e{member}.{extension}"))
    }

    fn disk(&self, member: usize) -> PathBuf {
        self.network.dir().join(format!("e{member}.disk"))
    }

    /// A file system of its own can be frozen.
    fn make_disk(&self, member: usize) {
        let image = self.file(member, "image");
        File::create(&image).unwrap().set_len(512 << 20).unwrap();
        let (image, disk) = (image.display().to_string(), self.disk(member));
        fs::create_dir(&disk).unwrap();
        tool("mkfs.ext4", &["-q", "-F", "-O", "^has_journal", &image]);
        tool("mount", &["-o", "loop", &image, &disk.display().to_string()]);
    }

    fn write_config(&self, member: usize, election: Duration) {
        let peers: Vec<String> =
            self.members.iter().map(|m| format!("{}=https://{}:2380", m.host.name, m.host.ip)).collect();
        let Host { name, ip, .. } = &self.members[member].host;
        let pki = self.certs.ca().parent().unwrap().display().to_string();
        let tls = format!(
            "{{cert-file: {pki}/{name}.crt, key-file: {pki}/{name}.key, trusted-ca-file: {pki}/ca.crt, client-cert-auth: true}}"
        );
        let text = format!(
            "name: {name}\n\
             data-dir: {}/data\n\
             listen-client-urls: https://{ip}:2379\n\
             advertise-client-urls: https://{ip}:2379\n\
             listen-peer-urls: https://{ip}:2380\n\
             initial-advertise-peer-urls: https://{ip}:2380\n\
             initial-cluster: {}\n\
             initial-cluster-state: new\n\
             heartbeat-interval: {}\n\
             election-timeout: {}\n\
             client-transport-security: {tls}\n\
             peer-transport-security: {tls}\n\
             logger: zap\n",
            self.disk(member).display(),
            peers.join(","),
            election.as_millis() / 10,
            election.as_millis(),
        );
        fs::write(self.file(member, "yaml"), text).unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for (index, member) in self.members.iter().enumerate() {
            // A process in a frozen write cannot die.
            quiet("fsfreeze", &["--unfreeze", &self.disk(index).display().to_string()]);
            if let Some(mut child) = member.child.lock().unwrap().take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
