//! Three hosts with systemd that find each other, form etcd's first cluster together, and are sealed.

use std::process::Command;
use std::time::Duration;

use crate::lab::{Lab, within};
use crate::machine::{Machine, said};

const PATIENCE: Duration = Duration::from_secs(120);
const URL: &str = "http://192.0.2.14:2379/v2/keys/prod";
/// No kubelet on these hosts: this is about etcd.
const CLUSTER: &str = "\
kubernetes: {version: v1.20.2}
etcd: {bootstrap: discovery, discovery: 'http://192.0.2.14:2379/v2/keys/prod'}
network: {plugin: none}
runtime: containerd
election: {mode: native}
";

fn host<'l>(lab: &'l Lab, name: &str, number: u8) -> Machine<'l> {
    let mut host = lab.machine(name, number);
    host.boot();
    host.write("/etc/cluster.yaml", CLUSTER, 0o644);
    host
}

fn init(host: &Machine) -> Vec<String> {
    let ip = host.ip();
    let words = format!(
        "hamaster init -c /etc/cluster.yaml --name m{} --advertise-ip {ip} --yes --adopt --ignore-preflight all",
        ip.octets()[3] - 10
    );
    words.split(' ').map(str::to_owned).collect()
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn three_hosts_find_each_other_and_are_a_cluster() {
    let Some(lab) = Lab::new() else { return };
    let hosts = [host(&lab, "m1", 11), host(&lab, "m2", 12), host(&lab, "m3", 13)];
    let [m1, m2, m3] = &hosts;
    let mut registry = host(&lab, "m4", 14);
    let serve = "etcd --enable-v2 --data-dir /tmp/registry --listen-client-urls http://192.0.2.14:2379 \
                 --advertise-client-urls http://192.0.2.14:2379";
    let mut serves = registry.spawn(&serve.split_whitespace().collect::<Vec<_>>());
    let set = format!("env ETCDCTL_API=2 etcdctl --endpoints {} set /prod/_config/size 3", &URL[..22]);
    within(PATIENCE, "the registry takes a size", || registry.succeeds(&set.split(' ').collect::<Vec<_>>()));

    let mut bundle = init(m1);
    bundle.extend(["--only".to_owned(), "pki".to_owned()]);
    m1.ok(&words(&bundle));
    let shared = "etc/kubernetes/pki/{ca,front-proxy-ca}.{crt,key} etc/kubernetes/pki/sa.{key,pub} \
                  etc/kubernetes/pki/{known_tokens.csv,encryption-config.yaml} etc/etcd/pki/ca.{crt,key}";
    for to in [m2, m3] {
        let carry = format!("tar -C {} -c {shared} | tar -C {} -x", m1.path("/").display(), to.path("/").display());
        assert!(Command::new("bash").args(["-o", "pipefail", "-c", &carry]).status().unwrap().success());
    }

    // The second is killed when it has registered and again when it knows the others: each time it goes on.
    let killed = |at: &str| {
        let crash = format!("HAMASTER_CRASH_AT={at}:1");
        let init = init(m2);
        let out = m2.run(&[vec!["env", &crash], words(&init)].concat());
        assert!(said(&out).contains(at), "{}", said(&out));
    };
    killed("discovery.registered");
    let others = [m1, m3].map(|host| host.spawn(&words(&init(host))));
    killed("discovery.recorded");
    // All know each other by now, the two others once they have a unit that names them.
    let knows = |host: &&Machine| host.path("/etc/systemd/system/etcd.service").exists();
    within(PATIENCE, "the others are past the registry", || [m1, m3].iter().all(knows));
    registry.power_off();
    serves.wait().unwrap();
    // Killed once its member runs, it is one that the others count on, whatever it knows itself.
    killed("unit.started");
    let voters = || m2.run(&["hamaster", "reset", "--yes"]);
    within(PATIENCE, "there is a cluster", || said(&voters()).contains("a voter of etcd's beside"));
    let leaves = m2.run(&["hamaster", "leave", "--yes"]);
    assert!(said(&leaves).contains("a voter of etcd's beside"), "{}", said(&leaves));
    m2.ok(&words(&init(m2)));
    for other in others {
        let out = other.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
    }
    for host in &hosts {
        let list: serde_json::Value =
            serde_json::from_str(&host.ok(&["hamaster", "-o", "json", "master", "list"])).unwrap();
        let rows = list["masters"].as_array().unwrap();
        assert_eq!(rows.iter().filter(|m| m["learner"] == false).count(), 3, "{list}");
        let unit = std::fs::read_to_string(host.path("/etc/systemd/system/etcd.service")).unwrap();
        assert!(unit.contains("--initial-cluster-state=existing"), "{unit}");
        let again = host.ok(&words(&init(host)));
        assert!(again.contains("nothing to do"), "{again}");
    }
    // A founder that is switched off and on is in its cluster again, with the registry gone.
    let [mut m1, m2, _] = hosts;
    m1.power_off();
    m1.boot();
    within(PATIENCE, "its etcd is back", || m1.succeeds(&["systemctl", "is-active", "etcd.service"]));
    assert!(m2.succeeds(&["hamaster", "master", "list"]));
}
