//! Founders that find each other at real servers: a discovery service, keys in an etcd.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::formed;
use crate::image::{self, carry, flag, run};
use crate::servers::{Pki, Service, curl, etcd, registered, until};

type Master = (&'static str, &'static str);

/// Each test has addresses of its own: what is registered is not told by the port.
fn masters(net: u8) -> [Master; 5] {
    let at = |n: u8| -> &'static str { format!("127.0.{net}.{n}").leak() };
    [("m1", at(1)), ("m2", at(2)), ("m3", at(3)), ("m4", at(4)), ("m5", at(5))]
}

/// `hamaster init` of an image that seeks the others at `url`.
fn seek(dir: &Path, master: Master, url: &str) -> Command {
    let mut command = image::command(dir, master);
    command.args(["--etcd-bootstrap", "discovery", "--discovery-url", url, "--ignore-preflight", "all"]);
    command
}

/// Images that all have the bundle of the first.
fn bundles(dir: &Path, masters: &[Master], url: &str) {
    let (code, said) = run(seek(dir, masters[0], url).args(["--only", "pki"]));
    assert_eq!(code, 0, "{said}");
    masters[1..].iter().for_each(|(name, _)| carry(dir, masters[0].0, name));
}

/// Writes `discovery: {keys}` into the cluster file of each; nothing for none.
fn write_discovery(dir: &Path, masters: &[Master], keys: &str) {
    let made = std::fs::read_to_string(dir.join("m1.yaml")).unwrap();
    let version = made.split(", discovery").next().unwrap().trim_end_matches('}');
    for (name, _) in masters {
        let text = format!("{version}, discovery: {{{keys}}}}}");
        std::fs::write(dir.join(format!("{name}.yaml")), text).unwrap();
    }
}

fn begin(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> (i32, String) {
    let out = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status.code().unwrap_or(-1), said)
}

fn all_at_once(dir: &Path, masters: &[Master], url: &str) -> Vec<(i32, String)> {
    let running: Vec<_> = masters.iter().map(|m| begin(&mut seek(dir, *m, url))).collect();
    running.into_iter().map(end).collect()
}

fn values(masters: &[Master]) -> Vec<String> {
    masters.iter().map(|(name, ip)| format!("{name}=https://{ip}:2380")).collect()
}

/// The units of all name the same members.
fn name_the_same(dir: &Path, masters: &[Master]) {
    let wanted = format!("--initial-cluster={}", values(masters).join(","));
    for (name, _) in masters {
        let line = flag(dir, name, "--initial-cluster=");
        assert!(line.contains(&wanted), "{name}: {line}");
        assert_eq!(flag(dir, name, "--initial-cluster-token="), flag(dir, masters[0].0, "--initial-cluster-token="));
        assert!(flag(dir, name, "--initial-cluster-state=").contains("new"));
    }
}

#[test]
fn three_find_each_other_at_a_discovery_service_and_are_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = masters(94);
    let three = [all[0], all[1], all[2]];
    let service = Service::start(dir, "127.0.94.100");
    let url = service.new_token(3);
    bundles(dir, &all[..4], &url);
    assert!(registered(&url, &[]).is_empty(), "who makes the bundle alone does not register");
    let (code, said) = run(seek(dir, all[0], &url).arg("--dry-run"));
    assert!(code == 0 && said.contains("nothing was touched"), "{said}");
    assert!(said.contains("is not TLS"), "{said}");
    assert!(registered(&url, &[]).is_empty(), "who only looks does not register");

    for (code, said) in all_at_once(dir, &three, &url) {
        assert!(code == 0 && said.contains("formed of m1, m2, m3"), "{said}");
    }
    assert_eq!(registered(&url, &[]), values(&three));
    name_the_same(dir, &three);

    let (code, said) = run(&mut seek(dir, all[3], &url));
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("all have registered: m1, m2, m3; m4 is none of them"), "{said}");
    assert!(said.contains("hamaster join") && said.contains("/new?size=3"), "{said}");
    assert_eq!(registered(&url, &[]), values(&three));
    assert!(!dir.join("m4/var/lib/hamaster").exists(), "nothing was touched");

    let another = service.new_token(3);
    drop(service);
    let (code, said) = run(&mut seek(dir, all[0], &another));
    assert!(code == 4 && said.contains(&format!("started here with the masters found at {url}")), "{said}");
    for master in three {
        let (code, said) = run(&mut seek(dir, master, &url));
        assert!(code == 0 && said.contains("nothing to do"), "nobody is asked again: {said}");
    }
    formed::forms_one_cluster(dir, three, "127.0.95");
}

