//! A joiner at a master's door: it makes sure whose door it is, then hands its token over and takes what it is given.
//!
//! All it knows of the cluster is the pin of its CA. The CA's certificate itself comes in the server's chain; nothing is
//! sent before the chain holds the pinned one and the server has proved to be a master below it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use crate::admission::{LARGEST_ANSWER, PATH, Refusal, Request, SERVER_NAME, WELCOME, Welcome};
use crate::error::{Error, Kind, Problem, Result};
use crate::host::http;
use crate::pki::inspect;
use crate::state::Digest;

/// For each master, from connecting to the last byte of its answer.
const CALL: Duration = Duration::from_secs(10);
/// Of the words of a refusal, this much is read.
const LARGEST_REFUSAL: usize = 4 * 1024;

const NEW_TOKEN: &str = "hamaster token create    # on a master";

/// Asks each of `masters` in turn to be admitted, until one answers. Only a server below the CA with this `pin` hears
/// anything.
///
/// # Errors
/// A refusal with the master's reason, which is final; or for each master why it did not answer.
pub fn ask(masters: &[SocketAddr], pin: &Digest, request: &Request) -> Result<Welcome> {
    let failed = |e: &dyn std::fmt::Display| Error::apply("cannot set up a connection to a master").cause(e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
    let body = serde_json::to_vec(request).map_err(|e| failed(&e))?;
    let mut problems = vec![];
    let mut kind = Kind::Apply;
    for &master in masters {
        match runtime.block_on(call(master, pin, body.clone())) {
            Ok(welcome) => return Ok(welcome),
            Err(Unanswered::Final(error)) => return Err(error),
            Err(Unanswered::Next { why, hint, refused }) => {
                kind = if refused { Kind::Refused } else { kind };
                problems.push(Problem { at: master.to_string(), message: why, hint });
            }
        }
    }
    Err(Error::new(kind, "no master admits this host").problems(problems))
}

/// Why a master did not admit.
enum Unanswered {
    /// Every other one would say the same.
    Final(Box<Error>),
    /// Another one may answer.
    Next { why: String, hint: Option<String>, refused: bool },
}

impl Unanswered {
    fn silent(why: impl Into<String>, hint: &str) -> Self {
        Self::Next { why: why.into(), hint: Some(hint.to_owned()), refused: false }
    }
}

async fn call(master: SocketAddr, pin: &Digest, body: Vec<u8>) -> Result<Welcome, Unanswered> {
    let running = "systemctl status hamaster-serve    # on that master";
    let pinned = Pinned::new(*pin);
    let client = pinned.clone().client(master).map_err(Unanswered::Final)?;
    let url = format!("https://{SERVER_NAME}:{}{PATH}", master.port());
    let sent = client.post(url).header("content-type", "application/json").body(body).send().await;
    let answer = match (sent, pinned.refused.get()) {
        (_, Some(Doubt { why, hint })) => {
            return Err(Unanswered::Next {
                why: format!("{why}; nothing was sent to it"),
                hint: Some((*hint).to_owned()),
                refused: true,
            });
        }
        (Ok(answer), None) => answer,
        (Err(e), None) if e.is_timeout() => {
            return Err(Unanswered::silent(format!("no answer within {} s", CALL.as_secs()), running));
        }
        (Err(e), None) => return Err(Unanswered::silent(http::words(&e), running)),
    };
    let status = answer.status().as_u16();
    if status != 200 {
        let refusal = read(answer, LARGEST_REFUSAL).await.ok();
        return Err(refusal_of(status, refusal.as_deref().unwrap_or_default()));
    }
    let newer = "hamaster --version    # here and on that master";
    let bytes = read(answer, LARGEST_ANSWER).await.map_err(|why| Unanswered::silent(why, running))?;
    let welcome: Welcome = serde_json::from_slice(&zeroize::Zeroizing::new(bytes))
        // Its own words could show what they stumbled on: a key.
        .map_err(|_| Unanswered::silent("its answer is not a welcome that this version can read", newer))?;
    match welcome.schema.as_str() {
        WELCOME => Ok(welcome),
        other => {
            let why = format!("it answers with `{}`, this version reads {WELCOME}", other.escape_debug());
            Err(Unanswered::silent(why, newer))
        }
    }
}

/// The body, unless it is larger than `limit`.
async fn read(mut answer: reqwest::Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![];
    while let Some(chunk) = answer.chunk().await.map_err(|e| http::words(&e))? {
        if bytes.len() + chunk.len() > limit {
            return Err(format!("its answer is larger than {limit} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn refusal_of(status: u16, body: &[u8]) -> Unanswered {
    // What another host says is shown, but draws nothing on this terminal.
    let shown = |text: &str| text.chars().take(300).flat_map(char::escape_debug).collect::<String>();
    let (said, helps) = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => (shown(&refusal.error), refusal.hint.as_deref().map(shown)),
        Err(_) => (format!("HTTP {status}"), None),
    };
    let refused = |usual: &str| {
        let hint = helps.as_deref().unwrap_or(usual);
        Unanswered::Final(Error::refused("the cluster does not admit this host").cause(&said).hint(hint))
    };
    match status {
        401 | 403 => refused(NEW_TOKEN),
        409 => refused("--name NAME    # or `hamaster master list` on a master, to see who has the name"),
        400 | 404 | 413 | 422 | 501 => refused("hamaster --version    # here and on the master"),
        429 => Unanswered::Next { why: said, hint: Some("run again in a minute".to_owned()), refused: true },
        _ => Unanswered::silent(said, "hamaster status    # on that master"),
    }
}

/// Why a server is not believed.
#[derive(Debug, Clone)]
struct Doubt {
    why: String,
    hint: &'static str,
}

impl Doubt {
    fn of(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: "compare the address with the one `hamaster token create` printed" }
    }
}

/// Trusts the certificate whose public key has this digest, wherever it is in the chain, and nothing else.
#[derive(Debug, Clone)]
struct Pinned {
    pin: Digest,
    provider: Arc<CryptoProvider>,
    /// Why the server was not believed: the TLS library's alert would say less.
    refused: Arc<OnceLock<Doubt>>,
}

impl Pinned {
    fn new(pin: Digest) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self { pin, provider, refused: Arc::default() }
    }

    fn client(self, master: SocketAddr) -> Result<reqwest::Client> {
        let failed = |e: &dyn std::fmt::Display| Error::apply("cannot set up a connection to a master").cause(e);
        let mut tls = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| failed(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self))
            .with_no_client_auth();
        tls.resumption = Resumption::disabled();
        // no_proxy: a proxy in the environment must not be asked the way. The name is in no DNS and need not be.
        reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .resolve(SERVER_NAME, master)
            .timeout(CALL)
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|e| failed(&http::words(&e)))
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Doubt> {
        let is_pinned = |c: &&CertificateDer<'_>| inspect::cert(c).is_ok_and(|c| c.spki == self.pin);
        let Some(ca) = chain.iter().find(is_pinned) else {
            let what = "this server is another cluster's or an impostor: its chain does not hold the CA of the token";
            return Err(Doubt::of(what));
        };
        let mut roots = rustls::RootCertStore::empty();
        let unread = |e| Doubt::of(format!("the CA's certificate does not read: {e}"));
        roots.add(ca.clone().into_owned()).map_err(unread)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| Doubt::of(e.to_string()))?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|e| Doubt::of(e.to_string()))?;
        let judged = verifier.verify_server_cert(leaf, chain, &name, &[], now);
        let believed = judged.map_err(|e| match e {
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidYetContext { .. } | CertificateError::ExpiredContext { .. },
            ) => Doubt {
                why: format!("by this host's clock its certificate is not valid now: {e}"),
                hint: "date    # is this host's clock right? on the master: hamaster certs check",
            },
            _ => Doubt::of(format!(
                "this server may be an impostor: it does not prove to be a master of the token's cluster: {e}"
            )),
        })?;
        // A certificate without extended key usage may be anything: not here.
        match inspect::cert(leaf) {
            Ok(leaf) if leaf.server => Ok(believed),
            _ => Err(Doubt::of("this server may be an impostor: its certificate is not made for servers")),
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(leaf, chain, now).map_err(|why| {
            let _ = self.refused.set(why);
            let error = std::io::Error::other("not the pinned cluster's master");
            CertificateError::Other(OtherError(Arc::new(error))).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
