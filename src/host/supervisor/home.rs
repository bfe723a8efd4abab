//! A lab's directory: whose it is, what lies where in it, and who may work on it.
//!
//! Each master has a home of its own in it, `m1`, `m2`, …, with its files, its logs and its supervisor's records; each
//! worker, `w1`, `w2`, …, has only files: it runs nothing here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::loopback;
use crate::error::{Error, Result};
use crate::spec::Node;
use crate::spec::layout::Layout;
use crate::token::Role;

/// As many masters as a lab may have: etcd's own advice ends at seven members, and a lab is one machine.
pub const MOST_MASTERS: u8 = 5;
/// As many workers.
pub const MOST_WORKERS: u8 = 9;

/// Written by us into a directory that was empty: what may be used, and what may be purged.
const MARKER: &str = ".hamaster-lab";
/// While this file is there, its master is cut off.
const PARTITIONED: &str = "partitioned";
const SCHEMA: &str = "hamaster/lab/v1";

/// A master's or worker's place in a lab's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    dir: PathBuf,
    role: Role,
    /// From 1.
    number: u8,
}

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    schema: String,
    /// Of the first master.
    address: IpAddr,
    /// The highest number there ever was.
    #[serde(default = "one")]
    masters: u8,
    /// Those of them that were removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    removed: BTreeSet<u8>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    workers: BTreeSet<u8>,
    /// The first one was made alone: it listens where others reach it, and nobody stands between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alone: Option<bool>,
}

impl Marker {
    /// Numbers of the masters.
    fn numbers(&self) -> impl Iterator<Item = u8> {
        (1..=self.masters).filter(|n| !self.removed.contains(n))
    }

    /// The first master has no relay.
    fn is_direct(&self) -> bool {
        self.alone.unwrap_or(self.masters == 1)
    }
}

fn one() -> u8 {
    1
}

