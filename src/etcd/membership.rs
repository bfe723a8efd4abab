//! Who is a member of the cluster, and what may be done about it: the rules as decisions over what the cluster lists
//! and what this host's disk holds. Nothing here asks or acts.
//!
//! Three things make membership dangerous, all of them measured on etcd 3.4 and 3.5. A member that is added as a voter
//! counts towards the quorum before it has ever run: so whoever joins is a learner first. A request that timed out may
//! still happen: so it is the list that says how things stand, and nothing is undone by its opposite. A voter whose
//! disk is lost must never start again under its old id: it would have to forget what it has acknowledged.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// One row of the member list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// etcd's id.
    pub id: u64,
    /// Empty until it has run for the first time.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where its clients reach it; empty until it has run.
    pub client_urls: Vec<String>,
    /// It does not vote yet.
    pub is_learner: bool,
}

impl Member {
    /// It has run at least once: only then does it have a name.
    pub fn has_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// Its name, or its id as etcdctl prints it.
    pub fn shown(&self) -> String {
        if self.has_started() { self.name.clone() } else { format!("{:x}", self.id) }
    }

    /// Where it is: what its peers reach it at, which it has from the first.
    pub fn address(&self) -> Option<IpAddr> {
        self.peer_urls.iter().chain(&self.client_urls).find_map(|url| {
            let url: http::Uri = url.parse().ok()?;
            url.host()?.trim_matches(['[', ']']).parse().ok()
        })
    }

    /// Others reach it there.
    pub fn has_url(&self, url: &str) -> bool {
        self.peer_urls.iter().any(|u| u == url)
    }
}

/// The host that wants to be a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joiner<'a> {
    /// Its node name, which is its member's.
    pub name: &'a str,
    /// Where its peers will reach it.
    pub peer_url: &'a str,
    /// The operator knows that a voter's disk is lost and wants it replaced.
    pub replace: bool,
}

/// What lies in the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Nothing of a member.
    Empty,
    /// A database without a write-ahead log: etcd made it and ended before it was a member.
    Remains,
    /// A write-ahead log: a member lived here. `member`: whose it is, as far as the last run noted.
    Data {
        /// The id etcd gave it.
        member: Option<u64>,
    },
}

/// The next thing to do; then the list and the disk are looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The data is from another life: it is moved aside, never started on.
    SetAside,
    /// What a failed first start left is deleted.
    Clear,
    /// Ask to be added, as a learner.
    Add,
    /// Another host's learner comes first: etcd takes one at a time.
    Await(Member),
    /// Start etcd, with this `--initial-cluster` and the state `existing`.
    Start {
        /// The id that its own status must show.
        id: u64,
        /// Every member by the URLs it was added with.
        initial_cluster: String,
    },
    /// The own entry cannot be used any more; it is removed, and the list looked at again.
    Remove {
        /// The own id.
        id: u64,
        /// For the operator.
        why: &'static str,
    },
    /// It cannot go on.
    Refuse(Refusal),
}

/// Why a membership stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Another member has the name: etcd would take both.
    NameTaken {
        /// Where that one is.
        at: String,
    },
    /// Another member, which has run, is at the address.
    AddressTaken {
        /// Its name.
        by: String,
    },
    /// A voter was added and never came: nothing is added before it runs or is removed.
    UnstartedVoter(Member),
    /// This host's entry is a voter, and its data is not the one it voted with.
    DiskLost {
        /// The own id.
        id: u64,
    },
    /// The entry at this URL is of another life than the data.
    ForeignData {
        /// The own id.
        id: u64,
    },
    /// It is the only one.
    LastVoter,
    /// Those who are well would not be a majority any more.
    QuorumWouldBeLost {
        /// Voters now.
        voters: usize,
        /// Voters that are well, the one that goes not counted.
        healthy: usize,
    },
    /// There is no majority now: the request would wait in a log and happen when nobody expects it.
    NoQuorum {
        /// Voters now.
        voters: usize,
        /// Voters that are well.
        healthy: usize,
    },
}

