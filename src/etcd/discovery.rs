//! What the founders of an etcd cluster have registered where they find each other, and what it means for this one.
//! Nothing is asked here.
//!
//! The first that came, as many as the token is for, are the cluster: the order is the registry's, so all come to the
//! same. The id that a master registers under is made of what it registers and of its etcd CA: one with another CA,
//! whether of an earlier cluster or without this one's bundle, is seen before any member is started.

use std::net::{IpAddr, SocketAddr};

use super::bootstrap;
use crate::error::{Error, Problem, Result};
use crate::spec::discovery::Place;
use crate::spec::{Node, address};
use crate::state::Digest;

/// Where members listen for each other.
pub const PORT: u16 = 2380;
/// Every write waits for a majority: larger clusters are only slower.
const LARGEST: usize = 9;

/// One registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is registered under.
    pub id: String,
    /// `NAME=https://IP:2380`
    pub value: String,
    /// Counts up in the order in which they came.
    pub order: u64,
}

/// All that is registered under a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// How many the token is for, as it was written; nothing for a token that does not exist.
    pub size: Option<String>,
    /// Who has registered, in any order.
    pub entries: Vec<Entry>,
}

/// A target of an SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, lower case, without a dot at its end.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What the name resolves to.
    pub addresses: Vec<IpAddr>,
}

/// How far the founders are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Some have not registered yet.
    Incomplete {
        /// How many it takes.
        size: usize,
        /// Who has, first come first.
        there: Vec<Node>,
        /// This one has.
        registered: bool,
    },
    /// This host has registered after all the others there was room for.
    Late(Vec<Node>),
    /// All, in the order every host puts them in.
    Complete(Vec<Node>),
}

/// Who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeker {
    /// This master.
    pub this: Node,
    /// Masters that are named in the spec; only this one, or none, when they are not.
    pub named: Vec<Node>,
    /// The public key of the etcd CA here; nothing before it is made.
    pub ca: Option<Digest>,
    /// Where.
    pub place: Place,
}

impl Seeker {
    /// What this master registers, as `ca` signs for it.
    pub fn entry(&self, ca: &Digest) -> (String, String) {
        let value = value(&self.this);
        (id(ca, &value), value)
    }

    /// What a registry's list means.
    ///
    /// # Errors
    /// Everything in it that can never become a cluster with this host in it.
    pub fn standing(&self, listing: &Listing) -> Result<Standing> {
        let size = self.size(listing)?;
        let mut entries: Vec<&Entry> = listing.entries.iter().collect();
        entries.sort_by_key(|e| e.order);
        let mut problems = vec![];
        let mut nodes = vec![];
        for entry in entries.iter().take(size) {
            match node(&entry.value) {
                Some(node) => {
                    problems.extend(self.foreign(entry, &node));
                    nodes.push(node);
                }
                None => problems.push(self.problem(
                    &entry.id,
                    format!("has registered as `{}`, not as NAME=https://IP:{PORT}", entry.value.escape_debug()),
                    size,
                )),
            }
        }
        problems.extend(self.size_as_named(size));
        problems.extend(self.mistaken(&nodes));
        if !problems.is_empty() {
            return Err(self.refuse(problems));
        }
        let registered = nodes.contains(&self.this);
        match nodes.len() < size {
            true => Ok(Standing::Incomplete { size, there: nodes, registered }),
            false if registered => bootstrap::founders(&nodes, &self.this).map(Standing::Complete),
            false if entries.iter().any(|e| node(&e.value).as_ref() == Some(&self.this)) => Ok(Standing::Late(nodes)),
            false => Err(self.full(&nodes)),
        }
    }

    /// What the records of a domain mean: all founders are in them.
    ///
    /// # Errors
    /// Every record that names no master, and a host that none names.
    pub fn in_records(&self, domain: &str, targets: &[Target]) -> Result<Standing> {
        let mut problems = vec![];
        let mut nodes = vec![];
        for target in targets {
            let say = |message: String, hint: String| Problem { at: target.host.clone(), message, hint: Some(hint) };
            if target.port != PORT {
                let hint = format!("write the port {PORT} into its SRV record");
                problems.push(say(format!("is named with the port {}, members listen at {PORT}", target.port), hint));
            }
            let name = target.host.strip_suffix(&format!(".{domain}")).unwrap_or(&target.host);
            let family = |ip: &&IpAddr| ip.is_ipv4() == self.this.ip.is_ipv4();
            let found: Vec<_> = target.addresses.iter().filter(family).collect();
            match (found.as_slice(), address::node_name(name)) {
                ([ip], Ok(name)) => nodes.push(Node { name, ip: **ip }),
                (_, Err(mistake)) => problems.push(say(mistake.message, "rename it".to_owned())),
                (found, Ok(_)) => {
                    let message = format!("has {} addresses of the family of {}", found.len(), self.this.ip);
                    problems.push(say(message, format!("dig +short {} A {0} AAAA", target.host)));
                }
            }
        }
        problems.extend(self.size_as_named(targets.len()).filter(|_| problems.is_empty()));
        match problems.is_empty() {
            true => bootstrap::founders(&nodes, &self.this).map(Standing::Complete),
            false => Err(self.refuse(problems)),
        }
    }

