//! Masters on loopback: a root directory each, made by `hamaster init --root`, and a real etcd on its certificates.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const HAMASTER: &str = env!("CARGO_BIN_EXE_hamaster");

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn refused(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(self.err.contains(words), "no {words:?} in {self:#?}");
        self
    }
}

/// Several masters, none of them started yet.
pub(crate) struct Cluster {
    dir: TempDir,
    net: String,
    members: Vec<Option<Child>>,
}

impl Cluster {
    /// The directories and certificates of `size` masters.
    pub(crate) fn new(size: usize) -> Self {
        // Each test is a process of its own, and its id keeps their addresses apart.
        let id = std::process::id();
        let net = format!("127.{}.{}", 64 + id % 128, id / 128 % 250 + 1);
        let cluster = Self { dir: TempDir::new().unwrap(), net, members: (0..size).map(|_| None).collect() };
        let masters: String = (0..size).map(|i| format!("  - {{ name: m{i}, ip: {} }}\n", cluster.ip(i))).collect();
        let yaml = format!("apiVersion: hamaster/v1\nkind: Cluster\nname: probe\nmasters:\n{masters}");
        fs::write(cluster.dir.path().join("cluster.yaml"), yaml).unwrap();
        for i in 0..size {
            fs::create_dir_all(cluster.root(i).join("var/lib")).unwrap();
            if i > 0 {
                for path in ["etc/kubernetes/pki", "etc/etcd/pki"] {
                    fs::create_dir_all(cluster.root(i).join(path)).unwrap();
                }
                for path in ["etc/etcd/pki/ca", "etc/kubernetes/pki/ca", "etc/kubernetes/pki/front-proxy-ca"] {
                    for extension in ["crt", "key"] {
                        let path = format!("{path}.{extension}");
                        fs::copy(cluster.root(0).join(&path), cluster.root(i).join(&path)).unwrap();
                    }
                }
            }
            let name = format!("m{i}");
            let yaml = cluster.dir.path().join("cluster.yaml").display().to_string();
            let args = ["init", "--yes", "-c", &yaml, "--name", &name, "--ignore-preflight=all"];
            cluster.hamaster(i, &args).ok();
        }
        cluster
    }

    /// One master whose etcd runs and takes writes.
    pub(crate) fn one() -> Self {
        let mut cluster = Self::new(1);
        cluster.start_all();
        cluster
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn ip(&self, i: usize) -> String {
        format!("{}.{}", self.net, i + 1)
    }

    pub(crate) fn root(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("m{i}"))
    }

    pub(crate) fn data(&self, i: usize) -> PathBuf {
        self.root(i).join("var/lib/etcd")
    }

    pub(crate) fn snapshots(&self, i: usize) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root(i).join("var/lib/hamaster/snapshots")).into_iter().flatten();
        let mut all: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        all.sort();
        all
    }

    pub(crate) fn command(&self, i: usize, args: &[&str]) -> Command {
        let mut command = Command::new(HAMASTER);
        command.args(args).arg("--root").arg(self.root(i)).stdin(Stdio::null());
        command
    }

    pub(crate) fn hamaster(&self, i: usize, args: &[&str]) -> Said {
        Said::of(self.command(i, args).output().unwrap())
    }

    /// Starts all members as a new cluster and waits until it takes writes.
    pub(crate) fn start_all(&mut self) {
        let all: Vec<String> = (0..self.members.len()).map(|i| format!("m{i}=https://{}:2380", self.ip(i))).collect();
        for i in 0..self.members.len() {
            self.start(i, &all.join(","));
        }
        (0..self.members.len()).for_each(|i| self.healthy(i));
    }

    /// Starts one member, alone if it has data of its own.
    pub(crate) fn start(&mut self, i: usize, cluster: &str) {
        let (pki, ip) = (self.root(i).join("etc/etcd/pki"), self.ip(i));
        let pem = |name: &str| pki.join(name).display().to_string();
        let log = File::options().create(true).append(true).open(self.dir.path().join(format!("m{i}.log"))).unwrap();
        let args = [
            ("name", format!("m{i}")),
            ("data-dir", self.data(i).display().to_string()),
            ("listen-peer-urls", format!("https://{ip}:2380")),
            ("initial-advertise-peer-urls", format!("https://{ip}:2380")),
            ("listen-client-urls", format!("https://{ip}:2379")),
            ("advertise-client-urls", format!("https://{ip}:2379")),
            ("initial-cluster", cluster.to_owned()),
            ("client-cert-auth", "true".to_owned()),
            ("trusted-ca-file", pem("ca.crt")),
            ("cert-file", pem("server.crt")),
            ("key-file", pem("server.key")),
            ("peer-client-cert-auth", "true".to_owned()),
            ("peer-trusted-ca-file", pem("ca.crt")),
            ("peer-cert-file", pem("peer.crt")),
            ("peer-key-file", pem("peer.key")),
            ("logger", "zap".to_owned()),
        ];
        let mut etcd = Command::new("etcd");
        etcd.args(args.iter().map(|(name, value)| format!("--{name}={value}")));
        self.members[i] = Some(etcd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Starts one member on restored data and waits until it takes writes.
    pub(crate) fn start_alone(&mut self, i: usize) {
        let cluster = format!("m{i}=https://{}:2380", self.ip(i));
        self.start(i, &cluster);
        self.healthy(i);
    }

    pub(crate) fn stop(&mut self, i: usize) {
        if let Some(mut child) = self.members[i].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn etcdctl(&self, i: usize, args: &[&str]) -> Said {
        let pki = self.root(i).join("etc/etcd/pki");
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", format!("https://{}:2379", self.ip(i)))
            .env("ETCDCTL_CACERT", pki.join("ca.crt"))
            .env("ETCDCTL_CERT", pki.join("hamaster.crt"))
            .env("ETCDCTL_KEY", pki.join("hamaster.key"));
        Said::of(command.args(args).output().unwrap())
    }

    pub(crate) fn put(&self, i: usize, key: &str, value: &str) {
        self.etcdctl(i, &["put", key, value]).ok();
    }

    /// Every key below `/k/` with its value.
    pub(crate) fn keys(&self, i: usize) -> BTreeMap<String, String> {
        let out = self.etcdctl(i, &["get", "--prefix", "/k/"]).ok().out;
        let lines: Vec<&str> = out.lines().collect();
        lines.chunks(2).map(|kv| (kv[0].to_owned(), kv[1].to_owned())).collect()
    }

    pub(crate) fn healthy(&self, i: usize) {
        within("etcd takes writes", || {
            self.etcdctl(i, &["--command-timeout=2s", "put", "/probe", "x"]).code == Some(0)
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|i| self.stop(i));
    }
}

/// Waits for a condition, within a deadline that is only there to end a hang.
#[track_caller]
pub(crate) fn within(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
