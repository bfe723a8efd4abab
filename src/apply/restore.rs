//! `hamaster etcd snapshot restore`: from a database to a member that is a whole cluster of its own.
//!
//! The new data is made in a directory of its own inside the data directory and moved into place in one step, when all
//! of it is on the disk. Until then the old data is where it was. Killed at any point it can be run again: what was
//! finished is found by a note beside it, anything else is thrown away and made anew.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::apply::perform::etcd_client;
use crate::apply::record::Ledger;
use crate::apply::{ETCD_UNIT, leave, stamp};
use crate::error::{Error, Problem, Result};
use crate::etcd::client::Registered;
use crate::etcd::{MemberStatus, keys};
use crate::host::clock::{self, Waited};
use crate::host::etcd_tool::{self, Restore};
use crate::host::{Host, fault, http, identity, observe};
use crate::render::ETCD_METRICS_PORT;
use crate::spec::{ClusterSpec, Node, ThisNode, file};
use crate::state::observed::SealedMember;
use crate::state::{Owner, Secret};

/// Where new data is made, inside the data directory: a mount point stays one, and the last step is a rename.
const WORK: &str = ".hamaster-restore";
/// What is ready in there.
const NOTE: &str = "ready.json";
/// How long a member of one may take to be healthy: it reads all of its database first.
const HEALTHY: Duration = Duration::from_secs(180);

/// What is restored, and where.
pub struct Request<'a> {
    /// The cluster.
    pub spec: &'a ClusterSpec,
    /// The master this host is.
    pub this: &'a ThisNode,
    /// The database.
    pub database: &'a Path,
    /// SHA-256 of it, hex.
    pub sha256: &'a str,
    /// It has no checksum of etcd's.
    pub unchecked: bool,
    /// Data that is there is moved aside; without this it is refused.
    pub set_aside: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    sha256: String,
    name: String,
    peer_url: String,
    dir: String,
    /// Id of the new cluster, hex.
    pub cluster_id: String,
    /// Id of its only member, hex.
    pub member_id: String,
    /// Revisions were moved ahead, so that no watcher sees them go backwards.
    pub bumped: bool,
    /// Where the data that was there is now.
    pub aside: Option<PathBuf>,
}

impl Done {
    /// What was there has been moved, and nothing is in its place yet. Without a log, what is there is what an etcd left
    /// that was started in between.
    fn is_cut(&self, host: &Host, member: &Path) -> Result<bool> {
        let moved = |dir: &PathBuf| host.stat(&dir.join("member"));
        let aside = self.aside.as_ref().map(moved).transpose()?.flatten().is_some();
        Ok(aside && host.list(&member.join("wal"))?.is_none_or(|log| log.is_empty()))
    }
}

/// Files of a snapshot against those of the host.
#[derive(Debug, Default)]
pub struct Files {
    /// They are not here: they will be written.
    pub missing: Vec<PathBuf>,
    /// They differ and stay as they are here.
    pub kept: Vec<PathBuf>,
}

/// Compares files of a snapshot with those of the host.
///
/// # Errors
/// When a key, a certificate or what encrypts the data is another one here: all of them in one report.
pub fn compare(host: &Host, files: &BTreeMap<PathBuf, (u32, Secret)>) -> Result<Files> {
    let mut found = Files::default();
    let mut problems = vec![];
    for (path, (_, bytes)) in files {
        let vital = path.extension().is_some_and(|e| e == "key" || e == "crt" || e == "pub")
            || path.ends_with(crate::pki::auth::ENCRYPTION_CONFIG);
        match host.read(path)?.map(Secret::new) {
            None => found.missing.push(path.clone()),
            Some(here) if here.expose() == bytes.expose() => {}
            Some(_) if vital => problems.push(Problem {
                at: host.shown(path).display().to_string(),
                message: "is not the one in the snapshot".to_owned(),
                hint: None,
            }),
            Some(_) => found.kept.push(path.clone()),
        }
    }
    if problems.is_empty() {
        return Ok(found);
    }
    Err(Error::conflict("this host belongs to another cluster than the snapshot").problems(problems).hint(
        "hamaster reset    # then restore again; or --data-only to keep what is here and restore etcd's data alone",
    ))
}

/// Writes those that are missing.
///
/// # Errors
/// When one cannot be written.
pub fn write_missing(host: &mut Host, found: &Files, files: &BTreeMap<PathBuf, (u32, Secret)>) -> Result<()> {
    for path in &found.missing {
        let Some((mode, bytes)) = files.get(path) else { continue };
        if let Some(dir) = path.parent().filter(|d| host.stat(d).is_ok_and(|s| s.is_none())) {
            host.ensure_dir(dir, 0o755, Owner::Root)?;
        }
        host.write(path, bytes.expose(), *mode, Owner::Root)?;
    }
    Ok(())
}

