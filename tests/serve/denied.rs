//! Whoever has no good token hears the same whatever is wrong; the log says what; nothing is used.

use std::time::{Duration, Instant};

use hamaster::admission::{Bytes, Request};
use hamaster::error::{Error, Kind};
use hamaster::etcd::keys;
use hamaster::host::doorbell;
use hamaster::state::{Digest, Secret};
use hamaster::token::{Role, Stored, Token};

use crate::master::{Master, request};
use crate::until;

fn refusal(m1: &Master, asked: &Request) -> Box<Error> {
    let error = m1.ask(asked).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    error
}

#[test]
fn every_bad_token_is_refused_alike_and_for_a_reason_that_is_logged() {
    let m1 = Master::new();
    let good = m1.token(&[]);
    let revoked = m1.token(&[]);
    assert!(m1.command(&["revoke", &revoked.id.to_string()]).status.success());
    let short = Token::new(&[7; 40], m1.pin());
    let stored = |token: &Token| Stored {
        secret_hash: token.secret_hash(),
        role: Role::Master,
        node: None,
        uses: 1,
        bearers: vec![],
        expires: i64::MAX,
    };
    assert!(m1.client().create_token(&short.id, &stored(&short), Duration::from_secs(1)).unwrap());
    assert!(!m1.client().create_token(&short.id, &stored(&short), Duration::from_secs(1)).unwrap(), "drawn twice");
    until("the token expires", || m1.client().token(&short.id).unwrap().is_none().then_some(()));

    // Its lease lives on, as after each election of etcd's.
    let late = Token::new(&[8; 40], m1.pin());
    let ended = Stored { expires: 1, ..stored(&late) };
    assert!(m1.client().create_token(&late.id, &ended, Duration::from_secs(3600)).unwrap());
    assert!(m1.tokens().iter().all(|listed| listed["id"] != late.id.to_string()));

    let secret = |bytes: &[u8]| Bytes(Secret::new(bytes.to_vec()));
    let whole = good.secret().expose();
    let unknown = Token::new(&[9; 40], m1.pin());
    let cases = [
        ("wrong secret", Request { secret: secret(&[1; 32]), ..request(&good, "m2") }),
        ("wrong secret", Request { secret: secret(&whole[..31]), ..request(&good, "m3") }),
        ("wrong secret", Request { secret: secret(&[]), ..request(&good, "m4") }),
        ("no such token", request(&unknown, "m5")),
        ("no such token", request(&revoked, "m6")),
        ("no such token", request(&short, "m7")),
        ("expired", request(&late, "m7")),
        ("made for another node", request(&m1.token(&["--node", "m9"]), "m8")),
        ("made for another role", request(&m1.token(&["--worker"]), "m8")),
        ("made for another role", Request { role: Role::Worker, ..request(&good, "w1") }),
    ];
    let mut heard: Vec<Vec<String>> = vec![];
    for (why, asked) in &cases {
        let error = refusal(&m1, asked);
        assert_eq!(error.hints(), ["hamaster token create    # on a master"]);
        heard.push(error.causes().to_vec());
        m1.logged(&format!("refused {} at {}", asked.node, asked.ip));
        let line = |line: &&str| line.contains(&format!("refused {} ", asked.node)) && line.ends_with(why);
        until(why, || m1.log().lines().find(line).map(drop));
    }
    heard.dedup();
    assert_eq!(heard, [["the token is not accepted"]], "who is refused learns nothing of why");
    // Nothing was used: it is as good as before.
    assert!(m1.ask(&request(&good, "m2")).is_ok());
}

#[test]
fn a_token_that_was_seen_on_its_way_is_worth_nothing_after_its_use() {
    let m1 = Master::new();
    let token = m1.token(&["--node", "m2"]);
    m1.ask(&request(&token, "m2")).unwrap();
    // Another host, another attempt: in its own name, and in the name of the one who was admitted.
    refusal(&m1, &request(&token, "m3"));
    refusal(&m1, &Request { attempt: Bytes(Secret::new(vec![3; 16])), ..request(&token, "m2") });
}

