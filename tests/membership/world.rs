//! A cluster that keeps etcd's rules, and the hosts that want to join it.

use hamaster::etcd::membership::{Disk, Joiner, Member, Next, join, promote, quorum};

/// One host: what outlives its processes.
#[derive(Clone)]
struct Host {
    name: String,
    url: String,
    disk: Disk,
    /// What the run noted of its own id: outlives a kill, not a wiped disk.
    noted: Option<u64>,
    /// etcd runs.
    runs: bool,
    /// The next answer is lost; what was asked happens.
    swallows: bool,
}

/// One master that is well, and hosts.
pub(crate) struct World {
    members: Vec<Member>,
    hosts: Vec<Host>,
    ids: u64,
}

impl World {
    pub(crate) fn new(hosts: usize) -> Self {
        let first = Member {
            id: 1,
            name: "m0".to_owned(),
            peer_urls: vec!["https://10.0.0.100:2380".to_owned()],
            client_urls: vec![],
            is_learner: false,
        };
        let host = |n: usize| Host {
            name: format!("m{}", n + 1),
            url: format!("https://10.0.0.{}:2380", n + 1),
            disk: Disk::Empty,
            noted: None,
            runs: false,
            swallows: false,
        };
        Self { members: vec![first], hosts: (0..hosts).map(host).collect(), ids: 1 }
    }

    /// The joiner's process dies; etcd, once started, lives on.
    pub(crate) fn kill(&mut self, host: usize) {
        self.hosts[host].swallows = false;
    }

    /// The disk of a host that is no voter is lost, and its etcd with it.
    pub(crate) fn wipe(&mut self, host: usize) {
        let Self { members, hosts, .. } = self;
        let host = &mut hosts[host];
        if members.iter().any(|m| m.peer_urls[0] == host.url && !m.is_learner) {
            return;
        }
        (host.disk, host.noted, host.runs) = (Disk::Empty, None, false);
    }

    /// The next thing the host asks for happens and is not answered.
    pub(crate) fn swallow(&mut self, host: usize) {
        self.hosts[host].swallows = true;
    }

    fn healthy(&self) -> Vec<u64> {
        let runs = |m: &&Member| m.id == 1 || self.hosts.iter().any(|h| h.runs && h.url == m.peer_urls[0]);
        self.members.iter().filter(runs).map(|m| m.id).collect()
    }

    /// Looks, decides, does one thing. As the driver does it: the id is noted before etcd is started.
    pub(crate) fn step(&mut self, at: usize) {
        let healthy = self.healthy();
        let host = self.hosts[at].clone();
        let joiner = Joiner { name: &host.name, peer_url: &host.url, replace: false };
        let disk = match host.disk {
            Disk::Data { .. } => Disk::Data { member: host.noted },
            other => other,
        };
        let swallowed = std::mem::take(&mut self.hosts[at].swallows);
        match join(joiner, &self.members, disk, &healthy) {
            Next::SetAside | Next::Clear => {
                self.hosts[at].disk = Disk::Empty;
                self.hosts[at].runs = false;
            }
            Next::Add => {
                assert!(!self.members.iter().any(|m| m.is_learner), "etcd refuses a second learner");
                self.ids += 1;
                let id = self.ids;
                let urls = vec![host.url.clone()];
                self.members.push(Member {
                    id,
                    name: String::new(),
                    peer_urls: urls,
                    client_urls: vec![],
                    is_learner: true,
                });
                if !swallowed {
                    self.hosts[at].noted = Some(id);
                }
            }
            Next::Await(other) => assert!(other.is_learner && other.peer_urls[0] != host.url),
            Next::Start { id, initial_cluster } => self.start(at, id, &initial_cluster, swallowed),
            Next::Remove { id, .. } => {
                let own = self.members.iter().find(|m| m.id == id).unwrap();
                assert!(own.is_learner, "only a learner is removed here");
                self.members.retain(|m| m.id != id);
                self.hosts[at].runs = false;
            }
            Next::Refuse(refusal) => panic!("{refusal:?}\n{:?}", self.members),
        }
    }

    fn start(&mut self, at: usize, id: u64, initial_cluster: &str, swallowed: bool) {
        self.hosts[at].noted = Some(id);
        let own = self.members.iter().position(|m| m.id == id).unwrap();
        if !self.hosts[at].runs {
            // etcd compares the list with the one it was given: by URL, all of them.
            assert_eq!(initial_cluster.split(',').count(), self.members.len());
            if swallowed {
                // Killed in the middle of its first start.
                if self.hosts[at].disk == Disk::Empty {
                    self.hosts[at].disk = Disk::Remains;
                }
                return;
            }
            self.hosts[at].disk = Disk::Data { member: Some(id) };
            self.hosts[at].runs = true;
            self.members[own].name = self.hosts[at].name.clone();
            return;
        }
        if self.members[own].is_learner && promote(&self.members, &self.healthy()).is_ok() {
            self.members[own].is_learner = false;
        }
    }

    /// A majority of voters is well.
    pub(crate) fn check(&self) {
        let healthy = self.healthy();
        let voters: Vec<&Member> = self.members.iter().filter(|m| !m.is_learner).collect();
        let well = voters.iter().filter(|m| healthy.contains(&m.id)).count();
        assert!(well >= quorum(voters.len()), "{:?}, of them well {healthy:?}", self.members);
    }

    /// Nothing more goes wrong: everybody is a voter after a few rounds.
    pub(crate) fn finish(&mut self) {
        for _ in 0..40 {
            for host in 0..self.hosts.len() {
                self.hosts[host].swallows = false;
                self.step(host);
                self.check();
            }
        }
        assert_eq!(self.members.len(), self.hosts.len() + 1, "{:?}", self.members);
        assert!(self.members.iter().all(|m| !m.is_learner && m.has_started()), "{:?}", self.members);
    }
}
