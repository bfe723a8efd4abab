//! One member of a real etcd, with TLS as an operator would set it up, or without.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::awaited;

/// Runs until it is dropped.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) url: String,
    dir: PathBuf,
}

impl Etcd {
    /// Starts one that keeps its data in `dir`; each command line goes through `wrap` (a network namespace's).
    pub(crate) fn start(dir: &Path, tls: bool, wrap: impl Fn(&str) -> Command) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let [client, peer] = [free_port(), free_port()];
        let url = format!("{}://127.0.0.1:{client}", if tls { "https" } else { "http" });
        let peer = format!("http://127.0.0.1:{peer}");
        let mut command = wrap("etcd");
        command.current_dir(dir).args(["--name=e", "--data-dir=data", "--log-level=error"]).args([
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=e={peer}"),
        ]);
        if tls {
            certificates(dir);
            command.args([
                "--client-cert-auth",
                "--trusted-ca-file=ca.crt",
                "--cert-file=one.crt",
                "--key-file=one.key",
            ]);
        }
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().expect("etcd is installed");
        let etcd = Self { child, url, dir: dir.to_owned() };
        awaited("etcd to be healthy", || {
            let mut command = wrap("etcdctl");
            command.current_dir(dir).env("ETCDCTL_API", "3").arg("--endpoints").arg(&etcd.url);
            if tls {
                command.args(["--cacert=ca.crt", "--cert=one.crt", "--key=one.key"]);
            }
            command.args(["endpoint", "health"]).output().is_ok_and(|o| o.status.success()).then_some(())
        });
        etcd
    }

    /// Copies of CA, certificate and key, to where a configuration has them.
    pub(crate) fn give(&self, ca: &Path, cert: &Path, key: &Path) {
        for (name, to) in [("ca.crt", ca), ("one.crt", cert), ("one.key", key)] {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(self.dir.join(name), to).unwrap();
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A CA, and one certificate for server and clients.
fn certificates(dir: &Path) {
    let extensions = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
    std::fs::write(dir.join("extensions"), extensions).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for line in [
        format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=ca -days 2"),
        format!("req {key} -keyout one.key -out one.csr -subj /CN=one"),
        "x509 -req -in one.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out one.crt -days 2 -extfile extensions"
            .into(),
    ] {
        let made =
            Command::new("openssl").current_dir(dir).args(line.split(' ')).stderr(Stdio::null()).status().unwrap();
        assert!(made.success(), "openssl {line}");
    }
}
