//! What a master should hold, as data: files, certificates, secrets, units, keys in etcd.
//!
//! Public files carry their rendered bytes. Secret ones are recipes that only the executor turns into bytes, so a plan
//! can be printed, logged and stored without leaking anything.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::spec::{Address, KeyAlgorithm};
use crate::state::{Owner, PhaseId};

/// Everything one master should hold.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// Directories, before any file in them.
    pub dirs: Vec<ManagedDir>,
    /// The CAs, in issuing order.
    pub cas: Vec<CaSpec>,
    /// Every leaf, wherever it is placed.
    pub certs: Vec<CertSpec>,
    /// Keys and tokens that are not certificates.
    pub secrets: Vec<SecretSpec>,
    /// Rendered files.
    pub files: Vec<ManagedFile>,
    /// Units in start order.
    pub units: Vec<DesiredUnit>,
    /// Keys in etcd.
    pub keys: Vec<StoreKey>,
    /// The RBAC bindings to create once an apiserver runs here; none where it does not.
    pub bindings: Option<PathBuf>,
    /// Things the operator should know that are not mistakes.
    pub notes: Vec<String>,
}

/// A directory of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedDir {
    /// The phase that makes it.
    pub phase: PhaseId,
    /// Absolute path.
    pub path: PathBuf,
    /// Mode bits.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// Empty until a service of ours fills it: an undo takes what is in it away too.
    pub scratch: bool,
}

/// A rendered public file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedFile {
    /// The phase that writes it.
    pub phase: PhaseId,
    /// Absolute path.
    pub path: PathBuf,
    /// Mode bits.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// The bytes; [`INPUTS_DIGEST`] in them stands for the digest of `inputs`.
    pub bytes: Vec<u8>,
    /// Files whose content must restart what reads this file (a static pod's certificates).
    pub inputs: Vec<PathBuf>,
}

/// Placeholder in rendered bytes that the planner replaces by the digest of the file's inputs.
pub const INPUTS_DIGEST: &str = "@INPUTS-DIGEST@";

/// Which certificate authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaId {
    /// `ca.crt`: the cluster.
    Cluster,
    /// `front-proxy-ca.crt`: aggregation.
    FrontProxy,
    /// `/etc/etcd/pki/ca.crt`: etcd; any certificate of it is root on the data.
    Etcd,
}

/// A certificate authority to make or to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaSpec {
    /// Which.
    pub id: CaId,
    /// Subject common name.
    pub common_name: String,
    /// Certificate file, 0644.
    pub cert: PathBuf,
    /// Key file, 0600 root. May be absent on purpose: external CA mode.
    pub key: PathBuf,
    /// How long it lives.
    pub validity: Duration,
    /// Key algorithm.
    pub algorithm: KeyAlgorithm,
}

/// A leaf, fully resolved: nothing about it is decided later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertSpec {
    /// Stable id of the catalogue: `server`, `etcd-peer`, `admin`, …
    pub id: &'static str,
    /// The phase that issues it.
    pub phase: PhaseId,
    /// Who signs.
    pub issuer: CaId,
    /// Subject common name.
    pub common_name: String,
    /// Subject organization, Kubernetes' group.
    pub organization: Option<String>,
    /// EKU serverAuth.
    pub server: bool,
    /// EKU clientAuth.
    pub client: bool,
    /// Subject alternative names, in a stable order.
    pub sans: Vec<Address>,
    /// Wanted life; capped at the issuer's.
    pub validity: Duration,
    /// Renewed once this fraction of the life is over.
    pub renew_at_fraction: Fraction,
    /// Key algorithm.
    pub algorithm: KeyAlgorithm,
    /// Where it goes.
    pub placement: Placement,
}

/// Part of a whole, never NaN, so that specs can be compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fraction(pub f64);

impl Eq for Fraction {}

