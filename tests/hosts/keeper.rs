//! The keeper on hosts with systemd: a change made at one master reaches the others, one after the other, and a person's
//! edit is left alone.

use std::time::Duration;

use crate::etcd::etcdctl;
use crate::join::{first, host, init, join, token};
use crate::lab::{Lab, within};
use crate::machine::{Machine, said};

const PATIENCE: Duration = Duration::from_secs(120);
const YAML: &str = "/etc/hamaster/cluster.yaml";

fn status(on: &Machine) -> serde_json::Value {
    let out = on.run(&["hamaster", "-o", "json", "status"]);
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&out)))
}

/// Whether every master is what the spec of one generation asks for, as `on` knows it.
fn all_current(on: &Machine, masters: usize) -> bool {
    let status = status(on);
    let rows = status["masters"].as_array().cloned().unwrap_or_default();
    let generations: std::collections::BTreeSet<String> = rows.iter().map(|r| r["generation"].to_string()).collect();
    rows.len() == masters && rows.iter().all(|r| r["standing"] == "current") && generations.len() == 1
}

/// Everything the keepers ever said, as etcd's history has it: who, and how it stood.
fn history(on: &Machine) -> Vec<(String, String)> {
    let text = etcdctl(on, "watch --rev=1 --prefix /hamaster/v1/masters/ || true");
    let lines: Vec<&str> = text.lines().filter(|l| !l.is_empty()).collect();
    let put = |l: &[&str]| {
        let report: serde_json::Value = serde_json::from_str(l.get(2)?).ok()?;
        Some((l[1].rsplit('/').next()?.to_owned(), report["standing"].as_str()?.to_owned()))
    };
    lines.windows(3).filter(|l| l[0] == "PUT").filter_map(put).collect()
}

#[test]
fn a_change_at_one_master_reaches_all_one_after_the_other() {
    let Some(lab) = Lab::new() else { return };
    let m1 = first(&lab);
    let (m2, m3) = (host(&lab, "m2", 12), host(&lab, "m3", 13));
    token(&m1, &[&m2, &m3]);
    m2.ok(&join("m2", "192.0.2.12"));
    m3.ok(&join("m3", "192.0.2.13"));
    // Nobody runs anything on the first two: they learn of the third from the spec.
    let hosts = [&m1, &m2, &m3];
    within(PATIENCE, "all masters know each other", || all_current(&m1, 3));
    for host in hosts {
        let manifest = std::fs::read_to_string(host.path("/etc/kubernetes/manifests/kube-apiserver.yaml")).unwrap();
        assert!(manifest.contains("https://192.0.2.13:2379"), "{manifest}");
        assert!(std::fs::read_to_string(host.path(YAML)).unwrap().contains("name: m3"));
    }
    assert_eq!(status(&m2)["healthy"], true, "{}", status(&m2));

    // The load balancer's address changes: one command at one master.
    let yaml = std::fs::read_to_string(m1.path(YAML)).unwrap();
    m1.write(YAML, &yaml.replace("192.0.2.100", "192.0.2.200"), 0o600);
    // The others' keepers hear of it in the same instant.
    let serve = |word: &'static str| ["systemctl", word, "hamaster-serve.service"];
    m2.ok(&serve("stop"));
    m3.ok(&serve("stop"));
    m1.ok(&["hamaster", "init", "--yes", "--ignore-preflight", "all"]);
    let refused = m2.run(&["hamaster", "init", "--yes", "--ignore-preflight", "all", "--lb-ip", "192.0.2.77"]);
    assert_eq!(refused.status.code(), Some(4), "it would undo the first master's change: {}", said(&refused));
    let starting = [m2.spawn(&serve("start")), m3.spawn(&serve("start"))];
    for started in starting {
        assert!(started.wait_with_output().unwrap().status.success());
    }
    let names = |host: &Machine| {
        host.ok(&["openssl", "x509", "-in", "/etc/kubernetes/pki/server.cert", "-noout", "-ext", "subjectAltName"])
    };
    within(PATIENCE, "every master's certificate is for the new address", || {
        hosts.iter().all(|h| names(h).contains("192.0.2.200"))
    });
    within(PATIENCE, "all say so", || all_current(&m3, 3));

    // One at a time, as etcd saw it.
    let mut applying = std::collections::BTreeSet::new();
    let history = history(&m1);
    let changes = history.iter().filter(|(_, standing)| standing == "applying").count();
    assert!(changes >= 4, "two masters' joins and the address: {history:?}");
    for (name, standing) in history {
        match standing.as_str() {
            "applying" => applying.insert(name),
            _ => applying.remove(&name),
        };
        assert!(applying.len() <= 1, "at once: {applying:?}");
    }

    // What a person is about to apply is not undone, whatever the keeper finds.
    let yaml = std::fs::read_to_string(m2.path(YAML)).unwrap();
    let edited = yaml.replace("192.0.2.200", "192.0.2.201");
    m2.write(YAML, &edited, 0o600);
    m2.ok(&["systemctl", "restart", "hamaster-serve.service"]);
    let blocked = || status(&m1)["masters"][1]["standing"] == "blocked";
    within(PATIENCE, "it is told", blocked);
    assert_eq!(std::fs::read_to_string(m2.path(YAML)).unwrap(), edited);
    assert_eq!(m1.run(&["hamaster", "status"]).status.code(), Some(4), "a person is needed");
    m2.write(YAML, &yaml, 0o600);

    // Nor is a change whose command was killed once this host's file said so, and before the cluster's spec did.
    let asks = ["hamaster", "init", "--yes", "--ignore-preflight", "all", "--lb-ip", "192.0.2.150"];
    m2.ok(&["systemctl", "restart", "hamaster-serve.service"]);
    within(PATIENCE, "nobody waits", || all_current(&m3, 3));
    m2.ok(&serve("stop"));
    let says = |path: &str| std::fs::read_to_string(m2.path(path)).unwrap().contains("192.0.2.150");
    for step in 1.. {
        let out = m2.run(&[&["env", &format!("HAMASTER_CRASH_AT=step:{step}")], &asks[..]].concat());
        assert!(said(&out).contains("crash point"), "{}", said(&out));
        if says(YAML) {
            break;
        }
    }
    m2.ok(&serve("start"));
    within(PATIENCE, "it is told", blocked);
    assert!(says(YAML) && !etcdctl(&m1, "get --print-value-only /hamaster/v1/spec").contains("192.0.2.150"));
    m2.ok(&asks[..5]);
    within(PATIENCE, "every master's certificate is for the address", || {
        hosts.iter().all(|h| names(h).contains("192.0.2.150"))
    });
    within(PATIENCE, "all say so", || all_current(&m3, 3));

    // What nobody wants to change is put back, and the edit is kept.
    let unit = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    let before = std::fs::read_to_string(m2.path(unit)).unwrap();
    m2.write(unit, "edited by hand", 0o600);
    m2.ok(&["systemctl", "restart", "hamaster-serve.service"]);
    within(PATIENCE, "it is put back", || std::fs::read_to_string(m2.path(unit)).unwrap() == before);
    let kept = m2.ok(&["grep", "-rl", "edited by hand", "/var/lib/hamaster/backup"]);
    assert!(!kept.trim().is_empty(), "the edit is backed up");
}

