//! Whatever comes over the wire is refused, and the door stays open for those who ask properly.

use std::io::{Read, Write};
use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hamaster::admission::{LARGEST_REQUEST, Request};
use hamaster::token::Token;

use crate::master::{Master, request};
use crate::wire::{HERE, answer, get, post, send, tcp, tls};

#[test]
fn garbage_plain_http_and_odd_requests_are_refused_and_it_still_admits() {
    let m1 = Master::new();
    for garbage in [&b"GET /v1/join HTTP/1.1\r\nhost: m1\r\n\r\n"[..], &[0xff; 4096], b"\x16\x03\x01\xff\xff", b"\0"] {
        let mut stream = tcp(&m1, HERE).unwrap();
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut heard = vec![];
        let _ = stream.read_to_end(&mut heard);
        assert!(!heard.starts_with(b"HTTP"), "without TLS nothing is said");
    }
    let good = serde_json::to_value(request(&m1.token(&[]), "m2")).unwrap();
    let mut extra = good.clone();
    extra["more"] = 1.into();
    let mut cut = serde_json::to_vec(&good).unwrap();
    cut.pop();
    for body in [&b""[..], b"{}", b"[]", b"\xff\xfe", &cut, &serde_json::to_vec(&extra).unwrap()] {
        let (status, text) = post(&m1, HERE, body).unwrap();
        assert_eq!(status, 400, "{text}");
        assert!(text.contains("\"error\""), "{text}");
    }
    for (path, wanted) in [("/", 404), ("/v1/join", 405), ("/v1/join/../../etc/shadow", 404), ("/readyz", 200)] {
        assert_eq!(get(&m1, path).0, wanted, "{path}");
    }
    m1.still_admits("m3");
}

