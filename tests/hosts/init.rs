//! `hamaster init` on a host with systemd: to a healthy etcd, through crashes and power cuts, and back to nothing;
//! and what it leaves of a host when it cannot go on, which is nothing either.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Output};
use std::time::Duration;

use crate::lab::{Lab, within};
use crate::machine::{Machine, said};
use crate::tree::Tree;

const FLANNEL_KEY: &str = "/coreos.com/network/config";
const UNITS: [&str; 4] = ["etcd.service", "flanneld.service", "containerd.service", "kubelet.service"];
/// Busy machines are slow; a wait that ends well ends early.
const PATIENCE: Duration = Duration::from_secs(120);

/// Stands in for a daemon that Debian has no package of: knows its version, says it is ready, stays. It says so itself:
/// systemd does not listen to a child (systemd-notify) of a unit with few capabilities.
pub const STAND_IN: &str = r#"#!/usr/bin/perl
use Socket;
if ("@ARGV" =~ /version/) { print "@VERSION@\n"; exit 0 }
if (my $systemd = $ENV{NOTIFY_SOCKET}) {
    socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die $!;
    send($socket, "READY=1", 0, pack_sockaddr_un($systemd)) or die $!;
}
sleep;
"#;

/// Findings about the disk of a test host and the machine below it. Everything else must be found good.
const IGNORED: &str = "EtcdDataDirFilesystem,NumCPU,Mem,Swap";

/// A booted host with everything that a master is made of.
fn bare_host(lab: &Lab) -> Machine<'_> {
    let mut host = lab.machine("m1", 11);
    for (path, version) in [
        ("/usr/local/bin/kubelet", "Kubernetes v1.20.2"),
        ("/usr/local/bin/flanneld", "v0.22.0"),
        ("/opt/cni/bin/flannel", "CNI flannel plugin v1.1.2"),
    ] {
        host.write(path, &STAND_IN.replace("@VERSION@", version), 0o755);
    }
    // flannel's key in etcd is one more thing to be put in the right order and taken back.
    host.write("/etc/cluster.yaml", "network: { leases: etcd }\n", 0o644);
    host.boot();
    host
}

/// Replaces etcd by a program that still knows its version.
fn break_etcd(host: &Machine, instead: &str) {
    std::fs::rename(host.path("/usr/bin/etcd"), host.path("/usr/bin/etcd.real")).unwrap();
    let script =
        format!("#!/bin/sh\ncase \"$*\" in *--version*) exec /usr/bin/etcd.real --version ;; esac\n{instead}\n");
    host.write("/usr/bin/etcd", &script, 0o755);
}

/// The command, word by word. Kubernetes 1.20 takes the containerd that Debian 12 has; its configuration file, which
/// comes with the package, has to be adopted.
fn words() -> Vec<&'static str> {
    let mut words =
        "hamaster init -c /etc/cluster.yaml --yes --adopt --name m1 --advertise-ip 192.0.2.11 --lb-ip 192.0.2.100 --runtime containerd \
                     --election native --kubernetes-version v1.20.2"
            .split_whitespace()
            .collect::<Vec<_>>();
    words.extend(["--ignore-preflight", IGNORED]);
    // All but the last, which waits for an apiserver: that takes a kubelet that is none in name only.
    let phases = ["pki", "kubeconfig", "etcd", "network", "runtime", "kubelet", "control-plane", "election"];
    words.extend(phases.iter().flat_map(|p| ["--only", *p]));
    words
}

/// Runs `init` and checks its exit code.
fn init(host: &Machine, code: i32) -> String {
    expect(&host.run(&words()), code)
}

fn expect(out: &Output, code: i32) -> String {
    assert_eq!(out.status.code(), Some(code), "{}", said(out));
    said(out)
}

