//! The values of the keys in etcd: who leads, the history of terms, who waits, what the operator asked for. JSON, so that a person can
//! read them with etcdctl.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The protocol this version speaks. A leader of a newer one is left alone.
pub const PROTOCOL: u32 = 1;

/// Which process. Two processes with one `id` differ in the nonce: an identity alone never implies ownership.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The name the operator gave, by default the host's.
    pub id: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Random, one for each start of a process; kept by a successor that adopts.
    pub nonce: String,
}

/// An etcd lease, in hex as etcdctl prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl LeaseId {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        i64::from_str_radix(text, 16).ok().map(Self)
    }
}

/// The fencing token: rises from one leader to the next within one etcd cluster. A resource that remembers the highest it has
/// seen and refuses lower ones is safe even where no clock can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Id of the etcd cluster: a restored one counts its revisions anew.
    pub cluster_id: u64,
    /// Revision that created the leader key.
    pub revision: i64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{}", self.cluster_id, self.revision)
    }
}

/// `leader`: the only key that grants anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leader {
    /// [`PROTOCOL`] of the writer.
    pub protocol: u32,
    /// Who.
    #[serde(flatten)]
    pub who: Identity,
    /// Number of its term.
    pub term: u64,
    /// Counts renewals.
    pub beat: u64,
    /// L of the writer.
    #[serde(rename = "leaseMs", with = "millis")]
    pub lease: Duration,
    /// B of the writer: its payload is dead this long after it sent its last renewal.
    #[serde(rename = "boundMs", with = "millis")]
    pub bound: Duration,
}

/// `term`: outlives the leader, so that a successor knows how the last one ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Term {
    /// Counts leaders.
    pub number: u64,
    /// The leader's id.
    pub holder: String,
    /// The leader's nonce.
    pub nonce: String,
    /// How it stands.
    pub state: TermState,
    /// Why it ended, or how it came to be: `silence`, `released`, `health`, `transfer`, …
    pub cause: String,
    /// Who is to follow: the others hold back for two seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heir: Option<String>,
    /// B of the holder.
    #[serde(rename = "boundMs", with = "millis")]
    pub bound: Duration,
    /// The largest B anyone ever published for this group.
    #[serde(rename = "largestBoundMs", with = "millis")]
    pub largest_bound: Duration,
}

impl Term {
    /// The term of a group that has none: nobody knows who led before, and for how long it may still run.
    pub fn unknown(bound: Duration) -> Self {
        Self {
            number: 0,
            holder: String::new(),
            nonce: String::new(),
            state: TermState::Held,
            cause: "vacant".to_owned(),
            heir: None,
            bound,
            largest_bound: bound,
        }
    }
}

/// How a term stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TermState {
    /// Someone leads, or did when last heard of.
    Held,
    /// The leader's payload was confirmed dead before it let go: nobody need wait.
    Released,
    /// A successor waited the leader's B and took the key: nobody need wait again.
    Taken,
}

/// `c/<lease>`: who waits. Gone with its lease, and when its owner leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Who.
    #[serde(flatten)]
    pub who: Identity,
    /// 0 to 99, higher goes first.
    pub priority: u8,
    /// Above priority: −1 when it leads another group this one should be apart from, 1 when together.
    #[serde(default)]
    pub bias: i8,
}

/// `ctl/transfer`: the operator wants another leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// The heir's id; `None`: whoever is next.
    pub to: Option<String>,
}

/// `ctl/pause`: nobody becomes leader until it is gone; who leads goes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Who asked.
    pub by: String,
}

/// The longest B there can be: [`Timing`](super::timing::Timing) refuses an L or a K of more than a day. What a key
/// claims beyond it is a slip of someone's hand, and must not stop a group for ever.
const LONGEST: Duration = Duration::from_secs(2 * 86_400);

mod millis {
    use super::{Deserialize, Deserializer, Duration, LONGEST, Serializer};

    pub(super) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(|ms| Duration::from_millis(ms).min(LONGEST))
    }
}
