//! A candidate on a host of its own, under what plays systemd for it: the units' restart, watchdog and ExecStopPost.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::elector::{Elector, Profile, hamaster};
use crate::etcd::Etcd;
use crate::network::{Host, tool, within};
use crate::oracle::MANIFEST;

/// What a node is made of.
#[derive(Clone)]
pub(crate) struct Plan {
    /// What runs on it.
    pub(crate) elector: Elector,
    /// Its times.
    pub(crate) profile: Profile,
    /// The group.
    pub(crate) group: String,
    /// `n0`, `n1`, …
    pub(crate) id: String,
    /// Where it is.
    pub(crate) host: Host,
    /// All its files.
    pub(crate) place: PathBuf,
    /// Its wall clock is one of its own.
    pub(crate) steppable: bool,
}

impl Plan {
    /// The kubelet's directory.
    pub(crate) fn destination(&self) -> PathBuf {
        self.place.join("manifests")
    }

    /// What is installed by the leader.
    pub(crate) fn source(&self) -> PathBuf {
        self.place.join("source.yaml")
    }

    /// What is there while it leads.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.destination().join(MANIFEST)
    }

    /// By how much its wall clock is wrong.
    pub(crate) fn clock(&self) -> PathBuf {
        self.place.join("clock")
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.join("log")).unwrap_or_default()
    }
}

/// A node; dropping it ends it.
pub(crate) struct Node {
    /// What it is made of.
    pub(crate) plan: Plan,
    unit: Arc<Mutex<Unit>>,
    supervisor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Unit {
    wanted: bool,
    ended: bool,
    child: Option<Child>,
    exits: Vec<ExitStatus>,
    bites: usize,
    lateness: Duration,
}

impl Node {
    /// Makes its files; it is not started.
    pub(crate) fn new(plan: Plan, etcd: &Etcd) -> Self {
        fs::create_dir_all(plan.destination()).unwrap();
        fs::write(plan.source(), "apiVersion: v1\n").unwrap();
        plan.elector.configure(&plan, etcd);
        fs::write(plan.clock(), "+0\n").unwrap();
        // Each host has a machine id and a boot id of its own.
        fs::write(plan.place.join("machine-id"), random_id().replace('-', "")).unwrap();
        fs::write(plan.place.join("boot-id"), random_id()).unwrap();
        let mut client = Command::new("true");
        etcd.client_environment(&mut client);
        let environment: Vec<_> = client.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
        let unit = Arc::new(Mutex::new(Unit::default()));
        let supervisor = Supervisor {
            unit: unit.clone(),
            notify: bind(&plan.place.join("notify")),
            environment,
            plan: plan.clone(),
            ready: false,
            alive: Instant::now(),
        };
        let supervisor = Some(std::thread::spawn(move || supervisor.run()));
        Self { plan, unit, supervisor }
    }

    /// `systemctl start`
    pub(crate) fn start(&self) {
        self.unit.lock().unwrap().wanted = true;
    }

    /// `systemctl stop`, which ends it gracefully; it may still be ending on return.
    pub(crate) fn stop(&self) {
        self.unit.lock().unwrap().wanted = false;
        self.signal(Signal::TERM);
    }

    /// `hamaster elect` with arguments, on this host, until it succeeds: a candidate may not be known yet.
    pub(crate) fn ask(&self, arguments: &[&str]) {
        let config = self.plan.place.join("elect.yaml").display().to_string();
        within(Duration::from_secs(30), &format!("elect {arguments:?} succeeds"), || {
            hamaster(&self.plan, &[&["elect"], arguments, &["-c", &config]].concat()).output().unwrap().status.success()
        });
    }

    /// Changes its configuration, which a running process does not notice.
    pub(crate) fn rewrite(&self, change: impl FnOnce(String) -> String) {
        let file = self.plan.place.join("elect.yaml");
        fs::write(&file, change(fs::read_to_string(&file).unwrap())).unwrap();
    }

    /// Sends a signal to the process, if there is one. Whoever dies of it is restarted.
    pub(crate) fn signal(&self, signal: Signal) {
        let unit = self.unit.lock().unwrap();
        if let Some(child) = &unit.child {
            // It may be a zombie that the supervisor has not reaped yet.
            let _ = kill_process_group(Pid::from_child(child), signal);
        }
    }

