//! What a host holds, as plain data. Filled by `host::observe`, which only reads; compared by the planner.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::spec::discovery::Place;
use crate::spec::{Address, Node};
use crate::state::Digest;

/// One look at a host: only the paths and units that were asked for.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// What is at each path; a path that was asked for and is absent is not in the map.
    pub paths: BTreeMap<PathBuf, PathFact>,
    /// State of each unit asked for.
    pub units: BTreeMap<String, UnitFact>,
    /// What hamaster wrote earlier.
    pub record: Record,
    /// Keys in etcd that were asked for; `None` when etcd was not asked or did not answer.
    pub store: Option<BTreeMap<String, Vec<u8>>>,
    /// What the owners are in numbers on this host.
    pub owners: Owners,
}

/// uid and gid of each [`Owner`](crate::state::Owner) on a host. Without privileges both are the current user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owners {
    /// Normally 0:0.
    pub root: (u32, u32),
    /// The user and group `etcd`.
    pub etcd: (u32, u32),
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathFact {
    /// File, directory or something else.
    pub kind: PathKind,
    /// Mode bits, the lower twelve.
    pub mode: u32,
    /// Owner uid.
    pub uid: u32,
    /// Owner gid.
    pub gid: u32,
    /// Digest of a file's bytes.
    pub digest: Option<Digest>,
    /// What the file says, as far as we read such files. Never secret bytes.
    pub content: ContentFact,
}

/// The kind of thing at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink, socket, device …
    Other,
}

/// What was understood of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ContentFact {
    /// Not looked into, or not understood.
    #[default]
    Opaque,
    /// Bytes of a public file, for a diff.
    Public(Vec<u8>),
    /// One or more certificates; the first is the leaf.
    Certs(Vec<CertFact>),
    /// A private key: only the digest of its public half.
    Key(KeyFact),
    /// Certificate and key in one file.
    Combined(CertFact, KeyFact),
    /// A kubeconfig with embedded client certificate.
    Kubeconfig(KubeconfigFact),
    /// A secret file of ours that parses (tokens, encryption config): nothing of it is kept.
    SecretReadable,
    /// Meant to be PEM, YAML or CSV but does not read.
    Corrupt(String),
}

/// Facts of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFact {
    /// Subject common name.
    pub common_name: String,
    /// Subject organizations.
    pub organizations: Vec<String>,
    /// Issuer common name.
    pub issuer_common_name: String,
    /// Serial, hex.
    pub serial: String,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// SANs.
    pub sans: Vec<Address>,
    /// EKU serverAuth.
    pub server: bool,
    /// EKU clientAuth.
    pub client: bool,
    /// BasicConstraints CA.
    pub is_ca: bool,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki: Digest,
    /// `ecdsa-p256`, `rsa-2048`, …, or what else was found.
    pub algorithm: String,
    /// The certificate itself, public: for chain checks and for embedding.
    pub der: Vec<u8>,
}

/// Facts of a private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFact {
    /// SHA-256 of the matching SubjectPublicKeyInfo.
    pub spki: Digest,
}

/// Facts of a kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeconfigFact {
    /// `https://host:port`
    pub server: String,
    /// Digest of the embedded CA certificate's DER.
    pub ca: Option<Digest>,
    /// The client certificate; kubelet.conf refers to a file instead.
    pub client: Option<CertFact>,
    /// Its key.
    pub key: Option<KeyFact>,
    /// The file the client certificate is read from, if it is not embedded.
    pub client_file: Option<PathBuf>,
}

/// State of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitFact {
    /// systemd knows a unit file of that name.
    pub loaded: bool,
    /// Starts at boot.
    pub enabled: bool,
    /// Running.
    pub active: bool,
    /// Failed, or restarting over and over.
    pub failed: bool,
    /// systemd has an older version of the unit file in memory.
    pub needs_reload: bool,
    /// Main process, if it runs.
    pub pid: Option<u32>,
}

