//! What the keeper of a master says of it in etcd, for `hamaster status` on every master.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One master, as its keeper sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The generation of the cluster's spec that is meant.
    pub generation: u64,
    /// How far the master is with it.
    pub standing: Standing,
    /// Why, one line each; empty where nothing is to be said.
    #[serde(default)]
    pub why: Vec<String>,
    /// Since when, RFC 3339.
    pub since: String,
    /// Version of its hamaster.
    pub hamaster: String,
}

/// How far a master is with the cluster's spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is what the spec asks for.
    Current,
    /// It has something to change, and it is not its turn.
    Waiting,
    /// It changes, or waits for its kube-apiserver after that. It stands in etcd until the master says something else.
    Applying,
    /// A change failed; stands as `Applying` does. The other masters change nothing for the same spec until this one is right.
    Failed,
    /// Something is in the way that only a person can decide.
    Blocked,
    /// The spec does not name it.
    Removed,
    /// A newer hamaster wrote something this one does not know.
    #[serde(other)]
    Unknown,
}

/// Longer than any change takes: a master that changes for longer needs a person.
const LONG: Duration = Duration::from_secs(15 * 60);

impl Report {
    /// Nobody has to do anything about it.
    pub fn is_well(&self, now: OffsetDateTime) -> bool {
        self.standing.is_well() && !self.is_stuck(now)
    }

    /// It has been changing for too long: it may be dead, and the others wait for it.
    pub fn is_stuck(&self, now: OffsetDateTime) -> bool {
        let since = OffsetDateTime::parse(&self.since, &Rfc3339);
        self.standing == Standing::Applying && since.is_ok_and(|since| now - since > LONG)
    }
}

impl Standing {
    /// As it is written in etcd and on screen.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Waiting => "waiting",
            Self::Applying => "applying",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
            Self::Removed => "removed",
            Self::Unknown => "unknown",
        }
    }

    /// It ends with the keeper that said so. The others are true of a master that is dead, too.
    pub fn is_leased(self) -> bool {
        !self.is_unfinished()
    }

    /// It may be in the middle of a change, whatever became of it.
    pub fn is_unfinished(self) -> bool {
        matches!(self, Self::Applying | Self::Failed)
    }

    /// Nobody has to do anything about it.
    pub fn is_well(self) -> bool {
        matches!(self, Self::Current | Self::Waiting | Self::Applying)
    }
}
