//! A cluster that grows and shrinks on hosts with systemd: two that join at once, one killed in the middle of it, a dead
//! one replaced, the leader of etcd that leaves.

use std::path::Path;
use std::time::Duration;

use crate::etcd::{Writer, etcdctl};
use crate::lab::{Lab, within};
use crate::machine::{Machine, said};

const PATIENCE: Duration = Duration::from_secs(120);
const TOKEN: &str = "/srv/token";

/// No kubelet on these hosts: this is about etcd and about what is hamaster's own.
const CLUSTER: &str = "\
kubernetes:
  version: v1.20.2
loadBalancer:
  addresses: [192.0.2.100]
network:
  plugin: none
runtime: containerd
election:
  mode: native
";

pub fn host<'l>(lab: &'l Lab, name: &str, number: u8) -> Machine<'l> {
    host_with(None, lab, name, number)
}

/// With the etcd in `programs`, if it is not to be Debian's.
pub fn host_with<'l>(programs: Option<&Path>, lab: &'l Lab, name: &str, number: u8) -> Machine<'l> {
    let mut host = lab.machine(name, number);
    for program in ["etcd", "etcdctl", "etcdutl"] {
        if let Some(programs) = programs {
            std::fs::copy(programs.join(program), host.path(&format!("/usr/local/bin/{program}"))).unwrap();
        }
    }
    host.boot();
    host
}

pub fn first<'l>(lab: &'l Lab) -> Machine<'l> {
    let host = host(lab, "m1", 11);
    init(&host, &[]);
    host
}

/// `hamaster init` behind the words `before`.
pub fn init(host: &Machine, before: &[&str]) {
    host.write("/etc/cluster.yaml", CLUSTER, 0o644);
    let words =
        "hamaster init -c /etc/cluster.yaml --name m1 --advertise-ip 192.0.2.11 --yes --adopt --ignore-preflight all";
    host.ok(&before.iter().copied().chain(words.split(' ')).collect::<Vec<_>>());
}

/// A token from `of`, put on each of `to`.
pub fn token(of: &Machine, to: &[&Machine]) {
    let uses = to.len().to_string();
    let token = of.ok(&["hamaster", "-q", "token", "create", "--uses", &uses]);
    for host in to {
        host.write(TOKEN, &token, 0o600);
    }
}

pub fn join<'w>(name: &'w str, ip: &'w str) -> Vec<&'w str> {
    let mut words = vec!["hamaster", "join", "192.0.2.11", "192.0.2.12", "--token-file", TOKEN, "--name", name];
    words.extend(["--advertise-ip", ip, "--yes", "--adopt", "--ignore-preflight", "all"]);
    words
}

/// The second and the third join at the same time, with the tokens they have; the first is written to meanwhile.
pub fn join_at_once(m1: &Machine, m2: &Machine, m3: &Machine) {
    let writer = Writer::start(m1);
    let other = m3.spawn(&join("m3", "192.0.2.13"));
    m2.ok(&join("m2", "192.0.2.12"));
    let out = other.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    writer.ends("two join at once");
}

/// Names of those who vote, as `on` knows it.
pub fn voters(on: &Machine) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(&on.ok(&["hamaster", "-o", "json", "master", "list"])).unwrap();
    let rows = list["masters"].as_array().unwrap();
    let voters = rows.iter().filter(|m| m["learner"] == false).map(|m| m["name"].as_str().unwrap().to_owned());
    let mut voters: Vec<String> = voters.collect();
    voters.sort();
    voters
}

/// Who leads etcd.
fn leader(on: &Machine) -> String {
    let list: serde_json::Value = serde_json::from_str(&on.ok(&["hamaster", "-o", "json", "master", "list"])).unwrap();
    let rows = list["masters"].as_array().unwrap();
    rows.iter().find(|m| m["leader"] == true).unwrap()["name"].as_str().unwrap().to_owned()
}

/// Masters of the spec that is registered in etcd.
pub fn registered(on: &Machine) -> String {
    let value = etcdctl(on, "get --print-value-only /hamaster/v1/spec");
    let value: serde_json::Value = serde_json::from_str(&value).unwrap();
    value["spec"].as_str().unwrap().to_owned()
}

