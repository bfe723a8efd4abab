//! etcd: the keys hamaster keeps there, what a member answers, and the one adapter that talks to it.

pub mod bootstrap;
pub mod client;

/// Keys hamaster reads and writes in etcd.
pub mod keys {
    /// The resolved spec and its generation: `{"generation":1,"spec":"…"}`.
    pub const SPEC: &str = "/hamaster/v1/spec";
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
