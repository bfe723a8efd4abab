//! Workers of a lab: they join by a token at a master's door, and are forgotten again.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::supervised::HAMASTER;

struct Lab(tempfile::TempDir);

impl Lab {
    fn dir(&self) -> PathBuf {
        self.0.path().join("lab")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(HAMASTER);
        command.arg("lab").args(words).arg("--dir").arg(self.dir());
        command.env_remove("KUBEBUILDER_ASSETS").env_remove("KUBE_BIN_DIR");
        command
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        said(&output)
    }

    fn workers(&self) -> serde_json::Value {
        let listed = Command::new(HAMASTER)
            .args(["-o", "json", "worker", "list", "--prefix"])
            .arg(self.dir().join("m1"))
            .output()
            .unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap_or_else(|e| panic!("{e}"));
        listed["workers"].clone()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--purge"]).output();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn a_worker_joins_at_the_masters_doors_and_is_forgotten() {
    let lab = Lab(tempfile::tempdir().unwrap());
    lab.ok(&["up"]);
    // Killed in the middle of it, it is the same one that goes on.
    let mut killed = lab.command(&["add", "--worker"]);
    let output = killed.env("HAMASTER_CRASH_AT", "join.requested:1").output().unwrap();
    assert_eq!(output.status.code(), None, "{}", said(&output));
    assert!(lab.ok(&["status"]).contains("in the middle of its join"));
    lab.ok(&["add", "--worker"]);
    let known = lab.workers();
    assert_eq!((known.as_array().unwrap().len(), &known[0]["name"]), (1, &"w1".into()));

    let worker = lab.dir().join("w1");
    let ca = worker.join("etc/kubernetes/pki/ca.crt");
    let certificate = worker.join("var/lib/kubelet/pki/kubelet-client-current.pem");
    let verified = Command::new("openssl").arg("verify").arg("-CAfile").args([&ca, &certificate]).output().unwrap();
    assert!(verified.status.success(), "{}", said(&verified));
    let subject =
        Command::new("openssl").args(["x509", "-noout", "-subject", "-in"]).arg(&certificate).output().unwrap();
    assert!(said(&subject).contains("system:node:w1"), "{}", said(&subject));
    for secret in ["etc/kubernetes/pki/ca.key", "etc/kubernetes/pki/sa.key", "etc/etcd/pki"] {
        assert!(!worker.join(secret).exists(), "a worker has {secret}");
    }
    assert!(lab.ok(&["up"]).contains("nothing to do"));

    lab.ok(&["add", "--worker"]);
    assert_eq!(lab.workers().as_array().unwrap().len(), 2);
    lab.ok(&["remove", "w1"]);
    assert!(!worker.exists());
    let left = lab.workers();
    assert_eq!((left.as_array().unwrap().len(), &left[0]["name"]), (1, &"w2".into()));
    let log = std::fs::read_to_string(lab.dir().join("m1/log/hamaster-serve.log")).unwrap();
    assert!(log.contains("admitted w1") && log.contains("as a worker"), "{log}");
}
