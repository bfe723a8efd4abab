//! etcd: the keys hamaster keeps there, what a member answers, and the one adapter that talks to it.

pub mod bootstrap;
pub mod client;
pub mod discovery;
pub mod membership;
pub mod overview;
pub mod recovery;
pub mod reply;
pub mod snapshot;

/// Keys hamaster reads and writes in etcd.
pub mod keys {
    /// The resolved spec and its generation: `{"generation":1,"spec":"…"}`.
    pub const SPEC: &str = "/hamaster/v1/spec";
    /// A join token by its id: what `token::Stored` is.
    pub const TOKENS: &str = "/hamaster/v1/tokens/";
    /// What the keeper of each master says of it, by its name: `state::report::Report`, on a lease.
    pub const MASTERS: &str = "/hamaster/v1/masters/";
    /// Who changes a master or the members of etcd now, on a lease: one at a time.
    pub const TURN: &str = "/hamaster/v1/turn";
    /// The host that each worker's name is, by that name: what `admission::Worker` is.
    pub const WORKERS: &str = "/hamaster/v1/workers/";
    /// The host that was admitted as a master by this name, until the spec names it: what `admission::Worker` is, on a
    /// lease.
    pub const ADMITTED: &str = "/hamaster/v1/admitted/";
    /// flannel's network configuration, at flannel's own default prefix.
    pub const FLANNEL: &str = "/coreos.com/network/config";
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Cluster id, hex as etcdctl prints it.
    pub cluster_id: String,
    /// Member id, hex.
    pub member_id: String,
    /// Server version.
    pub version: String,
    /// Bytes of the backend database.
    pub db_size: i64,
    /// This member leads.
    pub is_leader: bool,
    /// This member does not vote yet.
    pub is_learner: bool,
}

/// How far a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// Cluster id, hex.
    pub cluster_id: String,
    /// Its own id.
    pub member_id: u64,
    /// Who leads, as it knows; 0 for nobody.
    pub leader: u64,
    /// It does not vote yet.
    pub is_learner: bool,
    /// The last entry of its log.
    pub index: u64,
    /// The last entry that is in its database.
    pub applied: u64,
    /// Bytes of its database.
    pub db_size: i64,
    /// What it complains of.
    pub errors: Vec<String>,
}
