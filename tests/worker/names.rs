//! A name is one host's, and nobody can be known as what the API is known as.

use hamaster::admission::{Bytes, Request};
use hamaster::error::{Error, Kind};
use hamaster::etcd::keys;
use hamaster::spec::file::to_yaml;
use hamaster::spec::{Address, FlannelLeases};
use hamaster::state::Secret;
use hamaster::token::Role;

use crate::master::{Master, request};

fn worker(m1: &Master, node: &str, ip: &str, more: &[&str]) -> Request {
    let token = m1.token(&[&["--worker"], more].concat());
    Request { role: Role::Worker, ip: ip.parse().unwrap(), ..request(&token, node) }
}

#[track_caller]
fn refused(m1: &Master, asked: &Request) -> String {
    let error = m1.ask(asked).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    // It cost nothing.
    let left = m1.client().token(&asked.token).unwrap().unwrap().stored;
    assert_eq!((left.uses, left.bearers.len()), (1, 0));
    words(&error)
}

fn words(error: &Error) -> String {
    format!("{error} {:?}", error)
}

#[test]
fn a_worker_s_name_and_address_are_taken() {
    let m1 = Master::new();
    let first = worker(&m1, "w1", "192.0.2.21", &[]);
    m1.ask(&first).unwrap();
    // The same host again: as often as it likes, and from where it likes.
    m1.ask(&first).unwrap();
    let moved = Request { ip: "192.0.2.22".parse().unwrap(), ..worker_again(&first) };
    m1.ask(&moved).unwrap();
    let noted = m1.client().record(&format!("{}w1", keys::WORKERS)).unwrap().unwrap();
    assert!(String::from_utf8(noted.value).unwrap().contains("192.0.2.22"));

    // Another host: not with that name, nor with that address.
    let other = |asked: Request| Request { attempt: Bytes(Secret::new(b"another host".to_vec())), ..asked };
    let said = refused(&m1, &other(worker(&m1, "w1", "192.0.2.31", &[])));
    assert!(said.contains("the name w1 is that of the worker at 192.0.2.22"), "{said}");
    assert!(said.contains("hamaster token create --worker --node w1"), "{said}");
    let said = refused(&m1, &other(worker(&m1, "w2", "192.0.2.22", &[])));
    assert!(said.contains("the address 192.0.2.22 is that of the worker w1"), "{said}");

    assert!(said.contains("hamaster worker remove w1"), "{said}");

    // Unless somebody made a token for that very name.
    let replacement = other(worker(&m1, "w1", "192.0.2.31", &["--node", "w1"]));
    m1.ask(&replacement).unwrap();
    let noted = m1.client().record(&format!("{}w1", keys::WORKERS)).unwrap().unwrap();
    assert!(String::from_utf8(noted.value).unwrap().contains("192.0.2.31"));
    // Now the first host has it no longer.
    assert_eq!(m1.ask(&first).unwrap_err().kind(), Kind::Refused);

    // A master takes a worker's place by the same rule.
    let token = m1.token(&[]);
    let master = Request { ip: "192.0.2.41".parse().unwrap(), ..request(&token, "w1") };
    let said = refused(&m1, &master);
    assert!(said.contains("hamaster token create --node w1"), "{said}");
    let token = m1.token(&["--node", "w1"]);
    m1.ask(&Request { ip: "192.0.2.41".parse().unwrap(), ..request(&token, "w1") }).unwrap();
    assert_eq!(m1.client().record(&format!("{}w1", keys::WORKERS)).unwrap(), None);
}

/// Whoever is gone for good is taken off the list, and what it had is free.
#[test]
fn what_a_worker_that_is_gone_had_is_free_again() {
    let m1 = Master::new();
    m1.ask(&worker(&m1, "w1", "192.0.2.21", &[])).unwrap();
    let prefix = m1.dir.path().to_str().unwrap().to_owned();
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(crate::master::HAMASTER);
        let out = command.arg("worker").args(words).args(["--prefix", &prefix]).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let (code, listed, _) = run(&["list", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let workers = listed["workers"].as_array().unwrap();
    assert_eq!((code, workers.len()), (Some(0), 1));
    assert_eq!((&workers[0]["name"], &workers[0]["ip"]), (&"w1".into(), &"192.0.2.21".into()));

    let elsewhere = worker(&m1, "w2", "192.0.2.21", &[]);
    refused(&m1, &elsewhere);
    let (code, _, said) = run(&["remove", "w3"]);
    assert!(code == Some(2) && said.contains("there is no worker w3"), "{said}");
    let (code, said, _) = run(&["remove", "w1"]);
    assert!(code == Some(0) && said.contains("w1 is free"), "{said}");
    m1.ask(&elsewhere).unwrap();
}

fn worker_again(asked: &Request) -> Request {
    Request {
        token: asked.token.clone(),
        secret: asked.secret.clone(),
        attempt: asked.attempt.clone(),
        node: asked.node.clone(),
        ip: asked.ip,
        role: asked.role,
        requests: vec![],
    }
}

/// With a serving certificate of the cluster's CA for one of these, a worker would pass for the API.
#[test]
fn no_worker_is_known_as_the_api_is() {
    let m1 = Master::new();
    let mut spec = m1.spec();
    let dns = |name: &str| Address::Dns(name.into());
    spec.load_balancer.addresses =
        vec![dns("api.example.com"), dns("*.example.org"), Address::Ip("203.0.113.10".parse().unwrap())];
    m1.client().put_spec(&to_yaml(&spec), &hamaster::etcd::client::Over::Anything).unwrap();
    let here = m1.ip.to_string();
    for (node, ip, word) in [
        ("m1", "192.0.2.21", "the name m1 is that of the master"),
        ("m1", &here, "the name m1 is that of the master"),
        ("w1", &here, "is that of the master m1"),
        ("api.example.com", "192.0.2.21", "known as api.example.com"),
        ("w1.example.org", "192.0.2.21", "known as *.example.org"),
        ("w1", "203.0.113.10", "known as 203.0.113.10"),
        ("w1", "127.0.0.1", "known as 127.0.0.1"),
        ("w1", "10.96.0.1", "known as 10.96.0.1"),
        ("w1", "10.96.7.7", "the range of services"),
        ("w1", "10.244.1.1", "the range of pods"),
    ] {
        let said = refused(&m1, &worker(&m1, node, ip, &[]));
        assert!(said.contains(word), "{node} {ip}: {said}");
    }
    m1.ask(&worker(&m1, "w1.b.example.org", "192.0.2.21", &[])).unwrap();
}

/// etcd asks for a certificate and then allows everything: a cluster whose flannel needs it takes no workers.
#[test]
fn leases_in_etcd_take_no_workers() {
    let m1 = Master::new();
    let mut spec = m1.spec();
    spec.network.leases = FlannelLeases::Etcd;
    m1.client().put_spec(&to_yaml(&spec), &hamaster::etcd::client::Over::Anything).unwrap();
    let said = refused(&m1, &worker(&m1, "w1", "192.0.2.21", &[]));
    assert!(said.contains("flannel keeps its leases in etcd") && said.contains("network.leases: kubernetes"), "{said}");
    spec.network.plugin = hamaster::spec::NetworkPlugin::None;
    m1.client().put_spec(&to_yaml(&spec), &hamaster::etcd::client::Over::Anything).unwrap();
    m1.ask(&worker(&m1, "w1", "192.0.2.21", &[])).unwrap();
}