/// Held while a command works on a lab, or while its supervisor lives. The kernel lets go of it when the holder dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Home {
    /// The first master of the lab at `dir`, if there is one.
    ///
    /// # Errors
    /// When `dir` holds something else.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        let Ok(dir) = dir.canonicalize() else { return Ok(None) };
        if dir.join(MARKER).is_file() {
            return Ok(Some(Self { dir, role: Role::Master, number: 1 }));
        }
        match fs::read_dir(&dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(None),
            Ok(false) => Err(foreign(&dir)),
            Err(e) => Err(Error::usage(format!("cannot read {} as a lab directory", dir.display()))
                .cause(e)
                .hint("name another directory with --dir")),
        }
    }

    /// Makes `dir` a lab of `masters` whose first answers on `address`; `dir` must be absent or empty.
    ///
    /// # Errors
    /// When `dir` holds something else or cannot be made.
    pub fn claim(dir: &Path, address: IpAddr, masters: u8) -> Result<Self> {
        let failed = |e: io::Error| {
            Error::apply(format!("cannot make the lab directory {}", dir.display()))
                .cause(e)
                .hint("name another directory with --dir")
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        // Canonical, because every rendered file names paths below it and a second `up` must render the same.
        let dir = &dir.canonicalize().map_err(failed)?;
        if dir.to_str().is_none() {
            return Err(Error::usage(format!("the lab directory {} is not valid UTF-8", dir.display()))
                .hint("name another directory with --dir"));
        }
        if fs::read_dir(dir).map_err(failed)?.next().is_some() {
            return Err(foreign(dir));
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let home = Self { dir: dir.clone(), role: Role::Master, number: 1 };
        let alone = Some(masters == 1);
        let (removed, workers) = (BTreeSet::new(), BTreeSet::new());
        let marker = Marker { schema: SCHEMA.to_owned(), address, masters, removed, workers, alone };
        // Ours from the start: an undo of the first `up` must not try to take away what logs are written below.
        for master in (1..=masters).map(|number| Self { number, ..home.clone() }) {
            master.furnish().map_err(failed)?;
        }
        home.mark(&marker)?;
        Ok(home)
    }

    /// Its directories.
    fn furnish(&self) -> io::Result<()> {
        for dir in [self.own(), self.run_dir()] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        Ok(())
    }

    fn mark(&self, marker: &Marker) -> Result<()> {
        let path = self.dir.join(MARKER);
        let failed = |e: io::Error| Error::apply(format!("cannot write {}", path.display())).cause(e);
        self.replace(&path, &serde_json::to_vec(marker).unwrap_or_default()).map_err(failed)
    }

    /// One more host, with nothing on its disk: the lowest number that is free.
    ///
    /// # Errors
    /// When there are as many as there may be, or it cannot be made.
    pub fn add(&self, role: Role) -> Result<Self> {
        let mut marker = self.marker()?;
        let (most, taken): (u8, BTreeSet<u8>) = match role {
            Role::Master => (MOST_MASTERS, marker.numbers().collect()),
            Role::Worker => (MOST_WORKERS, marker.workers.clone()),
        };
        let Some(number) = (1..=most).find(|n| !taken.contains(n)) else {
            let last = Self { dir: self.dir.clone(), role, number: most };
            let what = if role == Role::Worker { "workers" } else { "masters" };
            return Err(Error::usage(format!("a lab has {most} {what} at most")).hint(format!(
                "hamaster lab remove {} --dir {}",
                last.name(),
                self.dir.display()
            )));
        };
        let home = Self { dir: self.dir.clone(), role, number };
        // What one of this number left when it was removed.
        home.clear()?;
        let failed = |e: io::Error| Error::apply(format!("cannot make the host of {}", home.name())).cause(e);
        home.furnish().map_err(failed)?;
        marker.alone = Some(marker.is_direct());
        if role == Role::Worker {
            marker.workers.insert(number);
        } else {
            marker.removed.remove(&number);
            marker.masters = marker.masters.max(number);
        }
        self.mark(&marker)?;
        Ok(home)
    }

    /// This host is no more: its processes are gone, and its disk goes with it.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(self) -> Result<()> {
        let mut marker = self.marker()?;
        marker.alone = Some(marker.is_direct());
        match self.role {
            Role::Master => marker.removed.insert(self.number),
            Role::Worker => marker.workers.remove(&self.number),
        };
        self.mark(&marker)?;
        self.clear()
    }

    fn clear(&self) -> Result<()> {
        for dir in [self.own(), self.run_dir()] {
            match fs::remove_dir_all(&dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::apply(format!("cannot remove {}", dir.display())).cause(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All masters of this lab.
    ///
    /// # Errors
    /// When the marker cannot be read.
    pub fn masters(&self) -> Result<Vec<Self>> {
        Ok(self.all(Role::Master, self.marker()?.numbers()))
    }

    /// All workers of this lab.
    ///
    /// # Errors
    /// When the marker cannot be read.
    pub fn workers(&self) -> Result<Vec<Self>> {
        Ok(self.all(Role::Worker, self.marker()?.workers.into_iter()))
    }

    fn all(&self, role: Role, numbers: impl Iterator<Item = u8>) -> Vec<Self> {
        numbers.map(|number| Self { dir: self.dir.clone(), role, number }).collect()
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The master called `name`.
    ///
    /// # Errors
    /// When this lab has none of that name.
    pub fn master(&self, name: &str) -> Result<Self> {
        let all = self.masters()?;
        let names: Vec<String> = all.iter().map(Self::name).collect();
        all.into_iter().find(|home| home.name() == name).ok_or_else(|| {
            Error::usage(format!("the lab at {} has no master {name}", self.dir.display()))
                .hint(format!("one of: {}", names.join(", ")))
        })
    }

    /// The master or worker called `name`.
    ///
    /// # Errors
    /// When this lab has none of that name.
    pub fn host(&self, name: &str) -> Result<Self> {
        let worker = self.workers()?.into_iter().find(|home| home.name() == name);
        worker.map_or_else(|| self.master(name), Ok)
    }

    /// `m1`, `w1`
    pub fn name(&self) -> String {
        let letter = if self.role == Role::Worker { 'w' } else { 'm' };
        format!("{letter}{}", self.number)
    }

    /// This host's name and the loopback address it was given.
    ///
    /// # Errors
    /// When the marker cannot be read.
    pub fn node(&self) -> Result<Node> {
        let first = self.marker()?.address;
        let ip = match self.role {
            Role::Master => loopback::of_master(first, self.number),
            Role::Worker => loopback::of_worker(first, self.number),
        };
        Ok(Node { name: self.name(), ip })
    }

    /// Where this master's processes listen: its own address, or behind its relay when it was not made alone.
    ///
    /// # Errors
    /// When the marker cannot be read.
    pub fn loopback(&self) -> Result<IpAddr> {
        let ip = self.node()?.ip;
        let direct = self.role == Role::Master && self.number == 1 && self.is_direct()?;
        Ok(if direct { ip } else { loopback::behind(ip) })
    }

    /// The lab was made with one master: what goes to that one goes through no relay.
    ///
    /// # Errors
    /// When the marker cannot be read.
    pub fn is_direct(&self) -> Result<bool> {
        Ok(self.marker()?.is_direct())
    }

    fn marker(&self) -> Result<Marker> {
        let path = self.dir.join(MARKER);
        let wrong = |cause: String| {
            Error::conflict(format!("{} does not say which addresses this lab has", path.display()))
                .cause(cause)
                .hint(format!("move {} away and run hamaster lab up again", self.dir.display()))
        };
        let bytes = fs::read(&path).map_err(|e| wrong(e.to_string()))?;
        let marker: Marker = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        if marker.schema == SCHEMA { Ok(marker) } else { Err(wrong(format!("schema {}", marker.schema))) }
    }

    /// The lab's directory, canonical.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// This master's part of it.
    fn own(&self) -> PathBuf {
        self.dir.join(self.name())
    }

    /// The supervisor's own files, apart from the master's.
    pub(super) fn run_dir(&self) -> PathBuf {
        self.dir.join("run").join(self.name())
    }

    /// The master's files: the layout of a host, moved below its directory.
    pub fn layout(&self) -> Layout {
        Layout::below(self.own())
    }

    /// The spec the lab was made from; an operator may edit it and run `up` again.
    pub fn cluster_yaml(&self) -> PathBuf {
        self.dir.join("cluster.yaml")
    }

    /// What the supervisor itself has to say.
    pub fn supervisor_log(&self) -> PathBuf {
        self.run_dir().join("supervisor.log")
    }

    /// Output of the unit or container `name`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.own().join("log").join(format!("{name}.log"))
    }

    pub(super) fn units(&self) -> PathBuf {
        self.layout().path("/etc/systemd/system")
    }

    pub(super) fn enabled(&self) -> PathBuf {
        self.own().join("enabled.json")
    }

    pub(super) fn pids(&self) -> PathBuf {
        self.run_dir().join("pids.json")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.run_dir().join("supervisor.sock")
    }

    /// The socket by a short name: a socket address holds 107 bytes, a lab may lie deeper than that.
    pub(super) fn with_socket<T>(&self, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let dir = File::open(self.run_dir())?;
        act(&PathBuf::from(format!("/proc/self/fd/{}/supervisor.sock", dir.as_raw_fd())))
    }

    /// Keeps every other `up` and `down` of this lab out.
    ///
    /// # Errors
    /// When one is at work.
    pub fn lock(&self) -> Result<Lock> {
        self.try_lock(&self.dir)?.ok_or_else(|| {
            Error::conflict(format!("another hamaster lab command is at work on {}", self.dir.display()))
                .hint("wait for it to end, then run this again")
        })
    }

    /// Held by the supervisor for its whole life; `None` when one is alive.
    pub(super) fn supervisor_lock(&self) -> Result<Option<Lock>> {
        let path = self.run_dir().join("supervisor.lock");
        self.make_dir(&self.run_dir())?;
        File::options()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|e| Error::apply(format!("cannot write {}", path.display())).cause(e))?;
        self.try_lock(&path)
    }

    fn try_lock(&self, path: &Path) -> Result<Option<Lock>> {
        let failed = |e: io::Error| Error::apply(format!("cannot lock {}", path.display())).cause(e);
        let file = File::open(path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(failed(e.into())),
        }
    }

    pub(super) fn make_dir(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path).map_err(|e| Error::apply(format!("cannot make {}", path.display())).cause(e))
    }

    /// Replaces a small file at once: a reader sees the old or the new one. Not synced: it describes live processes.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let parent = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent)?;
        let mut temporary = tempfile::NamedTempFile::new_in(parent)?;
        io::Write::write_all(&mut temporary, bytes)?;
        temporary.persist(path)?;
        Ok(())
    }

    /// The bytes of `cluster.yaml`; `None` when there is none yet.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_cluster_yaml(&self) -> Result<Option<String>> {
        let path = self.cluster_yaml();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::usage(format!("cannot read {}", path.display())).cause(e)),
        }
    }

    /// Writes `cluster.yaml`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_cluster_yaml(&self, text: &str) -> Result<()> {
        let path = self.cluster_yaml();
        self.replace(&path, text.as_bytes())
            .map_err(|e| Error::apply(format!("cannot write {}", path.display())).cause(e))
    }

    /// This master is to be cut off from all others.
    pub fn is_partitioned(&self) -> bool {
        self.run_dir().join(PARTITIONED).exists()
    }

    /// Cuts this master off from all others, or ends that; the relays see to it. False when it was so already.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn partition(&self, off: bool) -> Result<bool> {
        let path = self.run_dir().join(PARTITIONED);
        if path.exists() == off {
            return Ok(false);
        }
        let done = if off { self.replace(&path, b"") } else { fs::remove_file(&path) };
        done.map_err(|e| Error::apply(format!("cannot change {}", path.display())).cause(e))?;
        Ok(true)
    }

    /// Removes the lab with everything in it.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn purge(self) -> Result<()> {
        // The marker goes last: a purge that was cut short can be run again.
        let failed = |e: io::Error| Error::apply(format!("cannot remove {}", self.dir.display())).cause(e);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() == MARKER {
                continue;
            }
            if entry.file_type().map_err(failed)?.is_dir() {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            } else {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        fs::remove_dir_all(&self.dir).map_err(failed)
    }
}

fn foreign(dir: &Path) -> Box<Error> {
    Error::conflict(format!("{} is not a lab: it holds files that are not ours", dir.display()))
        .hint("name an empty or new directory with --dir")
}
