//! What a supervisor runs, written down, so that the next one can end what a killed one left behind.
//!
//! The kernel ends children with their supervisor (`host::bound`); this covers what slipped past that. A
//! process is known by its number, its start time and the boot: a number alone may belong to somebody else by now.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::home::Home;
use crate::error::{Error, Result};

/// A process that cannot be mistaken for another one of the same boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Alive {
    pub(super) pid: u32,
    /// Clock ticks from boot to its start.
    pub(super) start: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pids {
    boot: String,
    /// The supervisor itself, which leads the session of all.
    #[serde(default)]
    supervisor: u32,
    processes: Vec<Alive>,
}

/// The identity of process `pid` while it runs; `None` when it is gone or only waits to be reaped.
pub(super) fn alive(pid: u32) -> Option<Alive> {
    let fields = stat(pid)?;
    // A killed program is a zombie as soon as its first thread has ended; the others may still hold its sockets.
    let threads: u32 = fields.get(17)?.parse().ok()?;
    if matches!(fields.first()?.as_str(), "Z" | "X") && threads <= 1 {
        return None;
    }
    Some(Alive { pid, start: fields.get(19)?.parse().ok()? })
}

/// The session of process `pid`.
pub(super) fn session(pid: u32) -> Option<u32> {
    stat(pid)?.get(3)?.parse().ok()
}

/// The fields of `/proc/<pid>/stat` from the third on, the state.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may itself hold blanks and parentheses.
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Writes down what runs now.
pub(super) fn record(home: &Home, processes: &[Alive]) -> std::io::Result<()> {
    let pids = Pids { boot: boot_id(), supervisor: std::process::id(), processes: processes.to_vec() };
    home.replace(&home.pids(), &serde_json::to_vec(&pids)?)
}

fn read(home: &Home) -> Option<Pids> {
    // A half-written record cannot be: it is replaced by renaming. One that does not read names nobody.
    let pids: Pids = serde_json::from_slice(&fs::read(home.pids()).ok()?).ok()?;
    (pids.boot == boot_id()).then_some(pids)
}

/// The process that supervises `home`, or did last in this boot.
pub(super) fn supervisor(home: &Home) -> Option<u32> {
    read(home).map(|pids| pids.supervisor)
}

/// Ends what a dead supervisor of this lab left running, and waits until it is gone.
pub(super) fn end(home: &Home) -> Result<()> {
    let Some(pids) = read(home) else { return Ok(()) };
    let deadline = Instant::now() + Duration::from_secs(10);
    for process in pids.processes {
        while alive(process.pid) == Some(process) {
            if let Some(group) = Pid::from_raw(process.pid.cast_signed()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            if Instant::now() > deadline {
                return Err(Error::apply(format!("process {} of an earlier lab does not end", process.pid))
                    .hint(format!("kill -9 {}", process.pid)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}
