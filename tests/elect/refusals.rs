//! Ways to configure the road to etcd wrongly: each is refused or survived, with words, and nothing is installed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use crate::certs::Certs;
use crate::elector::{Elector, Profile};
use crate::group::{Cluster, Group};
use crate::network::{skipped, within};
use crate::node::Node;

const SOON: Duration = Duration::from_secs(60);

/// What it is, what is written in place of what, the exit code it ends with, and what it must say.
type Case<'a> = (&'a str, Vec<(&'a str, String)>, i32, [String; 2]);

/// Whoever was asked, in the daemon's words: it begins with any of the three.
const MEMBER: &str = "etcd at https://10.77.0.1";

/// What it said and what may help, in one line.
fn told(log: &str, words: &[String]) -> bool {
    // An error's cause and hint have lines of their own.
    let log = log.replace("\ncaused by: ", ": ").replace("\nhint: ", "; hint: ");
    log.lines().any(|line| line.contains("hint: ") && words.iter().all(|w| line.contains(w)))
}

#[test]
fn a_wrong_road_to_etcd_is_told_and_installs_nothing() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new(Duration::from_millis(500));
    let etcd = &cluster.etcd;
    let other = Certs::new(&etcd.network.dir().join("other"));
    let stranger = other.issue("stranger", &[], &[ClientAuth]);
    let server_only = etcd.certs.issue("server-only", &[], &[ServerAuth]);
    let second = etcd.certs.issue("second", &[], &[ClientAuth]);
    let text = |path: &Path| path.display().to_string();
    let (ca, cert, key) = (text(&etcd.certs.ca()), text(&etcd.client.cert), text(&etcd.client.key));
    let cases: [Case<'_>; 5] = [
        (
            "wrong CA",
            vec![(&ca, text(&other.ca()))],
            5,
            [MEMBER.to_owned(), format!("not signed by the CA in {}", text(&other.ca()))],
        ),
        (
            "a client certificate of another CA",
            vec![(&cert, text(&stranger.cert)), (&key, text(&stranger.key))],
            5,
            [MEMBER.to_owned(), format!("signed the client certificate {}", text(&stranger.cert))],
        ),
        (
            "no clientAuth",
            vec![(&cert, text(&server_only.cert)), (&key, text(&server_only.key))],
            5,
            [MEMBER.to_owned(), format!("{} lacks the extended key usage clientAuth", text(&server_only.cert))],
        ),
        (
            "the key of another certificate",
            vec![(&key, text(&second.key))],
            3,
            [text(&second.key), format!("does not belong to the certificate {cert}")],
        ),
        (
            "no file",
            vec![(&ca, "/nonexistent/ca.crt".into())],
            3,
            ["cannot read /nonexistent/ca.crt".to_owned(), "No such file".to_owned()],
        ),
    ];
    for (what, changes, expected, words) in cases {
        let group = cluster.group(Elector::Hamaster, Profile::named("plain"));
        let node = &group.nodes[0];
        node.rewrite(|yaml| {
            let changed = changes.iter().fold(yaml, |text, (from, to)| text.replace(from, to));
            changed.replace("leaseDuration:", "storeTimeout: 3s\nleaseDuration:")
        });
        node.start();
        within(SOON, &format!("{what}: it ends"), || !node.exits().is_empty());
        let log = node.plan.log();
        let code = node.exits()[0].code().unwrap();
        println!("--- {what}: exit {code}\n{log}");
        assert_eq!(code, expected, "{what}\n{log}");
        assert!(told(&log, &words), "{what}: it does not say {words:?}\n{log}");
        assert!(!log.contains("PRIVATE KEY"));
        assert!(untouched(&group), "{what}");
    }
}

/// Nothing was ever to be seen in any of the directories.
fn untouched(group: &Group<'_>) -> bool {
    let history = group.oracle.history();
    let empty = |node: &Node| fs::read_dir(node.plan.destination()).unwrap().next().is_none();
    history.is_clean() && history.changes.is_empty() && group.nodes.iter().all(empty)
}

