//! Finds processes that nobody remembers: by their program, their cgroup and their environment.
#![allow(clippy::disallowed_methods)] // floor 3: reads /proc

use std::fs;
use std::path::PathBuf;

use rustix::process::Pid;

/// In the paths of the cgroups of containers: the kubelet's, and those of runtimes that were told to use others.
const CONTAINERS: [&str; 4] = ["kubepods", "cri-containerd", "crio-", "docker"];

/// Whether any container runs on this machine.
pub(super) fn any_container() -> bool {
    in_cgroup(|path| CONTAINERS.iter().any(|mark| path.contains(mark))).next().is_some()
}

/// The processes one of whose cgroups is meant.
pub(super) fn in_cgroup(meant: impl Fn(&str) -> bool) -> impl Iterator<Item = Pid> {
    processes()
        .filter(move |(_, dir)| fs::read_to_string(dir.join("cgroup")).is_ok_and(|text| text.lines().any(&meant)))
        .map(|(pid, _)| pid)
}

/// The processes whose environment, as it was when their program started, is meant.
pub(super) fn with_environment(meant: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = Pid> {
    processes().filter(move |(_, dir)| fs::read(dir.join("environ")).is_ok_and(|e| meant(&e))).map(|(pid, _)| pid)
}

/// The arguments of every process of `program`, its own path first.
pub(super) fn arguments_of(program: &str) -> impl Iterator<Item = Vec<String>> + use<> {
    // The name first: to read the arguments takes a lock of the process, which one that hangs may hold.
    let named = format!("{program}\n");
    let is = move |dir: &PathBuf| fs::read_to_string(dir.join("comm")).is_ok_and(|comm| comm == named);
    let read = |dir: PathBuf| fs::read(dir.join("cmdline")).ok();
    let split = |line: Vec<u8>| line.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
    processes().map(|(_, dir)| dir).filter(is).filter_map(read).map(split)
}

fn processes() -> impl Iterator<Item = (Pid, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| Some((Pid::from_raw(e.file_name().to_str()?.parse().ok()?)?, e.path())))
}