#[test]
fn a_name_or_an_address_that_another_master_has_is_refused_by_its_words() {
    let m1 = Master::new();
    let token = m1.token(&[]);
    let error = refusal(&m1, &request(&token, "m1"));
    assert_eq!(error.causes(), [format!("the name m1 is that of the master at {}", m1.ip)]);
    let error = refusal(&m1, &Request { ip: m1.ip.into(), ..request(&token, "m2") });
    assert_eq!(error.causes(), [format!("the address {} is that of the master m1", m1.ip)]);
    assert_eq!(m1.tokens()[0]["usesLeft"], 1);
    // What the log would have to show is no name at all.
    let error = refusal(&m1, &request(&token, "m2\nserve: 10.0.0.1: admitted"));
    assert!(error.causes()[0].contains("not a node name"), "{error}");
    assert!(!m1.log().contains("10.0.0.1"), "{}", m1.log());
    // Nobody hears of a name before the token was good.
    let mut asked = request(&token, "m1");
    asked.secret = Bytes(Secret::new(vec![1; 32]));
    assert_eq!(refusal(&m1, &asked).causes(), ["the token is not accepted"]);
}

/// The certificates of a worker would pass for those of the master that is about to be there.
#[test]
fn the_place_of_a_master_that_joins_is_no_worker_s() {
    let m1 = Master::new();
    let (masters, workers) = (m1.token(&["--uses", "2"]), m1.token(&["--worker", "--uses", "3"]));
    let asked = request(&masters, "m2");
    m1.ask(&asked).unwrap();
    let worker = |node: &str| Request { role: Role::Worker, ..request(&workers, node) };
    let other = Request { ip: "192.0.2.78".parse().unwrap(), ..worker("m2") };
    let there = Request { ip: asked.ip, ..worker("w1") };
    for asked in [worker("m2"), there, other] {
        assert_eq!(
            refusal(&m1, &asked).causes(),
            [format!("the master that joins m2 is at {}", request(&masters, "m2").ip)]
        );
    }
    assert_eq!(
        m1.tokens().iter().filter(|t| t["role"] == "worker").map(|t| t["usesLeft"].clone()).collect::<Vec<_>>(),
        [3]
    );
    // Nor any other master's.
    let others = m1.token(&["--uses", "2"]);
    let attempt = Bytes(Secret::new(b"another host's".to_vec()));
    let named = Request { ip: "192.0.2.78".parse().unwrap(), attempt, ..request(&others, "m2") };
    let there = Request { ip: asked.ip, ..request(&others, "m3") };
    for asked in [named, there] {
        let error = refusal(&m1, &asked);
        assert_eq!(error.causes(), [format!("the master that joins m2 is at {}", request(&masters, "m2").ip)]);
        assert!(error.hints()[0].starts_with("hamaster master remove m2"), "{error}");
    }
    // It comes again, and another host in its place, as after a new installation.
    m1.ask(&asked).unwrap();
    m1.ask(&Request {
        attempt: Bytes(Secret::new(b"another attempt".to_vec())),
        ..request(&m1.token(&["--node", "m2"]), "m2")
    })
    .unwrap();
    // Whoever makes a token for the name says that whatever had it has it no longer.
    let bound = m1.token(&["--worker", "--node", "m2"]);
    m1.ask(&Request { role: Role::Worker, requests: vec![], ..request(&bound, "m2") }).unwrap();
    assert!(m1.client().record(&format!("{}m2", keys::ADMITTED)).unwrap().is_none());
}

#[test]
fn a_master_without_etcd_says_so_and_is_ready_again_with_it() {
    let mut m1 = Master::new();
    let token = m1.token(&[]);
    let ready = || crate::wire::get(&m1, "/readyz").0;
    until("ready", || (ready() == 200).then_some(()));
    m1.kill_etcd();
    let error = m1.ask(&request(&token, "m2")).unwrap_err();
    assert_eq!(error.kind(), Kind::Apply, "{error}");
    assert!(error.all_problems()[0].message.contains("cannot admit anyone now"), "{error}");
    assert_eq!(crate::wire::get(&m1, "/readyz").0, 503);
    m1.start_etcd(&m1.ip.to_string(), &m1.dir.path().join("etc/etcd/pki"));
    until("admitted", || m1.ask(&request(&token, "m2")).ok());
    assert_eq!(crate::wire::get(&m1, "/readyz").0, 200);
}

