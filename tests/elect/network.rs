//! One network namespace per host, on a bridge in a namespace of the cluster's own: the machine's own network is not
//! touched. A host's faults are nftables rules, a queue or a dead cable in its own namespace.
//!
//! All that is made carries one prefix. [`sweep`] removes what a dead run left: its directory's lock tells that it is dead.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Carried by every namespace and directory of ours.
const NAME: &str = "hamelect";
/// On a tmpfs: no disk of the machine slows etcd down.
const DIRECTORIES: &str = "/dev/shm";

/// The hosts of one cluster and the directory for all their files.
pub(crate) struct Network {
    tag: String,
    dir: PathBuf,
    _lock: File,
}

/// What happens to a host's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// Nothing goes in or out, and nobody is told.
    Drop,
    /// Every connection is refused or reset at once.
    Reject,
    /// Nothing comes in.
    DropIn,
    /// Nothing goes out.
    DropOut,
    /// 30 % of all packets are lost, both ways.
    Loss,
    /// 16 kbit/s with a deep queue: seconds of latency.
    Slow,
    /// The cable is out.
    Cable,
}

impl Network {
    /// An empty network.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        sweep();
        let tag = format!("{NAME}{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(DIRECTORIES).join(&tag);
        fs::create_dir(&dir).unwrap();
        let lock = File::create(dir.join("lock")).unwrap();
        lock.lock().unwrap();
        let network = Self { tag, dir, _lock: lock };
        let lab = network.lab();
        tool("ip", &["netns", "add", &lab]);
        ip(&lab, "link set lo up");
        ip(&lab, "link add br0 type bridge");
        ip(&lab, "addr add 10.77.0.1/24 dev br0");
        ip(&lab, "link set br0 up");
        network
    }

    /// For all files of the hosts.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Adds a host with the address 10.77.0.`number`.
    pub(crate) fn host(&self, name: &str, number: u8) -> Host {
        let namespace = format!("{}-{name}", self.tag);
        let host = Host { name: name.into(), lab: self.lab(), namespace, ip: Ipv4Addr::new(10, 77, 0, number) };
        let ns = &host.namespace;
        tool("ip", &["netns", "add", ns]);
        ip(&host.lab, &format!("link add {name} type veth peer name eth0 netns {ns}"));
        ip(&host.lab, &format!("link set {name} master br0 up"));
        ip(ns, "link set lo up");
        ip(ns, &format!("addr add {}/24 dev eth0", host.ip));
        ip(ns, "link set eth0 up");
        host
    }

    /// A program that runs beside the hosts and reaches them all, whatever happens to one.
    pub(crate) fn command(&self, program: &str) -> Command {
        inside(&self.lab(), program)
    }

    fn lab(&self) -> String {
        format!("{}-lab", self.tag)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.tag);
    }
}

/// One host: where it is and what happens to its packets.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Its name, that of its cable as well.
    pub(crate) name: String,
    /// Its address.
    pub(crate) ip: Ipv4Addr,
    lab: String,
    namespace: String,
}

impl Host {
    /// A program on this host. It is killed when the thread that starts it ends.
    pub(crate) fn command(&self, program: &str) -> Command {
        inside(&self.namespace, program)
    }

    /// Lets a fault in the network happen until [`Host::heal`].
    pub(crate) fn cut(&self, cut: Cut) {
        let rules = |input: &str, output: &str| {
            self.nft(&format!(
                "table inet fault {{\n\
                 chain in {{\ntype filter hook input priority 0; policy accept;\n{input}\n}}\n\
                 chain out {{\ntype filter hook output priority 0; policy accept;\n{output}\n}}\n}}\n"
            ));
        };
        let loss = "numgen random mod 100 < 30 drop";
        let reset = "oifname eth0 meta l4proto tcp reject with tcp reset\noifname eth0 reject";
        match cut {
            Cut::Drop => rules("iifname eth0 drop", "oifname eth0 drop"),
            Cut::Reject => rules("iifname eth0 meta l4proto tcp reject with tcp reset\niifname eth0 reject", reset),
            Cut::DropIn => rules("iifname eth0 drop", ""),
            Cut::DropOut => rules("", "oifname eth0 drop"),
            Cut::Loss => rules(&format!("iifname eth0 {loss}"), &format!("oifname eth0 {loss}")),
            Cut::Slow => _ = self.tc("qdisc add dev eth0 root tbf rate 16kbit burst 2kb limit 64kb"),
            Cut::Cable => ip(&self.lab, &format!("link set {} down", self.name)),
        }
    }

