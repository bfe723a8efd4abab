//! Which programs and CNI plugins are installed, and which versions they say they are.
#![allow(clippy::disallowed_methods)] // floor 3: looks for files and asks programs

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{ANSWER, Look};
use crate::host::command;
use crate::state::facts::Program;

/// Programs whose version matters.
const VERSIONED: [&str; 6] = ["etcd", "kubelet", "dockerd", "containerd", "cri-dockerd", "flanneld"];

/// Others that are looked for.
const PLAIN: [&str; 6] = ["hamaster", "conntrack", "ip", "iptables", "mount", "nsenter"];

/// Where programs are besides `PATH`; flanneld was in `/opt/bin` on CoreOS.
const DIRS: [&str; 9] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/opt/bin",
    "/usr/libexec/flannel",
    "/usr/libexec/docker",
];

/// The places upstream, Debian and Fedora put plugins.
const CNI_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

impl Look<'_> {
    /// `known` programs are taken where they were, if they are there still.
    pub(super) fn programs(&mut self, known: &BTreeMap<String, PathBuf>) {
        for name in VERSIONED.into_iter().chain(PLAIN) {
            let there = known.get(name).filter(|path| self.is_program(path)).cloned();
            if let Some(path) = there.or_else(|| self.program(name)) {
                self.facts.programs.insert(name.to_owned(), Program { path, version: None });
            }
        }
        // Below another root nothing can be run: it may be for another machine.
        if self.live {
            if let Ok(path) = std::env::current_exe()
                && !known.contains_key("hamaster")
            {
                self.facts.programs.insert("hamaster".to_owned(), Program { path, version: None });
            }
            self.versions();
        }
        for dir in CNI_DIRS.map(PathBuf::from) {
            let plugins = self.names(&dir);
            if !plugins.is_empty() {
                self.facts.cni_plugins.insert(dir, plugins);
            }
        }
    }

    /// Where the machine has `name`.
    fn program(&self, name: &str) -> Option<PathBuf> {
        let path = if self.live { std::env::var_os("PATH").unwrap_or_default() } else { Default::default() };
        let dirs = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).chain(DIRS.map(PathBuf::from));
        dirs.map(|dir| dir.join(name)).find(|path| self.is_program(path))
    }

    fn is_program(&self, path: &Path) -> bool {
        if !self.live {
            // A link below another root is not ours to follow: it would end in this machine.
            return self.at(path).symlink_metadata().is_ok_and(|meta| !meta.is_dir());
        }
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    }

    /// Asks all programs at once.
    fn versions(&mut self) {
        let asked = self.facts.programs.iter().filter(|(name, _)| VERSIONED.contains(&name.as_str()));
        let asked: Vec<(String, PathBuf)> = asked.map(|(name, program)| (name.clone(), program.path.clone())).collect();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = asked.iter().map(|(_, path)| scope.spawn(|| version(path))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("asking it failed".into()))).collect()
        });
        for ((name, path), answer) in asked.into_iter().zip(answers) {
            match (answer, self.facts.programs.get_mut(&name)) {
                (Ok(version), Some(program)) => program.version = Some(version),
                (Ok(_), None) => {}
                (Err(why), _) => self.unknown(format!("{} --version", path.display()), why),
            }
        }
    }
}

/// Whether `name` must have said its version to be used unattended.
pub(super) fn is_versioned(name: &str) -> bool {
    VERSIONED.contains(&name)
}

fn version(program: &Path) -> Result<String, String> {
    let said = command::run(&program.to_string_lossy(), &["--version"], ANSWER).map_err(|e| e.to_string())?;
    // flanneld says it on standard error.
    let text = if said.stdout.trim().is_empty() { said.stderr } else { said.stdout };
    if said.status == Some(0) { Ok(text.trim().to_owned()) } else { Err(text.trim().to_owned()) }
}