#[test]
fn a_body_or_head_that_is_too_large_is_refused_before_it_is_read() {
    let m1 = Master::new();
    let (status, _) = post(&m1, HERE, &vec![b' '; LARGEST_REQUEST + 1]).unwrap();
    assert_eq!(status, 413);
    // By what it announces, and without an announcement.
    let huge = b"POST /v1/join HTTP/1.1\r\nhost: m1\r\ncontent-length: 99999999999\r\n\r\n{";
    assert_eq!(send(&m1, HERE, huge).unwrap().0, 413);
    let mut stream = tls(&m1, HERE).unwrap();
    stream.write_all(b"POST /v1/join HTTP/1.1\r\nhost: m1\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat();
    // It may hang up in the middle: then the rest cannot be written.
    let _ = (0..64).try_for_each(|_| stream.write_all(&chunk));
    let answered = answer(stream);
    assert!(answered.as_ref().map_or(true, |(status, _)| *status == 413), "{answered:?}");
    let head = format!("GET /readyz HTTP/1.1\r\nhost: m1\r\nx: {}\r\n\r\n", "x".repeat(64 * 1024));
    let answered = send(&m1, HERE, head.as_bytes());
    assert!(answered.as_ref().map_or(true, |(status, _)| *status == 431), "{answered:?}");
    m1.still_admits("m2");
}

#[test]
fn one_more_than_an_address_may_have_is_closed_before_those_that_came_earlier() {
    let m1 = Master::new();
    let crowd: Vec<_> = (0..16).map(|_| tcp(&m1, Ipv4Addr::new(127, 0, 0, 30)).unwrap()).collect();
    let mut over = tcp(&m1, Ipv4Addr::new(127, 0, 0, 30)).unwrap();
    assert!(matches!(over.read(&mut [0]), Ok(0) | Err(_)));
    let mut last = &crowd[15];
    last.set_nonblocking(true).unwrap();
    assert!(last.read(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
}

/// From twenty addresses as many silent connections as each may have, at every stage at which one can be silent: more
/// than there are seats.
#[test]
fn those_who_hold_their_connections_keep_nobody_out_and_are_ended() {
    let m1 = Master::new();
    let mut held = vec![];
    for last in 10..30 {
        let source = Ipv4Addr::new(127, 0, 0, last);
        for n in 0..16 {
            let mut stream = tcp(&m1, source).unwrap();
            if n % 2 == 0 {
                stream.write_all(&[0x16, 3, 1, 2]).unwrap();
            }
            held.push(stream);
        }
    }
    let mut slow = tls(&m1, HERE).unwrap();
    slow.write_all(b"POST /v1/join HTTP/1.1\r\nx-").unwrap();
    let mut slower = tls(&m1, HERE).unwrap();
    slower.write_all(b"POST /v1/join HTTP/1.1\r\nhost: m1\r\ncontent-length: 100\r\n\r\n{").unwrap();
    m1.still_admits("m2");
    // And nobody holds one for ever.
    held.drain(..held.len() - 8);
    for mut stream in held {
        let _ = stream.read_to_end(&mut vec![]);
    }
    for mut stream in [slow, slower] {
        let _ = stream.read_to_end(&mut vec![]);
    }
    m1.still_admits("m3");
}

#[test]
fn a_flood_of_bad_tokens_is_cut_off_and_others_are_served() {
    let m1 = Master::new();
    let source = Ipv4Addr::new(127, 0, 0, 66);
    let bad = serde_json::to_vec(&request(&Token::new(&[9; 40], m1.pin()), "m9")).unwrap();
    let (mut refused, mut limited, mut closed) = (0, 0, 0);
    while limited < 2 {
        match post(&m1, source, &bad) {
            Ok((401, _)) => refused += 1,
            Ok((429, text)) => {
                assert!(text.contains("too many refused attempts"), "{text}");
                limited += 1;
            }
            // By then it may have one connection, and the last one is not quite gone.
            Err(_) if refused >= 20 => closed += 1,
            other => panic!("{other:?}"),
        }
        assert!(refused < 60 && closed < 60, "never limited");
    }
    assert!(refused >= 20, "a person may mistype: {refused}");
    m1.still_admits("m2");
    // Even a good token is not looked at from there, but it is not used either.
    let token = m1.token(&[]);
    let good = serde_json::to_vec(&request(&token, "m3")).unwrap();
    let answered = post(&m1, source, &good);
    assert!(answered.as_ref().map_or(true, |(status, _)| [429, 200].contains(status)), "{answered:?}");
    m1.still_admits("m4");
}

#[test]
fn no_secret_is_in_the_log() {
    let mut m1 = Master::new();
    let (good, denied) = (m1.token(&[]), Token::new(&[0xab; 40], m1.pin()));
    m1.ask(&request(&good, "m2")).unwrap();
    for asked in [request(&denied, "m3"), request(&good, "m4")] {
        m1.ask(&asked).unwrap_err();
    }
    let text = serde_json::to_string(&request(&good, "m5")).unwrap();
    for at in [10, 60, 80, 100, text.len() - 1] {
        assert_eq!(post(&m1, HERE, &text.as_bytes()[..at]).unwrap().0, 400);
    }
    m1.kill_etcd();
    m1.ask(&request(&good, "m6")).unwrap_err();
    m1.logged("cannot read /hamaster/v1/tokens/");
    assert!(m1.stop().success());
    let log = m1.log();
    assert!(log.contains("admitted m2") && log.contains("refused m3") && log.contains("refused m4"), "{log}");
    for token in [&good, &denied] {
        let secret = token.secret().expose();
        let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let hash = token.secret_hash().to_string();
        for shown in [STANDARD.encode(secret), URL_SAFE_NO_PAD.encode(secret), hex, hash] {
            assert!(!log.contains(&shown[..12]), "{log}");
        }
    }
    let Request { attempt, .. } = request(&good, "m2");
    assert!(!log.contains(&STANDARD.encode(attempt.0.expose())[..12]) && !log.contains("BEGIN"), "{log}");
}
