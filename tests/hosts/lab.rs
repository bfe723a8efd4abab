//! A network namespace with a bridge that hosts are plugged into, and everything needed to leave no trace of it.
//!
//! The machine's own network, mounts and cgroups are not touched: all that is made carries one name, and [`sweep`]
//! finds it by that name in the kernel's own lists. The same sweep runs at the start (a killed run cannot clean up
//! after itself) and at the end.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::machine::Machine;

/// Carried by every namespace, cgroup and machine of ours.
pub const NAME: &str = "hamtest";
/// The machines' disks: a tmpfs, which any machine offers and which an overlay takes as its upper layer.
pub const DISKS: &str = "/run/hamaster-e2e";

/// The laboratory. One at a time on a machine.
pub struct Lab {
    base: PathBuf,
    _lock: File,
}

impl Lab {
    /// Waits for its turn, removes what a dead run left, makes the network. `None`, with a message, without root.
    pub fn new() -> Option<Self> {
        if !geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "host tests need root, and CI must run them");
            eprintln!("SKIPPED: host tests need root (sudo -E ./.ci/test)");
            return None;
        }
        let lock = File::create("/run/hamaster-e2e.lock").unwrap();
        lock.lock().unwrap();
        sweep();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/base.sh");
        let base = PathBuf::from(tool(script, &[]).trim_end());
        fs::create_dir_all(DISKS).unwrap();
        tool("mount", &["-t", "tmpfs", "-o", "mode=0755", NAME, DISKS]);
        tool("ip", &["netns", "add", NAME]);
        ip(NAME, "link set lo up");
        ip(NAME, "link add br0 type bridge");
        ip(NAME, "addr add 192.0.2.1/24 dev br0");
        ip(NAME, "link set br0 up");
        Some(Self { base, _lock: lock })
    }

    /// A new host with an empty disk, switched off. `number` is the last byte of its address, 192.0.2.`number`.
    pub fn machine(&self, name: &str, number: u8) -> Machine<'_> {
        Machine::new(self, name, Ipv4Addr::new(192, 0, 2, number))
    }

    /// The root file system below every disk.
    pub fn base(&self) -> &Path {
        &self.base
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        sweep();
    }
}

/// Ends and removes everything of ours: processes, mounts, network namespaces, cgroups, directories.
fn sweep() {
    sweep_cgroups(&cgroups(&[]));
    // Innermost first, and again while the kernel still lets go of what the processes held.
    within(Duration::from_secs(20), "the disks are unmounted", || mounts().iter().rev().all(|m| quiet("umount", &[m])));
    for name in namespaces() {
        tool("ip", &["netns", "del", &name]);
    }
    for dir in nspawn_directories().into_iter().chain([PathBuf::from(DISKS)]).filter(|d| d.exists()) {
        fs::remove_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    }
}

/// Kills all that runs in these cgroups and removes them. They would outlive a power cut otherwise, and a kubelet that
/// finds its old ones takes a minute to start instead of seconds.
pub fn sweep_cgroups(groups: &[PathBuf]) {
    within(Duration::from_secs(20), "every process of the hosts is gone", || {
        let alive = processes(groups);
        for pid in &alive {
            // It may be gone since it was listed.
            let _ = Pid::from_raw(*pid).map(|p| kill_process(p, Signal::KILL));
        }
        alive.is_empty()
    });
    within(Duration::from_secs(20), "the cgroups of the hosts are removed", || {
        groups.iter().all(|g| directories(g).iter().rev().all(|d| fs::remove_dir(d).is_ok()))
    });
}

/// Every trace of a lab on this machine; none when all is clean.
pub fn traces() -> Vec<String> {
    let mut found: Vec<String> = processes(&cgroups(&[])).iter().map(|p| format!("process {p}")).collect();
    found.extend(mounts().iter().map(|m| format!("mount {m}")));
    found.extend(namespaces().iter().map(|n| format!("network namespace {n}")));
    let dirs = cgroups(&[]).into_iter().chain(nspawn_directories()).chain([PathBuf::from(DISKS)]);
    found.extend(dirs.filter(|d| d.exists()).map(|d| d.display().to_string()));
    found
}

/// Our cgroup in every hierarchy (one with cgroup v2, one per controller with v1), extended by `below`.
pub fn cgroups(below: &[&str]) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let is_hierarchy = |d: &PathBuf| d.join("cgroup.procs").exists();
    let hierarchies = match Some(top.to_owned()).filter(is_hierarchy) {
        Some(unified) => vec![unified],
        None => {
            let each = fs::read_dir(top).unwrap().map(|e| e.unwrap());
            // Not the links: cpuacct -> cpu,cpuacct
            each.filter(|e| e.file_type().unwrap().is_dir()).map(|e| e.path()).filter(is_hierarchy).collect()
        }
    };
    hierarchies.into_iter().map(|h| below.iter().fold(h.join(NAME), |p, b| p.join(b))).collect()
}

fn processes(groups: &[PathBuf]) -> BTreeSet<i32> {
    let all = groups.iter().flat_map(|g| directories(g));
    let lists = all.filter_map(|d| fs::read_to_string(d.join("cgroup.procs")).ok());
    lists.flat_map(|l| l.lines().map(|p| p.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// `dir` and all below it, parents first; none if it does not exist.
fn directories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return vec![] };
    let below = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    std::iter::once(dir.to_owned()).chain(below.flat_map(|e| directories(&e.path()))).collect()
}

fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|l| l.split(' ').nth(4));
    points.filter(|p| Path::new(p).starts_with(DISKS)).map(str::to_owned).collect()
}

fn namespaces() -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.map(|e| e.file_name().into_string().unwrap()).filter(|n| n.starts_with(NAME)).collect()
}

/// Left behind by systemd-nspawn when it is killed.
fn nspawn_directories() -> Vec<PathBuf> {
    let parents = ["/run/systemd/nspawn/propagate", "/run/systemd/nspawn/unix-export"];
    let entries = parents.iter().flat_map(|p| fs::read_dir(p).into_iter().flatten().flatten());
    entries.filter(|e| e.file_name().to_string_lossy().starts_with(NAME)).map(|e| e.path()).collect()
}

/// Runs `ip` in a namespace; the arguments are words.
pub fn ip(namespace: &str, arguments: &str) {
    let words: Vec<&str> = ["-n", namespace].into_iter().chain(arguments.split(' ')).collect();
    tool("ip", &words);
}

/// Runs a program of this machine that must succeed, and returns what it prints.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).stderr(Stdio::inherit()).output();
    let out = out.unwrap_or_else(|e| panic!("{program}: {e}; ./.ci/setup installs what the tests need"));
    assert!(out.status.success(), "{program} {}: {}", arguments.join(" "), out.status);
    String::from_utf8(out.stdout).unwrap()
}

fn quiet(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Polls `condition` until it holds; panics, naming `what` was awaited, when it does not within `limit`.
pub fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