#[test]
fn certificates_that_are_due_are_renewed_with_no_command() {
    let Some(lab) = Lab::new() else { return };
    let m1 = host(&lab, "m1", 11);
    // A master that was made 300 days ago: of its year, more than two thirds have passed.
    let faketime = "/srv/libfaketime.so.1";
    std::fs::create_dir_all(m1.path("/srv")).unwrap();
    std::fs::copy("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", m1.path(faketime)).unwrap();
    let preload = format!("LD_PRELOAD={faketime}");
    init(&m1, &["env", &preload, "FAKETIME=-300d", "FAKETIME_DONT_FAKE_MONOTONIC=1"]);

    let leaves = ["/etc/kubernetes/pki/server.cert", "/etc/etcd/pki/server.crt", "/etc/etcd/pki/peer.crt"];
    let lasts = |leaf: &&str| m1.succeeds(&["openssl", "x509", "-in", leaf, "-noout", "-checkend", "25920000"]);
    within(PATIENCE, "every leaf lasts 300 days more", || leaves.iter().all(lasts));
    within(PATIENCE, "it is done", || all_current(&m1, 1));
    m1.ok(&["hamaster", "certs", "check"]);
    let log = m1.ok(&["journalctl", "-u", "hamaster-serve", "--no-pager"]);
    assert!(log.contains("keeper: issue etcd-server"), "{log}");
    let served = "openssl s_client -connect 192.0.2.11:2379 -CAfile /etc/etcd/pki/ca.crt </dev/null 2>/dev/null |
                  openssl x509 -noout -checkend 25920000";
    m1.ok(&["sh", "-c", served]);
}

#[test]
fn a_spec_of_a_newer_hamaster_is_left_alone_by_an_older_one() {
    let Some(lab) = Lab::new() else { return };
    let m1 = first(&lab);
    let mut value: serde_json::Value =
        serde_json::from_str(&etcdctl(&m1, "get --print-value-only /hamaster/v1/spec")).unwrap();
    let newer = format!("{}future: {{}}\n", value["spec"].as_str().unwrap());
    (value["spec"], value["generation"]) = (newer.into(), (value["generation"].as_u64().unwrap() + 1).into());
    m1.write("/srv/spec", &value.to_string(), 0o600);
    etcdctl(&m1, "put /hamaster/v1/spec </srv/spec");
    let refused = m1.run(&["hamaster", "init", "--yes", "--ignore-preflight", "all", "--lb-ip", "192.0.2.77"]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert!(said(&refused).contains("a newer hamaster's") && said(&refused).contains("future"), "{}", said(&refused));
    let blocked = || status(&m1)["masters"][0]["standing"] == "blocked";
    within(PATIENCE, "its keeper says so", blocked);
    assert!(etcdctl(&m1, "get --print-value-only /hamaster/v1/spec").contains("future"));
}
