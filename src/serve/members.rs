//! etcd as a master sees it: its own member first, and the other masters' when that one does not answer.

use std::net::IpAddr;
use std::time::Duration;

use crate::apply::perform::etcd_client;
use crate::error::{Error, Result};
use crate::etcd::client::Client;
use crate::host::Host;
use crate::host::clock::Stopwatch;
use crate::spec::{Node, ThisNode};

/// For each call. A joiner waits for all of them together.
const PATIENCE: Duration = Duration::from_secs(2);
/// A member that did not answer is asked last for this long.
const ASIDE: Duration = Duration::from_secs(30);

/// The members, in the order they are asked.
pub(super) struct Members {
    host: Host,
    this: ThisNode,
    all: Vec<Member>,
}

struct Member {
    ip: IpAddr,
    client: Option<Client>,
    failed: Option<Stopwatch>,
}

impl Members {
    /// The members of `masters`, `this` one's first.
    pub(super) fn new(host: Host, this: ThisNode, masters: &[Node]) -> Self {
        let mut members = Self { host, this, all: vec![] };
        members.follow(masters);
        members
    }

    /// From now on these.
    pub(super) fn follow(&mut self, masters: &[Node]) {
        let own = self.this.node.ip;
        let wanted = || std::iter::once(own).chain(masters.iter().map(|m| m.ip).filter(|ip| *ip != own));
        self.all.retain(|m| wanted().any(|ip| ip == m.ip));
        for ip in wanted() {
            if !self.all.iter().any(|m| m.ip == ip) {
                self.all.push(Member { ip, client: None, failed: None });
            }
        }
    }

    /// Asks one member after the other until one answers.
    ///
    /// # Errors
    /// What the first one said.
    pub(super) fn ask<T>(&mut self, question: impl Fn(&Client) -> Result<T>) -> Result<T> {
        let own = self.this.node.ip;
        let aside = |m: &Member| m.failed.is_some_and(|since| since.elapsed() < ASIDE);
        self.all.sort_by_key(|m| (aside(m), m.ip != own));
        let mut first: Option<Box<Error>> = None;
        for member in &mut self.all {
            match member.ask(&self.host, &self.this, &question) {
                Ok(answer) => {
                    member.failed = None;
                    return Ok(answer);
                }
                Err(e) => {
                    // A new connection next time, with the certificate as it is then.
                    (member.client, member.failed) = (None, Some(Stopwatch::start()));
                    first.get_or_insert(e);
                }
            }
        }
        Err(first.unwrap_or_else(|| Error::apply("there is no member of etcd to ask")))
    }
}

impl Member {
    fn ask<T>(&mut self, host: &Host, this: &ThisNode, question: impl Fn(&Client) -> Result<T>) -> Result<T> {
        if let Some(client) = &self.client {
            return question(client);
        }
        let there = ThisNode { node: Node { ip: self.ip, ..this.node.clone() }, ..this.clone() };
        let client = etcd_client(host, &there)?.patience(PATIENCE);
        question(self.client.insert(client))
    }
}