/// What a host that wants to be a member does next.
pub fn join(joiner: Joiner<'_>, members: &[Member], disk: Disk, healthy: &[u64]) -> Next {
    let me = members.iter().find(|m| m.has_url(joiner.peer_url));
    let other = |m: &&Member| me.is_none_or(|me| me.id != m.id);
    if let Some(taken) = members.iter().filter(other).find(|m| m.name == joiner.name) {
        let at = taken.peer_urls.join(", ");
        return Next::Refuse(Refusal::NameTaken { at });
    }
    // Somebody's voter, not this host's: in its place nothing is started, and it is not removed.
    if let Some(there) = me.filter(|me| me.has_started() && me.name != joiner.name) {
        return Next::Refuse(Refusal::AddressTaken { by: there.name.clone() });
    }
    let Some(me) = me else {
        return match disk {
            Disk::Data { .. } => Next::SetAside,
            Disk::Remains => Next::Clear,
            Disk::Empty => match members.iter().find(|m| m.is_learner || !m.has_started()) {
                Some(voter) if !voter.is_learner => Next::Refuse(Refusal::UnstartedVoter(voter.clone())),
                Some(learner) => Next::Await(learner.clone()),
                None => Next::Add,
            },
        };
    };
    let start = || Next::Start { id: me.id, initial_cluster: initial_cluster(joiner, members) };
    match (me.has_started(), disk) {
        // Added and never run: after a crash between the two, or in the middle of the first start.
        (false, Disk::Empty) => start(),
        (false, Disk::Remains) => Next::Clear,
        (false | true, Disk::Data { member: Some(id) }) if id == me.id => start(),
        // Data that is wrong as the disk of a voter that was turned back: it must not vote by it.
        (true, Disk::Data { .. }) if !me.is_learner && joiner.replace => {
            replaced(me.id, members, healthy, "its data is to be replaced")
        }
        // A run that was not ours made it a member: the list knows it as started, and etcd itself knows whose data it is.
        (true, Disk::Data { member: None }) => start(),
        (true, Disk::Data { member: Some(_) }) if !me.is_learner => Next::Refuse(Refusal::ForeignData { id: me.id }),
        (_, Disk::Data { .. }) if me.is_learner => Next::Remove { id: me.id, why: "its data is from another life" },
        (_, Disk::Data { .. }) => Next::Refuse(Refusal::ForeignData { id: me.id }),
        (true, Disk::Empty | Disk::Remains) if me.is_learner => {
            Next::Remove { id: me.id, why: "its disk was lost while it was a learner" }
        }
        (true, Disk::Empty | Disk::Remains) if !joiner.replace => Next::Refuse(Refusal::DiskLost { id: me.id }),
        (true, Disk::Empty | Disk::Remains) => {
            replaced(me.id, members, healthy, "its disk was lost, and it is to be replaced")
        }
    }
}

fn replaced(id: u64, members: &[Member], healthy: &[u64], why: &'static str) -> Next {
    match remove(id, members, healthy) {
        Ok(()) => Next::Remove { id, why },
        Err(refusal) => Next::Refuse(refusal),
    }
}

/// `--initial-cluster` of a member that joins: every member by its URLs, the joiner by its name. etcd matches by URL
/// and merges entries of one name, so whoever has no name of its own goes by its id.
fn initial_cluster(joiner: Joiner<'_>, members: &[Member]) -> String {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    members.iter().for_each(|m| *names.entry(m.name.as_str()).or_default() += 1);
    let own = |m: &Member| m.has_url(joiner.peer_url);
    let name = |m: &Member| match m.name.as_str() {
        _ if own(m) => joiner.name.to_owned(),
        "" => format!("{:x}", m.id),
        name if name == joiner.name || names[name] > 1 => format!("{:x}", m.id),
        name => name.to_owned(),
    };
    let mut entries: Vec<(String, &String)> =
        members.iter().flat_map(|m| m.peer_urls.iter().map(move |url| (m, url))).map(|(m, u)| (name(m), u)).collect();
    entries.sort();
    entries.iter().map(|(name, url)| format!("{name}={url}")).collect::<Vec<_>>().join(",")
}

/// How many of `voters` must agree.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// How many of `voters` may fail at once.
pub fn tolerated(voters: usize) -> usize {
    voters.saturating_sub(quorum(voters))
}

/// Whether a learner that has caught up may become a voter: with it, those who are well must be a majority. `healthy`:
/// ids of members that answered just now.
///
/// # Errors
/// When they would not be.
pub fn promote(members: &[Member], healthy: &[u64]) -> Result<(), Refusal> {
    let (voters, well) = voters(members, healthy, None);
    if well + 1 < quorum(voters + 1) {
        return Err(Refusal::QuorumWouldBeLost { voters, healthy: well });
    }
    Ok(())
}

/// Whether the member `id` may be removed. `healthy`: ids of members that answered just now.
///
/// # Errors
/// When the removal cannot be decided by the voters there are, or those that stay could decide nothing after it.
pub fn remove(id: u64, members: &[Member], healthy: &[u64]) -> Result<(), Refusal> {
    let Some(member) = members.iter().find(|m| m.id == id) else { return Ok(()) };
    if member.is_learner {
        return Ok(());
    }
    let (voters, others) = voters(members, healthy, Some(id));
    let alive = usize::from(healthy.contains(&id));
    if voters == 1 {
        Err(Refusal::LastVoter)
    } else if others + alive < quorum(voters) {
        Err(Refusal::NoQuorum { voters, healthy: others + alive })
    } else if others < quorum(voters - 1) {
        Err(Refusal::QuorumWouldBeLost { voters, healthy: others })
    } else {
        Ok(())
    }
}

/// How many vote, and how many of them are well, one of them not counted.
fn voters(members: &[Member], healthy: &[u64], but: Option<u64>) -> (usize, usize) {
    let voters: Vec<u64> = members.iter().filter(|m| !m.is_learner).map(|m| m.id).collect();
    let well = voters.iter().filter(|id| healthy.contains(id) && Some(**id) != but).count();
    (voters.len(), well)
}
