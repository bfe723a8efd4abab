//! What a joiner and a master say to each other: one request, one answer, over TLS whose CA the joiner has pinned.

use std::net::IpAddr;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::pki::catalog;
use crate::spec::layout::Layout;
use crate::spec::{ClusterSpec, Node, ThisNode};
use crate::state::desired::SecretKind;
use crate::state::{Digest, Secret};
use crate::token::{Role, TokenId};

/// Where masters serve joiners unless told otherwise.
pub const PORT: u16 = 7443;
/// Where it is asked.
pub const PATH: &str = "/v1/join";
/// The name that the certificate of every master must have. Kubelets have certificates of the same CA, for the names
/// of their nodes only.
pub const SERVER_NAME: &str = "kubernetes.default.svc";
/// The largest request, in bytes.
pub const LARGEST_REQUEST: usize = 16 * 1024;
/// The largest answer, in bytes.
pub const LARGEST_ANSWER: usize = 4 * 1024 * 1024;

/// The form of a [`Welcome`].
pub const WELCOME: &str = "welcome/1";

/// A host asks to be admitted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// Which token it has.
    pub token: TokenId,
    /// The token's secret.
    pub secret: Bytes,
    /// What the host will be known by if it must ask again.
    pub attempt: Bytes,
    /// Its node name.
    pub node: String,
    /// Where others will reach it.
    pub ip: IpAddr,
    /// What it wants to be.
    pub role: Role,
    /// What a worker, which has no CA's key, wants signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Pem>,
}

/// It is admitted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// [`WELCOME`]
    pub schema: String,
    /// The cluster's spec, as registered.
    pub spec: String,
    /// Its etcd cluster, hex: a member of another one is never started.
    pub cluster_id: String,
    /// Its masters, by which etcd is reached.
    pub masters: Vec<Host>,
    /// Files of the bundle.
    pub files: Vec<File>,
    /// What a worker wanted signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Pem>,
}

/// What etcd has of a worker, under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Where it is reached.
    pub ip: IpAddr,
    /// SHA-256 of what its attempt is known by: it may come again, nobody else in its name.
    pub attempt_hash: Digest,
    /// In seconds since 1970: for people.
    pub admitted: i64,
}

/// A signing request or a certificate, and the row of the catalogue it is for. Nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pem {
    /// `kubelet-client`, …
    pub id: String,
    /// As PEM.
    pub pem: String,
}

/// It is not admitted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, as far as whoever asks may know.
    pub error: String,
    /// What helps, where it is not the usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A master, for a joiner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// Node name.
    pub name: String,
    /// Where it is.
    pub ip: IpAddr,
}

/// A file of the bundle that is the cluster's and not a master's own.
#[derive(Debug, Serialize, Deserialize)]
pub struct File {
    /// Absolute on a host, whatever the prefix here or there.
    pub path: PathBuf,
    /// Mode bits.
    pub mode: u32,
    /// Its bytes.
    pub content: Bytes,
}

/// Bytes on the wire, base64: secret ones, so nothing shows them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Secret);

impl TryFrom<String> for Bytes {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = zeroize::Zeroizing::new(text);
        STANDARD.decode(text.as_bytes()).map(|b| Self(Secret::new(b))).map_err(|_| "not base64")
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        STANDARD.encode(bytes.0.expose())
    }
}

/// What a worker is given of them: what it must trust, and nothing that could make it trusted.
pub fn shared_with_workers(spec: &ClusterSpec) -> Vec<(PathBuf, u32)> {
    let ca = Layout::host().pki().join("ca.crt");
    shared(spec).into_iter().filter(|(path, _)| *path == ca).collect()
}

/// The files that are the cluster's, each with its mode: what a master is given. A file that a spec does without is
/// not there to be given.
pub fn shared(spec: &ClusterSpec) -> Vec<(PathBuf, u32)> {
    // Of any master: what is shared is the same on all.
    let any = IpAddr::from([127, 0, 0, 1]);
    let this = ThisNode { node: Node { name: "any".into(), ip: any }, loopback: any, layout: Layout::host() };
    let cas = catalog::cas(spec, &this).into_iter().flat_map(|ca| [(ca.cert, 0o644), (ca.key, 0o600)]);
    let secrets = catalog::secrets(spec, &this).into_iter().flat_map(|secret| {
        let public = match secret.kind {
            SecretKind::ServiceAccountKey { public, .. } => Some((public, 0o644)),
            _ => None,
        };
        [Some((secret.path, 0o600)), public].into_iter().flatten()
    });
    cas.chain(secrets).collect()
}
