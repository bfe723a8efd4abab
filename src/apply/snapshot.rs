//! `hamaster etcd snapshot save` and `verify`: everything that brings a control plane back, in one sealed file.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::apply::perform::member_client;
use crate::apply::stamp;
use crate::archive::{Key, Kind, Reader, Writer};
use crate::error::{Error, Kind as Why, Problem, Result};
use crate::etcd::client::Client;
use crate::etcd::snapshot::{self, Checked, Checker, DATABASE, FILES, MANIFEST, Manifest, Source};
use crate::host::spool::{self, NewFile, Spool};
use crate::host::{Host, etcd_tool};
use crate::pki::{catalog, inspect};
use crate::spec::{ClusterSpec, ThisNode};
use crate::state::Secret;

const SCHEMA: &str = "hamaster/v1/snapshot";

/// Whose snapshot is taken.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The host.
    pub host: &'a Host,
    /// The cluster.
    pub spec: &'a ClusterSpec,
    /// The master this host is.
    pub this: &'a ThisNode,
}

/// What was taken.
#[derive(Debug)]
pub struct Saved {
    /// The archive.
    pub path: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// A database on its way into an archive, with what is known of it.
pub struct Database {
    /// Its bytes.
    pub spool: Spool,
    /// Whether etcd's checksum is behind it.
    pub source: Source,
    /// etcd's id of the cluster; empty if nobody could be asked.
    pub cluster_id: String,
    /// Whose data it is.
    pub member: String,
    /// Its etcd; empty if nobody could be asked.
    pub etcd_version: String,
}

/// A path in `dir` for the next snapshot of this master, with a name that is free.
///
/// # Errors
/// When the directory cannot be looked at.
pub fn next_path(host: &Host, this: &ThisNode, dir: &Path, now: OffsetDateTime) -> Result<PathBuf> {
    let mut at = now;
    loop {
        let path = dir.join(snapshot::file_name(&this.node.name, &stamp(at)));
        if host.stat(&path)?.is_none() {
            return Ok(path);
        }
        // Two in one second: the name of the next.
        at += time::Duration::SECOND;
    }
}

/// Streams the database of a healthy voter, this master's by preference, onto the filesystem of `near`.
///
/// # Errors
/// When no voter answers, or the stream is not what its checksum says.
pub fn stream(subject: Subject<'_>, near: &Path) -> Result<Database> {
    let Subject { host, spec, this } = subject;
    let own = std::iter::once(&this.node);
    let others = spec.masters.iter().filter(|m| m.name != this.node.name);
    let mut problems = vec![];
    let mut leaderless = None;
    for node in own.chain(others) {
        let client = member_client(host, this, node.ip)?;
        match client.lag() {
            Ok(lag) if lag.is_learner => problems.push(problem(&node.name, "is a learner: its data may be old")),
            // Without a quorum its data is the best there is, if no other has one.
            Ok(lag) if lag.leader == 0 => leaderless = leaderless.or(Some((client, node.name.as_str()))),
            Ok(_) => return stream_from(&client, &node.name, near),
            Err(e) => problems.push(problem(&node.name, &e.to_string())),
        }
    }
    match leaderless {
        Some((client, name)) => stream_from(&client, name, near),
        None => Err(Error::apply("no voter answers, so no snapshot can be taken")
            .problems(problems)
            .hint("hamaster etcd status")
            .hint("hamaster etcd recover    # when the majority is lost for good")),
    }
}

/// Streams the database of this one member.
///
/// # Errors
/// When it does not answer, or the stream is not what its checksum says.
pub fn stream_from(client: &Client, name: &str, near: &Path) -> Result<Database> {
    let status = client.status()?;
    let mut spool = Spool::new(near)?;
    let mut checker = Checker::default();
    client.snapshot(&mut Both(&mut spool, &mut checker))?;
    if !checker.finish().sum_fits {
        return Err(Error::apply(format!("the database that {name} sent is damaged"))
            .cause("it does not fit the checksum behind it")
            .hint("hamaster etcd status"));
    }
    let (cluster_id, etcd_version) = (status.cluster_id, status.version);
    Ok(Database { spool, source: Source::Stream, cluster_id, member: name.to_owned(), etcd_version })
}

/// Seals a database and this host's secrets into a new file at `path`, which appears only once it was read back.
///
/// # Errors
/// When the database does not read, a file of the host is missing, or the archive cannot be written.
pub fn save(
    subject: Subject<'_>,
    database: &mut Database,
    key: &Key,
    path: &Path,
    now: OffsetDateTime,
) -> Result<Saved> {
    database.spool.rewind()?;
    let mut checker = Checker::default();
    io::copy(&mut database.spool, &mut checker).map_err(|e| Error::apply("cannot read the snapshot").cause(e))?;
    let Checked { bytes, sha256, .. } = checker.finish();
    let revision = match etcd_tool::revision(&database.spool.path()) {
        Ok(revision) => Some(revision),
        // Without a tool it is not known; one that cannot read the database found it damaged.
        Err(e) if e.kind() == Why::Refused => None,
        Err(e) => return Err(e),
    };
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        taken: now.format(&Rfc3339).map_err(|e| Error::apply("cannot write the date").cause(e))?,
        cluster: subject.spec.name.clone(),
        cluster_id: database.cluster_id.clone(),
        member: database.member.clone(),
        etcd_version: database.etcd_version.clone(),
        revision,
        bytes,
        sha256,
        source: database.source,
    };
    let mut file = NewFile::begin(path)?;
    let mut writer = Writer::new(key, Kind::Snapshot, io::BufWriter::new(&mut file))?;
    let json = serde_json::to_vec(&manifest).map_err(|e| Error::apply("cannot encode the manifest").cause(e))?;
    writer.entry(MANIFEST, 0o600, &mut json.as_slice())?;
    database.spool.rewind()?;
    writer.entry(DATABASE, 0o600, &mut database.spool)?;
    for path in files(subject) {
        let Some(stat) = subject.host.stat(&path)? else { continue };
        let Some(bytes) = subject.host.read(&path)?.map(Secret::new) else { continue };
        let name = format!("{FILES}{}", path.strip_prefix("/").unwrap_or(&path).display());
        writer.entry(&name, stat.mode, &mut Cursor::new(bytes.expose()))?;
    }
    let flushed = writer.finish()?.into_inner().map(drop);
    flushed.map_err(|e| Error::apply(format!("cannot write {}", path.display())).cause(e.error()))?;
    Contents::read(key, file.unnamed(), &mut io::sink())?.whole()?;
    file.appear()?;
    Ok(Saved { path: path.to_owned(), manifest })
}

