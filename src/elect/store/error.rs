//! Why etcd did not do what was asked, in words, with a command that helps.

use std::fmt;
use std::io;
use std::time::Duration;

use rustls::{CertificateError, Error as TlsError};
use tonic::{Code, Status};

use super::credentials::Credentials;
use super::member::Trace;
use crate::elect::config::Endpoint;
use crate::elect::view::PREFIX;
use crate::spec::units::show_duration;

/// What went wrong at one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    /// What a caller may branch on.
    pub kind: StoreErrorKind,
    /// Which member: its URL.
    pub member: String,
    /// Why, in words; without the member.
    pub words: String,
    /// A command to run.
    pub hint: String,
    /// gRPC's name of it, or `Timeout`, `Connect`: the metrics' label.
    pub code: &'static str,
}

/// Kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Nobody there, or no answer in time.
    Unreachable,
    /// One side does not take the other's certificate, or the files here do not fit.
    Tls,
    /// etcd's authentication is on and this client's role does not suffice.
    Auth,
    /// The database is full; etcd takes no writes.
    NoSpace,
    /// Plain text where TLS is spoken, or the other way round, or something else altogether.
    NotEtcd,
    /// The member has no leader: no quorum, or an election is going on.
    NoLeader,
    /// The member does not vote yet and serves no linearizable requests.
    Learner,
    /// Another cluster answers than before, or one that was set back.
    Replaced,
    /// Anything else, in etcd's own words.
    Other,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd at {}: {}", self.member, self.words)
    }
}

impl std::error::Error for StoreError {}

/// How a call ended that did not succeed.
pub(super) enum Fault {
    /// No connection.
    Dial(io::Error),
    /// An answer that is none, over a connection that saw this.
    Rpc(etcd_client::Error, std::sync::Arc<Trace>),
    /// No answer within this time.
    Late(Duration),
}

/// Who was asked, with which files.
pub(super) struct Asked<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) credentials: Option<&'a Credentials>,
}