    /// Takes back every [`Cut`].
    pub(crate) fn heal(&self) {
        self.nft("flush ruleset\n");
        let _ = self.tc("qdisc del dev eth0 root");
        ip(&self.lab, &format!("link set {} up", self.name));
    }

    fn tc(&self, arguments: &str) -> bool {
        let mut tc = self.command("tc");
        tc.args(arguments.split(' ')).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    }

    fn nft(&self, rules: &str) {
        let mut nft = self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "nft refuses:\n{rules}");
    }
}

fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "nsenter", &format!("--net=/run/netns/{namespace}"), program]);
    command
}

/// Says so when this test cannot be run; on CI that is a failure.
pub(crate) fn skipped() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "the election's tests need root, and CI must run them");
    if !root {
        println!("SKIPPED: the election's tests need root (sudo -E ./.ci/test)");
    }
    !root
}

/// Removes what runs of ours left that are dead.
fn sweep() {
    let entries = fs::read_dir(DIRECTORIES).unwrap().flatten();
    for name in entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.starts_with(NAME)) {
        let lock = Path::new(DIRECTORIES).join(&name).join("lock");
        if File::open(lock).is_ok_and(|lock| lock.try_lock().is_ok()) {
            remove(&name);
        }
    }
}

/// Ends and removes everything that carries `tag`: processes, namespaces, mounts, the directory last.
fn remove(tag: &str) {
    let dir = Path::new(DIRECTORIES).join(tag);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points: Vec<_> =
        table.lines().filter_map(|l| l.split(' ').nth(4)).filter(|p| Path::new(p).starts_with(&dir)).collect();
    for point in &points {
        quiet("fsfreeze", &["--unfreeze", point]);
    }
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let ours: Vec<String> = entries
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.starts_with(&format!("{tag}-")))
        .collect();
    for namespace in &ours {
        within(Duration::from_secs(20), "the hosts' processes are gone", || {
            let pids = tool("ip", &["netns", "pids", namespace]);
            for pid in pids.lines().filter_map(|p| Pid::from_raw(p.trim().parse().ok()?)) {
                // It may be gone since it was listed.
                let _ = kill_process(pid, Signal::KILL);
            }
            pids.is_empty()
        });
        quiet("ip", &["netns", "del", namespace]);
    }
    for point in points {
        within(Duration::from_secs(20), "the disks are unmounted", || quiet("umount", &[point]));
    }
    quiet("chattr", &["-R", "-i", &dir.display().to_string()]);
    // Another run may sweep the same dead one at the same time.
    let _ = fs::remove_dir_all(&dir);
}

fn ip(namespace: &str, arguments: &str) {
    let words: Vec<&str> = ["-n", namespace].into_iter().chain(arguments.split(' ')).collect();
    tool("ip", &words);
}

/// Runs a program of this machine that must succeed, and returns what it prints.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).stderr(Stdio::inherit()).output();
    let out = out.unwrap_or_else(|e| panic!("{program}: {e}; ./.ci/setup installs what the tests need"));
    assert!(out.status.success(), "{program} {}: {}", arguments.join(" "), out.status);
    String::from_utf8(out.stdout).unwrap()
}

/// Runs a program of this machine that may fail.
pub(crate) fn quiet(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Polls `condition` until it holds; panics, naming `what` was awaited, when it does not within `limit`.
pub(crate) fn within(limit: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(awaited(limit, condition), "waited {limit:?} in vain until {what}");
}

/// Polls `condition` until it holds; false when it does not within `limit`.
pub(crate) fn awaited(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