/// What of a host belongs into a snapshot: what no other command could make again.
fn files(subject: Subject<'_>) -> Vec<PathBuf> {
    let Subject { spec, this, .. } = subject;
    let mut all = vec![this.layout.cluster_yaml()];
    all.extend(catalog::cas(spec, this).into_iter().flat_map(|ca| [ca.cert, ca.key]));
    all.extend(catalog::secrets(spec, this).iter().flat_map(|s| s.paths().into_iter().map(Path::to_path_buf)));
    all
}

/// What was in an archive that opened whole.
pub struct Contents {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What its database is.
    pub database: Checked,
    /// Files of a host by their absolute path, with their mode.
    pub files: BTreeMap<PathBuf, (u32, Secret)>,
}

impl Contents {
    /// Opens the archive at `path`; its database goes to `database`.
    ///
    /// # Errors
    /// When it cannot be read, the key is another one, or it was cut or changed.
    pub fn read(key: &Key, path: &Path, database: &mut dyn Write) -> Result<Self> {
        let mut reader = Reader::new(key, Kind::Snapshot, spool::open(path)?)?;
        let (mut manifest, mut checked, mut files) = (None, None, BTreeMap::new());
        while let Some((name, mode)) = reader.next_entry()? {
            match name.as_str() {
                MANIFEST => {
                    let json = reader.held()?;
                    manifest = Some(serde_json::from_slice(json.expose()).map_err(|e| odd(path, &e))?);
                }
                DATABASE => {
                    let mut checker = Checker::default();
                    copy(&mut reader, &mut Both(database, &mut checker))?;
                    checked = Some(checker.finish());
                }
                name => {
                    let relative =
                        name.strip_prefix(FILES).filter(|n| n.split('/').all(|p| !matches!(p, "" | "." | "..")));
                    let Some(relative) = relative else { return Err(odd(path, &format!("it holds {name}"))) };
                    files.insert(Path::new("/").join(relative), (mode & 0o777, reader.held()?));
                }
            }
        }
        match (manifest, checked) {
            (Some(manifest), Some(database)) => Ok(Self { manifest, database, files }),
            _ => Err(odd(path, &"it holds no database")),
        }
    }

    /// Opens the archive at `path` with its database in a spool on the filesystem of `near`.
    ///
    /// # Errors
    /// As [`Contents::read`].
    pub fn unpack(key: &Key, path: &Path, near: &Path) -> Result<(Self, Spool)> {
        let mut spool = Spool::new(near)?;
        let contents = Self::read(key, path, &mut spool)?;
        Ok((contents, spool))
    }

