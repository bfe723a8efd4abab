//! Three hosts with systemd that name or find each other, form etcd's first cluster together, and are sealed.

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

/// Makes the bundle on one host and carries it to the others.
fn share_bundle(from: &Machine, to: &[&Machine]) {
    let mut bundle = init(from);
    bundle.extend(["--only".to_owned(), "pki".to_owned()]);
    from.ok(&words(&bundle));
    let shared = "etc/kubernetes/pki/{ca,front-proxy-ca}.{crt,key} etc/kubernetes/pki/sa.{key,pub} \
                  etc/kubernetes/pki/{known_tokens.csv,encryption-config.yaml} etc/etcd/pki/ca.{crt,key}";
    for host in to {
        let (from, to) = (from.path("/"), host.path("/"));
        let carry = format!("tar -C {} -c {shared} | tar -C {} -x", from.display(), to.display());
        assert!(Command::new("bash").args(["-o", "pipefail", "-c", &carry]).status().unwrap().success());
    }
}

/// All vote, and none could make a new cluster of an emptied disk.
fn assert_sealed(hosts: &[Machine]) {
    for host in hosts {
        let list: serde_json::Value =
            serde_json::from_str(&host.ok(&["hamaster", "-o", "json", "master", "list"])).unwrap();
        let rows = list["masters"].as_array().unwrap();
        assert_eq!(rows.iter().filter(|m| m["learner"] == false).count(), 3, "{list}");
        let unit = std::fs::read_to_string(host.path("/etc/systemd/system/etcd.service")).unwrap();
        assert!(unit.contains("--initial-cluster-state=existing"), "{unit}");
        let again = host.ok(&words(&init(host)));
        assert!(again.contains("nothing to do"), "{again}");
    }
}

#[test]
fn three_identical_hosts_started_together_are_a_cluster() {
    let Some(lab) = Lab::new() else { return };
    let hosts = [host(&lab, "m1", 11), host(&lab, "m2", 12), host(&lab, "m3", 13)];
    let [m1, m2, m3] = &hosts;
    let masters = "masters: [{name: m1, ip: 192.0.2.11}, {name: m2, ip: 192.0.2.12}, {name: m3, ip: 192.0.2.13}]\n";
    let listed = CLUSTER.replace(&format!("{{bootstrap: discovery, discovery: '{URL}'}}"), "{bootstrap: static}");
    assert_ne!(listed, CLUSTER);
    hosts.iter().for_each(|host| host.write("/etc/cluster.yaml", &format!("{listed}{masters}"), 0o644));
    // Nobody accepted what speaks against it.
    let asks = init(m2);
    let early = m2.run(&words(&asks[..asks.len() - 2]));
    let wants = "EtcdFounders: /etc/etcd/pki/ca.crt: is missing";
    assert!(early.status.code() == Some(3) && said(&early).contains(wants), "{}", said(&early));
    share_bundle(m1, &[m2, m3]);

    // One waits for a majority, and is killed meanwhile; then all are started, and one more that nobody named.
    let waits = m1.spawn(&[vec!["env", "HAMASTER_CRASH_AT=unit.started:1"], words(&init(m1))].concat());
    let out = waits.wait_with_output().unwrap();
    assert!(said(&out).contains("crash point"), "{}", said(&out));
    let inits = hosts.each_ref().map(|host| host.spawn(&words(&init(host))));
    for init in inits {
        let out = init.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
    }
    assert_sealed(&hosts);
    // Of founders one may be left.
    for host in [m2, m3] {
        host.ok(&["systemctl", "disable", "--now", "hamaster-serve.service", "etcd.service"]);
    }
    let alone = || said(&m1.run(&["hamaster", "etcd", "status"])).contains("no quorum");
    within(PATIENCE, "it knows that it is alone", alone);
    m1.ok(&["hamaster", "etcd", "recover", "--yes"]);
    m1.ok(&["hamaster", "init", "--yes", "--ignore-preflight", "all"]);
    m1.ok(&["hamaster", "master", "list"]);
    let fourth = host(&lab, "m4", 14);
    fourth.write("/etc/cluster.yaml", &format!("{listed}{masters}"), 0o644);
    let refused = fourth.run(&words(&init(&fourth)));
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(!fourth.path("/var/lib/etcd/member").exists(), "it made a cluster of its own: {}", said(&refused));
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

    share_bundle(m1, &[m2, m3]);

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
    assert_sealed(&hosts);
    // A founder that is switched off and on is in its cluster again, with the registry gone.
    let [mut m1, m2, _] = hosts;
    m1.power_off();
    m1.boot();
    within(PATIENCE, "its etcd is back", || m1.succeeds(&["systemctl", "is-active", "etcd.service"]));
    assert!(m2.succeeds(&["hamaster", "master", "list"]));
}
