//! The majority is lost for good: one master goes on alone with all that was written, and the cluster grows again.

use std::path::Path;
use std::time::Duration;

use crate::etcd::etcdctl;
use crate::join::{host_with, init, join, join_at_once, registered, token, voters};
use crate::lab::{Lab, within};
use crate::machine::{Machine, said};

const PATIENCE: Duration = Duration::from_secs(120);
const SNAPSHOTS: &str = "/var/lib/hamaster/snapshots";

/// Nothing of the control plane's runs there any more, and nothing comes back by itself.
fn dies(host: &Machine) {
    host.ok(&["systemctl", "disable", "--now", "hamaster-serve.service", "etcd.service"]);
}

/// As `etcd recover` and `snapshot restore` say: what was there is forgotten, and the host joins anew.
fn comes_back(host: &Machine, name: &str, to: &Machine) {
    let refused = host.run(&join(name, &host.ip().to_string()));
    assert_eq!(refused.status.code(), Some(4), "it is a master of what was: {}", said(&refused));
    host.ok(&["hamaster", "reset", "--yes"]);
    token(to, &[host]);
    host.ok(&join(name, &host.ip().to_string()));
}

fn reads(on: &Machine, key: &str) -> String {
    etcdctl(on, &format!("get --print-value-only {key}")).trim().to_owned()
}

#[test]
fn the_last_of_three_goes_on_and_the_others_join_anew() {
    goes_on_and_grows(None);
}

/// It refuses in other words, and has another program that restores.
#[test]
fn so_it_does_with_the_newest_etcd() {
    match std::env::var_os("ETCD_NEWEST_DIR") {
        Some(programs) => goes_on_and_grows(Some(Path::new(&programs))),
        None => eprintln!("SKIPPED: ETCD_NEWEST_DIR is not set; .ci/test sets it"),
    }
}

fn goes_on_and_grows(programs: Option<&Path>) {
    let Some(lab) = Lab::new() else { return };
    let [m1, m2, m3] = [1, 2, 3].map(|n| host_with(programs, &lab, &format!("m{n}"), 10 + n));
    init(&m1, &[]);
    let newer = !etcdctl(&m1, "version").contains("etcdctl version: 3.4.");
    assert_eq!(newer, programs.is_some());
    token(&m1, &[&m2, &m3]);
    join_at_once(&m1, &m2, &m3);
    let ca = std::fs::read(m1.path("/etc/kubernetes/pki/ca.key")).unwrap();
    etcdctl(&m1, "put /k/recovered yes");
    let refused = m1.run(&["hamaster", "etcd", "recover", "--yes"]);
    assert_eq!(refused.status.code(), Some(4), "there is a majority: {}", said(&refused));

    dies(&m2);
    dies(&m3);
    let alone = || said(&m1.run(&["hamaster", "etcd", "status"])).contains("no quorum");
    within(PATIENCE, "it knows that it is alone", alone);
    let out = m1.run(&["env", "HAMASTER_CRASH_AT=member.moved:1", "hamaster", "etcd", "recover", "--yes"]);
    assert!(said(&out).contains("crash point"), "{}", said(&out));
    m1.ok(&["hamaster", "etcd", "recover", "--yes"]);
    assert_eq!(reads(&m1, "/k/recovered"), "yes");
    assert_eq!(voters(&m1), ["m1"]);
    let spec = registered(&m1);
    assert!(!spec.contains("name: m2") && !spec.contains("name: m3"), "what asks etcd here would ask them: {spec}");
    comes_back(&m2, "m2", &m1);
    comes_back(&m3, "m3", &m1);
    assert_eq!(voters(&m2), ["m1", "m2", "m3"]);
    assert_eq!(reads(&m3, "/k/recovered"), "yes");
    assert_eq!(std::fs::read(m3.path("/etc/kubernetes/pki/ca.key")).unwrap(), ca, "it is the same cluster's");

    // The timer's snapshot brings back what was there when it was taken.
    let snapshots = || -> Vec<String> {
        let list = std::fs::read_dir(m1.path(SNAPSHOTS)).unwrap();
        list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let before = snapshots();
    assert!(m1.succeeds(&["systemctl", "is-active", "hamaster-snapshot.timer"]));
    m1.ok(&["systemctl", "start", "hamaster-snapshot.service"]);
    let taken: Vec<String> = snapshots().into_iter().filter(|name| !before.contains(name)).collect();
    let [taken] = &taken[..] else { panic!("{taken:?}") };
    etcdctl(&m1, "put /k/later yes");
    dies(&m2);
    dies(&m3);
    let taken = format!("{SNAPSHOTS}/{taken}");
    m1.ok(&["hamaster", "etcd", "snapshot", "verify", &taken]);
    m1.ok(&["hamaster", "etcd", "snapshot", "restore", &taken, "--set-aside", "--yes"]);
    assert_eq!((reads(&m1, "/k/recovered"), reads(&m1, "/k/later")), ("yes".to_owned(), String::new()));
    comes_back(&m2, "m2", &m1);
    assert_eq!(voters(&m2), ["m1", "m2"]);
}