    /// The host loses power: nothing of it runs, its /run is lost, what it manifested is dead.
    pub(crate) fn crash(&self) {
        let mut unit = self.unit.lock().unwrap();
        unit.wanted = false;
        if let Some(mut child) = unit.child.take() {
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            child.wait().unwrap();
            sweep_clock(&child);
        }
        let _ = fs::remove_file(self.plan.manifest());
        let _ = fs::remove_dir_all(self.plan.place.join("run"));
        fs::write(self.plan.place.join("boot-id"), random_id()).unwrap();
    }

    /// What it says of itself, in its status file; empty before it says anything.
    pub(crate) fn status(&self, key: &str) -> String {
        let file = self.plan.place.join(format!("run/{}.json", self.plan.group));
        let text = fs::read_to_string(file).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        value[key].as_str().map_or_else(|| value[key].to_string(), str::to_owned)
    }

    /// The process runs now.
    pub(crate) fn is_running(&self) -> bool {
        self.unit.lock().unwrap().child.is_some()
    }

    /// How its processes ended.
    pub(crate) fn exits(&self) -> Vec<ExitStatus> {
        self.unit.lock().unwrap().exits.clone()
    }

    /// How often the watchdog killed it.
    pub(crate) fn bites(&self) -> usize {
        self.unit.lock().unwrap().bites
    }

    /// By how much the watchdog was late at worst.
    pub(crate) fn lateness(&self) -> Duration {
        self.unit.lock().unwrap().lateness
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        {
            // Under one lock: a supervisor that sees the end waits for its child.
            let mut unit = self.unit.lock().unwrap();
            unit.ended = true;
            if let Some(child) = &unit.child {
                let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            }
        }
        let _ = self.supervisor.take().map(JoinHandle::join);
    }
}

/// Lives in a thread of its own.
struct Supervisor {
    unit: Arc<Mutex<Unit>>,
    notify: UnixDatagram,
    environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    plan: Plan,
    ready: bool,
    alive: Instant,
}

/// RestartSec of the shipped unit.
const RESTART: Duration = Duration::from_millis(100);

impl Supervisor {
    fn run(mut self) {
        let (mut restart, mut looked) = (Instant::now(), Instant::now());
        loop {
            self.listen();
            let shared = self.unit.clone();
            let mut unit = shared.lock().unwrap();
            unit.lateness = unit.lateness.max(looked.elapsed());
            looked = Instant::now();
            if unit.ended {
                if let Some(mut child) = unit.child.take() {
                    child.wait().unwrap();
                    sweep_clock(&child);
                }
                return;
            }
            let Some(child) = unit.child.as_mut() else {
                if unit.wanted && Instant::now() >= restart {
                    (self.ready, self.alive) = (false, Instant::now());
                    unit.child = Some(self.spawn());
                }
                continue;
            };
            let watchdog = self.plan.elector.watchdog(self.plan.profile);
            if self.ready && watchdog.is_some_and(|w| self.alive.elapsed() > w) {
                let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
                child.wait().unwrap();
                unit.bites += 1;
            }
            let Some(child) = unit.child.as_mut() else { continue };
            if let Some(status) = child.try_wait().unwrap() {
                sweep_clock(child);
                unit.child = None;
                unit.exits.push(status);
                let stopping = !unit.wanted;
                drop(unit);
                if let Some(mut after) = self.plan.elector.stop_post(&self.plan, stopping) {
                    self.surround(&mut after).status().unwrap();
                }
                (restart, looked) = (Instant::now() + RESTART, Instant::now());
            }
        }
    }

    /// Takes in what the process says, for at most a moment.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.notify.recv(&mut buffer) {
            for line in String::from_utf8_lossy(&buffer[..length]).lines() {
                match line {
                    "READY=1" => (self.ready, self.alive) = (true, Instant::now()),
                    "WATCHDOG=1" => self.alive = Instant::now(),
                    _ => {}
                }
            }
        }
    }

    fn spawn(&self) -> Child {
        let mut command = self.plan.elector.command(&self.plan);
        if let Some(watchdog) = self.plan.elector.watchdog(self.plan.profile) {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        self.surround(&mut command).process_group(0).spawn().unwrap()
    }

    fn surround<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let log = File::options().create(true).append(true).open(self.plan.place.join("log")).unwrap();
        command
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .env("NOTIFY_SOCKET", self.plan.place.join("notify"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
    }
}

/// libfaketime leaves these behind when its process is killed.
fn sweep_clock(child: &Child) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        let _ = fs::remove_file(format!("/dev/shm/{name}{}", child.id()));
    }
}

fn bind(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    socket
}

fn random_id() -> String {
    tool("cat", &["/proc/sys/kernel/random/uuid"]).trim().to_owned()
}
