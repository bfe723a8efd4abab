//! Ways to configure the road to etcd wrongly: each is refused or survived, with words, and nothing is installed.

use std::path::Path;
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use crate::certs::Certs;
use crate::elector::{Elector, Profile};
use crate::group::Cluster;
use crate::network::{skipped, within};

const SOON: Duration = Duration::from_secs(60);

/// What it is, what is written in place of what, the exit codes it may end with, and a word it must say.
type Case<'a> = (&'a str, Vec<(&'a str, String)>, &'a [i32], &'a str);

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
        ("wrong CA", vec![(&ca, text(&other.ca()))], &[5], "certificate"),
        (
            "a client certificate of another CA",
            vec![(&cert, text(&stranger.cert)), (&key, text(&stranger.key))],
            &[5],
            "certificate",
        ),
        ("no clientAuth", vec![(&cert, text(&server_only.cert)), (&key, text(&server_only.key))], &[5], "clientAuth"),
        ("the key of another certificate", vec![(&key, text(&second.key))], &[2, 3], "key"),
        ("no file", vec![(&ca, "/nonexistent/ca.crt".into())], &[2, 3], "/nonexistent/ca.crt"),
    ];
    for (what, changes, codes, word) in cases {
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
        assert!(codes.contains(&code), "{what}: exit {code}\n{log}");
        assert!(log.contains(word) && log.contains("hint:"), "{what}: it does not say {word}\n{log}");
        assert!(!log.contains("PRIVATE KEY"));
        assert!(group.oracle.history().changes.is_empty(), "{what}");
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
    for (node, wrong) in
        group.nodes.iter().zip(["https://10.77.0.99:2379", "https://10.77.0.1:2379", "https://etcd.invalid:2379"])
    {
        node.rewrite(|yaml| yaml.replace(&endpoints[0], wrong));
    }
    group.start();
    let leader = group.settle().unwrap_or_else(|| panic!("nobody leads\n{}", group.logs()));
    assert!(group.oracle.history().is_clean() && group.oracle.history().changes.len() == 1, "{}", group.logs());
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
    assert!(log.contains("write `http://127.0.0.1:2379`"), "{log}");
    assert!(group.oracle.history().changes.is_empty());
}