#[test]
fn of_five_the_first_three_are_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = masters(96);
    let (three, late) = all.split_at(3);
    let service = Service::start(dir, "127.0.96.100");
    let url = service.new_token(3);
    bundles(dir, &all, &url);
    // Both have seen that there is room, and are about to register.
    let stopped = |master: &Master| {
        let child = begin(seek(dir, *master, &url).env("HAMASTER_STOP_AT", "discovery.looked:1"));
        let stat = format!("/proc/{}/stat", child.id());
        until("it to stop", || std::fs::read_to_string(&stat).unwrap().rsplit(") ").next().unwrap().starts_with('T'));
        child
    };
    let slow: Vec<_> = late.iter().map(stopped).collect();
    for (code, said) in all_at_once(dir, three, &url) {
        assert_eq!(code, 0, "{said}");
    }
    name_the_same(dir, three);
    for child in &slow {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    }
    for (code, said) in slow.into_iter().map(end) {
        assert!(code == 3 && said.contains("all have registered: m1, m2, m3"), "{said}");
        assert!(said.contains("registered at"), "it was too late: {said}");
    }
    assert_eq!(registered(&url, &[]), values(three), "who came late is gone again");
}

#[test]
fn a_founder_that_is_killed_or_stopped_is_the_same_one_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = masters(97);
    let three = &all[..3];
    let service = Service::start(dir, "127.0.97.100");
    let url = service.new_token(3);
    bundles(dir, three, &url);
    let (code, said) = run(seek(dir, all[0], &url).env("HAMASTER_CRASH_AT", "discovery.registered:1"));
    assert!(code == -1 && said.contains("crash point: discovery.registered"), "{said}");
    assert_eq!(registered(&url, &[]), values(&all[..1]));

    let waits = begin(&mut seek(dir, all[1], &url));
    until("m2 to register", || registered(&url, &[]).len() == 2);
    let stop = rustix::process::Pid::from_child(&waits);
    rustix::process::kill_process(stop, rustix::process::Signal::INT).unwrap();
    let (code, said) = end(waits);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("interrupted while waiting for 1 more master to register at"), "{said}");
    assert!(said.contains("of 3 there are m1, m2"), "{said}");
    assert_eq!(registered(&url, &[]), values(&all[..2]));

    let others: Vec<_> = all[..2].iter().map(|m| begin(&mut seek(dir, *m, &url))).collect();
    let (code, said) = run(seek(dir, all[2], &url).env("HAMASTER_CRASH_AT", "discovery.recorded:1"));
    assert!(code == -1 && said.contains("crash point: discovery.recorded"), "{said}");
    for (code, said) in others.into_iter().map(end) {
        assert!(code == 0 && !said.contains("registered at"), "it was registered: {said}");
    }
    drop(service);
    let (code, said) = run(&mut seek(dir, all[2], &url));
    assert_eq!(code, 0, "it was recorded: {said}");
    name_the_same(dir, three);
}

#[test]
fn what_can_never_be_one_cluster_is_refused_before_anybody_registers() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = masters(98);
    let service = Service::start(dir, "127.0.98.100");
    let url = service.new_token(3);
    let refused = |command: &mut Command, says: &[&str]| {
        let (code, said) = run(command);
        assert_eq!(code, 3, "{said}");
        says.iter().for_each(|s| assert!(said.contains(s), "{said}\n{s}"));
    };
    refused(
        image::command(dir, all[0]).args(["--etcd-bootstrap", "discovery", "--discovery-url", &url]),
        &["EtcdFounders"],
    );
    refused(&mut seek(dir, all[0], &url), &["without an etcd CA", "hamaster init --only pki"]);
    bundles(dir, &all[..3], &url);
    let unknown = format!("{}{}", &url[..url.len() - 4], "0000");
    refused(&mut seek(dir, all[0], &unknown), &["is not known there", "/new?size="]);
    let nobody = "http://127.0.98.101:1/0123";
    refused(&mut seek(dir, all[0], nobody), &["does not say who the masters are", "refused", "curl -v"]);
    let health = format!("{}/health", url.rsplit_once('/').unwrap().0);
    refused(&mut seek(dir, all[0], &health), &["not a discovery service of the v2 protocol"]);
    let five: Vec<String> = all.iter().map(|(name, ip)| format!("--initial-master={name}={ip}")).collect();
    refused(seek(dir, all[0], &url).args(&five), &["has 3 masters, 5 are named", "/new?size=5"]);
    assert!(registered(&url, &[]).is_empty(), "none of them has registered");

    // m2 comes with a bundle of its own: m1 and m3 see it, and so does it.
    let waits = begin(&mut seek(dir, all[0], &url));
    until("m1 to register", || registered(&url, &[]).len() == 1);
    std::fs::remove_dir_all(dir.join("m2")).unwrap();
    let (code, said) = run(seek(dir, all[1], &url).args(["--only", "pki"]));
    assert_eq!(code, 0, "{said}");
    refused(&mut seek(dir, all[1], &url), &["m1: has registered with another etcd CA"]);
    let other = dir.join("other");
    bundles(&other, &[("m1", all[3].1)], &url);
    refused(&mut seek(&other, ("m1", all[3].1), &url), &["m1: has registered at"]);
    carry(dir, "m1", "m2");
    let rest = all_at_once(dir, &all[1..3], &url);
    assert!(rest.iter().all(|(code, _)| *code == 0), "{rest:?}");
    assert_eq!(end(waits).0, 0);

    // The same hosts again, as another cluster.
    for (name, _) in &all[..3] {
        std::fs::remove_dir_all(dir.join(name)).unwrap();
    }
    bundles(dir, &all[..3], &url);
    refused(
        &mut seek(dir, all[0], &url),
        &["this host has registered with another etcd CA: the token was used before"],
    );
}

