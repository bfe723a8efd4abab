//! A snapshot of a cluster: what is in its archive, how etcd's own checksum is checked, what it is called, and which
//! old ones go.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// The first entry of an archive: a [`Manifest`] as JSON.
pub const MANIFEST: &str = "manifest.json";
/// The second: the database, with etcd's checksum behind it.
pub const DATABASE: &str = "etcd.db";
/// All others: files of the host by their path without the leading `/`, below this.
pub const FILES: &str = "files/";
/// What an archive's name ends with.
pub const EXTENSION: &str = ".hamaster";

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Format of this entry.
    pub schema: String,
    /// When it was taken, RFC 3339.
    pub taken: String,
    /// Name of the cluster.
    pub cluster: String,
    /// etcd's id of it, hex; empty when the member could not be asked.
    pub cluster_id: String,
    /// The master whose data it is.
    pub member: String,
    /// etcd's version; empty when the member could not be asked.
    pub etcd_version: String,
    /// The newest revision in it, where a tool could read it.
    pub revision: Option<i64>,
    /// Bytes of the database.
    pub bytes: u64,
    /// SHA-256 of the database's bytes, hex.
    pub sha256: String,
    /// Where the database comes from.
    pub source: Source,
}

/// Where a database comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A member streamed it, with a checksum.
    Stream,
    /// Copied from the data directory of a stopped member: it has no checksum of etcd's, and the last moments that
    /// were only in the log are not in it.
    Copy,
}

/// Reads a database as it passes by, and compares it with the checksum etcd puts behind it.
pub struct Checker {
    whole: Context,
    content: Context,
    /// The last bytes so far: the checksum, once there is no more.
    tail: Vec<u8>,
    bytes: u64,
}

/// Bytes of etcd's checksum.
const SUM: usize = 32;

impl Default for Checker {
    fn default() -> Self {
        Self { whole: Context::new(&SHA256), content: Context::new(&SHA256), tail: vec![], bytes: 0 }
    }
}

/// What a [`Checker`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Bytes of all of it.
    pub bytes: u64,
    /// SHA-256 of all of it, hex.
    pub sha256: String,
    /// The checksum at its end is that of what is before it.
    pub sum_fits: bool,
}

impl Checker {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        self.bytes += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let content = self.tail.len().saturating_sub(SUM);
        self.content.update(&self.tail[..content]);
        self.tail.drain(..content);
    }

    /// There are no more.
    pub fn finish(self) -> Checked {
        let sum_fits = self.bytes > SUM as u64 && self.content.finish().as_ref() == self.tail.as_slice();
        let hex = self.whole.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect();
        Checked { bytes: self.bytes, sha256: hex, sum_fits }
    }
}

impl std::io::Write for Checker {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The file name of a snapshot of `node`; `stamp` sorts by time.
pub fn file_name(node: &str, stamp: &str) -> String {
    format!("{node}-{stamp}{EXTENSION}")
}

/// Which of the files in a directory are one too many: all but the newest `keep` of this node's own. Whatever was not
/// named by [`file_name`] stays.
pub fn outdated<'n>(node: &str, names: &[&'n str], keep: usize) -> Vec<&'n str> {
    let stamp = |name: &str| -> Option<String> {
        let stamp = name.strip_prefix(node)?.strip_prefix('-')?.strip_suffix(EXTENSION)?;
        let plain = stamp.len() == STAMP.len()
            && stamp
                .bytes()
                .zip(STAMP.bytes())
                .all(|(b, like)| if like == b'0' { b.is_ascii_digit() } else { b == like });
        plain.then(|| stamp.to_owned())
    };
    let mut own: Vec<(String, &'n str)> = names.iter().filter_map(|n| Some((stamp(n)?, *n))).collect();
    own.sort_by(|a, b| b.cmp(a));
    own.into_iter().skip(keep).map(|(_, name)| name).collect()
}

/// The form of a stamp: any digit for a `0`.
const STAMP: &str = "00000000T000000";
