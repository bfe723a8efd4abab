//! What is said over the supervisor's socket: one JSON line asks, one answers, then the connection is closed.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::home::Home;

/// Longest line; a report of a hundred pods is far below it.
const LONGEST: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Read unit files again.
    Reload,
    /// State of a unit.
    State {
        /// `etcd.service`
        unit: String,
    },
    /// Start it with the supervisor, or not.
    Enable {
        /// Its name.
        unit: String,
        /// Or not.
        on: bool,
    },
    /// Start a unit.
    Start {
        /// Its name.
        unit: String,
    },
    /// Restart or start a unit.
    Restart {
        /// Its name.
        unit: String,
    },
    /// Begin to stop a unit.
    Stop {
        /// Its name.
        unit: String,
    },
    /// Look for programs here from now on.
    Search {
        /// In this order.
        dirs: Vec<PathBuf>,
    },
    /// Everything that is supervised.
    Report,
    /// Freeze every process, as a hanging machine would, or thaw them.
    Freeze {
        /// Or thaw.
        on: bool,
    },
    /// Stop everything, then end.
    Shutdown,
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is so.
    Done,
    /// Of a unit.
    State(UnitReport),
    /// Of everything.
    Report(Report),
    /// Why not.
    Refused(String),
}

/// A unit, as `host::Units` asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnitReport {
    /// There is a unit file.
    pub loaded: bool,
    /// Starts with the supervisor.
    pub enabled: bool,
    /// Runs and is not being stopped.
    pub active: bool,
    /// Failed or crashing over and over.
    pub failed: bool,
    /// The file changed since it was read.
    pub needs_reload: bool,
    /// Its process, also while it is being stopped.
    pub pid: Option<u32>,
}

/// Everything a supervisor runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The supervisor's own process.
    pub pid: u32,
    /// Since when it runs.
    pub uptime_seconds: u64,
    /// Masters that are cut off from all others, as this one's relay knows it.
    #[serde(default)]
    pub partitioned: Vec<String>,
    /// Units it has read.
    pub units: Vec<ProcessReport>,
    /// Static pods.
    pub pods: Vec<PodReport>,
}

/// A static pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodReport {
    /// `metadata.name`, or the file's name when it does not read.
    pub name: String,
    /// File in the manifests directory.
    pub manifest: String,
    /// Why it cannot run at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// One process each.
    pub containers: Vec<ProcessReport>,
}

/// A process and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessReport {
    /// Unit or container.
    pub name: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// While there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Restarts by the supervisor since it was last started by request.
    pub restarts: u32,
    /// Of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    /// Why it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What it says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Its output.
    pub log: PathBuf,
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Never started, or stopped by request.
    Stopped,
    /// It runs and has not said yet that it is ready.
    Starting,
    /// It runs.
    Running,
    /// It runs and is not let to (SIGSTOP).
    Frozen,
    /// It has done its work.
    Done,
    /// Told to stop.
    Stopping,
    /// The next start is due after a pause.
    Waiting,
    /// Ended in error and not restarted.
    Failed,
}

/// Asks the supervisor of `home`.
///
/// # Errors
/// When there is none, or it does not answer in time.
pub fn ask(home: &Home, request: &Request) -> io::Result<Reply> {
    let mut stream = home.with_socket(|path| UnixStream::connect(path))?;
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    if BufReader::new(stream.take(LONGEST)).read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

/// Listens on the lab's socket; each request is handed to `inbox` with the way to answer it.
pub(super) fn listen(home: &Home, inbox: Sender<(Request, Sender<Reply>)>) -> io::Result<()> {
    // Whoever holds the supervisor's lock owns the socket: what lies there is a dead one's.
    match fs::remove_file(home.socket()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = home.with_socket(|path| UnixListener::bind(path))?;
    fs::set_permissions(home.socket(), fs::Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("socket".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            // A client that went away or talks nonsense is its own problem.
            if stream.and_then(|s| converse(s, &inbox)).is_err() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    })?;
    Ok(())
}

fn converse(stream: UnixStream, inbox: &Sender<(Request, Sender<Reply>)>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(LONGEST)).read_line(&mut line)?;
    let reply = match serde_json::from_str(&line) {
        Err(e) => Reply::Refused(format!("not a request: {e}")),
        Ok(request) => {
            let (answer, answered) = channel();
            let gone = |_| io::Error::other("the supervisor is ending");
            inbox.send((request, answer)).map_err(|_| io::Error::other("the supervisor has ended"))?;
            answered.recv_timeout(PATIENCE).map_err(gone)?
        }
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    (&stream).write_all(&line)
}
