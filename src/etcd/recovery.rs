//! May a lost quorum be given up? The decision over what every member answered; nothing here asks or acts.

use crate::etcd::membership;

/// What is known of one voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Its name.
    pub name: String,
    /// It is this host's own.
    pub own: bool,
    /// Something listens where its peers would reach it.
    pub alive: bool,
    /// It answered a read that needs a majority.
    pub serves: bool,
    /// The last entry of its log, if it answers clients.
    pub index: Option<u64>,
}

/// What will be lost if this host goes on alone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// Members that are forgotten.
    pub members: Vec<String>,
    /// How many voters there were.
    pub voters: usize,
    /// Nobody could be compared with: the newest data may be on a disk that is out of reach.
    pub unknown: Vec<String>,
}

/// Why a recovery is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The cluster works.
    Works {
        /// Who said so.
        by: String,
    },
    /// Enough voters run for a majority; they may just be electing a leader.
    MayReturn {
        /// Those that run.
        alive: Vec<String>,
        /// How many make a majority.
        quorum: usize,
    },
    /// Another survivor has entries this one does not.
    NewerElsewhere {
        /// Which.
        name: String,
    },
}

/// Decides. `from_archive`: the data comes from a snapshot, so nobody's log matters.
///
/// # Errors
/// Why not.
pub fn judge(voters: &[Voter], from_archive: bool) -> Result<Loss, Refusal> {
    if let Some(voter) = voters.iter().find(|v| v.serves) {
        return Err(Refusal::Works { by: voter.name.clone() });
    }
    let quorum = membership::quorum(voters.len());
    let alive: Vec<String> = voters.iter().filter(|v| v.alive).map(|v| v.name.clone()).collect();
    // A single voter that runs and does not serve is only slow to start.
    if !voters.is_empty() && alive.len() >= quorum {
        return Err(Refusal::MayReturn { alive, quorum });
    }
    let own = voters.iter().find(|v| v.own).and_then(|v| v.index);
    let newer = voters.iter().filter(|v| !v.own).find(|v| v.index > own);
    if let Some(newer) = newer.filter(|_| !from_archive) {
        return Err(Refusal::NewerElsewhere { name: newer.name.clone() });
    }
    let others = || voters.iter().filter(|v| !v.own);
    Ok(Loss {
        members: others().map(|v| v.name.clone()).collect(),
        voters: voters.len(),
        unknown: others().filter(|v| v.index.is_none()).map(|v| v.name.clone()).collect(),
    })
}
