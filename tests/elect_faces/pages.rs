//! The pages, over real sockets, at times the test sets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use hamaster::elect::board::Board;
use hamaster::elect::daemon::listen::{Shared, serve};
use hamaster::elect::instant::Instant;
use hamaster::host::runtime_dir::RuntimeDir;

use crate::{exposition, leader, waiting};

static NOW: AtomicU64 = AtomicU64::new(0);

fn now() -> Instant {
    Instant::from_nanos(NOW.load(Ordering::SeqCst) * 1_000_000_000)
}

/// A server in a thread of its own, until the test's process ends. And what it could not do.
fn server(dir: &Path, tcp: Option<SocketAddr>, board: &Shared) -> Vec<String> {
    let (dir, board) = (RuntimeDir::open(dir).unwrap(), board.clone());
    let (tell, heard) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tell.send(serve(&dir, tcp, board, now).await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    heard.recv().unwrap()
}

fn get(socket: &Path, page: &str) -> (u16, String) {
    exchange(UnixStream::connect(socket).unwrap(), page)
}

fn exchange(mut stream: impl Read + Write, page: &str) -> (u16, String) {
    write!(stream, "GET {page} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

struct Site {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    board: Shared,
}

fn site(groups: &[&str]) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let board = Arc::new(Mutex::new(Board::new(groups.iter().copied())));
    assert_eq!(server(dir.path(), None, &board), Vec::<String>::new());
    Site { socket: dir.path().join("elect.sock"), _dir: dir, board }
}

#[test]
fn leader_is_200_only_before_its_deadline() {
    let site = site(&["scheduler"]);
    assert_eq!(get(&site.socket, "/leader").0, 404, "nothing is known yet");
    site.board.lock().unwrap().groups.insert("scheduler".into(), leader("scheduler", 10));
    NOW.store(9, Ordering::SeqCst);
    let (code, body) = get(&site.socket, "/leader");
    assert_eq!(
        (code, body.as_str()),
        (200, "{\"group\":\"scheduler\",\"leader\":\"m1\",\"token\":\"abc:42\",\"leftMs\":1000}\n")
    );
    NOW.store(10, Ordering::SeqCst);
    assert_eq!(get(&site.socket, "/leader").0, 503, "the very nanosecond of the deadline is too late");
    NOW.store(9, Ordering::SeqCst);
    site.board.lock().unwrap().groups.insert("scheduler".into(), waiting("scheduler"));
    let (code, body) = get(&site.socket, "/leader");
    assert_eq!(code, 503);
    assert!(body.contains("\"leader\":\"m2\""), "who does lead: {body}");
}

#[test]
fn several_groups_are_asked_by_name() {
    let site = site(&["scheduler", "vip"]);
    site.board.lock().unwrap().groups.insert("scheduler".into(), leader("scheduler", 10));
    site.board.lock().unwrap().groups.insert("vip".into(), waiting("vip"));
    for (page, code) in [
        ("/leader", 400),
        ("/leader?group=scheduler", 200),
        ("/leader?x=1&group=scheduler", 200),
        ("/leader?group=vip", 503),
        ("/leader?group=vi", 404),
        ("/leader?group=", 404),
        ("/nothing", 404),
    ] {
        assert_eq!(get(&site.socket, page).0, code, "{page}");
    }
    let (code, body) = get(&site.socket, "/status");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(code, 200);
    assert_eq!(body["groups"][0]["token"]["revision"], 42, "{body}");
    assert_eq!(body["groups"][1]["position"], 2, "{body}");
}

#[test]
fn health_says_why_not() {
    let site = site(&["vip"]);
    assert_eq!(get(&site.socket, "/livez"), (200, "ok\n".into()));
    assert_eq!(get(&site.socket, "/readyz"), (503, "starting\n".into()));
    site.board.lock().unwrap().ready = Ok(());
    site.board.lock().unwrap().sound = Err("vip: the payload cannot be stopped".into());
    assert_eq!(get(&site.socket, "/readyz").0, 200);
    assert_eq!(get(&site.socket, "/livez"), (503, "vip: the payload cannot be stopped\n".into()));
}

#[test]
fn the_metrics_page_is_the_exposition_and_tcp_serves_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let board = Arc::new(Mutex::new(Board::new(["vip"])));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(server(dir.path(), Some(free), &board), Vec::<String>::new());
    let (code, body) = exchange(TcpStream::connect(free).unwrap(), "/metrics");
    assert_eq!(code, 200);
    assert!(exposition::parse(&body).len() > 20);
    assert_eq!(get(&dir.path().join("elect.sock"), "/metrics").0, 200);
}

#[test]
fn the_socket_is_the_owners_and_a_dead_ones_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("elect.sock");
    // Dropping a listener leaves its file, as SIGKILL does.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(UnixStream::connect(&socket).is_err());
    let board = Arc::new(Mutex::new(Board::new([])));
    assert_eq!(server(dir.path(), None, &board), Vec::<String>::new());
    assert_eq!(get(&socket, "/livez").0, 200);
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let names: Vec<_> = dir.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["elect.sock"], "nothing else is left");
}

#[test]
fn a_living_ones_socket_is_left_alone_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let board = Arc::new(Mutex::new(Board::new([])));
    assert_eq!(server(dir.path(), None, &board), Vec::<String>::new());
    let troubles = server(dir.path(), Some(taken.local_addr().unwrap()), &board);
    assert_eq!(troubles.len(), 2, "{troubles:?}");
    assert!(troubles[0].contains("another process listens"), "{troubles:?}");
    assert!(troubles[1].contains("in use"), "{troubles:?}");
    assert_eq!(get(&dir.path().join("elect.sock"), "/livez").0, 200, "the first one still answers");
}

#[test]
fn clients_that_say_nothing_lose_their_seat() {
    let site = site(&["vip"]);
    let silent: Vec<_> = (0..64).map(|_| UnixStream::connect(&site.socket).unwrap()).collect();
    // All seats are taken: answered only because the silent ones are cut off.
    assert_eq!(get(&site.socket, "/livez").0, 200);
    for mut stream in silent {
        let mut rest = vec![];
        stream.read_to_end(&mut rest).expect("closed by the server");
    }
}

#[test]
fn a_head_without_end_is_refused() {
    let site = site(&["vip"]);
    let mut stream = UnixStream::connect(&site.socket).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    let line = format!("X: {}\r\n", "x".repeat(1000));
    // Refused in the middle: the rest cannot be sent.
    while stream.write_all(line.as_bytes()).is_ok() {}
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(get(&site.socket, "/livez").0, 200);
}