impl Asked<'_> {
    /// Finds the words.
    pub(super) fn explain(&self, fault: &Fault) -> StoreError {
        match fault {
            Fault::Late(within) => {
                let words = format!("no answer within {}", show_duration(*within));
                self.error(StoreErrorKind::Unreachable, words, self.etcdctl("endpoint health"), "Timeout")
            }
            // A port without TLS does not even answer, and resets if it closes before it has read all; a TLS server
            // says why it ends a handshake.
            Fault::Dial(e) if self.endpoint.tls && hung_up(e) => {
                let words = "it ended the TLS handshake without a word, as one does that speaks none";
                self.not_etcd(words.to_owned(), "Connect")
            }
            Fault::Dial(e) => self.socket(e, "Connect"),
            Fault::Rpc(etcd_client::Error::GRpcStatus(status), trace) => self.status(status, trace),
            Fault::Rpc(e, _) => {
                self.error(StoreErrorKind::Other, e.to_string(), self.etcdctl("endpoint health"), "Unknown")
            }
        }
    }

    /// Another cluster than before.
    pub(super) fn replaced(&self, why: String) -> StoreError {
        self.error(StoreErrorKind::Replaced, why, self.etcdctl("endpoint status --cluster"), "Replaced")
    }

    /// New files that cannot be used.
    pub(super) fn files(&self, why: String) -> StoreError {
        self.error(StoreErrorKind::Tls, why, self.handshake(), "Connect")
    }

    fn error(&self, kind: StoreErrorKind, words: String, hint: String, code: &'static str) -> StoreError {
        StoreError { kind, member: self.endpoint.to_string(), words, hint, code }
    }

    fn status(&self, status: &Status, trace: &Trace) -> StoreError {
        let code = name(status.code());
        let message = status.message();
        let of_etcd = message.contains("etcdserver:") || message.contains("auth:");
        let (kind, words, hint) = match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => self.no_right(message),
            Code::InvalidArgument if message.contains("user name is empty") => self.no_right(message),
            Code::ResourceExhausted if message.contains("database space exceeded") => (
                StoreErrorKind::NoSpace,
                "its database is full, it takes no writes (alarm NOSPACE)".to_owned(),
                self.etcdctl("defrag --cluster && etcdctl alarm disarm"),
            ),
            Code::Unavailable if message.contains("learner") => (
                StoreErrorKind::Learner,
                "it is a learner and serves no reads or writes yet".to_owned(),
                self.etcdctl("member list"),
            ),
            Code::Unavailable if of_etcd && (message.contains("leader") || message.contains("request timed out")) => (
                StoreErrorKind::NoLeader,
                format!("it has no leader: {message}"),
                self.etcdctl("endpoint status --cluster"),
            ),
            _ if of_etcd => (StoreErrorKind::Other, message.to_owned(), self.etcdctl("endpoint health")),
            _ => return self.broken(status, trace, code),
        };
        self.error(kind, words, hint, code)
    }

    fn no_right(&self, message: &str) -> (StoreErrorKind, String, String) {
        let words = format!("this client may not use {PREFIX}: {message}");
        let hint = format!("role grant-permission --prefix hamaster readwrite {PREFIX}");
        (StoreErrorKind::Auth, words, self.etcdctl(&hint))
    }

    /// The connection broke under the call.
    fn broken(&self, status: &Status, trace: &Trace, code: &'static str) -> StoreError {
        if !self.endpoint.tls && trace.first() != Some(0) {
            // HTTP/2 begins with a settings frame, whose length is three bytes and below 65536. Anything else, or
            // nothing at all, is not etcd without TLS.
            return self.not_etcd("it does not speak gRPC without TLS".to_owned(), code);
        }
        match trace.failure() {
            // TLS 1.3 refuses a client certificate after the handshake; the alert may be lost to a reset.
            Some(e)
                if self.endpoint.tls && trace.first().is_none() && e.get_ref().is_none_or(|i| !i.is::<TlsError>()) =>
            {
                let words = format!("it hung up after the TLS handshake: {}", self.our_fault());
                self.error(StoreErrorKind::Tls, words, self.handshake(), code)
            }
            Some(e) => self.socket(&e, code),
            None => {
                let words = format!("the connection broke: {}", innermost(status));
                self.error(StoreErrorKind::Unreachable, words, self.etcdctl("endpoint health"), code)
            }
        }
    }

    fn not_etcd(&self, words: String, code: &'static str) -> StoreError {
        let Endpoint { tls, host, .. } = self.endpoint;
        let other = Endpoint { tls: !tls, ..self.endpoint.clone() };
        let hint = match tls {
            true => format!("curl http://{host}:{}/health; if that answers write `{other}`", self.endpoint.port),
            false => format!(
                "{}; if that shows a certificate write `{other}` and caFile, certFile, keyFile",
                self.handshake()
            ),
        };
        self.error(StoreErrorKind::NotEtcd, words, hint, code)
    }

    fn socket(&self, e: &io::Error, code: &'static str) -> StoreError {
        let tls = e.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        let host = &self.endpoint.host;
        let words = match tls {
            Some(TlsError::InvalidMessage(_)) => return self.not_etcd("it does not speak TLS".to_owned(), code),
            Some(TlsError::InvalidCertificate(why)) => match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    let ca = self.credentials.map_or_else(String::new, |c| c.files.ca.display().to_string());
                    format!("its certificate is not signed by the CA in {ca}")
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "its certificate has expired".to_owned()
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!("its certificate is not made for {host}")
                }
                why => format!("its certificate is not good: {why}"),
            },
            Some(TlsError::AlertReceived(alert)) => {
                format!("it refused the client certificate ({alert:?}): {}", self.our_fault())
            }
            Some(other) => format!("TLS failed: {other}"),
            None => {
                let words = format!("cannot be reached: {e}");
                return self.error(StoreErrorKind::Unreachable, words, self.etcdctl("endpoint health"), code);
            }
        };
        self.error(StoreErrorKind::Tls, words, self.handshake(), code)
    }

    /// What is wrong with the client certificate.
    fn our_fault(&self) -> String {
        let seen = self.credentials.and_then(Credentials::blemish);
        seen.unwrap_or_else(|| {
            let cert = self.credentials.map_or_else(String::new, |c| format!(" {}", c.files.cert.display()));
            format!("it trusts another CA than the one that signed the client certificate{cert}")
        })
    }

    fn etcdctl(&self, command: &str) -> String {
        let files = self.credentials.map_or_else(String::new, |c| {
            let f = &c.files;
            format!(" --cacert {} --cert {} --key {}", f.ca.display(), f.cert.display(), f.key.display())
        });
        format!("ETCDCTL_API=3 etcdctl --endpoints {}{files} {command}", self.endpoint)
    }

    fn handshake(&self) -> String {
        let Endpoint { host, port, .. } = self.endpoint;
        let files = self.credentials.map_or_else(String::new, |c| {
            let f = &c.files;
            format!(" -CAfile {} -cert {} -key {}", f.ca.display(), f.cert.display(), f.key.display())
        });
        format!("openssl s_client -connect {host}:{port}{files} </dev/null")
    }
}

fn hung_up(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// The innermost cause: the outer ones only say that it failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Cancelled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