/// What hamaster owns on a host: no content, no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Format of the file.
    pub schema: String,
    /// Node name this host was set up as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Programs as the run found them that set this host up last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, PathBuf>,
    /// Files we wrote.
    pub files: BTreeMap<PathBuf, FileRecord>,
    /// Directories we made.
    pub dirs: Vec<PathBuf>,
    /// Units we enabled or started, with the digest of the inputs at their last start.
    pub units: BTreeMap<String, Stamp>,
    /// Where our etcd member keeps its data: set when it is first started on an absent or empty directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Digest of the RBAC bindings last created in the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<Digest>,
    /// What `hamaster init` is about to register, until it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<Proposal>,
    /// The member this host is about to become, until it is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joining: Option<JoiningMember>,
    /// The masters that were found to form etcd's first cluster with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founders: Option<Founders>,
    /// The etcd cluster this host's member belongs to, once it was healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<SealedMember>,
    /// This host is a worker, or on its way to be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Worker>,
}

/// A change of the cluster's spec that begins at this master: its own `cluster.yaml` says so already, and a run that is
/// killed leaves it at that. It is a person's, and nobody else takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Digest of the spec that is meant.
    pub spec: Digest,
    /// Digest of the registered one that it was made from.
    pub over: Digest,
}

/// What a worker is known as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Id of its cluster, hex.
    pub cluster_id: String,
    /// Where others reach it.
    pub ip: IpAddr,
}

/// Masters that have found each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founders {
    /// Where: the discovery URL.
    pub place: String,
    /// Their addresses by name.
    pub masters: BTreeMap<String, IpAddr>,
}

impl Founders {
    /// They were found at `place`.
    pub fn is_of(&self, place: &Place) -> bool {
        self.place == place.to_string()
    }

    /// By name.
    pub fn nodes(&self) -> Vec<Node> {
        self.masters.iter().map(|(name, ip)| Node { name: name.clone(), ip: *ip }).collect()
    }
}

/// A file we wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileRecord {
    /// Digest of the bytes we last wrote; none for secret files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Digest of the bytes that were about to be written: whoever was killed in between has written them or has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Digest>,
    /// Backup of the operator's own file that `--adopt` replaced; `reset` puts it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<PathBuf>,
}

impl FileRecord {
    /// Whether these bytes may be ours. Of a secret file it is not known: no digest of it is kept.
    pub fn wrote(&self, found: Digest) -> bool {
        [self.digest, self.pending].contains(&Some(found))
    }
}

/// What a unit's last successful start had read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Digest of the inputs at the last successful start.
    pub inputs: Option<Digest>,
    /// It was running before hamaster touched it: `reset` leaves it so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_active: bool,
    /// It was enabled before hamaster touched it: `reset` leaves it so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_enabled: bool,
}

/// A member that has been healthy once: from then on its unit says `existing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedMember {
    /// Cluster id, hex.
    pub cluster_id: String,
    /// Member id, hex.
    pub member_id: String,
}

/// A member that is being added to a cluster that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoiningMember {
    /// The id etcd gave it, hex, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// `--initial-cluster` of its first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_cluster: Option<String>,
}

impl Observed {
    /// The fact at `path`, if something is there.
    pub fn at(&self, path: &Path) -> Option<&PathFact> {
        self.paths.get(path)
    }

    /// The digest of a file, if there is one.
    pub fn digest(&self, path: &Path) -> Option<Digest> {
        self.at(path).and_then(|f| f.digest)
    }
}

/// A route or an interface's network, for overlap checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNetwork {
    /// Where it comes from: `eth0`, `route via 10.0.0.1 dev eth0`, `docker bridge`.
    pub name: String,
    /// Its range.
    pub cidr: crate::spec::network::Cidr,
}

/// A listener on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Local address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// `name[pid]` when it could be found.
    pub process: Option<String>,
}