/// Restores: afterwards the member is the only one of a new cluster, and runs if it ran here before.
///
/// # Errors
/// When data is in the way, etcd runs on it, or a step fails; then the old data is where it was, or in its new place.
pub fn restore(host: &mut Host, request: &Request<'_>) -> Result<Done> {
    let this = request.this;
    let data = this.layout.path(&request.spec.etcd.data_dir);
    let (work, member) = (data.join(WORK), data.join("member"));
    let stage = Stage { data: &data, work: &work, member: &member };
    let noted = stage.noted(host, request)?;
    let swapped = noted.as_ref().is_some_and(|n| matches!(host.stat(&work.join(&n.dir).join("member")), Ok(None)));
    let cut = noted.as_ref().map(|n| n.is_cut(host, &member)).transpose()?.unwrap_or(false);
    let occupied = host.stat(&member)?.is_some() && !cut;
    if occupied && !swapped && !request.set_aside {
        let shown = host.shown(&data);
        return Err(Error::conflict(format!("{} holds the data of a member", shown.display()))
            .hint("add --set-aside: it is moved to a directory beside it, never deleted"));
    }
    if !host.starts_units() {
        stage.refuse_running(host)?;
    }
    let mut done = match noted {
        Some(noted) => noted,
        None => stage.build(host, request)?,
    };
    if !swapped {
        if host.starts_units() {
            host.unit_stop(ETCD_UNIT)?;
        }
        stage.refuse_running(host)?;
        stage.swap(host, &mut done)?;
    }
    let mut ledger = Ledger::new(&this.layout, observe::record(host, &this.layout.record())?);
    ledger.record.node = Some(this.node.name.clone());
    ledger.record.data_dir = Some(data.clone());
    let sealed = SealedMember { cluster_id: done.cluster_id.clone(), member_id: done.member_id.clone() };
    ledger.record.etcd = Some(sealed);
    ledger.save(host)?;
    fault::point("restore.recorded");
    host.remove_tree(&work)?;
    Ok(done)
}

/// The database of a restore that was killed between the old data and the new: it must be finished, there is no other.
///
/// # Errors
/// When the data directory cannot be looked at.
pub fn interrupted(host: &Host, spec: &ClusterSpec, this: &ThisNode) -> Result<Option<String>> {
    let data = this.layout.path(&spec.etcd.data_dir);
    let (work, member) = (data.join(WORK), data.join("member"));
    let Some(bytes) = host.read(&work.join(NOTE))? else { return Ok(None) };
    let Ok(done) = serde_json::from_slice::<Done>(&bytes) else { return Ok(None) };
    let made = host.stat(&work.join(&done.dir).join("member"))?.is_some();
    let cut = made && done.is_cut(host, &member)?;
    Ok((cut || made != host.stat(&member)?.is_some()).then_some(done.sha256))
}

/// Starts the member and waits until it answers reads that need a majority. `None` where no unit of it is installed
/// or none is started.
///
/// # Errors
/// When it does not get healthy in time.
pub fn start(host: &mut Host, this: &ThisNode) -> Result<Option<MemberStatus>> {
    if !host.starts_units() || !host.units().state(ETCD_UNIT)?.loaded {
        return Ok(None);
    }
    host.unit_start(ETCD_UNIT)?;
    let at = SocketAddr::new(this.loopback, ETCD_METRICS_PORT);
    let mut last = String::new();
    let ask = || match http::etcd_health(at) {
        Ok(()) => Poll::Ready(()),
        Err(why) => {
            last = why;
            Poll::Pending
        }
    };
    match clock::poll(HEALTHY, Duration::from_millis(200), ask, |_| {}) {
        Waited::Ready(()) => {}
        _ => {
            let mut e = Error::apply(format!("{ETCD_UNIT} is not healthy on the restored data")).cause(last);
            for line in host.units().logs(ETCD_UNIT, 5) {
                e = e.cause(line);
            }
            return Err(e.hint(host.units().log_command(ETCD_UNIT)));
        }
    }
    let client = etcd_client(host, this)?;
    client.get(crate::etcd::keys::SPEC)?;
    client.status().map(Some)
}

/// The spec names this master alone, as its etcd does: were the others still named, whatever asks etcd here would ask
/// them, too, and they may come back as the cluster they were. Their names.
///
/// # Errors
/// When etcd does not answer, or holds no spec that reads.
pub fn forget_others(host: &Host, this: &ThisNode) -> Result<Vec<String>> {
    let client = etcd_client(host, this)?;
    loop {
        let Some((seen, generation, mut spec)) = leave::registered(&client)? else { return Ok(vec![]) };
        let (own, others): (Vec<Node>, Vec<Node>) = spec.masters.into_iter().partition(|m| m.name == this.node.name);
        if others.is_empty() {
            return Ok(vec![]);
        }
        // A snapshot may be older than this master.
        spec.masters = if own.is_empty() { vec![this.node.clone()] } else { own };
        let bytes = Registered { generation: generation + 1, spec: file::to_yaml(&leave::shrunk(spec)) }.write()?;
        if client.replace(&seen, &bytes)? {
            for Node { name, .. } in &others {
                client.delete(&format!("{}{name}", keys::MASTERS))?;
            }
            return Ok(others.into_iter().map(|m| m.name).collect());
        }
    }
}