/// `to` joins as m3 by a bundle that `from` sealed, with no port of a master to ask at.
fn offline(from: &Machine, to: &Machine) {
    let key = from.ok(&["hamaster", "-q", "token", "create", "--offline", "/srv/bundle", "--node", "m3"]);
    let bundle = std::fs::read(from.path("/srv/bundle")).unwrap();
    std::fs::write(to.path("/srv/bundle"), &bundle).unwrap();
    to.write("/srv/key", &key, 0o600);
    let words = |name: &'static str| {
        let mut words = vec!["hamaster", "join", "--offline", "/srv/bundle", "--key-file", "/srv/key", "--name", name];
        words.extend(["--advertise-ip", "192.0.2.14", "--yes", "--adopt", "--ignore-preflight", "all"]);
        words
    };
    let refused = to.run(&words("m5"));
    assert_eq!(refused.status.code(), Some(3), "it is for another host: {}", said(&refused));
    let mut cut = bundle.clone();
    cut.truncate(bundle.len() - 1);
    std::fs::write(to.path("/srv/bundle"), &cut).unwrap();
    let refused = to.run(&words("m3"));
    assert!(!refused.status.success(), "it was cut: {}", said(&refused));
    assert!(!to.path("/var/lib/hamaster").exists(), "a refused bundle left something");
    std::fs::write(to.path("/srv/bundle"), &bundle).unwrap();
    let mut dry = words("m3");
    dry.push("--dry-run");
    assert!(to.ok(&dry).contains("joins etcd as a learner"));
    assert!(!to.path("/etc/kubernetes").exists() && !to.path("/etc/etcd/pki").exists(), "a dry run did something");
    to.ok(&words("m3"));
}

/// A token that is no good ends the join before there is anything of it, with a reason and what to do.
fn bad_tokens_are_refused(m1: &Machine, host: &Machine) {
    let make = |flags: &[&str]| m1.ok(&[&["hamaster", "-q", "token", "create"], flags].concat()).trim().to_owned();
    let (good, other, bound) = (make(&[]), make(&[]), make(&["--node", "m9"]));
    let part = |token: &str, n: usize| token.split('.').nth(n).unwrap().to_owned();
    let mixed = |n: usize, with: &str| good.replace(&part(&good, n), with);
    m1.ok(&["hamaster", "token", "revoke", &part(&other, 1)]);
    let foreign = "A".repeat(43);
    for (text, code, words) in [
        (&good[..good.len() - 5], 2, "not a whole join token"),
        (&mixed(2, &part(&other, 2)), 3, "the token is not accepted"),
        (&other, 3, "the token is not accepted"),
        (&bound, 3, "the token is not accepted"),
        (&make(&["--worker"]), 3, "the token is not accepted"),
        (&mixed(3, &foreign), 3, "nothing was sent to it"),
    ] {
        host.write(TOKEN, text, 0o600);
        let refused = host.run(&join("m2", "192.0.2.12"));
        let all = said(&refused);
        assert!(refused.status.code() == Some(code) && all.contains(words) && all.contains("hint:"), "{all}");
        assert!(!all.contains(&part(&good, 2)), "it shows the secret");
    }
    assert!(!host.path("/etc/kubernetes").exists() && !host.path("/etc/etcd/pki").exists());
    assert_eq!(voters(m1), ["m1"]);
    // A good one on standard input; a look is no join, and its place is free again when a person says so.
    host.write(TOKEN, &good, 0o600);
    host.ok(&["hamaster", "reset", "--yes"]);
    let looks = "hamaster join 192.0.2.11 --token-file - --name m8 --advertise-ip 192.0.2.18 --dry-run \
                 --adopt --ignore-preflight all";
    host.ok(&["sh", "-c", &format!("{looks} <{TOKEN}")]);
    host.ok(&["hamaster", "reset", "--yes"]);
    m1.ok(&["hamaster", "master", "remove", "m8", "--yes"]);
    let gone = m1.run(&["hamaster", "master", "remove", "m8", "--yes"]);
    assert_eq!(gone.status.code(), Some(2), "{}", said(&gone));
}

