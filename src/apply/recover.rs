//! `hamaster etcd recover`: the majority is lost for good; this master goes on alone with what it has.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::apply::ETCD_UNIT;
use crate::apply::perform::member_client;
use crate::apply::snapshot::{self, Database, Subject};
use crate::error::{Error, Result};
use crate::etcd::keys;
use crate::etcd::recovery::{self, Loss, Refusal, Voter};
use crate::etcd::snapshot::{Checker, Source};
use crate::host::spool::Spool;
use crate::host::{Host, http};

/// What was asked of every member.
pub struct Survey {
    /// What each voter answered.
    pub voters: Vec<Voter>,
    /// This host's own member answers, so its data can be streamed.
    pub own_answers: bool,
}

/// Asks every voter that this host's own member, or the spec, knows of.
///
/// # Errors
/// When this host's certificate of etcd is missing.
pub fn survey(subject: Subject<'_>) -> Result<Survey> {
    let Subject { host, spec, this } = subject;
    let own = member_client(host, this, this.node.ip)?;
    let remembered = own.remembered_members();
    let own_answers = remembered.is_ok();
    let mut known: BTreeMap<IpAddr, String> = BTreeMap::new();
    match remembered {
        Ok(members) => {
            for member in members.iter().filter(|m| !m.is_learner) {
                let ip = member
                    .peer_urls
                    .iter()
                    .find_map(|u| u.parse::<::http::Uri>().ok()?.host()?.trim_matches(['[', ']']).parse().ok());
                known.extend(ip.map(|ip| (ip, member.shown())));
            }
        }
        Err(_) => known.extend(spec.masters.iter().map(|m| (m.ip, m.name.clone()))),
    }
    known.entry(this.node.ip).or_insert_with(|| this.node.name.clone());
    let mut voters = vec![];
    for (ip, name) in known {
        let client = member_client(host, this, ip)?;
        let listens = http::listens(SocketAddr::new(ip, 2380));
        // Nothing there: no need to wait for an answer.
        let lag = if listens { client.lag().ok() } else { None };
        let serves = lag.as_ref().is_some_and(|l| l.leader != 0) && client.get(keys::SPEC).is_ok();
        let own = ip == this.node.ip;
        voters.push(Voter { name, own, alive: listens || lag.is_some(), serves, index: lag.map(|l| l.index) });
    }
    Ok(Survey { voters, own_answers })
}

/// Whether this master may go on alone.
///
/// # Errors
/// When the majority lives, or another survivor has newer data.
pub fn judge(survey: &Survey, from_archive: bool) -> Result<Loss> {
    recovery::judge(&survey.voters, from_archive).map_err(|refusal| match refusal {
        Refusal::Works { by } => Error::conflict("the cluster has a quorum: there is nothing to recover")
            .cause(format!("{by} answers reads that need one"))
            .hint("hamaster etcd status")
            .hint("hamaster master remove NAME    # for a master that is gone"),
        Refusal::MayReturn { alive, quorum } => {
            Error::conflict(format!("{} of the {quorum} members that make a quorum run", alive.len()))
                .cause(format!("{}: they may elect a leader yet", alive.join(", ")))
                .hint("hamaster etcd status    # wait; if they never agree, stop etcd on all masters but this one")
        }
        Refusal::NewerElsewhere { name } => Error::conflict(format!("{name} has newer data than this master"))
            .hint(format!("ssh {name} hamaster etcd recover"))
            .hint("hamaster etcd recover --from ARCHIVE    # or go back to a snapshot"),
    })
}

/// This master's own data: streamed while its member answers, else copied once it is stopped.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn own_data(subject: Subject<'_>, survey: &Survey) -> Result<Database> {
    let Subject { host, spec, this } = subject;
    let data = this.layout.path(&spec.etcd.data_dir);
    if survey.own_answers {
        let client = member_client(host, this, this.node.ip)?;
        return snapshot::stream_from(&client, &this.node.name, &host.shown(&data));
    }
    let file = data.join("member/snap/db");
    if host.is_locked(&file)? {
        return Err(Error::conflict("etcd runs but does not answer: its database changes while it is copied")
            .hint(format!("systemctl stop {ETCD_UNIT}    # then run this again")));
    }
    let mut spool = Spool::new(&host.shown(&data))?;
    let Some(mut from) = host.open(&file)? else {
        return Err(Error::conflict(format!("{} is not there: this master has no data", host.shown(&file).display()))
            .hint("hamaster etcd recover --from ARCHIVE"));
    };
    io::copy(&mut from, &mut spool).map_err(|e| Error::apply("cannot copy the database").cause(e).hint("df -h"))?;
    let (cluster_id, etcd_version) = (String::new(), String::new());
    Ok(Database { spool, source: Source::Copy, cluster_id, member: this.node.name.clone(), etcd_version })
}

/// The hash by which an interrupted run is known again.
///
/// # Errors
/// When the spool cannot be read.
pub fn digest(database: &mut Database) -> Result<String> {
    let mut checker = Checker::default();
    database.spool.rewind()?;
    io::copy(&mut database.spool, &mut checker).map_err(|e| Error::apply("cannot read the snapshot").cause(e))?;
    Ok(checker.finish().sha256)
}

/// Stops this host's own member, if units run here. True when a process is on its data still.
///
/// # Errors
/// When it does not stop.
pub fn stop_own(host: &mut Host, data_dir: &Path) -> Result<bool> {
    if host.starts_units() {
        host.unit_stop(ETCD_UNIT)?;
    }
    host.is_locked(&data_dir.join("member/snap/db"))
}
