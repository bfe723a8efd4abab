//! Kubeconfigs: written through serde so that no value needs quoting by hand, read without keeping a secret.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::pki::inspect;
use crate::pki::issue::Pair;
use crate::state::observed::KubeconfigFact;
use crate::state::{Digest, Secret};

/// The file names that are kubeconfigs, ours and kubeadm's.
pub const FILES: [&str; 6] =
    ["admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf", "flannel.conf"];

/// What a kubeconfig says, and whether it holds a key, token or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The facts of its current context.
    pub fact: KubeconfigFact,
    /// Something in it must not be shown.
    pub secret: bool,
}

#[derive(Serialize, Deserialize, Default)]
struct File {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    clusters: Vec<Cluster>,
    #[serde(default)]
    contexts: Vec<Context>,
    #[serde(rename = "current-context", default)]
    current_context: String,
    #[serde(default)]
    users: Vec<User>,
}

#[derive(Serialize, Deserialize)]
struct Cluster {
    name: String,
    cluster: ClusterBody,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct ClusterBody {
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_authority: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_authority_data: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Context {
    name: String,
    context: ContextBody,
}

#[derive(Serialize, Deserialize)]
struct ContextBody {
    cluster: String,
    user: String,
}

#[derive(Serialize, Deserialize)]
struct User {
    name: String,
    user: UserBody,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct UserBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

/// A kubeconfig that carries everything it needs: the CA, the certificate and the key of `user`.
///
/// # Errors
/// When YAML cannot be written, which no value causes.
pub fn render(cluster: &str, server: &str, ca_pem: &str, user: &str, pair: &Pair) -> Result<Secret> {
    let cluster_body = ClusterBody {
        server: server.into(),
        certificate_authority_data: Some(STANDARD.encode(ca_pem)),
        ..Default::default()
    };
    let user_body = UserBody {
        client_certificate_data: Some(STANDARD.encode(&pair.cert_pem)),
        client_key_data: Some(STANDARD.encode(pair.key_pem.expose())),
        ..Default::default()
    };
    to_yaml(cluster, cluster_body, user, user_body).map(|s| Secret::new(s.into_bytes()))
}

/// A kubeconfig that refers to files and holds no secret: the kubelet rotates `client_pem` (certificate and key) by
/// itself, while an embedded certificate would just expire.
///
/// # Errors
/// When YAML cannot be written, which no value causes.
pub fn referring(cluster: &str, server: &str, ca: &Path, user: &str, client_pem: &Path) -> Result<String> {
    let cluster_body =
        ClusterBody { server: server.into(), certificate_authority: Some(ca.into()), ..Default::default() };
    let user_body = UserBody {
        client_certificate: Some(client_pem.into()),
        client_key: Some(client_pem.into()),
        ..Default::default()
    };
    to_yaml(cluster, cluster_body, user, user_body)
}

fn to_yaml(cluster: &str, cluster_body: ClusterBody, user: &str, user_body: UserBody) -> Result<String> {
    let context = format!("{user}@{cluster}");
    let file = File {
        api_version: "v1".to_owned(),
        kind: "Config".to_owned(),
        clusters: vec![Cluster { name: cluster.to_owned(), cluster: cluster_body }],
        contexts: vec![Context {
            name: context.clone(),
            context: ContextBody { cluster: cluster.to_owned(), user: user.to_owned() },
        }],
        current_context: context,
        users: vec![User { name: user.to_owned(), user: user_body }],
    };
    // Long base64 would be folded over lines, which only some readers undo.
    let options = serde_yaml::ser_options! { prefer_block_scalars: false };
    serde_yaml::to_string_with_options(&file, options)
        .map_err(|e| Error::apply(format!("kubeconfig of {user} cannot be written")).cause(e))
}

/// Reads the current context of a kubeconfig.
///
/// # Errors
/// Why it does not read, without quoting any of it.
pub fn read(bytes: &[u8]) -> Result<Kubeconfig, String> {
    let file: File = yaml(bytes)?;
    let context = file.contexts.iter().find(|c| c.name == file.current_context).map(|c| &c.context);
    let cluster = match context {
        Some(c) => file.clusters.iter().find(|x| x.name == c.cluster),
        None => file.clusters.first(),
    };
    let cluster = &cluster.ok_or("its current context names no cluster")?.cluster;
    let user = match context {
        Some(c) => file.users.iter().find(|x| x.name == c.user),
        None => file.users.first(),
    };
    let user = &user.ok_or("its current context names no user")?.user;

    let ca = match &cluster.certificate_authority_data {
        Some(data) => inspect::certs(&decode("certificate-authority-data", data)?)?.first().map(|c| Digest::of(&c.der)),
        None => None,
    };
    let client = match &user.client_certificate_data {
        Some(data) => inspect::certs(&decode("client-certificate-data", data)?)?.into_iter().next(),
        None => None,
    };
    let key = match &user.client_key_data {
        Some(data) => Some(inspect::key(&Zeroizing::new(decode("client-key-data", data)?))?),
        None => None,
    };
    let secret = file
        .users
        .iter()
        .map(|u| &u.user)
        .any(|u| u.client_key_data.is_some() || u.token.is_some() || u.password.is_some());
    let fact = KubeconfigFact {
        server: cluster.server.clone(),
        ca,
        client,
        key,
        client_file: user.client_certificate.clone(),
    };
    Ok(Kubeconfig { fact, secret })
}

/// What a kubeconfig's current user connects with.
pub struct Credentials {
    /// The CA to trust.
    pub ca_pem: Vec<u8>,
    /// Client certificate.
    pub cert_pem: Vec<u8>,
    /// Its key.
    pub key_pem: Secret,
}

/// The embedded credentials of a kubeconfig of ours, which has one cluster and one user.
///
/// # Errors
/// Why they cannot be taken, without quoting any of them.
pub fn credentials(bytes: &[u8]) -> Result<Credentials, String> {
    let file: File = yaml(bytes)?;
    let (cluster, user) =
        (file.clusters.first().ok_or("it has no cluster")?, file.users.first().ok_or("it has no user")?);
    let field = |name: &str, data: &Option<String>| decode(name, data.as_deref().ok_or(format!("it has no {name}"))?);
    Ok(Credentials {
        ca_pem: field("certificate-authority-data", &cluster.cluster.certificate_authority_data)?,
        cert_pem: field("client-certificate-data", &user.user.client_certificate_data)?,
        key_pem: Secret::new(field("client-key-data", &user.user.client_key_data)?),
    })
}

fn decode(what: &str, data: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(data).map_err(|_| format!("{what} is not base64"))
}

/// Parses YAML; an error names the place only, since the reader's own message quotes the lines around it.
pub(super) fn yaml<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_yaml::from_slice(bytes).map_err(|e| match e.location() {
        Some(at) => format!("line {}, column {}: not the YAML it should be", at.line(), at.column()),
        None => "not the YAML it should be".to_owned(),
    })
}
