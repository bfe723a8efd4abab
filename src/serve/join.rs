//! What is asked over HTTP: to be admitted, and whether this master could admit.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Log;
use super::desk::{Desk, Refused};
use super::refusals::{self, Refusals};
use crate::admission::{LARGEST_REQUEST, PATH, Refusal, Request, Welcome};
use crate::host::clock::Stopwatch;
use crate::spec::address;

/// The request's body must be there by then: it is small.
const BODY: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// From where.
    pub(super) ip: IpAddr,
    /// Its refusal is paid for. If not, it gets one unheard.
    pub(super) charged: bool,
}

/// What all connections share.
#[derive(Clone)]
pub(super) struct Pages {
    desk: Desk,
    log: Log,
    refusals: Arc<Mutex<Refusals>>,
    began: Stopwatch,
}

impl Pages {
    pub(super) fn new(desk: Desk, log: Log) -> Self {
        Self { desk, log, refusals: Arc::default(), began: Stopwatch::start() }
    }

    pub(super) fn router(&self) -> Router {
        Router::new().route(PATH, post(join)).route("/readyz", get(readyz)).with_state(self.clone())
    }

    /// Whether whoever comes from `ip` may be refused once more; if so, it counts.
    pub(super) fn charge(&self, ip: IpAddr) -> bool {
        self.with(|refusals, now| refusals.charge(refusals::source(ip), now))
    }

    /// It was not refused.
    fn forgive(&self, source: Source) {
        if source.charged {
            self.with(|refusals, now| refusals.forgive(refusals::source(source.ip), now));
        }
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Refusals, Duration) -> T) -> T {
        ask(&mut self.refusals.lock().unwrap_or_else(PoisonError::into_inner), self.began.elapsed())
    }
}

async fn readyz(State(pages): State<Pages>, Extension(source): Extension<Source>) -> Response {
    // A handshake costs as much as a wrong token: whoever looks more than once a second is a host like others.
    if source.ip.is_loopback() {
        pages.forgive(source);
    }
    match pages.desk.ready() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn join(State(pages): State<Pages>, Extension(source): Extension<Source>, body: Body) -> Response {
    let from = source.ip;
    if !source.charged {
        pages.log.trouble(Some(from), "refused too often: not even looked at");
        return refused(StatusCode::TOO_MANY_REQUESTS, "too many refused attempts from this address");
    }
    // What announces itself as too large is not waited for.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let whole = async || timeout(BODY, to_bytes(body, LARGEST_REQUEST)).await.ok()?.ok();
    let body = if announced > LARGEST_REQUEST { None } else { whole().await };
    let Some(body) = body else {
        pages.log.trouble(Some(from), "not a request: too large, too slow or cut off");
        let why = format!("a request has at most {LARGEST_REQUEST} bytes");
        return refused(StatusCode::PAYLOAD_TOO_LARGE, &why);
    };
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        // Not the parser's words: they may show what it stumbled on.
        Err(_) => {
            pages.log.trouble(Some(from), "not a request: it does not read");
            return refused(StatusCode::BAD_REQUEST, "this is no request that this version can read");
        }
    };
    // The name goes into logs and into the spec: only what can be a node's.
    if let Err(mistake) = address::node_name(&request.node).and_then(|_| address::ip(&request.ip.to_string())) {
        pages.log.trouble(Some(from), "not a request: neither a node's name nor its address");
        return refused(StatusCode::BAD_REQUEST, &mistake.message);
    }
    match pages.desk.ask(request, from).await {
        Some(Ok(welcome)) => {
            pages.forgive(source);
            welcomed(&welcome)
        }
        Some(Err(Refused::Denied(_))) => refused(StatusCode::UNAUTHORIZED, "the token is not accepted"),
        Some(Err(Refused::Taken(why))) => page(StatusCode::CONFLICT, words(&why)),
        Some(Err(Refused::Unable(why))) => page(StatusCode::UNPROCESSABLE_ENTITY, words(&why)),
        Some(Err(Refused::Trouble(_))) => {
            pages.forgive(source);
            refused(StatusCode::SERVICE_UNAVAILABLE, "this master cannot admit anyone now: its log says why")
        }
        None => {
            pages.forgive(source);
            refused(StatusCode::SERVICE_UNAVAILABLE, "this master has too many requests: another one is faster")
        }
    }
}

fn welcomed(welcome: &Welcome) -> Response {
    match serde_json::to_vec(welcome) {
        Ok(bytes) => page(StatusCode::OK, bytes),
        Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written"),
    }
}

fn refused(status: StatusCode, why: &str) -> Response {
    page(status, words(&Refusal { error: why.to_owned(), hint: None }))
}

fn words(refusal: &Refusal) -> Vec<u8> {
    serde_json::to_vec(refusal).unwrap_or_default()
}

fn page(status: StatusCode, body: Vec<u8>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    // Wiped once it is sent: it may hold the CA's keys.
    (status, headers, Body::from(Bytes::from_owner(Zeroizing::new(body)))).into_response()
}
