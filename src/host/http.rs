//! Short HTTP questions to services of this host: is etcd healthy, is the apiserver ready, create these objects.
#![allow(clippy::disallowed_methods, reason = "floor 3: this is where the network is touched")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Result};
use crate::state::Secret;

/// Deadline of one question. Whoever polls waits for it at most once more than its own deadline.
const CALL: Duration = Duration::from_secs(3);

/// A client identity: certificate and key in PEM.
pub struct Identity {
    /// Certificate chain.
    pub cert_pem: Vec<u8>,
    /// Its key.
    pub key_pem: Secret,
}

/// A TLS configuration that trusts exactly `ca_pem` and shows `identity`, if any.
///
/// # Errors
/// When the PEM does not read, or key and certificate do not fit.
pub fn tls(ca_pem: &[u8], identity: Option<&Identity>) -> Result<rustls::ClientConfig> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        Error::apply(format!("cannot use {what} for TLS")).cause(e).hint("hamaster certs verify")
    };
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_pem) {
        let cert = cert.map_err(|e| failed("the CA certificate", &e))?;
        roots.add(cert).map_err(|e| failed("the CA certificate", &e))?;
    }
    trusting(roots, identity)
}

/// A TLS configuration that trusts whom this host trusts, and shows `identity`, if any.
///
/// # Errors
/// When the host has no CA certificates, or key and certificate do not fit.
pub fn tls_of_host(identity: Option<&Identity>) -> Result<rustls::ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Error::refused("this host trusts no CA").hint("apt-get install ca-certificates"));
    }
    trusting(roots, identity)
}

fn trusting(roots: rustls::RootCertStore, identity: Option<&Identity>) -> Result<rustls::ClientConfig> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        Error::apply(format!("cannot use {what} for TLS")).cause(e).hint("hamaster certs verify")
    };
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed("this TLS library", &e))?
        .with_root_certificates(roots);
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(&identity.cert_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| failed("the client certificate", &e))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose()).map_err(|e| failed("the client key", &e))?;
    builder.with_client_auth_cert(chain, key).map_err(|e| failed("the client certificate", &e))
}

/// Whether anything takes a connection at `at`.
pub fn listens(at: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&at, CALL).is_ok()
}

/// Whether the member whose metrics listener is `at` says it is healthy; otherwise what it says.
///
/// # Errors
/// The reason in words: refused, no answer, `{"health":"false"}`.
pub fn etcd_health(at: SocketAddr) -> Result<(), String> {
    let body = get(&format!("http://{at}/health"), None)?;
    if body.contains("\"true\"") { Ok(()) } else { Err(format!("etcd says {}", body.trim())) }
}

/// Whether the apiserver at `ip:port` says it is ready.
///
/// # Errors
/// The reason in words.
pub fn apiserver_ready(ip: IpAddr, port: u16, tls: rustls::ClientConfig) -> Result<(), String> {
    let body = get(&format!("https://{}/readyz", SocketAddr::new(ip, port)), Some(tls))?;
    if body.trim() == "ok" { Ok(()) } else { Err(body.lines().last().unwrap_or_default().to_owned()) }
}

/// Creates an object through the API, or replaces the one of that name.
///
/// # Errors
/// The status line and the API's message.
pub fn apply_object(
    at: SocketAddr,
    tls: &rustls::ClientConfig,
    collection: &str,
    name: &str,
    json: &str,
) -> Result<(), String> {
    let url = format!("https://{at}{collection}");
    let (status, body) = send(reqwest::Method::POST, &url, Some(tls.clone()), Some(json))?;
    let (status, body) = match status {
        409 => send(reqwest::Method::PUT, &format!("{url}/{name}"), Some(tls.clone()), Some(json))?,
        _ => (status, body),
    };
    if (200..300).contains(&status) { Ok(()) } else { Err(format!("HTTP {status}: {}", message(&body))) }
}

/// Whether a GET of `url` is answered with a status from 200 to 399 within `timeout`. The server of an `https` URL must
/// be signed by `ca_pem`.
///
/// # Errors
/// The reason in words.
pub async fn answers(url: &str, ca_pem: &[u8], timeout: Duration) -> Result<(), String> {
    let tls = tls(ca_pem, None).map_err(|e| e.to_string())?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(timeout)
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|e| words(&e))?;
    let status = client.get(url).send().await.map_err(|e| words(&e))?.status();
    if status.is_success() || status.is_redirection() { Ok(()) } else { Err(format!("HTTP {}", status.as_u16())) }
}

/// The `message` of a Kubernetes Status object, or the start of whatever came.
fn message(body: &str) -> String {
    let status: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let text = status.as_ref().and_then(|v| v.get("message")).and_then(|m| m.as_str()).unwrap_or(body);
    text.chars().take(300).collect()
}

fn get(url: &str, tls: Option<rustls::ClientConfig>) -> Result<String, String> {
    let (status, body) = send(reqwest::Method::GET, url, tls, None)?;
    if status == 200 { Ok(body) } else { Err(format!("HTTP {status}: {}", message(&body))) }
}

fn send(
    method: reqwest::Method,
    url: &str,
    tls: Option<rustls::ClientConfig>,
    json: Option<&str>,
) -> Result<(u16, String), String> {
    // no_proxy: these are services of this host; a proxy in the environment must never see them.
    let mut builder = reqwest::Client::builder().no_proxy().timeout(CALL);
    builder = match tls {
        Some(tls) => builder.tls_backend_preconfigured(tls),
        None => builder.tls_backend_preconfigured(self::tls(&[], None).map_err(|e| e.to_string())?),
    };
    let client = builder.build().map_err(|e| words(&e))?;
    let mut request = client.request(method, url);
    if let Some(json) = json {
        request = request.header("content-type", "application/json").body(json.to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let answer = request.send().await.map_err(|e| words(&e))?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|e| words(&e))?))
    })
}

/// The innermost cause: reqwest's own text repeats the URL and hides why.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