/// Where a leaf and its key are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// Two PEM files.
    Pair {
        /// Certificate, 0644.
        cert: PathBuf,
        /// Key, 0600.
        key: PathBuf,
        /// Who owns the key and alone reads it.
        owner: Owner,
    },
    /// Inside a kubeconfig, 0600 root, with the issuer's certificate.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// `https://…` the client talks to.
        server: String,
        /// Cluster name in it.
        cluster: String,
    },
    /// Certificate and key in one PEM, 0600 root (kubelet's rotation format).
    Combined {
        /// The file.
        path: PathBuf,
    },
}

/// A secret file that is not a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// The phase that makes it.
    pub phase: PhaseId,
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub kind: SecretKind,
}

/// Kinds of secret files. Each is made once and kept: only a missing or unreadable one is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretKind {
    /// `sa.key` with `sa.pub` beside it.
    ServiceAccountKey {
        /// The public half, 0644.
        public: PathBuf,
        /// Key algorithm.
        algorithm: KeyAlgorithm,
    },
    /// `token,user,uid,"group1,group2"`, 256-bit tokens.
    KnownTokens {
        /// The users to mint tokens for.
        users: Vec<StaticUser>,
    },
    /// `password,user,uid,"group1,group2"`.
    BasicAuth {
        /// The users to mint passwords for.
        users: Vec<StaticUser>,
    },
    /// EncryptionConfiguration with a 256-bit secretbox or aescbc key.
    EncryptionConfig,
}

/// A row of a static auth file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticUser {
    /// User name.
    pub name: String,
    /// Stable uid.
    pub uid: String,
    /// Groups; quoted when more than one.
    pub groups: Vec<String>,
}

/// A key in etcd that is created once and never overwritten by `init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreKey {
    /// The phase that writes it.
    pub phase: PhaseId,
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// The spec is replaced under its generation number; anything else is only created.
    pub spec: bool,
}

/// A systemd unit and how it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredUnit {
    /// The phase that starts it.
    pub phase: PhaseId,
    /// `etcd.service`
    pub name: String,
    /// Start at boot.
    pub enable: bool,
    /// Run now; restarted whenever its inputs differ from the stamp of its last start.
    pub run: bool,
    /// Files whose content it reads at start: its unit file, drop-ins, configuration, certificates.
    pub inputs: Vec<PathBuf>,
    /// What to wait for after the start.
    pub ready: Option<Readiness>,
}

/// A condition that is polled after a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// etcd's `/health` on its metrics address says true.
    EtcdHealthy {
        /// Loopback address of the metrics listener.
        ip: IpAddr,
        /// Its port.
        port: u16,
    },
    /// As healthy, for a member that is not until most of the founders have been started.
    EtcdFormed {
        /// Loopback address of the metrics listener.
        ip: IpAddr,
        /// Its port.
        port: u16,
        /// Where the other founders' members listen for each other.
        peers: Vec<SocketAddr>,
    },
    /// The unit is active.
    Active,
}

impl Placement {
    /// The file people know it by.
    pub fn path(&self) -> &Path {
        match self {
            Placement::Pair { cert, .. } => cert,
            Placement::Kubeconfig { path, .. } | Placement::Combined { path } => path,
        }
    }

    /// Every file it consists of, with mode and owner.
    pub fn modes(&self) -> Vec<(&Path, u32, Owner)> {
        match self {
            Placement::Pair { cert, key, owner } => vec![(cert, 0o644, Owner::Root), (key, 0o600, *owner)],
            Placement::Kubeconfig { path, .. } | Placement::Combined { path } => vec![(path, 0o600, Owner::Root)],
        }
    }

    /// Every file it consists of.
    pub fn paths(&self) -> Vec<&Path> {
        self.modes().into_iter().map(|(path, ..)| path).collect()
    }
}

impl SecretSpec {
    /// Every file it consists of, with mode and owner.
    pub fn modes(&self) -> Vec<(&Path, u32, Owner)> {
        match &self.kind {
            SecretKind::ServiceAccountKey { public, .. } => {
                vec![(&self.path, 0o600, Owner::Root), (public, 0o644, Owner::Root)]
            }
            _ => vec![(&self.path, 0o600, Owner::Root)],
        }
    }

    /// Every file it consists of.
    pub fn paths(&self) -> Vec<&Path> {
        self.modes().into_iter().map(|(path, ..)| path).collect()
    }
}
