//! Static pods of a lab: what the kubelet does with the manifests directory, with processes for containers.
//!
//! A manifest that appears is started, one that goes is stopped, one that changes is stopped and started anew.
//! Host paths need no translation: a lab's manifests mount every directory at its own place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::home::Home;
use super::log::Log;
use super::orphans::Alive;
use super::process::{Argv, Invocation, Launcher, Policy, Process};
use super::programs;
use super::socket::PodReport;
use super::unit_file::Restart;

/// The kubelet waits up to five minutes after a crash; a lab is watched by somebody.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest time a container gets to end, whatever its manifest says.
const LONGEST_GRACE: Duration = Duration::from_secs(10);

/// The part of a Pod a lab acts on.
#[derive(Debug, Deserialize)]
struct Pod {
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Vec<Container>,
    termination_grace_period_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
}

impl Pod {
    fn parse(text: &str) -> Result<Self, String> {
        let pod: Self = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
        if pod.kind != "Pod" {
            return Err(format!("kind is {}, not Pod", pod.kind));
        }
        let names = || pod.spec.containers.iter().map(|c| &c.name).chain([&pod.metadata.name]);
        // Names become names of log files.
        if let Some(name) = names().find(|n| !is_dns_name(n)) {
            return Err(format!("`{name}` is not a name"));
        }
        Ok(pod)
    }

    fn policy(&self) -> Policy {
        let grace = Duration::from_secs(self.spec.termination_grace_period_seconds.unwrap_or(30));
        Policy {
            restart: Restart::Always,
            pause: Duration::from_secs(1),
            longest_pause: LONGEST_PAUSE,
            stop_timeout: grace.min(LONGEST_GRACE),
            remains: false,
        }
    }
}

fn is_dns_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && !name.starts_with(['.', '-'])
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-'))
}

impl Container {
    /// A lab has no images: the program is the one of the command's base name on this host.
    fn invocation(&self, search: &[PathBuf]) -> Result<Invocation, String> {
        let environment: BTreeMap<_, _> = self.env.iter().map(|v| (v.name.clone(), v.value.clone())).collect();
        let mut words = self.command.iter().chain(&self.args).map(|word| substitute(word, &environment));
        let command = words.next().ok_or("the container names no command, and a lab has no image to ask")?;
        let name = Path::new(&command).file_name().and_then(|n| n.to_str()).ok_or("the command is not a program")?;
        let program = programs::find(search, name)
            .ok_or_else(|| format!("no program {name} on PATH or in KUBEBUILDER_ASSETS"))?;
        let command = Argv { program, arguments: words.collect() };
        Ok(Invocation { command, stop_post: None, environment, notify: None, watchdog: None })
    }
}

/// `$(NAME)` is the variable if there is one, `$$` a dollar sign: as the kubelet reads commands.
fn substitute(word: &str, environment: &BTreeMap<String, String>) -> String {
    let (mut out, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let variable = rest.strip_prefix('(').and_then(|r| r.split_once(')'));
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((value, tail)) = variable.and_then(|(n, tail)| Some((environment.get(n)?, tail))) {
            out.push_str(value);
            rest = tail;
        } else {
            out.push('$');
        }
    }
    out + rest
}

/// All pods, by file name.
#[derive(Debug)]
pub(super) struct StaticPods {
    home: Home,
    pods: BTreeMap<String, RunningPod>,
}

#[derive(Debug)]
struct RunningPod {
    text: String,
    pod: Result<Pod, String>,
    /// In the order of the pod's containers.
    processes: Vec<Process>,
}

impl RunningPod {
    fn start(text: String, home: &Home, now: Instant) -> Self {
        let pod = Pod::parse(&text);
        let start = |pod: &Pod, container: &Container| {
            let log = Log::at(home.log(&format!("{}.{}", pod.metadata.name, container.name)));
            let mut process = Process::new(container.name.clone(), log);
            process.start(now);
            process
        };
        let processes = pod.iter().flat_map(|pod| pod.spec.containers.iter().map(|c| start(pod, c))).collect();
        Self { text, pod, processes }
    }

    fn stop(&mut self, now: Instant) {
        let Ok(pod) = &self.pod else { return };
        let policy = pod.policy();
        for process in &mut self.processes {
            process.stop(&policy, now);
        }
    }

    fn is_down(&self) -> bool {
        self.processes.iter().all(Process::is_down)
    }
}

impl StaticPods {
    pub(super) fn new(home: &Home) -> Self {
        Self { home: home.clone(), pods: BTreeMap::new() }
    }

    /// Compares the manifests with what runs.
    pub(super) fn scan(&mut self, now: Instant) {
        if let Some(manifests) = read_manifests(&self.home.layout().manifests()) {
            self.converge(manifests, now);
        }
    }

    /// Wants no pod to run; true once none does.
    pub(super) fn stop_all(&mut self, now: Instant) -> bool {
        self.converge(BTreeMap::new(), now);
        self.pods.is_empty()
    }

    fn converge(&mut self, mut manifests: BTreeMap<String, String>, now: Instant) {
        self.pods.retain(|file, running| {
            if manifests.get(file) == Some(&running.text) {
                manifests.remove(file);
                return true;
            }
            running.stop(now);
            // Its successor waits: two of them would fight for the same port.
            if !running.is_down() {
                manifests.remove(file);
            }
            !running.is_down()
        });
        for (file, text) in manifests {
            self.pods.insert(file, RunningPod::start(text, &self.home, now));
        }
    }

    pub(super) fn freeze(&mut self, on: bool) {
        self.pods.values_mut().flat_map(|p| &mut p.processes).for_each(|p| p.freeze(on));
    }

    /// Tries again now what waits for its next start.
    pub(super) fn retry(&mut self, now: Instant) {
        for process in self.pods.values_mut().flat_map(|p| &mut p.processes) {
            process.retry(now);
        }
    }

    pub(super) fn tick(&mut self, launcher: &Launcher, search: &[PathBuf], now: Instant) {
        for running in self.pods.values_mut() {
            let Ok(pod) = &running.pod else { continue };
            let policy = pod.policy();
            for (container, process) in pod.spec.containers.iter().zip(&mut running.processes) {
                process.tick(&policy, launcher, now, || container.invocation(search));
            }
        }
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = Alive> {
        self.pods.values().flat_map(|p| &p.processes).filter_map(Process::alive)
    }

    pub(super) fn report(&self, now: Instant) -> Vec<PodReport> {
        let one = |(file, running): (&String, &RunningPod)| PodReport {
            name: running.pod.as_ref().map_or_else(|_| file.clone(), |p| p.metadata.name.clone()),
            manifest: file.clone(),
            problem: running.pod.as_ref().err().cloned(),
            containers: running.processes.iter().map(|p| p.report(now)).collect(),
        };
        self.pods.iter().map(one).collect()
    }
}

/// File name → text; dot files are not manifests. `None` when the directory cannot be read, which removes nothing.
fn read_manifests(dir: &Path) -> Option<BTreeMap<String, String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Some(BTreeMap::new()),
        Err(_) => return None,
    };
    let mut manifests = BTreeMap::new();
    for entry in entries {
        let entry = entry.ok()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !entry.path().is_file() {
            continue;
        }
        match fs::read(entry.path()) {
            Ok(bytes) => manifests.insert(name, String::from_utf8_lossy(&bytes).into_owned()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => return None,
        };
    }
    Some(manifests)
}