    fn size(&self, listing: &Listing) -> Result<usize> {
        let wanted = self.named.len().max(3);
        let wrong = |why: String| Err(Error::refused(format!("{} {why}", self.place)).hint(self.place.another(wanted)));
        let Some(text) = &listing.size else {
            return wrong("is not known there: a token begins with its size".to_owned());
        };
        match text.trim().parse() {
            Ok(size @ 1..=LARGEST) => Ok(size),
            Ok(size) => wrong(format!("is for {size} masters; etcd clusters have 1 to {LARGEST}")),
            Err(_) => wrong(format!("has `{}` for its size", text.escape_debug())),
        }
    }

    /// Those the operator named beside this one.
    fn others(&self) -> bool {
        self.named.iter().any(|m| m.name != self.this.name)
    }

    fn size_as_named(&self, size: usize) -> Option<Problem> {
        let named = self.named.len();
        (self.others() && named != size).then(|| {
            let message = format!("{} has {size} masters, {named} are named", self.place);
            Problem { at: "masters".to_owned(), message, hint: Some(self.place.another(named)) }
        })
    }

    fn foreign(&self, entry: &Entry, node: &Node) -> Option<Problem> {
        let ca = self.ca.as_ref()?;
        (entry.id != id(ca, &value(node))).then(|| {
            let why = match *node == self.this {
                true => "this host has registered with another etcd CA: the token was used before",
                false => "has registered with another etcd CA: it has another bundle, or the token was used before",
            };
            self.problem(&node.name, why.to_owned(), 3)
        })
    }

    /// Who has registered and cannot be, beside this one and those that are named.
    fn mistaken(&self, nodes: &[Node]) -> Vec<Problem> {
        let mut problems = bootstrap::twice(nodes);
        let clash = |m: &&Node| (m.name == self.this.name) != (m.ip == self.this.ip);
        for node in nodes.iter().filter(clash) {
            let message =
                format!("has registered at {}; this host would be {} at {}", node.ip, self.this.name, self.this.ip);
            let hint = "--name NAME --advertise-ip IP    # or, for another cluster, another token";
            problems.push(Problem { at: node.name.clone(), message, hint: Some(hint.to_owned()) });
        }
        let stranger = |m: &&Node| self.others() && !self.named.contains(m) && !clash(m);
        for node in nodes.iter().filter(stranger) {
            let message = format!("has registered at {}, and is not one of those that are named", node.ip);
            problems.push(self.problem(&node.name, message, self.named.len()));
        }
        problems
    }

    fn problem(&self, at: &str, message: String, size: usize) -> Problem {
        Problem { at: at.to_owned(), message, hint: Some(self.place.another(size)) }
    }

    /// The refusal of a host for which there is no room.
    pub fn full(&self, nodes: &[Node]) -> Box<Error> {
        let (n, names) = (nodes.len(), names(nodes));
        let message = format!("{} is for {n} masters, and all have registered: {names}", self.place);
        Error::refused(format!("{message}; {} is none of them", self.this.name))
            .hint("hamaster join    # once the cluster is there: one more master")
            .hint(format!("{}    # for another cluster", self.place.another(n)))
    }

    fn refuse(&self, problems: Vec<Problem>) -> Box<Error> {
        Error::refused(format!("{} does not lead to a cluster with this host", self.place)).problems(problems)
    }
}

/// Names as a sentence has them.
pub fn names(nodes: &[Node]) -> String {
    let mut names: Vec<_> = nodes.iter().map(|m| m.name.as_str()).collect();
    names.sort_unstable();
    names.join(", ")
}

fn value(node: &Node) -> String {
    format!("{}=https://{}", node.name, SocketAddr::new(node.ip, PORT))
}

fn node(value: &str) -> Option<Node> {
    let (name, url) = value.trim().split_once('=')?;
    let at: SocketAddr = url.strip_prefix("https://")?.parse().ok()?;
    let name = address::node_name(name).ok().filter(|_| at.port() == PORT)?;
    Some(Node { name, ip: at.ip() })
}

fn id(ca: &Digest, value: &str) -> String {
    Digest::of(format!("{ca} {value}").as_bytes()).to_string()[..16].to_owned()
}