#[test]
fn three_find_each_other_in_an_etcd_with_tls() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = masters(99);
    let three = &all[..3];
    let ip = "127.0.99.100";
    let pki = Pki::new(dir, ip);
    let (_server, at) = etcd(dir, ip, Some(&pki));
    let etcdctl = |words: &[&str]| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints=https://{at}"));
        command.arg(format!("--cacert={}", pki.ca.display())).arg(format!("--cert={}", pki.client.0.display()));
        let out = command.arg(format!("--key={}", pki.client.1.display())).args(words).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let there = || etcdctl(&["get", "--prefix", "/_etcd/registry/prod/members/", "--print-value-only"]);
    etcdctl(&["put", "/_etcd/registry/prod/_config/size", "3"]);
    let url = format!("etcd3+https://{at}/prod");
    bundles(dir, &all[..4], &url);

    let (code, said) = run(&mut seek(dir, all[0], &url));
    assert!(code == 3 && said.contains("UnknownIssuer"), "the host's own CAs did not sign it: {said}");
    let ca = format!("url: '{url}', ca: {}", pki.ca.display());
    write_discovery(dir, &all[..1], &ca);
    let (code, said) = run(&mut seek(dir, all[0], &url));
    assert!(code == 3 && said.contains("does not say who the masters are"), "it wants a certificate: {said}");
    assert!(there().is_empty(), "{}", there());
    let keys = format!("{ca}, cert: {}, key: {}", pki.client.0.display(), pki.client.1.display());
    write_discovery(dir, &all[..4], &keys);
    for (code, said) in all_at_once(dir, three, &url) {
        assert!(code == 0 && !said.contains("is not TLS"), "{said}");
    }
    name_the_same(dir, three);
    assert_eq!(there().lines().count(), 3);
    let (code, said) = run(&mut seek(dir, all[3], &url));
    assert!(code == 3 && said.contains("m4 is none of them") && said.contains("etcdctl --endpoints"), "{said}");
    assert_eq!(there().lines().count(), 3);
}

/// An etcd of one's own, before 3.6, is a registry of the v2 protocol without a service before it.
#[test]
fn a_registry_with_tls_is_known_by_its_ca() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let two = &masters(100)[..2];
    let ip = "127.0.100.100";
    let pki = Pki::new(dir, ip);
    let (_server, at) = etcd(dir, ip, Some(&pki));
    let url = format!("https://{at}/v2/keys/mine/prod");
    let shown = |path: &std::path::PathBuf| path.display().to_string();
    let (ca, cert, key) = (shown(&pki.ca), shown(&pki.client.0), shown(&pki.client.1));
    let with = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let put = curl(&[&with[..], &["-X", "PUT", "-d", "value=2", &format!("{url}/_config/size")]].concat());
    assert!(put.contains("\"2\""), "{put}");
    bundles(dir, two, &url);
    let (code, said) = run(&mut seek(dir, two[0], &url));
    assert!(code == 3 && said.contains("UnknownIssuer"), "{said}");
    write_discovery(dir, two, &format!("url: '{url}', ca: {ca}, cert: {cert}, key: {key}"));
    for (code, said) in all_at_once(dir, two, &url) {
        assert!(code == 0 && said.contains("2 masters survive the loss of 0"), "{said}");
    }
    name_the_same(dir, two);
    assert_eq!(registered(&url, &with), values(two));
}
