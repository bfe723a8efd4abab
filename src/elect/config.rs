//! What `elect.yaml` says, or podmaster's flags: data, validated, nothing touched.
//!
//! [`load`] and [`Config::from_podmaster`] report every mistake at once. A [`Config`] that exists is safe: its timing
//! can be kept, no two groups share a destination, every path is absolute.

mod checks;
mod draft;
mod podmaster;
mod read;
mod show;
mod source;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use podmaster::Podmaster;
pub use read::load;
pub use show::{to_json, to_yaml};
pub use source::{pod_name, source_note};

use super::timing::Timing;

/// `elect.yaml`, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The name others know this process by. `None`: the host's name.
    pub id: Option<String>,
    /// Members of the etcd cluster, at least one; all with TLS or all without.
    pub endpoints: Vec<Endpoint>,
    /// CA and client certificate; `None`: plain HTTP, as podmaster spoke it.
    pub tls: Option<TlsFiles>,
    /// 0 to 99: higher goes first in the queue. Default 0.
    pub priority: u8,
    /// A candidate of higher priority that was fit for this long is given the lead. Default: never.
    pub preempt_after: Option<Duration>,
    /// A leader does not resign of its own accord before this long in office; fencing never waits for it. Default 30 s.
    pub min_term: Duration,
    /// Status files, socket and lock. Default `/run/hamaster/elect`.
    pub runtime_dir: PathBuf,
    /// Where status and metrics are served by HTTP besides the unix socket `<runtime_dir>/elect.sock`.
    pub listen: Option<SocketAddr>,
    /// The process ends with code 4 if etcd was not reached this long after its start. Default: it waits for ever.
    pub store_timeout: Option<Duration>,
    /// Ends once leadership was held and lost.
    pub once: bool,
    /// When this node is fit to lead.
    pub health: Health,
    /// What to do when neither manifest nor payload can be removed.
    pub on_unfenceable: Unfenceable,
    /// What is elected; at least one, no two with one name.
    pub groups: Vec<Group>,
    /// Worth saying once at the start, no mistakes.
    pub notes: Vec<String>,
}

impl Config {
    /// The group of this name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|g| g.name == name)
    }

    /// The times of a group: what the file says for all, with the group's own stop bound.
    pub fn timing(&self, group: &Group) -> Timing {
        group.timing
    }
}

/// One member of etcd: `https://127.0.0.1:2379`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `https`
    pub tls: bool,
    /// An IP without brackets, or a DNS name.
    pub host: String,
    /// Default 2379.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// Files in PEM: read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// CA of etcd's server certificates.
    pub ca: PathBuf,
    /// Client certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// One payload that exactly one node holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Part of its keys in etcd, its status file and its metrics.
    pub name: String,
    /// What is held.
    pub payload: Payload,
    /// Run after the payload began; failing, the node resigns.
    pub on_start: Option<Vec<String>>,
    /// Run before the payload is removed.
    pub on_stop: Option<Vec<String>>,
    /// Groups this one should be apart from.
    pub spread: Vec<String>,
    /// Groups this one should be together with.
    pub together: Vec<String>,
    /// Its times.
    pub timing: Timing,
}

/// What a leader has and nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A file at its destination.
    File(FilePayload),
    /// A running command: program and arguments.
    Exec {
        /// The program by its absolute path, then its arguments.
        argv: Vec<String>,
    },
    /// A running systemd unit.
    Unit {
        /// With its suffix: `keepalived.service`.
        name: String,
    },
}

/// A file that is copied from one place to another, and what lives by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePayload {
    /// Where it waits.
    pub source: PathBuf,
    /// Where it takes effect.
    pub dest: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// How the death of what it started is confirmed.
    pub confirm: Confirm,
    /// The runtime's socket, without `unix://`; `None`: where the usual runtimes have it.
    pub cri_socket: Option<PathBuf>,
    /// Whether `${HAMASTER_TOKEN}` in the source becomes the fencing token. Default: byte for byte.
    pub annotate_token: bool,
    /// How a changed source is taken over while leading.
    pub update: Update,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A manifest the kubelet runs. The default; the source must be one Pod.
    Pod,
    /// Anything; nothing is known of what reads it.
    File,
}

/// How the death of a payload is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirm {
    /// By the runtime where its socket exists, otherwise by waiting. The default for a pod.
    Auto,
    /// The runtime lists no container of the pod.
    Cri,
    /// By waiting K, as nothing can be asked. The default for a plain file.
    None,
    /// Nobody listens here any more.
    Port(SocketAddr),
    /// The command succeeds once it is dead.
    Exec(Vec<String>),
}

/// How a changed source is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// Remove, confirm dead, install: old and new never overlap. The default.
    Restart,
    /// Replace the file in place.
    Replace,
}

/// The last word when fencing fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfenceable {
    /// Say so, keep the lease to expire by itself, go on trying. The default.
    Alarm,
    /// Reset the machine at once.
    Reboot,
}

/// When a node is fit to lead. Without checks it always is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// All must pass.
    pub checks: Vec<Check>,
    /// From the start of one round to the next. Default 2 s.
    pub every: Duration,
    /// A check that has not answered by then failed. Default 1 s.
    pub timeout: Duration,
    /// Rounds in a row that must fail. Default 3.
    pub fall: u32,
    /// Rounds in a row that must pass. Default 5.
    pub rise: u32,
    /// A node that was unfit waits this long in good health before it is a candidate again. Default 10 s.
    pub healthy_for: Duration,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Answers with a status of 200 to 399.
    Http {
        /// `http` or `https`, host, port, path.
        url: http::Uri,
        /// CA of the server's certificate; always there with `https`.
        ca: Option<PathBuf>,
    },
    /// Takes a connection.
    Tcp(String),
    /// Ends with 0.
    Exec(Vec<String>),
}
