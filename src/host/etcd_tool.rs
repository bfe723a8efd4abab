//! etcd's own tool for databases at rest: `etcdutl` from 3.6 on, `etcdctl` before.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::command::{self, Output};

/// Deadlines: a database of several GiB is read, or written, once.
const READ: Duration = Duration::from_secs(600);
const WRITE: Duration = Duration::from_secs(3600);

/// What `snapshot restore` is told.
pub struct Restore<'a> {
    /// The database.
    pub database: &'a Path,
    /// It has no checksum: it was copied from a data directory.
    pub unchecked: bool,
    /// Where to; must not exist.
    pub data_dir: &'a Path,
    /// The only member.
    pub name: &'a str,
    /// Where its peers will reach it.
    pub peer_url: &'a str,
    /// A token no cluster had before.
    pub token: &'a str,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Id of the new cluster, hex.
    pub cluster_id: String,
    /// Id of its only member, hex.
    pub member_id: String,
    /// Revisions were moved far ahead: no watcher sees them go backwards.
    pub bumped: bool,
}

/// The tool this host has.
///
/// # Errors
/// When it has neither.
fn tool() -> Result<&'static str> {
    let has = |name: &&str| command::run(name, &["version"], READ).is_ok_and(|out| out.success());
    ["etcdutl", "etcdctl"].into_iter().find(has).ok_or_else(|| {
        Error::refused("neither etcdutl nor etcdctl is installed: nothing here can read a database of etcd")
            .hint("apt-get install etcd-client    # or what your distribution calls it")
    })
}

/// The newest revision in the database at `path`.
///
/// # Errors
/// When no tool is installed, or the database does not read.
pub fn revision(path: &Path) -> Result<i64> {
    let tool = tool()?;
    let said = command::run(tool, &["snapshot", "status", "-w", "json", &path.to_string_lossy()], READ)?;
    let read = || serde_json::from_str::<serde_json::Value>(&said.stdout).ok()?.get("revision")?.as_i64();
    read().filter(|_| said.success()).ok_or_else(|| failed(tool, "read the database", &said))
}

/// Makes a data directory from a database.
///
/// # Errors
/// When no tool is installed, or it fails; what it left must be removed then.
pub fn restore(how: &Restore<'_>) -> Result<Restored> {
    let tool = tool()?;
    let help = command::run(tool, &["snapshot", "restore", "--help"], READ)?;
    let bumps = help.stdout.contains("--bump-revision");
    let (database, data_dir) = (how.database.to_string_lossy(), how.data_dir.to_string_lossy());
    let cluster = format!("{}={}", how.name, how.peer_url);
    let mut args = vec!["snapshot", "restore", &database, "--data-dir", &data_dir, "--name", how.name];
    args.extend(["--initial-cluster", &cluster, "--initial-cluster-token", how.token]);
    args.extend(["--initial-advertise-peer-urls", how.peer_url]);
    if how.unchecked {
        args.push("--skip-hash-check");
    }
    if bumps {
        args.extend(["--bump-revision", "1000000000", "--mark-compacted"]);
    }
    let said = command::run(tool, &args, WRITE)?;
    if !said.success() {
        return Err(failed(tool, "restore the database", &said));
    }
    let (cluster_id, member_id) = ids(&said).ok_or_else(|| failed(tool, "say which cluster it made", &said))?;
    Ok(Restored { cluster_id, member_id, bumped: bumps })
}

/// The tool logs them as JSON lines, or as `cluster-id … added-peer-id …` in between.
fn ids(said: &Output) -> Option<(String, String)> {
    let after = |line: &str, key: &str| {
        let rest = &line[line.find(key)? + key.len()..];
        let id: String =
            rest.trim_start_matches(['"', ':', ' ', '=']).chars().take_while(char::is_ascii_hexdigit).collect();
        (!id.is_empty()).then_some(id)
    };
    let mut lines = said.stderr.lines().chain(said.stdout.lines());
    lines.find_map(|l| Some((after(l, "cluster-id")?, after(l, "added-peer-id")?)))
}

fn failed(tool: &str, what: &str, said: &Output) -> Box<Error> {
    let last = said.stderr.lines().chain(said.stdout.lines()).rfind(|l| !l.trim().is_empty()).unwrap_or("no word");
    Error::apply(format!("{tool} does not {what}")).cause(last).hint("hamaster etcd snapshot verify FILE")
}