#[test]
fn masters_join_at_once_are_replaced_and_leave() {
    let Some(lab) = Lab::new() else { return };
    let m1 = first(&lab);
    let (m2, mut m3) = (host(&lab, "m2", 12), host(&lab, "m3", 13));
    bad_tokens_are_refused(&m1, &m2);

    // The second is suspended once it votes, until it is another's turn: the spec must not name it, who may be removed by
    // then. It is, and joins anew.
    token(&m1, &[&m2]);
    let mut suspended = vec!["env", "HAMASTER_STOP_AT=etcd.sealed:1"];
    suspended.extend(join("m2", "192.0.2.12"));
    let joiner = m2.spawn(&suspended);
    within(PATIENCE, "it is suspended", || m2.succeeds(&["sh", "-c", "ps -C hamaster -o stat= | grep -q ^T"]));
    etcdctl(&m1, "put /hamaster/v1/turn m1");
    m2.ok(&["pkill", "-CONT", "-x", "hamaster"]);
    let out = joiner.wait_with_output().unwrap();
    assert!(said(&out).contains("another had the turn"), "{}", said(&out));
    assert!(!registered(&m1).contains("name: m2"));
    etcdctl(&m1, "del /hamaster/v1/turn");
    m1.ok(&["hamaster", "master", "remove", "m2", "--yes"]);

    // The second votes, and is killed before its host or the spec says so. Neither of the two may go without a word.
    let mut killed = vec!["env", "HAMASTER_CRASH_AT=member.promoted:1"];
    killed.extend(join("m2", "192.0.2.12"));
    let out = m2.run(&killed);
    assert!(!out.status.success(), "{}", said(&out));
    for half in [&m1, &m2] {
        let refused = half.run(&["hamaster", "reset", "--yes"]);
        assert_eq!(refused.status.code(), Some(3), "it would be a dead voter: {}", said(&refused));
        assert!(said(&refused).contains("hamaster leave"), "{}", said(&refused));
    }
    let killed = m2.run(&["env", "HAMASTER_CRASH_AT=leave.forgotten:1", "hamaster", "leave", "--yes"]);
    assert!(said(&killed).contains("crash point"), "{}", said(&killed));
    m2.ok(&["hamaster", "leave", "--yes"]);
    assert_eq!(voters(&m1), ["m1"]);
    token(&m1, &[&m2, &m3]);

    // The second is killed once it is a learner; then it and the third join at the same time.
    let mut killed = vec!["env", "HAMASTER_CRASH_AT=member.added:1"];
    killed.extend(join("m2", "192.0.2.12"));
    let out = m2.run(&killed);
    assert!(!out.status.success(), "{}", said(&out));
    let refused = m2.run(&["hamaster", "init", "--yes", "--name", "m2", "--ignore-preflight", "all"]);
    assert_eq!(refused.status.code(), Some(4), "it would make a cluster of its own: {}", said(&refused));
    let refused = m2.run(&["hamaster", "reset", "--yes"]);
    assert_eq!(refused.status.code(), Some(3), "its learner would keep the third out: {}", said(&refused));
    join_at_once(&m1, &m2, &m3);
    assert_eq!(voters(&m1), ["m1", "m2", "m3"]);
    for name in ["m1", "m2", "m3"] {
        assert!(registered(&m2).contains(&format!("name: {name}")), "{}", registered(&m2));
    }
    // The first master follows what is registered, whatever its own file said.
    m1.ok(&["hamaster", "init", "--yes", "--ignore-preflight", "all"]);
    assert!(std::fs::read_to_string(m1.path("/etc/hamaster/cluster.yaml")).unwrap().contains("name: m3"));
    assert!(registered(&m1).contains("name: m2"), "{}", registered(&m1));
    let said_again = m2.run(&join("m2", "192.0.2.12"));
    assert_eq!(said_again.status.code(), Some(4), "{}", said(&said_again));

    let refused = m2.run(&["hamaster", "reset", "--yes"]);
    assert_eq!(refused.status.code(), Some(3), "it would be a dead voter: {}", said(&refused));

    // The third dies for good. A new host of its name is its replacement.
    m3.power_off();
    let refused = m1.run(&["hamaster", "master", "remove", "m2", "--yes"]);
    assert_eq!(refused.status.code(), Some(3), "two of three, and one of them dead: {}", said(&refused));
    let out = m1.run(&["env", "HAMASTER_CRASH_AT=member.removed:1", "hamaster", "master", "remove", "m3", "--yes"]);
    assert!(!out.status.success(), "{}", said(&out));
    m1.ok(&["hamaster", "master", "remove", "m3", "--yes"]);
    assert_eq!(voters(&m1), ["m1", "m2"]);
    assert!(!registered(&m1).contains("name: m3"), "{}", registered(&m1));
    let m3 = host(&lab, "m4", 14);
    offline(&m2, &m3);
    assert_eq!(voters(&m1), ["m1", "m2", "m3"]);

    // A voter's disk is lost: its unit finds no cluster to be part of, and its host joins anew.
    // The keeper may be at work still, after the join: what it restarts wants etcd, and takes the stop back.
    m2.ok(&["systemctl", "stop", "hamaster-serve.service"]);
    m2.ok(&["systemctl", "stop", "etcd.service"]);
    m2.ok(&["sh", "-c", "rm -r /var/lib/etcd/*"]);
    assert!(!m2.succeeds(&["systemctl", "start", "etcd.service"]), "it went on as the voter it was");
    let refused = m2.run(&["hamaster", "init", "--yes", "--ignore-preflight", "all"]);
    assert!(!refused.status.success() && said(&refused).contains("hamaster join --replace"), "{}", said(&refused));
    token(&m1, &[&m2]);
    let mut again = join("m2", "192.0.2.12");
    again.push("--replace");
    let writer = Writer::start(&m1);
    m2.ok(&again);
    writer.ends("a voter whose disk was lost is replaced");
    assert_eq!(voters(&m1), ["m1", "m2", "m3"]);

    // One whose etcd does not run, and does not start at boot, leaves.
    m3.ok(&["systemctl", "stop", "hamaster-serve.service"]);
    m3.ok(&["systemctl", "disable", "--now", "etcd.service"]);
    // It waits until it is its turn with all that it runs.
    etcdctl(&m1, "put /hamaster/v1/turn m9");
    let leaves = m3.spawn(&["sh", "-c", "hamaster leave --yes >/srv/leave.log 2>&1"]);
    let log = || std::fs::read_to_string(m3.path("/srv/leave.log")).unwrap_or_default();
    within(PATIENCE, "it waits", || log().contains("waiting for m9 to be done"));
    assert!(m3.path("/etc/kubernetes/manifests/kube-apiserver.yaml").exists(), "{}", log());
    etcdctl(&m1, "del /hamaster/v1/turn");
    let out = leaves.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", log());
    assert_eq!(voters(&m1), ["m1", "m2"]);
    assert!(!registered(&m1).contains("name: m3"), "{}", registered(&m1));
    assert!(etcdctl(&m1, "get /hamaster/v1/masters/m3").trim().is_empty(), "its report is left");

    // Whoever leads etcd leaves, and is killed after each step of it.
    let hosts = [("m1", &m1), ("m2", &m2)];
    let leads = leader(&m1);
    let (_, leaver) = hosts.iter().find(|(name, _)| *name == leads).unwrap();
    let (_, stays) = hosts.iter().find(|(name, _)| *name != leads).unwrap();
    let named = |path: &str, text: &str| std::fs::read_to_string(stays.path(path)).unwrap().contains(text);
    let (manifest, balancer) =
        ("/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/hamaster/loadbalancer/haproxy.cfg");
    let (member, backend) = (format!("https://{}:2379", leaver.ip()), format!("server {leads} {}:6443", leaver.ip()));
    within(PATIENCE, "it knows the other", || named(manifest, &member) && named(balancer, &backend));
    let writer = Writer::start(stays);
    let mut kills = 0;
    let out = loop {
        let out = leaver.run(&["env", "HAMASTER_CRASH_AT=step.changed:1", "hamaster", "leave", "--yes"]);
        if !said(&out).contains("crash point") {
            break out;
        }
        kills += 1;
        assert!(kills < 200, "it does not come to an end: {}", said(&out));
    };
    // Killed after the last step of all, the record of what it was is gone.
    let ended = out.status.success() || said(&out).contains("this host is no master");
    assert!(ended && kills > 10, "killed {kills} times: {}", said(&out));
    writer.ends(&format!("the leader leaves and is killed {kills} times, 2 -> 1"));
    assert_eq!(voters(stays).len(), 1);
    assert!(!voters(stays).contains(&leads));
    assert!(!leaver.path("/etc/kubernetes/pki/ca.key").exists(), "it could still sign for the cluster");
    within(PATIENCE, "its etcd is gone", || !leaver.succeeds(&["systemctl", "is-active", "etcd.service"]));
    within(PATIENCE, "its name is gone", || !named(manifest, &member) && !named(balancer, &backend));
}

/// One learner at a time is all that etcd takes: the others wait for it, and each other's turn.
#[test]
fn three_join_at_once() {
    let Some(lab) = Lab::new() else { return };
    let m1 = first(&lab);
    let hosts = [host(&lab, "m2", 12), host(&lab, "m3", 13), host(&lab, "m4", 14)];
    token(&m1, &hosts.each_ref());
    let joins = hosts.each_ref().map(|host| {
        let (name, ip) = (format!("m{}", host.ip().octets()[3] - 10), host.ip().to_string());
        host.spawn(&join(&name, &ip))
    });
    for join in joins {
        let out = join.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        for words in ["MEMBER", "make a majority: tolerates", "next: hamaster status"] {
            assert!(said(&out).contains(words), "{words}: {}", said(&out));
        }
    }
    assert_eq!(voters(&m1), ["m1", "m2", "m3", "m4"]);
    for name in ["m2", "m3", "m4"] {
        assert!(registered(&m1).contains(&format!("name: {name}")));
    }
}