/// `etcdctl` as the apiserver would call it.
fn etcdctl<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let client = [
        "etcdctl",
        "--endpoints=https://127.0.0.1:2379",
        "--cacert=/etc/etcd/pki/ca.crt",
        "--cert=/etc/kubernetes/pki/apiserver-etcd-client.crt",
        "--key=/etc/kubernetes/pki/apiserver-etcd-client.key",
    ];
    client.iter().chain(arguments).copied().collect()
}

fn etcd_is_healthy(host: &Machine) -> bool {
    host.succeeds(&etcdctl(&["endpoint", "health"]))
}

/// A property of a unit, as systemd has it.
fn property(host: &Machine, unit: &str, name: &str) -> String {
    host.ok(&["systemctl", "show", "--value", "-p", name, unit]).trim().to_owned()
}

/// Start time and process of each unit: the same afterwards means that nothing was restarted.
fn runs(host: &Machine) -> BTreeMap<&'static str, (String, String)> {
    let of = |u| (property(host, u, "MainPID"), property(host, u, "ActiveEnterTimestampMonotonic"));
    UNITS.into_iter().map(|u| (u, of(u))).collect()
}

/// Every unit file with whether it is enabled, and every service that runs or failed.
fn units(host: &Machine) -> BTreeSet<String> {
    let files = host.ok(&["systemctl", "list-unit-files", "--no-legend", "--plain"]);
    let services = "systemctl list-units --no-legend --plain --type=service --state=active,failed";
    let services = host.ok(&services.split(' ').collect::<Vec<_>>());
    // Asked for the time, it starts by itself, and ends when nobody asks any more.
    let lasting = files.lines().chain(services.lines()).filter(|l| !l.starts_with("systemd-timedated.service "));
    lasting.map(str::to_owned).collect()
}

/// The host as it is now, on its disk and in systemd, to be compared later.
pub struct Before {
    tree: Tree,
    units: BTreeSet<String>,
}

impl Before {
    pub fn of(host: &Machine) -> Self {
        Self { tree: Tree::of(host), units: units(host) }
    }

    pub fn assert_unchanged(&self, host: &Machine, after: &str) {
        Tree::of(host).assert_same_as(&self.tree, after);
        let changed: Vec<_> = units(host).symmetric_difference(&self.units).cloned().collect();
        assert!(changed.is_empty(), "units changed: {after}: {changed:#?}");
    }
}

#[test]
fn init_brings_up_an_etcd_that_answers_only_to_our_certificates() {
    let Some(lab) = Lab::new() else { return };
    let host = bare_host(&lab);
    init(&host, 0);
    assert!(etcd_is_healthy(&host));

    let network = host.ok(&etcdctl(&["get", "--print-value-only", FLANNEL_KEY]));
    assert!(network.contains("\"Network\"") && network.contains("10.244.0.0/16"), "{network}");
    let bare = ["etcdctl", "--endpoints=https://127.0.0.1:2379", "--cacert=/etc/etcd/pki/ca.crt"];
    for read in [["get", FLANNEL_KEY], ["endpoint", "health"]] {
        let refused = host.run(&[&bare[..], &["--command-timeout=5s"], &read[..]].concat());
        assert!(!refused.status.success(), "{}", said(&refused));
    }
    // Not over plain HTTP either.
    assert!(!host.succeeds(&[
        "etcdctl",
        "--command-timeout=5s",
        "--endpoints=http://127.0.0.1:2379",
        "endpoint",
        "health"
    ]));
}

#[test]
fn a_killed_etcd_is_started_again_by_systemd() {
    let Some(lab) = Lab::new() else { return };
    let host = bare_host(&lab);
    init(&host, 0);
    let killed = property(&host, "etcd.service", "MainPID");
    host.ok(&["systemctl", "kill", "--kill-who=main", "-s", "KILL", "etcd.service"]);
    within(PATIENCE, "another etcd is healthy", || {
        let pid = property(&host, "etcd.service", "MainPID");
        pid != killed && pid != "0" && etcd_is_healthy(&host)
    });
}

