//! Gathers [`HostFacts`]: only looks, leaves no trace, waits for nobody longer than a few seconds, and never fails.
#![allow(clippy::disallowed_methods)] // floor 3: reads files

mod disk;
mod kernel;
mod network;
mod programs;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::command;
use crate::spec::layout::Layout;
use crate::spec::{Address, ClusterSpec};
use crate::state::facts::{HostFacts, Program, Unknown, Unreachable};

/// For programs that are asked a question.
const ANSWER: Duration = Duration::from_secs(5);

/// What other installers leave behind.
const INSTALLATIONS: [&str; 5] = [
    "/var/lib/kubelet/kubeadm-flags.env",
    "/var/lib/rancher/k3s",
    "/var/lib/rancher/rke2",
    "/var/lib/k0s",
    "/var/snap/microk8s",
];

/// Units preflight wants to know of.
const UNITS: [&str; 2] = ["etcd.service", "firewalld.service"];

/// The facts of the machine below `root`. Of an image, a `root` other than `/`, only what lies on disk is learnt.
pub fn gather(root: &Path, spec: &ClusterSpec, layout: &Layout) -> HostFacts {
    let mut look = Look { root, live: root == Path::new("/"), facts: HostFacts::default() };
    look.on_disk(layout);
    look.programs(&BTreeMap::new());
    look.disks(&layout.path(&spec.etcd.data_dir), layout);
    if look.live {
        look.kernel();
        look.network();
        look.services();
        look.etcd_processes();
        look.environment();
        let hostname = look.facts.hostname.clone();
        let names = spec.load_balancer.addresses.iter().filter_map(|a| match a {
            Address::Dns(name) if !name.starts_with('*') => Some(name.as_str()),
            Address::Dns(_) | Address::Ip(_) => None,
        });
        let mut answers = network::resolve(std::iter::once(hostname.as_str()).chain(names)).into_iter();
        look.facts.hostname_lookup = answers.next();
        look.facts.load_balancer_names = answers.collect();
    }
    look.facts
}

/// Which of these places this host cannot connect to. Takes 3 s at most.
pub fn unreachable(places: &[SocketAddr]) -> Vec<Unreachable> {
    network::unreachable(places)
}

/// What an unattended run goes by: the programs of this machine where `known` has them, and nothing guessed.
///
/// # Errors
/// When a known program is gone, or one does not say its version: what was rendered for it would change.
pub fn installed(known: &BTreeMap<String, PathBuf>) -> Result<HostFacts> {
    let mut look = Look { root: Path::new("/"), live: true, facts: HostFacts::default() };
    look.programs(known);
    look.resolver();
    if let Some((name, path)) = known.iter().find(|(name, _)| !look.facts.programs.contains_key(*name)) {
        return Err(Error::conflict(format!("{name} is gone: it was {}", path.display()))
            .hint("hamaster init    # where it is to be done without"));
    }
    let silent = |(name, program): &(&String, &Program)| programs::is_versioned(name) && program.version.is_none();
    match look.facts.programs.iter().find(silent) {
        None => Ok(look.facts),
        Some((_, program)) => {
            let path = program.path.display();
            Err(Error::apply(format!("{path} does not say its version")).hint(format!("{path} --version")))
        }
    }
}

/// A look at one machine.
struct Look<'a> {
    root: &'a Path,
    /// It is the machine we run on.
    live: bool,
    facts: HostFacts,
}

impl Look<'_> {
    /// A path of the machine as it is reached from here.
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn unknown(&mut self, what: impl Into<String>, why: impl ToString) {
        self.facts.unknown.push(Unknown { what: what.into(), why: why.to_string() });
    }

    /// The text of a file that every such machine has.
    fn read(&mut self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.at(path));
        text.map_err(|e| self.unknown(path, e)).ok()
    }

    /// The text of a file that may well be absent.
    fn peek(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(self.at(path)).ok()
    }

    /// Names in a directory; none if it is absent.
    fn names(&mut self, dir: &Path) -> BTreeSet<String> {
        let entries = match std::fs::read_dir(self.at(dir)) {
            Ok(entries) => entries,
            Err(e) => {
                if e.kind() != std::io::ErrorKind::NotFound {
                    self.unknown(dir.display().to_string(), e);
                }
                return BTreeSet::new();
            }
        };
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn on_disk(&mut self, layout: &Layout) {
        let passwd = self.read("/etc/passwd").unwrap_or_default();
        self.facts.etcd_user = passwd.lines().any(|line| line.starts_with("etcd:"));
        let id = self.peek("/etc/machine-id").unwrap_or_default();
        self.facts.machine_id = id.trim().len() == 32 && id.trim().chars().all(|c| c.is_ascii_hexdigit());
        self.facts.manifests = self.names(&layout.manifests());
        let installed = |path: &&&str| self.at(layout.path(path)).symlink_metadata().is_ok();
        self.facts.installations = INSTALLATIONS.iter().filter(installed).map(|path| layout.path(path)).collect();
    }

    fn resolver(&mut self) {
        self.facts.systemd_resolved = Path::new("/run/systemd/resolve/resolv.conf").is_file();
    }

    fn services(&mut self) {
        self.facts.systemd = Path::new("/run/systemd/system").is_dir();
        self.resolver();
        if !self.facts.systemd {
            return;
        }
        // One line for each unit; its status is not 0 unless all are active.
        match command::run("systemctl", &[&["is-active"], &UNITS[..]].concat(), ANSWER) {
            Ok(said) => {
                let active = UNITS.iter().zip(said.stdout.lines()).filter(|(_, state)| *state == "active");
                self.facts.active_units = active.map(|(unit, _)| (*unit).to_owned()).collect();
            }
            Err(e) => self.unknown("systemctl is-active", e),
        }
        // The kernel's own flag: right for chrony and ntpd as well as for timesyncd.
        match command::run("timedatectl", &["show", "-p", "NTPSynchronized", "--value"], ANSWER) {
            Ok(said) if said.stdout.trim() == "yes" => self.facts.clock_synchronised = Some(true),
            Ok(said) if said.stdout.trim() == "no" => self.facts.clock_synchronised = Some(false),
            Ok(said) => self.unknown("timedatectl show", said.stderr.trim()),
            Err(e) => self.unknown("timedatectl show", e),
        }
    }

    fn environment(&mut self) {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        for name in ["http_proxy", "https_proxy", "all_proxy"] {
            let both = [name.to_owned(), name.to_uppercase()];
            self.facts.proxy_variables.extend(both.into_iter().filter(|name| set(name)));
        }
        let value = |name: &str| std::env::var(name).unwrap_or_default();
        self.facts.no_proxy = [value("no_proxy"), value("NO_PROXY")].join(",");
    }
}
