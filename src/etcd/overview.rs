//! The members of a cluster at a glance, and how many more it can lose.

use serde::Serialize;

use crate::etcd::Lag;
use crate::etcd::membership::{self, Member};

/// All members as they stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// One row each, by name.
    pub members: Vec<Row>,
    /// How many vote.
    pub voters: usize,
    /// How many of those answer and know a leader.
    pub healthy: usize,
    /// How many more voters may fail; none when the majority is gone.
    pub can_lose: Option<usize>,
    /// Alarms that are on, cluster-wide.
    pub alarms: Vec<String>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// etcd's id, hex.
    pub id: String,
    /// Its name; empty until it has run.
    pub name: String,
    /// It has run at least once.
    pub started: bool,
    /// It does not vote yet.
    pub learner: bool,
    /// It answers.
    pub answers: bool,
    /// It leads.
    pub leader: bool,
    /// Entries of the leader's log it has not applied; unknown when it or every leader is silent.
    pub lag: Option<u64>,
    /// Bytes of its database.
    pub db_size: Option<i64>,
    /// What it complains of, and its alarms.
    pub alarms: Vec<String>,
}

/// Puts together what the members answered. `alarms`: as [`Client::alarms`](crate::etcd::client::Client::alarms) says.
pub fn overview(members: &[(Member, Option<Lag>)], alarms: Vec<String>) -> Overview {
    let leads = |lag: &&Lag| lag.leader == lag.member_id && lag.leader != 0;
    let newest = members.iter().filter_map(|(_, l)| l.as_ref()).filter(leads).map(|l| l.index).max();
    let row = |(member, lag): &(Member, Option<Lag>)| {
        let id = format!("{:x}", member.id);
        let own = alarms.iter().filter_map(|a| a.strip_suffix(&format!(" on member {id}")));
        let complaints = lag.iter().flat_map(|l| l.errors.iter().map(String::as_str));
        Row {
            name: member.name.clone(),
            started: member.has_started(),
            learner: member.is_learner,
            answers: lag.is_some(),
            leader: lag.as_ref().is_some_and(|l| leads(&l)),
            lag: lag.as_ref().zip(newest).map(|(l, newest)| newest.saturating_sub(l.applied)),
            db_size: lag.as_ref().map(|l| l.db_size),
            alarms: own.chain(complaints).map(str::to_owned).collect(),
            id,
        }
    };
    let mut rows: Vec<Row> = members.iter().map(row).collect();
    rows.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let voters = members.iter().filter(|(m, _)| !m.is_learner);
    let healthy = voters.clone().filter(|(_, l)| l.as_ref().is_some_and(|l| l.leader != 0)).count();
    let voters = voters.count();
    let can_lose = healthy.checked_sub(membership::quorum(voters));
    Overview { members: rows, voters, healthy, can_lose, alarms }
}

impl Overview {
    /// Every voter is well, every member has run and answers, and no alarm is on.
    pub fn is_well(&self) -> bool {
        self.healthy == self.voters && self.alarms.is_empty() && self.members.iter().all(|m| m.answers)
    }
}