#[test]
fn a_second_init_has_nothing_to_do_also_after_a_power_cut() {
    let Some(lab) = Lab::new() else { return };
    let mut host = bare_host(&lab);
    init(&host, 0);
    let (tree, running) = (Tree::of(&host), runs(&host));
    let again = init(&host, 0);
    assert!(again.contains("nothing to do"), "{again}");
    assert_eq!(runs(&host), running, "a unit was restarted");
    // etcd writes all the time.
    let tree = tree.without("/var/lib/etcd");
    Tree::of(&host).without("/var/lib/etcd").assert_same_as(&tree, "second init");

    host.power_off();
    host.boot();
    within(PATIENCE, "etcd is healthy after the power cut", || etcd_is_healthy(&host));
    let again = init(&host, 0);
    assert!(again.contains("nothing to do"), "{again}");
    Tree::of(&host).without("/var/lib/etcd").assert_same_as(&tree, "power cut and third init");
}

#[test]
fn reset_leaves_the_host_as_it_was() {
    let Some(lab) = Lab::new() else { return };
    let host = bare_host(&lab);
    let before = Before::of(&host);
    init(&host, 0);
    assert!(Tree::of(&host).has("/etc/kubernetes/pki/ca.crt"));
    expect(&host.run(&["hamaster", "reset", "--purge", "--yes"]), 0);
    before.assert_unchanged(&host, "init and reset");
    assert!(!host.succeeds(&["pgrep", "-x", "etcd"]), "etcd still runs");
    // And it can become a master again.
    init(&host, 0);
    assert!(etcd_is_healthy(&host));
}

/// Without `--purge`, what a cluster could be revived from is moved aside and named.
#[test]
fn reset_keeps_the_keys_and_the_data_of_the_cluster_aside() {
    let Some(lab) = Lab::new() else { return };
    let host = bare_host(&lab);
    let before = Before::of(&host);
    init(&host, 0);
    let ca = std::fs::read(host.path("/etc/kubernetes/pki/ca.key")).unwrap();
    let told = expect(&host.run(&["hamaster", "reset", "--yes"]), 0);
    let word = told.split_whitespace().find(|w| w.starts_with('/') && w.contains("kept") && w.contains("/ca.key"));
    let word = word.unwrap_or_else(|| panic!("it says where the CA's key is: {told}"));
    let kept = &word[..word.find("/ca.key").unwrap()];
    assert_eq!(std::fs::read(host.path(&format!("{kept}/ca.key"))).unwrap(), ca);
    assert!(host.path(&format!("{kept}/etcd/member")).is_dir(), "etcd's data is beside it");
    assert!(told.contains("/var/lib/hamaster/backup"), "it names the backups it leaves: {told}");
    let after = Tree::of(&host).without(kept).without("/var/lib/hamaster");
    after.assert_same_as(&before.tree, "init and reset, but for what is kept");
    assert_eq!(units(&host), before.units);
}

#[test]
fn a_foreign_kubelet_unit_is_a_conflict() {
    let Some(lab) = Lab::new() else { return };
    let host = bare_host(&lab);
    host.write("/etc/systemd/system/kubelet.service", "[Service]\nExecStart=/usr/local/bin/kubelet --mine\n", 0o644);
    host.ok(&["systemctl", "daemon-reload"]);
    let before = Before::of(&host);
    let mut words = words();
    words.retain(|w| *w != "--adopt");
    let error = expect(&host.run(&words), 4);
    for path in ["/etc/systemd/system/kubelet.service", "/etc/containerd/config.toml", "--adopt"] {
        assert!(error.contains(path), "{path} is not in: {error}");
    }
    before.assert_unchanged(&host, "conflict");
}

#[test]
fn an_etcd_that_exits_is_shown_with_its_last_words() {
    let Some(lab) = Lab::new() else { return };
    let host = bare_host(&lab);
    break_etcd(&host, "echo 'the disk is made of cheese' >&2\nexit 1");
    let before = Before::of(&host);
    let error = init(&host, 1);
    assert!(error.contains("the disk is made of cheese") && error.contains("hint:"), "{error}");
    before.assert_unchanged(&host, "an etcd that exits");
}

