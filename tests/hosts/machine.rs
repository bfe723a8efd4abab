//! One host: a disk, a network cable, and systemd as PID 1 while it is switched on.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::lab::{self, Lab, NAME, ip, tool, within};

/// Longer than any command here takes on a machine that is busy with a build.
const COMMAND_LIMIT: &str = "300";

/// A host made for the test. Dropped, it is switched off; the lab throws its disk away.
pub struct Machine<'lab> {
    _lab: &'lab Lab,
    name: String,
    ip: Ipv4Addr,
    /// Parts of this machine that are mounted in the host: from where, to where.
    binds: Vec<(PathBuf, String)>,
    on: Option<Power>,
}

/// A host that is switched on.
struct Power {
    nspawn: Child,
    /// PID 1 of the host, by its number on this machine.
    leader: i32,
}

impl<'lab> Machine<'lab> {
    /// Gives the host a disk and a cable. Both survive a power cycle.
    pub(crate) fn new(lab: &'lab Lab, name: &str, address: Ipv4Addr) -> Self {
        let host = Self { _lab: lab, name: name.to_owned(), ip: address, binds: vec![], on: None };
        for dir in ["upper", "work", "root"] {
            fs::create_dir_all(host.disk(dir)).unwrap();
        }
        let (lower, upper, work) = (lab.base().display(), host.disk("upper"), host.disk("work"));
        let layers = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
        tool("mount", &["-t", "overlay", "-o", &layers, NAME, host.disk("root").to_str().unwrap()]);
        host.write("/etc/hostname", &format!("{name}\n"), 0o644);
        // A host whose own name does not resolve waits 15 s for each look-up.
        host.write("/etc/hosts", &format!("127.0.0.1 localhost\n{address} {name}\n"), 0o644);

        let space = host.namespace();
        tool("ip", &["netns", "add", &space]);
        ip(NAME, &format!("link add v-{name} type veth peer name eth0 netns {space}"));
        ip(NAME, &format!("link set v-{name} master br0 up"));
        ip(&space, "link set lo up");
        ip(&space, &format!("addr add {address}/24 dev eth0"));
        ip(&space, "link set eth0 up");
        ip(&space, "route add default via 192.0.2.1");
        // The kubelet's search for cloud credentials ends at once instead of after 6 s.
        ip(&space, "route add unreachable 169.254.0.0/16");
        host
    }

    /// Its address.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Puts a directory of the host on a disk of its own, which is not an overlay. To be asked before it is on.
    pub fn keep_apart(&mut self, absolute: &str) {
        let dir = self.disk(&absolute.trim_start_matches('/').replace('/', "-"));
        fs::create_dir_all(&dir).unwrap();
        self.binds.push((dir, absolute.to_owned()));
    }

    /// Gives the host something of this machine at the same path. To be asked before it is on.
    pub fn share(&mut self, absolute: &str) {
        self.binds.push((absolute.into(), absolute.to_owned()));
    }

    /// Switches it on and waits until systemd has started everything, without a failed unit.
    pub fn boot(&mut self) {
        assert!(self.on.is_none(), "{} is on already", self.name);
        let groups = self.cgroups();
        let root = self.disk("root");
        let console = fs::File::create(self.disk("console.log")).unwrap();
        let mut nspawn = Command::new("sh");
        // A cgroup of its own in each hierarchy, joined before systemd-nspawn starts, so that all of it is there.
        nspawn.args([
            "-c",
            "while [ $1 != -- ]; do echo $$ >$1/cgroup.procs; shift; done; shift; exec systemd-nspawn \"$@\"",
            "sh",
        ]);
        nspawn.args(&groups).arg("--");
        nspawn.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--capability=all", "--resolv-conf=off"]);
        nspawn.args(["--timezone=off", "--link-journal=no", "--console=read-only"]);
        nspawn.arg(format!("--directory={}", root.display()));
        nspawn.arg(format!("--machine={}", self.namespace()));
        nspawn.arg(format!("--network-namespace-path=/run/netns/{}", self.namespace()));
        nspawn.arg(concat!("--bind-ro=", env!("CARGO_BIN_EXE_hamaster"), ":/usr/bin/hamaster"));
        nspawn.args(self.binds.iter().map(|(from, to)| format!("--bind={}:{to}", from.display())));
        // Forwarding is the host's own to switch on (its namespace, not the machine's), and a runtime in it needs
        // system calls that nspawn refuses.
        nspawn.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network").env("SYSTEMD_SECCOMP", "0");
        nspawn.stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
        // A ^C meant for the test must not reach it: the test cleans up.
        nspawn.process_group(0);

        let mut nspawn = nspawn.spawn().unwrap();
        let mut leader = None;
        within(Duration::from_secs(60), "systemd answers in the host", || {
            if let Some(status) = nspawn.try_wait().unwrap() {
                panic!("{}: systemd-nspawn ended with {status}: {}", self.name, self.console());
            }
            leader = leader.or_else(|| first_process_in(nspawn.id()));
            leader.is_some_and(|l| Path::new(&format!("/proc/{l}/root")).join("run/systemd/private").exists())
        });
        self.on = Some(Power { nspawn, leader: leader.unwrap() });
        let state = self.run(&["systemctl", "is-system-running", "--wait"]);
        let failed = self.run(&["systemctl", "--failed", "--no-legend", "--plain"]);
        assert!(state.status.success(), "{}: {}{}", self.name, text(&state.stdout), text(&failed.stdout));
    }