/// Without `storeTimeout` it goes on, and reads the files again until they fit.
#[test]
fn wrong_files_are_survived_until_they_are_put_right() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new(Duration::from_millis(500));
    let etcd = &cluster.etcd;
    let other = Certs::new(&etcd.network.dir().join("other"));
    let server_only = etcd.certs.issue("server-only", &[], &[ServerAuth]);
    let (ca, client) = (etcd.certs.ca(), &etcd.client);
    for (what, wrong_ca, wrong, words) in [
        ("wrong CA", other.ca(), client, "not signed by the CA in"),
        ("no clientAuth", ca.clone(), &server_only, "lacks the extended key usage clientAuth"),
    ] {
        let group = cluster.group(Elector::Hamaster, Profile::named("plain"));
        group.skip_first_wait();
        let node = &group.nodes[0];
        let own = ["ca.crt", "client.crt", "client.key"].map(|name| node.plan.place.join(name));
        let text = |path: &Path| path.display().to_string();
        node.rewrite(|yaml| {
            let files = [&ca, &client.cert, &client.key];
            files.into_iter().zip(&own).fold(yaml, |yaml, (from, to)| yaml.replace(&text(from), &text(to)))
        });
        let put =
            |files: [&Path; 3]| files.into_iter().zip(&own).for_each(|(from, to)| _ = fs::copy(from, to).unwrap());
        put([&wrong_ca, &wrong.cert, &wrong.key]);
        node.start();
        within(SOON, &format!("{what} is told"), || told(&node.plan.log(), &[MEMBER.to_owned(), words.to_owned()]));
        assert!(untouched(&group) && node.is_running(), "{what}\n{}", group.logs());
        put([&ca, &client.cert, &client.key]);
        within(SOON, &format!("{what}, put right: it leads"), || group.oracle.holder() == Some(0));
        assert!(group.oracle.history().is_clean(), "{}", group.logs());
        assert!(node.exits().iter().all(|status| status.code().is_none()), "{what}: it ended\n{}", node.plan.log());
    }
}

#[test]
fn one_wrong_endpoint_of_three_is_survived() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new(Duration::from_millis(500));
    let group = cluster.group(Elector::Hamaster, Profile::named("plain"));
    group.skip_first_wait();
    let endpoints = cluster.etcd.endpoints();
    let wrong = ["https://10.77.0.99:2379", "https://10.77.0.1:2379", "https://etcd.invalid:2379"];
    for (node, wrong) in group.nodes.iter().zip(wrong) {
        node.rewrite(|yaml| yaml.replace(&endpoints[0], wrong));
    }
    group.start();
    let leader = group.settle().unwrap_or_else(|| panic!("nobody leads\n{}", group.logs()));
    assert!(group.oracle.history().is_clean(), "{}", group.logs());
    for (node, wrong) in group.nodes.iter().zip(wrong) {
        println!("--- {}", node.plan.log());
        within(SOON, &format!("{} names {wrong}", node.plan.id), || told(&node.plan.log(), &[wrong.to_owned()]));
    }
    group.nodes[leader].stop();
    within(SOON, "another leads", || group.oracle.holder().is_some_and(|n| n != leader));
}

/// `https` in the file, and what answers speaks plain text.
#[test]
fn plain_text_where_tls_is_expected_is_told() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new(Duration::from_millis(500));
    let group = cluster.group(Elector::Hamaster, Profile::named("plain"));
    let node = &group.nodes[0];
    // A member of a cluster of its own, on the candidate's host.
    let mut etcd = node.plan.host.command("etcd");
    etcd.args(["--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"]);
    etcd.args(["--listen-peer-urls=http://127.0.0.1:2380", "--log-outputs=/dev/null", "--logger=zap"]);
    let mut etcd = etcd.arg(format!("--data-dir={}", node.plan.place.join("plain").display())).spawn().unwrap();
    let endpoints = cluster.etcd.endpoints().join(", ");
    node.rewrite(|yaml| {
        yaml.replace(&endpoints, "https://127.0.0.1:2379").replace("leaseDuration:", "storeTimeout: 3s\nleaseDuration:")
    });
    node.start();
    within(SOON, "it ends", || !node.exits().is_empty());
    let log = node.plan.log();
    println!("{log}");
    etcd.kill().unwrap();
    etcd.wait().unwrap();
    assert_eq!(node.exits()[0].code(), Some(4), "{log}");
    let words = ["etcd at https://127.0.0.1:2379", "TLS", "write `http://127.0.0.1:2379`"];
    assert!(told(&log, &words.map(str::to_owned)), "{log}");
    assert!(untouched(&group));
}
