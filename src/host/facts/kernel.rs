//! What the kernel says: size, swap, cgroups, parameters, running etcds.
#![allow(clippy::disallowed_methods)] // floor 3: reads /proc

use std::path::{Path, PathBuf};

use super::Look;
use crate::state::facts::{Cgroups, EtcdProcess};

const SYSCTLS: [&str; 4] = [
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
];

impl Look<'_> {
    pub(super) fn kernel(&mut self) {
        let uname = rustix::system::uname();
        self.facts.hostname = uname.nodename().to_string_lossy().into_owned();
        self.facts.kernel = uname.release().to_string_lossy().into_owned();
        self.facts.arch = uname.machine().to_string_lossy().into_owned();
        self.facts.uid = rustix::process::geteuid().as_raw();
        match std::thread::available_parallelism() {
            Ok(cpus) => self.facts.cpus = Some(cpus.get()),
            Err(e) => self.unknown("number of CPUs", e),
        }
        self.facts.memory_bytes = self.read("/proc/meminfo").and_then(|text| mem_total(&text));
        self.facts.swaps = self.read("/proc/swaps").map(|text| swaps(&text));
        self.facts.cgroups = cgroups(Path::new("/sys/fs/cgroup"));
        if self.facts.cgroups.is_none() {
            self.unknown("/sys/fs/cgroup", "no cgroups are mounted there");
        }
        for name in SYSCTLS {
            if let Some(value) = self.peek(format!("/proc/sys/{}", name.replace('.', "/"))) {
                self.facts.sysctls.insert(name.to_owned(), value.trim().to_owned());
            }
        }
        self.facts.selinux_enforcing = self.peek("/sys/fs/selinux/enforce").is_some_and(|text| text.trim() == "1");
    }

    pub(super) fn etcd_processes(&mut self) {
        let etcds = processes().filter(|(_, dir)| comm(dir).as_deref() == Some("etcd"));
        self.facts.etcd_processes = etcds.map(|(pid, dir)| etcd(pid, &dir)).collect();
    }
}

/// Every process: its pid and its directory.
pub(super) fn processes() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// Name of a process, as far as the kernel keeps it.
pub(super) fn comm(process: &Path) -> Option<String> {
    std::fs::read_to_string(process.join("comm")).ok().map(|name| name.trim_end().to_owned())
}

fn etcd(pid: u32, process: &Path) -> EtcdProcess {
    let words = |file: &str| -> Vec<String> {
        let bytes = std::fs::read(process.join(file)).unwrap_or_default();
        bytes.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    };
    let cgroup = std::fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let unit = cgroup.lines().filter_map(|line| line.rsplit('/').find(|part| part.ends_with(".service"))).next();
    let data_dir = data_dir(&words("cmdline"))
        .or_else(|| words("environ").iter().find_map(|word| word.strip_prefix("ETCD_DATA_DIR=").map(PathBuf::from)));
    EtcdProcess { pid, unit: unit.map(str::to_owned), data_dir }
}

/// The value of `--data-dir`, in each of the four ways Go's flags are written.
fn data_dir(argv: &[String]) -> Option<PathBuf> {
    argv.iter().enumerate().find_map(|(n, word)| {
        let flag = word.strip_prefix("--").or(word.strip_prefix('-'))?;
        match flag.strip_prefix("data-dir")? {
            "" => argv.get(n + 1).map(PathBuf::from),
            value => value.strip_prefix('=').map(PathBuf::from),
        }
    })
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn swaps(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

fn cgroups(mount: &Path) -> Option<Cgroups> {
    let unified = |dir: &Path| dir.join("cgroup.controllers").is_file();
    if unified(mount) {
        Some(Cgroups::V2)
    } else if unified(&mount.join("unified")) {
        Some(Cgroups::Hybrid)
    } else {
        mount.join("memory").is_dir().then_some(Cgroups::V1)
    }
}
