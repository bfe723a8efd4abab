//! What a master's keeper does when it has looked: pure, so that "one at a time" is tested without hosts.

use std::collections::BTreeMap;

use crate::etcd::membership::quorum;
use crate::state::report::{Report, Standing};

/// What the keeper of one master knows.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Generation of the registered spec.
    pub generation: u64,
    /// Steps the plan of this master has left.
    pub steps: usize,
    /// What is in their way, one line each.
    pub conflicts: Vec<String>,
    /// `cluster.yaml` was changed on this host and not applied yet.
    pub edited: bool,
    /// etcd's member here is restarted by one of the steps.
    pub restarts_etcd: bool,
    /// Voters of etcd.
    pub voters: usize,
    /// Voters but for this master's that answer and know of a leader.
    pub others_well: usize,
    /// This master itself failed at an earlier spec, or is not done with it.
    pub unfinished: bool,
    /// What the other masters' keepers say, by name.
    pub others: BTreeMap<String, Report>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Duty {
    /// Nothing.
    Rest,
    /// Not now, and why.
    Wait(String),
    /// Nothing until a person has decided.
    Stay(Vec<String>),
    /// Apply the plan.
    Apply,
}

/// Decides. Whoever is told to apply needs the turn besides, which one master has.
pub fn duty(look: &Look) -> Duty {
    if look.edited {
        // Whoever edits it is about to apply it: a keeper that was faster would undo the edit.
        return Duty::Stay(vec!["cluster.yaml was changed on this host: apply it with hamaster init".to_owned()]);
    }
    if !look.conflicts.is_empty() {
        return Duty::Stay(look.conflicts.clone());
    }
    if look.steps == 0 {
        return Duty::Rest;
    }
    // A spec that broke one control plane is not tried on the next; nor is one that another master is not done with: it
    // may have died of it.
    // With the next spec it is the same: every join and every departure makes one, and cures nothing. Then whoever failed
    // goes first.
    for (name, report) in &look.others {
        let spec = match report.generation == look.generation {
            true => "the same spec",
            false if look.unfinished => continue,
            false => "an earlier spec: it goes first",
        };
        match report.standing {
            Standing::Failed => return Duty::Wait(format!("{name} failed to apply {spec}")),
            Standing::Applying => return Duty::Wait(format!("{name} is not done with {spec}")),
            _ => {}
        }
    }
    // Of two voters neither is a majority: there a restart costs some seconds, or nothing is ever renewed.
    let enough = if look.voters == 2 { 1 } else { quorum(look.voters) };
    if look.restarts_etcd && look.voters > 1 && look.others_well < enough {
        let (well, voters) = (look.others_well, look.voters);
        return Duty::Wait(format!("etcd is to be restarted, and {well} others of {voters} voters are well: too few"));
    }
    Duty::Apply
}

/// What a master says of itself, and of the spec of which generation, given what it said `last`. Others go on by it: that
/// it changes, or failed to, is taken back only when it is done, or tries another spec.
pub fn standing(last: Option<&Report>, generation: u64, now: Standing) -> (u64, Standing) {
    match last {
        Some(last) if last.standing.is_unfinished() && matches!(now, Standing::Waiting | Standing::Blocked) => {
            (last.generation, last.standing)
        }
        _ => (generation, now),
    }
}