/// The places of one restore.
struct Stage<'a> {
    data: &'a Path,
    work: &'a Path,
    member: &'a Path,
}

impl Stage<'_> {
    fn note(&self) -> PathBuf {
        self.work.join(NOTE)
    }

    /// What an earlier run finished, if it was for the same database and member.
    fn noted(&self, host: &Host, request: &Request<'_>) -> Result<Option<Done>> {
        let Some(bytes) = host.read(&self.note())? else { return Ok(None) };
        let same = |d: &Done| {
            (d.sha256.as_str(), &d.name, &d.peer_url)
                == (request.sha256, &request.this.node.name, &peer_url(request.this))
        };
        let Some(done) = serde_json::from_slice(&bytes).ok().filter(same) else { return Ok(None) };
        // Neither in the making nor in its place: what the note is about is gone.
        let there =
            host.stat(&self.work.join(&done.dir).join("member"))?.is_some() || host.stat(self.member)?.is_some();
        Ok(there.then_some(done))
    }

    fn refuse_running(&self, host: &Host) -> Result<()> {
        let database = self.member.join("snap/db");
        if !host.is_locked(&database)? {
            return Ok(());
        }
        let shown = host.shown(&database);
        Err(Error::conflict(format!("etcd runs on {}", host.shown(self.data).display()))
            .cause(format!("it holds the lock of {}", shown.display()))
            .hint(format!("fuser -v {}    # then stop it", shown.display())))
    }

    /// Makes the new data, durably, and notes that it is ready.
    fn build(&self, host: &mut Host, request: &Request<'_>) -> Result<Done> {
        if host.stat(self.data)?.is_none() {
            host.ensure_dir(self.data, 0o700, Owner::Etcd)?;
        }
        host.remove_tree(self.work)?;
        host.ensure_dir(self.work, 0o700, Owner::Root)?;
        // A name of its own: the tool of a killed run may still be writing.
        let dir = format!("data-{}", identity::nonce()?);
        let (made, peer_url, token) = (self.work.join(&dir), peer_url(request.this), identity::nonce()?);
        let restored = etcd_tool::restore(&Restore {
            database: request.database,
            unchecked: request.unchecked,
            data_dir: &host.shown(&made),
            name: &request.this.node.name,
            peer_url: &peer_url,
            token: &token,
        })?;
        fault::point("restore.built");
        host.own_tree(&made, Owner::Etcd)?;
        let done = Done {
            sha256: request.sha256.to_owned(),
            name: request.this.node.name.clone(),
            peer_url,
            dir,
            cluster_id: restored.cluster_id,
            member_id: restored.member_id,
            bumped: restored.bumped,
            aside: None,
        };
        self.write_note(host, &done)?;
        fault::point("restore.ready");
        Ok(done)
    }

    fn write_note(&self, host: &mut Host, done: &Done) -> Result<()> {
        let json = serde_json::to_vec(done).map_err(|e| Error::apply("cannot encode a note").cause(e))?;
        host.write(&self.note(), &json, 0o600, Owner::Root).map(drop)
    }

    /// The old data out of the way, the new one into its place.
    fn swap(&self, host: &mut Host, done: &mut Done) -> Result<()> {
        if done.is_cut(host, self.member)? {
            host.remove_tree(self.member)?;
        }
        if host.stat(self.member)?.is_some() {
            // Noted first: the run that finishes may not be this one, and goes on with the same name.
            let aside = match done.aside.take() {
                Some(known) if host.stat(&known.join("member"))?.is_none() => known,
                _ => self.aside(host)?,
            };
            done.aside = Some(aside.clone());
            self.write_note(host, done)?;
            host.ensure_dir(&aside, 0o700, Owner::Root)?;
            host.move_whole(self.member, &aside.join("member"))?;
        }
        let made = self.work.join(&done.dir);
        host.move_whole(&made.join("member"), self.member)?;
        host.remove_tree(&made)
    }
}

impl Stage<'_> {
    /// A place for the old data that nothing is in yet.
    fn aside(&self, host: &Host) -> Result<PathBuf> {
        let parent = self.data.parent().unwrap_or(self.data);
        let is_mount = !host.same_filesystem(self.data, parent)?;
        let named = |at| match is_mount {
            true => self.data.join(format!("before-{}", stamp(at))),
            false => {
                let data = self.data.file_name().unwrap_or_default().to_string_lossy();
                self.data.with_file_name(format!("{data}.before-{}", stamp(at)))
            }
        };
        let mut at = clock::now();
        // Two restores may share a second.
        while host.stat(&named(at).join("member"))?.is_some() {
            at += time::Duration::SECOND;
        }
        Ok(named(at))
    }
}

fn peer_url(this: &ThisNode) -> String {
    format!("https://{}", SocketAddr::new(this.node.ip, 2380))
}