#[test]
fn a_taken_port_is_refused_before_anything_is_touched() {
    let Some(lab) = Lab::new() else { return };
    let host = bare_host(&lab);
    host.ok(&["systemd-run", "--unit=squatter", "systemd-socket-activate", "--listen=2379", "/bin/true"]);
    within(PATIENCE, "the port is taken", || host.ok(&["ss", "-Hltn"]).contains(":2379"));
    let before = Before::of(&host);
    let error = init(&host, 3);
    assert!(error.contains("2379") && error.contains("hint:"), "{error}");
    before.assert_unchanged(&host, "a taken port");
}

#[test]
fn a_read_only_etc_is_reported_and_nothing_is_written() {
    let Some(lab) = Lab::new() else { return };
    let host = bare_host(&lab);
    host.ok(&["mount", "--bind", "/etc", "/etc"]);
    host.ok(&["mount", "-o", "remount,ro,bind", "/etc"]);
    let before = Before::of(&host);
    let out = host.run(&words());
    assert!(matches!(out.status.code(), Some(1 | 3)), "{}: {}", out.status, said(&out));
    assert!(said(&out).contains("/etc") && said(&out).to_lowercase().contains("read-only"), "{}", said(&out));
    before.assert_unchanged(&host, "a read-only /etc");
}

#[test]
fn a_full_disk_in_the_middle_of_a_write_is_reported_and_taken_back() {
    let Some(lab) = Lab::new() else { return };
    let host = bare_host(&lab);
    host.ok(&["mkdir", "/etc/kubernetes"]);
    host.ok(&["mount", "-t", "tmpfs", "-o", "size=16k", "small", "/etc/kubernetes"]);
    let before = Before::of(&host);
    // Preflight would refuse it, as it should: here the disk fills up later than that.
    let ignored = format!("{IGNORED},DiskSpace");
    let words: Vec<_> = words().into_iter().map(|w| if w == IGNORED { &ignored } else { w }).collect();
    let error = expect(&host.run(&words), 1);
    assert!(error.contains("/etc/kubernetes") && error.to_lowercase().contains("no space left"), "{error}");
    assert_eq!(host.ok(&["find", "/etc/kubernetes", "-mindepth", "1"]), "");
    before.assert_unchanged(&host, "a full disk");
}

/// `init` that waits for an etcd which never becomes ready.
fn waiting_init(host: &Machine) -> Child {
    let mut child = host.spawn(&words());
    let waits = || property(host, "etcd.service", "ActiveState") == "activating";
    within(PATIENCE, "init waits for etcd", || waits() || child.try_wait().unwrap().is_some());
    if child.try_wait().unwrap().is_some() {
        panic!("init did not wait: {}", said(&child.wait_with_output().unwrap()));
    }
    child
}

#[test]
fn one_hamaster_at_a_time_and_an_interrupted_one_leaves_the_host_as_it_was() {
    let Some(lab) = Lab::new() else { return };
    let host = bare_host(&lab);
    break_etcd(&host, "exec sleep infinity");
    // Whoever may log in may lock what he can open.
    let mut stranger = host.spawn(&["setpriv", "--reuid=nobody", "flock", "/", "sleep", "infinity"]);
    within(PATIENCE, "a user locks the root directory", || !host.succeeds(&["flock", "-n", "/", "true"]));
    let before = Before::of(&host);
    let first = waiting_init(&host);
    let error = init(&host, 4);
    assert!(error.contains("another hamaster"), "{error}");

    host.ok(&["pkill", "-INT", "-x", "hamaster"]);
    expect(&first.wait_with_output().unwrap(), 1);
    before.assert_unchanged(&host, "SIGINT while waiting for etcd");
    host.ok(&["pkill", "-x", "sleep"]);
    stranger.wait().unwrap();
}