    /// Pulls the plug: every process dies at once, nothing is shut down or flushed.
    pub fn power_off(&mut self) {
        let Some(mut power) = self.on.take() else { return };
        // Its PID 1, not systemd-nspawn: killing that would leave the host running.
        let _ = Pid::from_raw(power.leader).map(|l| kill_process(l, Signal::KILL));
        power.nspawn.wait().unwrap();
        lab::sweep_cgroups(&lab::cgroups(&[&self.name]));
    }

    /// Runs a command in the host, outside its services' cgroups, and waits for it.
    pub fn run(&self, argv: &[&str]) -> Output {
        self.command(argv).output().unwrap()
    }

    /// Starts a command in the host.
    pub fn spawn(&self, argv: &[&str]) -> Child {
        self.command(argv).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a command that must succeed and returns what it prints.
    pub fn ok(&self, argv: &[&str]) -> String {
        let out = self.run(argv);
        assert!(out.status.success(), "{}: {argv:?}: {}\n{}", self.name, out.status, said(&out));
        text(&out.stdout)
    }

    /// Whether a command succeeds.
    pub fn succeeds(&self, argv: &[&str]) -> bool {
        self.run(argv).status.success()
    }

    /// A path of the host as this machine sees it, on or off.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.disk("root").join(absolute.trim_start_matches('/'))
    }

    /// Puts a file on its disk.
    pub fn write(&self, absolute: &str, content: &str, mode: u32) {
        let path = self.path(absolute);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn command(&self, argv: &[&str]) -> Command {
        let leader = self.on.as_ref().expect("the host is on").leader.to_string();
        let mut nsenter = Command::new("/usr/bin/nsenter");
        // --wdns, not --wd: the working directory in the host, not on this machine. The limit is kept inside: a
        // killed nsenter would leave the command running.
        nsenter.args(["-t", &leader, "-a", "--wdns=/", "--", "timeout", "--foreground", "-k", "5", COMMAND_LIMIT]);
        nsenter.args(argv).stdin(Stdio::null());
        // Nothing of this machine's environment gets in.
        nsenter.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        nsenter.env("HOME", "/root").env("LANG", "C.UTF-8").env("SYSTEMD_PAGER", "");
        nsenter
    }

    /// Its cgroup in each hierarchy, made if need be.
    fn cgroups(&self) -> Vec<PathBuf> {
        let groups = lab::cgroups(&[&self.name]);
        for group in &groups {
            fs::create_dir_all(group).unwrap();
            let (ours, top) = (group.parent().unwrap(), group.parent().unwrap().parent().unwrap());
            // A new cpuset (v1) is empty, and nothing can be moved into an empty one.
            for file in ["cpuset.cpus", "cpuset.mems"]
                .iter()
                .filter(|f| ours.ends_with("cpuset/hamtest") && top.join(f).exists())
            {
                let all = fs::read(top.join(file)).unwrap();
                fs::write(ours.join(file), &all).unwrap();
                fs::write(group.join(file), &all).unwrap();
            }
        }
        groups
    }

    fn console(&self) -> String {
        fs::read_to_string(self.disk("console.log")).unwrap_or_default()
    }

    fn disk(&self, part: &str) -> PathBuf {
        [lab::DISKS, &self.name, part].iter().collect()
    }

    fn namespace(&self) -> String {
        format!("{NAME}-{}", self.name)
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        self.power_off();
    }
}

/// The child of systemd-nspawn that is PID 1 in a namespace of its own (there are helpers before it is).
fn first_process_in(nspawn: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let is_first = |pid: &&str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|l| l.starts_with("NSpid:") && l.ends_with("\t1"))
    };
    children.split_whitespace().find(is_first)?.parse().ok()
}

/// What a command printed, both streams.
pub fn said(out: &Output) -> String {
    text(&out.stdout) + &text(&out.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