    /// That the database is the one the manifest is about, and fits etcd's own checksum.
    ///
    /// # Errors
    /// When it is not.
    pub fn whole(&self) -> Result<()> {
        let (want, have) = (&self.manifest, &self.database);
        let damaged = |why: &str| Err(Error::conflict("the database in the snapshot is damaged").cause(why));
        if (want.bytes, &want.sha256) != (have.bytes, &have.sha256) {
            return damaged("it is not the one the snapshot was made of");
        }
        if want.source == Source::Stream && !have.sum_fits {
            return damaged("it does not fit the checksum behind it");
        }
        Ok(())
    }

    /// Each certificate authority that has a key in here, and whether it is its own; `sa.key` among them.
    pub fn keys(&self) -> Vec<(PathBuf, Result<(), String>)> {
        let public = |path: &Path| -> Option<Result<Vec<crate::state::Digest>, String>> {
            let read = |ext: &str| self.files.get(&path.with_extension(ext)).map(|(_, b)| b.expose());
            let certs = |pem| inspect::certs(pem).map(|c| c.into_iter().map(|c| c.spki).collect());
            read("crt").map(certs).or_else(|| read("pub").map(inspect::public_keys))
        };
        let keys = self.files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "key"));
        keys.map(|(path, (_, bytes))| {
            let fits = || {
                let own = inspect::key(bytes.expose())?.spki;
                let public = public(path).ok_or("what it is the key of is missing")??;
                if public.contains(&own) { Ok(()) } else { Err("it is the key of another one".to_owned()) }
            };
            (path.clone(), fits())
        })
        .collect()
    }
}

/// What [`verify`] proved.
#[derive(Debug)]
pub struct Verified {
    /// What the archive says of itself.
    pub manifest: Manifest,
    /// The revision read from the database just now.
    pub revision: i64,
    /// Keys that fit their certificates.
    pub keys: Vec<PathBuf>,
}

/// Proves that the archive at `path` can bring a control plane back: it opens whole, its database is undamaged and
/// etcd's own tool reads it, and its keys are those of its certificates.
///
/// # Errors
/// Whatever is not so.
pub fn verify(key: &Key, path: &Path) -> Result<Verified> {
    let near = path.parent().unwrap_or(Path::new("/"));
    let (contents, spool) = Contents::unpack(key, path, near)?;
    contents.whole()?;
    let revision = etcd_tool::revision(&spool.path())?;
    let mut problems = vec![];
    if let Some(claimed) = contents.manifest.revision.filter(|r| *r != revision) {
        problems.push(problem(DATABASE, &format!("revision {revision}, the manifest says {claimed}")));
    }
    let keys = contents.keys();
    for (path, fits) in &keys {
        problems.extend(fits.as_ref().err().map(|why| problem(&path.display().to_string(), why)));
    }
    if !problems.is_empty() {
        return Err(Error::conflict(format!("{} would not bring a control plane back", path.display()))
            .problems(problems)
            .hint("hamaster certs verify"));
    }
    Ok(Verified { manifest: contents.manifest, revision, keys: keys.into_iter().map(|(path, _)| path).collect() })
}

/// Removes this node's oldest snapshots in `dir` until `keep` are left. Returns what went.
///
/// # Errors
/// When the directory cannot be read, or a file not removed.
pub fn rotate(host: &mut Host, dir: &Path, node: &str, keep: usize, saved: &Path) -> Result<Vec<PathBuf>> {
    let names = host.list(dir)?.unwrap_or_default();
    let names: Vec<&str> = names.iter().filter_map(|n| n.to_str()).collect();
    let mut old: Vec<PathBuf> = snapshot::outdated(node, &names, keep).into_iter().map(|n| dir.join(n)).collect();
    // By the names of others, from a clock that ran ahead, it may look old.
    old.retain(|path| path.file_name() != saved.file_name());
    for path in &old {
        host.forget(path)?;
    }
    Ok(old)
}

/// Writes to two at once.
struct Both<'a, A: ?Sized, B: ?Sized>(&'a mut A, &'a mut B);

impl<A: Write + ?Sized, B: Write + ?Sized> Write for Both<'_, A, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Reading fails by the archive, writing by the disk.
fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<()> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Error::conflict("the snapshot cannot be opened").cause(e).hint("ls -l /var/lib/hamaster/snapshots")
        }
        _ => Error::apply("cannot unpack the snapshot").cause(e).hint("df -h"),
    };
    io::copy(from, to).map(drop).map_err(failed)
}

fn odd(path: &Path, why: &dyn std::fmt::Display) -> Box<Error> {
    Error::conflict(format!("{} is not a snapshot this version reads", path.display())).cause(why)
}

fn problem(at: &str, message: &str) -> Problem {
    Problem { at: at.to_owned(), message: message.to_owned(), hint: None }
}
