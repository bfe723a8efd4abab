//! Everything that descends from a group's program, daemonised or not: in a cgroup of its own where one can be made,
//! by a mark in the environment everywhere.
#![allow(clippy::disallowed_methods)] // floor 3: processes and cgroups

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::descendants;

/// The variable that marks them; its value names the daemon.
pub(super) const EXEC: &str = "HAMASTER_EXEC";

/// The processes of one group, of this daemon and of those before it that are dead. Another daemon of this host that
/// is alive looks after its own.
#[derive(Debug)]
pub(super) struct Family {
    group: String,
    mark: String,
    /// Cgroups are made below this one, the daemon's own.
    parent: Option<PathBuf>,
}

impl Family {
    pub(super) fn of(group: &str) -> Self {
        let pid = std::process::id();
        let mark = format!("{pid}-{}", started(pid).unwrap_or_default());
        Self { group: group.to_owned(), mark, parent: own_cgroup() }
    }

    /// The value of [`EXEC`].
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// A cgroup for what is started next; `None` where that is not allowed.
    pub(super) fn make_cgroup(&self) -> Option<PathBuf> {
        let dir = self.parent.as_ref()?.join(format!("{}{}", self.prefix(), self.mark));
        match fs::create_dir(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => None,
            _ => Some(dir),
        }
    }

    /// How many are alive.
    pub(super) fn count(&self) -> usize {
        self.members().len()
    }

    /// Kills them all; how many there were.
    pub(super) fn kill(&self) -> usize {
        // At once, where the kernel can: nothing forks faster than this.
        for dir in self.cgroups() {
            let _ = fs::write(dir.join("cgroup.kill"), "1");
        }
        let members = self.members();
        for pid in &members {
            if let Some(pid) = Pid::from_raw(*pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        members.len()
    }

    /// When none is left.
    pub(super) fn remove_cgroups(&self) {
        for dir in self.cgroups() {
            remove_tree(&dir);
        }
    }

    fn prefix(&self) -> String {
        format!("hamaster-elect-{}.", self.group)
    }

    fn is_ours(&self, mark: &str) -> bool {
        mark == self.mark || !is_alive(mark)
    }

    fn members(&self) -> BTreeSet<i32> {
        let mut members = BTreeSet::new();
        for dir in self.cgroups() {
            collect(&dir, &mut members);
        }
        let group = format!("HAMASTER_GROUP={}", self.group);
        let marked = |environment: &[u8]| {
            let mut variables = environment.split(|b| *b == 0).filter_map(|v| std::str::from_utf8(v).ok());
            let mark = variables.clone().find_map(|v| v.strip_prefix(EXEC)?.strip_prefix('='));
            mark.is_some_and(|mark| variables.any(|v| v == group) && self.is_ours(mark))
        };
        members.extend(descendants::with_environment(marked).map(|pid| pid.as_raw_nonzero().get()));
        members
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let Some(parent) = &self.parent else { return vec![] };
        let prefix = self.prefix();
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let ours = |name: &str| name.strip_prefix(&prefix).is_some_and(|mark| self.is_ours(mark));
        entries.filter(|e| e.file_name().to_str().is_some_and(ours)).map(|e| e.path()).collect()
    }
}

/// Whether the daemon of a mark still runs.
fn is_alive(mark: &str) -> bool {
    let Some((pid, at)) = mark.split_once('-') else { return false };
    pid.parse().ok().and_then(started).is_some_and(|started| started == at)
}

/// When a process started, in ticks since the boot: with its id it names the process for as long as the machine is up.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    // A zombie has lived.
    (state != "Z").then(|| fields.nth(18).map(str::to_owned)).flatten()
}

fn collect(dir: &Path, members: &mut BTreeSet<i32>) {
    let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    members.extend(listed.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    for below in below(dir) {
        collect(&below, members);
    }
}

fn remove_tree(dir: &Path) {
    for below in below(dir) {
        remove_tree(&below);
    }
    let _ = fs::remove_dir(dir);
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// The directory of this process's cgroup: in the unified hierarchy, or in systemd's own of the older kind.
fn own_cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let hierarchy = |controller: &str, is: &dyn Fn(&str) -> bool| {
        let path = own.lines().find_map(|l| l.split_once(':')?.1.strip_prefix(controller)?.strip_prefix(':'))?;
        let mount = mounts.lines().find(|l| l.split_once(" - ").is_some_and(|(_, kind)| is(kind)))?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = path.strip_prefix(root).unwrap_or(path);
        let dir = Path::new(point).join(below.trim_start_matches('/'));
        dir.join("cgroup.procs").exists().then_some(dir)
    };
    hierarchy("", &|kind| kind.starts_with("cgroup2 "))
        .or_else(|| hierarchy("name=systemd", &|kind| kind.starts_with("cgroup ") && kind.contains("name=systemd")))
}
