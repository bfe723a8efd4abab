//! Fills [`Observed`]: looks at the paths and units a phase is about, and changes nothing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::pki::inspect;
use crate::state::observed::{ContentFact, Observed, Owners, PathFact, PathKind, Record};
use crate::state::{Digest, Owner};

/// The largest public file that is kept for a diff.
const MAX_PUBLIC: usize = 1024 * 1024;

/// The kubelet's client certificate, which it rotates itself.
const ROTATED: &str = "kubelet-client-current.pem";

/// Looks at `paths` and `units`, and reads the record of what we own.
///
/// # Errors
/// When something is there but cannot be read, the service manager does not answer, or the record is corrupt.
pub fn observe(host: &Host, paths: &[PathBuf], units: &[String], record_path: &Path) -> Result<Observed> {
    let owners = Owners { root: host.ids(Owner::Root)?, etcd: host.etcd_owner()? };
    let mut observed = Observed { record: record(host, record_path)?, owners, ..Observed::default() };
    for path in paths {
        if let Some(fact) = path_fact(host, path)? {
            observed.paths.insert(path.clone(), fact);
        }
    }
    for unit in units {
        observed.units.insert(unit.clone(), host.units().state(unit)?);
    }
    Ok(observed)
}

/// What is at `path`, with what its content says.
///
/// # Errors
/// When it is there but cannot be read.
pub fn path_fact(host: &Host, path: &Path) -> Result<Option<PathFact>> {
    let Some(stat) = host.stat(path)? else { return Ok(None) };
    let bytes = match stat.kind {
        PathKind::File => host.read(path)?.map(Zeroizing::new),
        // The kubelet's rotation replaces its certificate by a symlink to the newest one.
        PathKind::Other if path.file_name() == Some(OsStr::new(ROTATED)) => host.read(path)?.map(Zeroizing::new),
        PathKind::Dir | PathKind::Other => None,
    };
    Ok(Some(PathFact {
        kind: stat.kind,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        digest: bytes.as_ref().map(|b| Digest::of(b)),
        content: bytes.map_or(ContentFact::Opaque, |b| content(path, &b)),
    }))
}

/// What would be at `path` once a file with these bytes is there, owned by root.
///
/// # Errors
/// When it cannot be known who root is here.
pub fn file_fact(host: &Host, path: &Path, bytes: &[u8], mode: u32) -> Result<PathFact> {
    let (uid, gid) = host.ids(Owner::Root)?;
    Ok(PathFact {
        kind: PathKind::File,
        mode,
        uid,
        gid,
        digest: Some(Digest::of(bytes)),
        content: content(path, bytes),
    })
}

/// Bytes are kept of a file only when neither its name nor its content says that it may be secret: what is kept is
/// shown in diffs. Its mode says nothing: a key that somebody made world-readable is a secret all the same.
fn content(path: &Path, bytes: &[u8]) -> ContentFact {
    let secret = [&b"PRIVATE KEY-----"[..], b"client-key-data"].iter().any(|mark| contains(bytes, mark));
    if secret || is_credential(path) {
        return match inspect::content(path, bytes) {
            ContentFact::Public(_) if secret => ContentFact::Opaque,
            fact => fact,
        };
    }
    if bytes.len() <= MAX_PUBLIC { ContentFact::Public(bytes.to_owned()) } else { ContentFact::Opaque }
}

/// Certificates, keys, tokens and kubeconfigs, by name.
fn is_credential(path: &Path) -> bool {
    let parent = path.parent().and_then(Path::file_name);
    match path.extension().and_then(OsStr::to_str) {
        Some("crt" | "cert" | "key" | "pem" | "csv" | "csr" | "pub") => true,
        Some("conf") if parent == Some(OsStr::new("kubernetes")) => true,
        _ => path.iter().any(|name| name == "pki"),
    }
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|w| w == mark)
}

/// The record of what we own; nothing is owned where there is none yet.
///
/// # Errors
/// When it is there and does not read.
pub fn record(host: &Host, path: &Path) -> Result<Record> {
    let Some(bytes) = host.read(path)? else { return Ok(Record::default()) };
    serde_json::from_slice(&bytes).map_err(|e| {
        let path = host.shown(path);
        // Never taken for empty: everything we own would look foreign, or be forgotten by reset.
        Error::conflict(format!("the record of what hamaster owns on this host cannot be read: {}", path.display()))
            .cause(e)
            .hint(format!(
                "mv {0} {0}.corrupt    # then run again with --adopt to take over what is there",
                path.display()
            ))
    })
}
