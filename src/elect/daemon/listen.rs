//! Who asks and gets an answer: status, leadership, health and metrics over HTTP on a unix socket, and on TCP if wanted.
//!
//! `/leader` is 200 on the leader alone, so that a load balancer or a script can ask it. Nothing here may slow the
//! election down: sizes, times and connections are bounded, and nobody can change anything.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::elect::board::{Board, Leads};
use crate::elect::instant::Instant;
use crate::elect::metrics;
use crate::host::runtime_dir::RuntimeDir;

/// At once; the next one waits in the kernel's backlog.
const CONNECTIONS: usize = 64;
/// A client must have sent its request's head by then.
const HEAD: Duration = Duration::from_secs(5);
/// And taken the answer by then, from accepting it on: nobody holds a connection longer.
const CONNECTION: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes.
const BUFFER: usize = 16 * 1024;
/// After a failed accept (no descriptors left): not in a hot loop.
const RETRY: Duration = Duration::from_secs(1);

/// A [`Board`] that the loop writes and the faces read. Locks are held for moments, never across an await.
pub type Shared = Arc<Mutex<Board>>;

#[derive(Clone)]
struct Faces {
    board: Shared,
    now: fn() -> Instant,
}

impl Faces {
    fn ask<T>(&self, question: impl FnOnce(&Board, Instant) -> T) -> T {
        question(&self.board.lock().unwrap_or_else(PoisonError::into_inner), (self.now)())
    }
}

/// Serves from now on, in tasks of the current runtime: on `<dir>/elect.sock`, and on `tcp`. Returns what could not be
/// had, in words; the election goes on without it.
pub async fn serve(dir: &RuntimeDir, tcp: Option<SocketAddr>, board: Shared, now: fn() -> Instant) -> Vec<String> {
    let app = router(board, now);
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut troubles = vec![];
    match dir.socket().map_err(|e| e.to_string()).and_then(|s| UnixListener::from_std(s).map_err(|e| e.to_string())) {
        Ok(listener) => drop(tokio::spawn(accept_unix(listener, app.clone(), seats.clone()))),
        Err(e) => troubles.push(format!("no status on the unix socket: {e}")),
    }
    if let Some(address) = tcp {
        match TcpListener::bind(address).await {
            Ok(listener) => drop(tokio::spawn(accept_tcp(listener, app, seats))),
            Err(e) => troubles.push(format!("no status on {address}: {e}")),
        }
    }
    troubles
}

async fn accept_unix(listener: UnixListener, app: Router, seats: Arc<Semaphore>) {
    loop {
        match listener.accept().await {
            Ok((io, _)) => seat(io, &app, &seats).await,
            Err(_) => sleep(RETRY).await,
        }
    }
}

async fn accept_tcp(listener: TcpListener, app: Router, seats: Arc<Semaphore>) {
    loop {
        match listener.accept().await {
            Ok((io, _)) => seat(io, &app, &seats).await,
            Err(_) => sleep(RETRY).await,
        }
    }
}

/// Answers one request on `io`, in a task of its own, as soon as there is a seat.
async fn seat(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, app: &Router, seats: &Arc<Semaphore>) {
    let Ok(permit) = seats.clone().acquire_owned().await else { return };
    let app = TowerToHyperService::new(app.clone());
    tokio::spawn(async move {
        let mut http = http1::Builder::new();
        // One request for each connection: an idle one would keep its seat.
        http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
        let _ = timeout(CONNECTION, http.serve_connection(TokioIo::new(io), app)).await;
        drop(permit);
    });
}

/// The pages.
pub fn router(board: Shared, now: fn() -> Instant) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/leader", get(leader))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .with_state(Faces { board, now })
}

async fn status(State(faces): State<Faces>) -> Response {
    faces.ask(|board, now| {
        let groups: Vec<_> = board.groups.values().collect();
        let body = json!({
            "schema": "elect-statuses/1",
            "nowNs": now.as_nanos(),
            "ready": board.ready.is_ok(),
            "groups": groups,
        });
        page(StatusCode::OK, &body)
    })
}

async fn leader(State(faces): State<Faces>, uri: Uri) -> Response {
    let group = uri.query().and_then(|q| q.split('&').find_map(|pair| pair.strip_prefix("group=")));
    faces.ask(|board, now| match board.leads(group, now) {
        Leads::Yes(s) => {
            let left = u64::try_from(s.left(&s.boot_id, now).as_millis()).unwrap_or(u64::MAX);
            let token = s.token.map(|t| t.to_string());
            let body = json!({ "group": s.group, "leader": s.id, "token": token, "leftMs": left });
            page(StatusCode::OK, &body)
        }
        Leads::No(s) => {
            let other = s.leader.as_ref().filter(|l| **l != s.id);
            page(StatusCode::SERVICE_UNAVAILABLE, &json!({ "group": s.group, "leader": other, "state": s.state }))
        }
        Leads::Unknown => {
            let names: Vec<_> = board.groups.keys().collect();
            page(StatusCode::NOT_FOUND, &json!({ "error": "no such group here", "groups": names }))
        }
        Leads::WhichOne => {
            let names: Vec<_> = board.groups.keys().collect();
            let error = "several groups here: ask /leader?group=NAME";
            page(StatusCode::BAD_REQUEST, &json!({ "error": error, "groups": names }))
        }
    })
}

async fn livez(State(faces): State<Faces>) -> Response {
    faces.ask(|board, _| verdict(&board.sound))
}

async fn readyz(State(faces): State<Faces>) -> Response {
    faces.ask(|board, _| verdict(&board.ready))
}

async fn exposition(State(faces): State<Faces>) -> Response {
    let text = faces.ask(|board, now| board.exposition(now));
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

fn verdict(is: &Result<(), String>) -> Response {
    match is {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

fn page(code: StatusCode, body: &serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (code, headers, format!("{body}\n")).into_response()
}
