//! A worker on a host with systemd: its units run, without an etcd and whether or not a master is there; killed while it
//! joins it goes on, and taken back it leaves nothing.

use std::time::Duration;

use crate::init::{Before, STAND_IN};
use crate::lab::{Lab, within};
use crate::machine::{Machine, said};

const PATIENCE: Duration = Duration::from_secs(120);
const UNITS: [&str; 4] = ["hamaster-kernel.service", "flanneld.service", "containerd.service", "kubelet.service"];

/// Kubernetes 1.20 takes the containerd that Debian 12 has.
const CLUSTER: &str = "\
kubernetes:
  version: v1.20.2
loadBalancer:
  addresses: [192.0.2.100]
runtime: containerd
election:
  mode: native
";

pub fn master(lab: &Lab) -> Machine<'_> {
    let mut host = lab.machine("m1", 11);
    host.boot();
    host.write("/etc/cluster.yaml", CLUSTER, 0o644);
    let words =
        "hamaster init -c /etc/cluster.yaml --name m1 --advertise-ip 192.0.2.11 --yes --adopt --ignore-preflight all";
    host.ok(&words.split(' ').collect::<Vec<_>>());
    host
}

/// With everything that a worker is made of, and no etcd.
pub fn bare_host(lab: &Lab) -> Machine<'_> {
    let mut host = lab.machine("w1", 21);
    for (path, version) in [
        ("/usr/local/bin/kubelet", "Kubernetes v1.20.2"),
        ("/usr/local/bin/flanneld", "v0.22.0"),
        ("/opt/cni/bin/flannel", "CNI flannel plugin v1.1.2"),
    ] {
        host.write(path, &STAND_IN.replace("@VERSION@", version), 0o755);
    }
    std::fs::remove_file(host.path("/usr/bin/etcd")).unwrap();
    host.boot();
    host
}

/// Nothing that only a master needs may be found missing.
fn join() -> Vec<&'static str> {
    let words = "hamaster join 192.0.2.11 --worker --token-file /etc/token --name w1 --advertise-ip 192.0.2.21 --yes \
                 --adopt --ignore-preflight Swap";
    words.split_whitespace().collect()
}

fn active(host: &Machine) -> Vec<&'static str> {
    UNITS.into_iter().filter(|unit| host.succeeds(&["systemctl", "is-active", "--quiet", unit])).collect()
}

#[test]
fn a_worker_runs_without_an_etcd_and_without_a_master() {
    let Some(lab) = Lab::new() else { return };
    let mut m1 = master(&lab);
    let mut w1 = bare_host(&lab);
    let before = Before::of(&w1);
    w1.write("/etc/token", &m1.ok(&["hamaster", "-q", "token", "create", "--worker"]), 0o600);

    for point in ["join.signed:1", "unit.started:2", "unit.started:1"] {
        let mut killed = vec!["env".to_owned(), format!("HAMASTER_CRASH_AT={point}")];
        killed.extend(join().into_iter().map(str::to_owned));
        let out = w1.run(&killed.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said(&out).contains("crash point"), "{point}: {}", said(&out));
    }
    w1.ok(&join());
    assert_eq!(active(&w1), UNITS);
    assert!(!w1.path("/etc/systemd/system/etcd.service").exists());
    let kubelet = std::fs::read_to_string(w1.path("/etc/kubernetes/kubelet.conf")).unwrap();
    assert!(kubelet.contains("https://192.0.2.100:6443"), "{kubelet}");

    let again = w1.ok(&join());
    assert!(again.contains("nothing to do"), "{again}");
    w1.ok(&["hamaster", "status"]);
    let refused = w1.run(&["hamaster", "init", "--yes", "--ignore-preflight", "all"]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    let refused = w1.run(&["hamaster", "join", "192.0.2.11", "--token-file", "/etc/token", "--yes"]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    let refused = w1.run(&["hamaster", "leave", "--yes"]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));

    // No master there: what it runs, it runs.
    m1.power_off();
    w1.power_off();
    w1.boot();
    within(PATIENCE, "all units run after the power cut", || active(&w1) == UNITS);
    let again = w1.ok(&join());
    assert!(again.contains("nothing to do"), "{again}");
    // A change here is met here: that takes no master either.
    std::fs::remove_file(w1.path("/var/lib/kubelet/config.yaml")).unwrap();
    w1.ok(&join());
    assert!(w1.path("/var/lib/kubelet/config.yaml").exists());

    std::fs::remove_file(w1.path("/etc/token")).unwrap();
    w1.ok(&["hamaster", "reset", "--yes", "--purge"]);
    before.assert_unchanged(&w1, "join and reset");
}
