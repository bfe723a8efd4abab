//! One election among three nodes, on a cluster that serves many elections one after the other.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hamaster::elect::record::{Term, TermState};
use hamaster::elect::view;

use crate::elector::{Elector, Profile};
use crate::etcd::Etcd;
use crate::network::{Host, awaited, quiet};
use crate::node::{Node, Plan};
use crate::oracle::Oracle;

/// How many candidates.
pub(crate) const NODES: usize = 3;

/// A real etcd and the candidates' hosts.
pub(crate) struct Cluster {
    /// The store.
    pub(crate) etcd: Etcd,
    hosts: Vec<Host>,
    groups: AtomicUsize,
}

impl Cluster {
    /// Starts etcd. `election` is etcd's election timeout.
    pub(crate) fn new(election: Duration) -> Self {
        let etcd = Etcd::start(election);
        let hosts = (0..NODES).map(|i| etcd.network.host(&format!("n{i}"), 21 + i as u8)).collect();
        Self { etcd, hosts, groups: AtomicUsize::new(0) }
    }

    /// Three nodes that are not started, and an oracle that watches them.
    pub(crate) fn group(&self, elector: Elector, profile: Profile) -> Group<'_> {
        self.group_with_clocks(elector, profile, false)
    }

    /// The same; the nodes' wall clocks can be stepped.
    pub(crate) fn group_with_clocks(&self, elector: Elector, profile: Profile, steppable: bool) -> Group<'_> {
        let name = format!("g{}", self.groups.fetch_add(1, Ordering::Relaxed));
        let dir = self.etcd.network.dir().join(&name);
        let plans = self.hosts.iter().map(|host| Plan {
            elector,
            profile,
            group: name.clone(),
            id: host.name.clone(),
            host: host.clone(),
            place: dir.join(&host.name),
            steppable,
        });
        let nodes: Vec<Node> = plans.map(|plan| Node::new(plan, &self.etcd)).collect();
        fs::create_dir(dir.join("marks")).unwrap();
        let destinations: Vec<_> = nodes.iter().map(|n| n.plan.destination()).collect();
        let oracle = Oracle::new(&destinations, &dir.join("marks"));
        Group { name, nodes, oracle, cluster: self, profile, elector }
    }
}

/// The election. Dropping it ends its nodes and removes its files.
pub(crate) struct Group<'a> {
    /// Its name in etcd.
    pub(crate) name: String,
    /// The candidates.
    pub(crate) nodes: Vec<Node>,
    /// Who watches them.
    pub(crate) oracle: Oracle,
    /// Where it takes place.
    pub(crate) cluster: &'a Cluster,
    /// Its times.
    pub(crate) profile: Profile,
    /// What its nodes run.
    pub(crate) elector: Elector,
}

impl Group<'_> {
    /// Says that an earlier term ended well: the first leader of a new group would wait its own B.
    pub(crate) fn skip_first_wait(&self) {
        let term = Term {
            number: 1,
            holder: "before".into(),
            nonce: "before".into(),
            state: TermState::Released,
            cause: "released".into(),
            heir: None,
            bound: self.profile.bound(),
            largest_bound: self.profile.bound(),
        };
        self.cluster.etcd.ctl(&["put", &self.key("term"), &serde_json::to_string(&term).unwrap()]);
    }

    /// Starts every node.
    pub(crate) fn start(&self) {
        self.nodes.iter().for_each(Node::start);
    }

    /// The full name of a key of hamaster's.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}{key}", view::prefix(&self.name))
    }

    /// Waits until exactly one manifest has been there, the same one, for a second. `None`: it did not come to that.
    pub(crate) fn settle(&self) -> Option<usize> {
        let limit = self.elector.takeover(self.profile) * 3 + Duration::from_secs(20);
        let (mut since, mut last) = (Instant::now(), None);
        awaited(limit, || {
            let now = self.oracle.holder();
            if now != last {
                (since, last) = (Instant::now(), now);
            }
            last.is_some() && since.elapsed() > Duration::from_secs(1)
        });
        last
    }

    /// Takes back what was done to the nodes and to etcd.
    pub(crate) fn heal(&self) {
        for node in &self.nodes {
            node.plan.host.heal();
            quiet("chattr", &["-i", &node.plan.destination().display().to_string()]);
            node.signal(rustix::process::Signal::CONT);
            node.start();
        }
        self.cluster.etcd.heal();
    }

    /// Everything that the nodes said, for a failure's message.
    pub(crate) fn logs(&self) -> String {
        let tail = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(60)..].join("\n")
        };
        self.nodes.iter().map(|n| format!("--- {}\n{}\n", n.plan.id, tail(n.plan.log()))).collect()
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        self.heal();
        self.nodes.clear();
        let _ = fs::remove_dir_all(self.cluster.etcd.network.dir().join(&self.name));
    }
}
