//! The member of etcd that this host is, as far as its disk knows: a voter, or on the way to be one.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::apply::ETCD_UNIT;
use crate::apply::join::Marker;
use crate::apply::members::Members;
use crate::cli::{SpecArgs, resolve};
use crate::error::{Error, Result};
use crate::etcd::membership::Member;
use crate::host::{Host, NoUnits, observe};
use crate::spec::layout::Layout;
use crate::spec::{Node, ThisNode};
use crate::token::Role;
use crate::ui::Ui;

/// This host's own.
pub(super) struct Own {
    /// Name of its master.
    pub(super) name: String,
    /// Of its cluster, hex.
    pub(super) cluster_id: String,
    pub(super) stage: Stage,
    /// What etcd calls it. A joiner may not have been told before it was killed.
    id: Option<u64>,
    /// The masters that a joiner was told of.
    told: Vec<Node>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A voter for good.
    Sealed,
    /// It joins, and was not sealed yet: it may be a learner, a voter, or neither.
    Joins,
    /// It founds a cluster with others, and does not know yet that there is one. The others may.
    Founds,
}

impl Own {
    /// Looks for it in the record and in the joiner's note.
    ///
    /// # Errors
    /// When they do not read, or contradict each other.
    pub(super) fn find(host: &Host) -> Result<Option<Self>> {
        let layout = Layout::host();
        let record = observe::record(host, &layout.record())?;
        let name = record.node.unwrap_or_default();
        if let Some(member) = record.etcd {
            let id = Some(id(&member.member_id)?);
            return Ok(Some(Self { name, cluster_id: member.cluster_id, stage: Stage::Sealed, id, told: vec![] }));
        }
        // Without certificates it has asked etcd for nothing yet; or they are taken back, which is done last.
        if host.stat(&layout.etcd_pki().join("hamaster.crt"))?.is_none() {
            return Ok(None);
        }
        let marker = Marker::find(host, &layout)?.filter(|marker| marker.role == Role::Master);
        match (record.joining, marker.and_then(|marker| marker.cluster)) {
            (None, None) => {
                // Whether it has made its data yet or is about to.
                let runs = || host.starts_units() && host.units().state(ETCD_UNIT).is_ok_and(|etcd| etcd.pid.is_some());
                let started = |data: &PathBuf| matches!(host.stat(&data.join("member")), Ok(Some(_))) || runs();
                let (started, stage) = (record.data_dir.as_ref().is_some_and(started), Stage::Founds);
                Ok(started.then(|| Self { name, cluster_id: String::new(), stage, id: None, told: vec![] }))
            }
            (Some(_), None) => Err(Error::conflict("this host was joining a cluster, and no note says which")
                .hint("hamaster reset --force    # then, on a master: hamaster master list")),
            (joining, Some(cluster)) => {
                let id = joining.and_then(|j| j.member_id).map(|text| id(&text)).transpose()?;
                let told = cluster.masters.into_iter().map(|m| Node { name: m.name, ip: m.ip }).collect();
                Ok(Some(Self { name, cluster_id: cluster.id, stage: Stage::Joins, id, told }))
            }
        }
    }

    /// The masters that this host knows of, itself among them if it got that far.
    ///
    /// # Errors
    /// When `cluster.yaml` does not read.
    pub(super) fn masters(&self, host: &Host) -> Result<Vec<Node>> {
        let spec = resolve::cluster(&SpecArgs::default(), host)?;
        Ok(if spec.masters.is_empty() { self.told.clone() } else { spec.masters })
    }

    /// Its row of the list: by its id, or, where it joins and does not know that, by where it is: at `ip`.
    pub(super) fn among<'m>(&self, members: &'m [Member], ip: IpAddr) -> Option<&'m Member> {
        let joins = self.stage == Stage::Joins;
        let at = |m: &&Member| joins && m.address() == Some(ip) && (!m.has_started() || m.name == self.name);
        members.iter().find(|m| Some(m.id) == self.id).or_else(|| members.iter().find(at))
    }

    /// What is to be removed from etcd when it leaves: of a master its member, listed or not, since the spec names it, too;
    /// of a joiner what it has added.
    pub(super) fn departs(&self, members: &[Member], ip: IpAddr) -> Option<u64> {
        self.among(members, ip).map(|m| m.id).or(self.id.filter(|_| self.stage == Stage::Sealed))
    }

    /// Refuses where others count on it. Gone without a word, a voter would be a dead one of theirs, and a learner would
    /// keep every other host out. It is etcd who knows; `cluster.yaml` may be older.
    ///
    /// # Errors
    /// When there are others, or nobody says that there are none.
    pub(super) fn may_vanish(&self, host: &Host, this: &ThisNode, ui: &Ui) -> Result<()> {
        // Without a file that reads nobody here knows of others, and a reset is what may be left to do.
        let masters = self.masters(host).unwrap_or_default();
        let (own, others): (Vec<Node>, Vec<Node>) = masters.into_iter().partition(|m| m.name == self.name);
        let here = |m: &Member| Some(m.id) == self.id || own.iter().any(|own| m.address() == Some(own.ip));
        let answer = match host.starts_units() {
            true => {
                let mut all = Members::new(Host::new("/", Box::new(NoUnits))?, this.clone(), &others);
                all.ask(|c| c.members()).ok()
            }
            false => None,
        };
        let (what, beside) = match &answer {
            Some(members) => match members.iter().find(|m| here(m)) {
                None => return Ok(()),
                Some(me) => {
                    let what = if me.is_learner { "a learner of etcd's" } else { "a voter of etcd's" };
                    (what, members.iter().filter(|m| !here(m)).map(Member::shown).collect::<Vec<_>>())
                }
            },
            None if self.stage != Stage::Sealed => {
                ("about to be a voter of etcd's", others.into_iter().map(|m| m.name).collect())
            }
            None => ("a voter of etcd's", others.into_iter().map(|m| m.name).collect()),
        };
        if beside.is_empty() {
            if answer.is_none() {
                ui.warn("etcd does not answer: that no other master counts on this one is what cluster.yaml says");
            }
            return Ok(());
        }
        let mut refused = Error::refused(format!("{} is {what} beside {}", self.name, beside.join(", ")));
        if answer.is_none() {
            refused = refused.cause("etcd does not answer: so says what this host was last told");
        }
        Err(match self.stage {
            Stage::Sealed => refused.hint("hamaster leave"),
            Stage::Joins => refused.hint("hamaster join    # again: it goes on where it is").hint("hamaster leave"),
            Stage::Founds => refused.hint("hamaster init    # again: it goes on where it is"),
        }
        .hint("hamaster reset --force    # if they are gone, too"))
    }
}

fn id(text: &str) -> Result<u64> {
    u64::from_str_radix(text, 16)
        .map_err(|e| Error::conflict("the record names no member").cause(e).hint("hamaster doctor"))
}