#[test]
fn all_that_is_wrong_with_a_token_s_flags_is_said_at_once() {
    let m1 = Master::dormant(None);
    let out = m1.command(&["create", "--ttl", "8d", "--uses", "101", "--node", "M2"]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0), "{said}");
    for words in ["--ttl: a token lives from 1m to 7d, not 8d", "--uses: `101`", "--node: `M2`"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    for ttl in ["59s", "1", "x"] {
        assert_eq!(m1.command(&["create", "--ttl", ttl]).status.code(), Some(2), "{ttl}");
    }
    for uses in ["0", "-1", "many"] {
        assert_eq!(m1.command(&["create", &format!("--uses={uses}")]).status.code(), Some(2), "{uses}");
    }
}

#[test]
fn tokens_are_listed_and_taken_back() {
    let m1 = Master::new();
    let made = m1.command(&["create", "--ttl", "90m", "--uses", "3"]);
    let (out, err) = (String::from_utf8(made.stdout).unwrap(), String::from_utf8(made.stderr).unwrap());
    let token = Token::parse(&out).unwrap();
    assert_eq!(out.lines().count(), 1, "the token alone is the result: {out}");
    assert!(err.contains(&format!("hamaster join {} --token-file FILE", m1.ip)), "{err}");
    assert!(!err.contains(out.trim()), "once is enough: {err}");
    assert_eq!(token.ca_pin, m1.pin());

    let id = token.id.to_string();
    let listed = String::from_utf8(m1.command(&["list"]).stdout).unwrap();
    let words: Vec<Vec<&str>> = listed.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(words.len(), 2, "{listed}");
    assert_eq!(words[1][..4], [id.as_str(), "master", "any", "3"], "{listed}");
    assert_eq!(words[1][4], "1h", "{listed}");
    let left = m1.tokens()[0]["endsInSeconds"].as_u64().unwrap();
    assert!((5000..=5400).contains(&left), "{left}");

    assert!(m1.command(&["revoke", &id]).status.success());
    assert!(m1.tokens().is_empty());
    for gone in [id.as_str(), "x"] {
        let out = m1.command(&["revoke", gone]);
        assert_eq!(out.status.code(), Some(2));
        assert!(String::from_utf8(out.stderr).unwrap().contains("hint: hamaster token list"));
    }
}

/// For a person: what a check costs. Nothing is asserted of it.
#[test]
fn a_token_is_checked_fast() {
    let token = Token::new(&[5; 40], Digest([0; 32]));
    let stored = Stored {
        secret_hash: token.secret_hash(),
        role: Role::Master,
        node: None,
        uses: 1,
        bearers: vec![],
        expires: 1,
    };
    let began = Instant::now();
    let mut checks = 0_u32;
    while began.elapsed() < Duration::from_millis(300) {
        for _ in 0..100 {
            assert!(stored.admit(token.secret().expose(), b"attempt", "m2", Role::Master, 0).unwrap().is_some());
            checks += 1;
        }
    }
    println!("{:.0} good tokens checked per second on one core", f64::from(checks) / began.elapsed().as_secs_f64());
}

#[test]
fn a_closed_door_is_named_with_what_to_look_at() {
    let m1 = Master::dormant(None);
    let token = Token::new(&[5; 40], m1.pin());
    let nobody = [m1.door(), "127.0.0.1:1".parse().unwrap()];
    let error = doorbell::ask(&nobody, &m1.pin(), &request(&token, "m2")).unwrap_err();
    assert_eq!(error.kind(), Kind::Apply);
    let at: Vec<_> = error.all_problems().iter().map(|p| p.at.clone()).collect();
    assert_eq!(at, nobody.map(|a| a.to_string()), "each of them, and why not");
    assert!(error.all_problems().iter().all(|p| p.message.contains("refused") && p.hint.is_some()), "{error}");
}
