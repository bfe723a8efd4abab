//! The members that are there already, as a joiner sees them: any voter that is well will do.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use crate::apply::event::{Event, Sink};
use crate::apply::wait::interrupted;
use crate::error::{Error, Problem, Result};
use crate::etcd::client::Client;
use crate::etcd::membership::Member;
use crate::host::clock::{self, Waited};

/// How long the joiner waits for a majority: an election of etcd's takes a few seconds at most.
const PATIENCE: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(500);

/// Clients of the others, never of the joiner's own member.
pub(super) struct Peers {
    clients: Vec<(SocketAddr, Client)>,
    cluster_id: String,
}

impl Peers {
    /// Of the cluster with this id, at these addresses.
    ///
    /// # Errors
    /// When no connection can be set up.
    pub(super) fn new(
        addresses: impl Iterator<Item = SocketAddr>,
        tls: &rustls::ClientConfig,
        cluster_id: &str,
    ) -> Result<Self> {
        let client = |at| Client::new(at, tls.clone()).map(|client| (at, client));
        Ok(Self { clients: addresses.map(client).collect::<Result<_>>()?, cluster_id: cluster_id.to_owned() })
    }

    /// A voter that is well, with the members as a majority knows them.
    ///
    /// # Errors
    /// When there is none for 30 s: what each says.
    pub(super) fn voter(&self, sink: Sink<'_>) -> Result<(&Client, Vec<Member>)> {
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
            Waited::TimedOut => Err(Error::apply("no master's etcd has a majority: nothing can join now")
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
    pub(super) fn healthy(&self) -> Vec<u64> {
        let lags = self.clients.iter().filter_map(|(_, client)| client.lag().ok());
        lags.filter(|lag| lag.leader != 0 && lag.cluster_id == self.cluster_id).map(|lag| lag.member_id).collect()
    }

    /// The last entry of the furthest log.
    pub(super) fn index(&self) -> Option<u64> {
        self.clients.iter().filter_map(|(_, client)| client.lag().ok()).map(|lag| lag.index).max()
    }
}

fn words(error: &Error) -> String {
    std::iter::once(error.message()).chain(error.causes().iter().map(String::as_str)).collect::<Vec<_>>().join(": ")
}
