//! The members of etcd other than this host's own, or other than the one that is about to go: any voter that is well will
//! do.

use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use crate::apply::event::{Event, Sink};
use crate::apply::wait::interrupted;
use crate::error::{Error, Problem, Result};
use crate::etcd::Lag;
use crate::etcd::client::Client;
use crate::etcd::membership::{Member, Refusal};
use crate::host::clock::{self, Waited};

/// How long the joiner waits for a majority: an election of etcd's takes a few seconds at most.
const PATIENCE: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(500);

/// Clients of the others, never of the member that comes or goes.
pub struct Peers {
    clients: Vec<(SocketAddr, Client)>,
    cluster_id: String,
}

impl Peers {
    /// Of the cluster with this id, at these addresses.
    ///
    /// # Errors
    /// When no connection can be set up.
    pub fn new(ips: impl Iterator<Item = IpAddr>, tls: &rustls::ClientConfig, cluster_id: &str) -> Result<Self> {
        let client = |ip| {
            let at = SocketAddr::new(ip, 2379);
            Client::new(at, tls.clone()).map(|client| (at, client))
        };
        Ok(Self { clients: ips.map(client).collect::<Result<_>>()?, cluster_id: cluster_id.to_owned() })
    }

    /// The same cluster's members as they are now, but for the one at `but`: others may have joined since.
    ///
    /// # Errors
    /// As [`Peers::voter`].
    pub(super) fn renewed(&self, but: IpAddr, tls: &rustls::ClientConfig, sink: Sink<'_>) -> Result<Self> {
        let (_, members) = self.voter(sink)?;
        let others = members.iter().filter_map(Member::address).filter(|ip| *ip != but);
        Self::new(others, tls, &self.cluster_id)
    }

    /// A voter that is well, with the members as a majority knows them.
    ///
    /// # Errors
    /// When there is none for 30 s: what each says.
    pub fn voter(&self, sink: Sink<'_>) -> Result<(&Client, Vec<Member>)> {
        let mut said = vec![];
        let look = || {
            said.clear();
            for (at, client) in &self.clients {
                match self.well(client) {
                    Ok(members) => return Poll::Ready((client, members)),
                    Err(e) => said.push(Problem { at: at.to_string(), message: words(&e), hint: None }),
                }
            }
            Poll::Pending
        };
        let label = "a master whose etcd has a majority";
        match clock::poll(PATIENCE, EVERY, look, |since| sink(Event::Waiting { condition: label, since })) {
            Waited::Ready(found) => Ok(found),
            Waited::Interrupted => Err(interrupted(&format!("waiting for {label}"))),
            Waited::TimedOut => Err(Error::apply("no master's etcd has a majority: its members cannot be changed now")
                .problems(said)
                .hint("hamaster status    # on a master")),
        }
    }

    fn well(&self, client: &Client) -> Result<Vec<Member>> {
        let lag = client.lag()?;
        if lag.cluster_id != self.cluster_id {
            let message = format!("it belongs to the cluster {}, not {}", lag.cluster_id, self.cluster_id);
            return Err(Error::conflict(message));
        }
        if lag.leader == 0 || lag.is_learner {
            return Err(Error::apply(if lag.is_learner { "it is a learner" } else { "it knows of no leader" }));
        }
        let mut wrong = lag.errors;
        wrong.extend(client.alarms()?);
        match wrong.is_empty() {
            true => client.members(),
            false => Err(Error::apply(wrong.join(", ")).hint("etcdctl alarm list")),
        }
    }

    /// Ids of the members that answer and know of a leader.
    pub fn healthy(&self) -> Vec<u64> {
        let lags = self.clients.iter().filter_map(|(_, client)| client.lag().ok());
        lags.filter(|lag| lag.leader != 0 && lag.cluster_id == self.cluster_id).map(|lag| lag.member_id).collect()
    }

    /// The member that is well, `but` for one, and furthest: who can lead.
    pub(super) fn furthest(&self, but: u64) -> Option<u64> {
        let lags = self.clients.iter().filter_map(|(_, client)| client.lag().ok());
        let able = lags.filter(|lag| lag.leader != 0 && !lag.is_learner && lag.member_id != but);
        able.max_by_key(|lag| lag.applied).map(|lag| lag.member_id)
    }

    /// The member whose log is furthest.
    pub(super) fn ahead(&self) -> Option<Lag> {
        self.clients.iter().filter_map(|(_, client)| client.lag().ok()).max_by_key(|lag| lag.index)
    }
}

fn words(error: &Error) -> String {
    std::iter::once(error.message()).chain(error.causes().iter().map(String::as_str)).collect::<Vec<_>>().join(": ")
}

/// A refusal in words, about the member `name`.
pub(super) fn refused(name: &str, refusal: Refusal) -> Box<Error> {
    match refusal {
        Refusal::NameTaken { at } => {
            Error::refused(format!("another member of etcd is called {name} already: it is at {at}"))
                .hint("hamaster join --name NAME")
        }
        Refusal::AddressTaken { by } => {
            Error::refused(format!("the address of {name} is that of {by}, a member of etcd"))
                .hint(format!("hamaster master remove {by}    # on a master, if it is gone; or --advertise-ip IP"))
        }
        Refusal::UnstartedVoter(member) => Error::refused(format!(
            "the voter {} at {} was added and never ran: nothing can be added before it runs",
            member.shown(),
            member.peer_urls.join(", ")
        ))
        .hint(format!("start it, or on a master: hamaster master remove {}", member.shown())),
        Refusal::DiskLost { id } => Error::refused(format!(
            "{name} is a voter ({id:x}), and its data is not on this host: it can never be started again as what it was"
        ))
        .hint("hamaster join --replace    # removes the lost member and adds this one"),
        Refusal::ForeignData { id } => {
            Error::refused(format!("{name} is listed as the voter {id:x}, and the data on this host is not its own"))
                .hint("hamaster join --replace    # if that member's data is lost")
        }
        Refusal::LastVoter => Error::refused(format!("{name} is the only voter: without it there is no cluster"))
            .hint("hamaster reset    # on it, to end the cluster"),
        Refusal::QuorumWouldBeLost { voters, healthy } => Error::refused(format!(
            "of {voters} voters {healthy} others are well: with this change they would not be a majority"
        ))
        .hint("hamaster status    # bring the others back first"),
        Refusal::NoQuorum { voters, healthy } => {
            Error::refused(format!("{healthy} of {voters} voters are well: there is no majority to decide it"))
                .hint("hamaster etcd recover    # if the others will not come back")
        }
    }
}
