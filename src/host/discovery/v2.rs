//! The v2 discovery protocol: a directory of etcd's v2 keys behind HTTP, or a service that looks like one.
#![allow(clippy::disallowed_methods, reason = "floor 3: this is where the network is touched")]

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::etcd::discovery::{Entry, Listing};
use crate::host::http;

/// Deadline of one question.
const CALL: Duration = Duration::from_secs(5);
/// The longest answer that is read: a list of founders is much shorter.
const LONGEST: usize = 256 << 10;
/// etcd's codes: no such key; the key is there.
const NOT_FOUND: u32 = 100;
const EXISTS: u32 = 105;

/// One token of a discovery service.
pub struct Service {
    url: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    node: Option<Node>,
    error_code: Option<u32>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    created_index: u64,
    #[serde(default)]
    nodes: Vec<Node>,
}

impl Service {
    pub(super) fn new(url: &str, tls: rustls::ClientConfig) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| Error::apply(format!("cannot set up a connection to {url}")).cause(e);
        // no_proxy: founders are on networks of the operator's own; a proxy in the environment is for the internet.
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(CALL)
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|e| failed(&e))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
        Ok(Self { url: url.to_owned(), client, runtime })
    }

    pub(super) fn listing(&self) -> Result<Listing, String> {
        let Some(size) = self.ask(Method::GET, "/_config/size?quorum=true", None)? else {
            return Ok(Listing::default());
        };
        let found = self.ask(Method::GET, "?quorum=true", None)?.map(|n| n.nodes).unwrap_or_default();
        let entry = |node: Node| {
            let id = node.key.rsplit('/').next().unwrap_or_default().to_owned();
            (!id.starts_with('_')).then_some(Entry { id, value: node.value, order: node.created_index })
        };
        Ok(Listing { size: Some(size.value), entries: found.into_iter().filter_map(entry).collect() })
    }

    pub(super) fn register(&self, id: &str, value: &str) -> Result<(), String> {
        // Names and addresses have no character that a form would take for something else, but `=`, `:` and `/`.
        let escaped = value.replace('%', "%25").replace('&', "%26").replace('+', "%2B");
        self.ask(Method::PUT, &format!("/{id}?prevExist=false"), Some(format!("value={escaped}"))).map(drop)
    }

    pub(super) fn withdraw(&self, id: &str) -> Result<(), String> {
        self.ask(Method::DELETE, &format!("/{id}"), None).map(drop)
    }

    /// The node an answer is about; none where there is no such key, or there is one already.
    fn ask(&self, method: Method, path: &str, form: Option<String>) -> Result<Option<Node>, String> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(form) = form {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        }
        let (status, body) = self.runtime.block_on(async {
            let mut answer = request.send().await.map_err(|e| http::words(&e))?;
            let mut body = vec![];
            while let Some(chunk) = answer.chunk().await.map_err(|e| http::words(&e))? {
                body.extend_from_slice(&chunk);
                if body.len() > LONGEST {
                    return Err(format!("its answer is longer than {} KiB", LONGEST >> 10));
                }
            }
            Ok((answer.status(), body))
        })?;
        read(status, &body)
    }
}

fn read(status: StatusCode, body: &[u8]) -> Result<Option<Node>, String> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| format!("HTTP {}: it is not a discovery service of the v2 protocol", status.as_u16()))?;
    match (answer.node, answer.error_code) {
        (Some(node), None) if status.is_success() => Ok(Some(node)),
        (_, Some(NOT_FOUND | EXISTS)) => Ok(None),
        (_, _) => Err(format!("HTTP {}: {}", status.as_u16(), answer.message.unwrap_or_default())),
    }
}
