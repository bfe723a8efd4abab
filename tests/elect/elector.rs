//! What is put under test: hamaster, a deliberately naive elector, and a script around `etcdctl elect`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::etcd::Etcd;
use crate::node::Plan;

/// Who elects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elector {
    /// The real daemon.
    Hamaster,
    /// `naive.sh`: compare-and-swap on a leased key, nothing else.
    Naive,
    /// `etcdctl.sh`: what people write around `etcdctl elect`.
    Etcdctl,
}

/// The times of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// L
    pub(crate) lease: Duration,
    /// W
    pub(crate) watchdog: Duration,
    /// K
    pub(crate) stop: Duration,
}

/// All profiles.
pub(crate) const PROFILES: [Profile; 3] = [
    Profile { name: "fast", lease: ms(5000), watchdog: ms(1000), stop: ms(1500) },
    Profile { name: "plain", lease: ms(5000), watchdog: ms(1000), stop: ms(0) },
    Profile { name: "default", lease: ms(10_000), watchdog: ms(1500), stop: ms(4500) },
];

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Profile {
    /// By its name.
    pub(crate) fn named(name: &str) -> Self {
        *PROFILES.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("no profile {name}"))
    }

    /// B
    pub(crate) fn bound(&self) -> Duration {
        self.lease + self.stop
    }
}

impl Elector {
    /// By its name.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "hamaster" => Self::Hamaster,
            "naive" => Self::Naive,
            "etcdctl" => Self::Etcdctl,
            _ => panic!("no elector {name}"),
        }
    }

    /// Writes its configuration.
    pub(crate) fn configure(self, plan: &Plan, etcd: &Etcd) {
        if self == Self::Hamaster {
            fs::write(plan.place.join("elect.yaml"), elect_yaml(plan, etcd)).unwrap();
        }
    }

    /// What runs on the node.
    pub(crate) fn command(self, plan: &Plan) -> Command {
        match self {
            Self::Hamaster => hamaster(plan, &["elect", "-c", &path(&plan.place.join("elect.yaml"))]),
            Self::Naive => script(plan, "naive.sh"),
            Self::Etcdctl => script(plan, "etcdctl.sh"),
        }
    }

    /// What runs whenever that ended: ExecStopPost of the shipped unit. `stopping`: it was told to stop, so it is not
    /// started again; the unit's command asks systemctl for that.
    pub(crate) fn stop_post(self, plan: &Plan, stopping: bool) -> Option<Command> {
        if self != Self::Hamaster {
            return None;
        }
        let (config, bin) = (path(&plan.place.join("elect.yaml")), plan.place.join("bin"));
        fs::create_dir_all(&bin).unwrap();
        let systemctl = bin.join("systemctl");
        fs::write(&systemctl, format!("#!/bin/sh\necho {}\n", if stopping { "4711" } else { "" })).unwrap();
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
        let fence = ["elect", "fence", "--unless-adoptable", "--unit", "hamaster-elect.service", "-c", &config];
        let mut command = hamaster(plan, &fence);
        command.env("PATH", format!("{}:{}", path(&bin), std::env::var("PATH").unwrap_or_default()));
        Some(command)
    }

    /// How long it may be silent before it is killed; only hamaster asks for that.
    pub(crate) fn watchdog(self, profile: Profile) -> Option<Duration> {
        (self == Self::Hamaster).then_some(profile.watchdog)
    }

    /// The longest that it may take a successor after its predecessor's last sign of life.
    pub(crate) fn takeover(self, profile: Profile) -> Duration {
        match self {
            Self::Hamaster => profile.bound() + profile.bound() / 100,
            // Leases are 5 s and 60 s, and a new etcd leader doubles what is left.
            Self::Naive => Duration::from_secs(12),
            Self::Etcdctl => Duration::from_secs(122),
        }
    }
}

/// The real binary with arguments, on the plan's host, with the host's ids in place of the machine's.
pub(crate) fn hamaster(plan: &Plan, arguments: &[&str]) -> Command {
    const BIND: &str = "mount --bind \"$0/machine-id\" /etc/machine-id && \
        mount --bind \"$0/boot-id\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let mut command = plan.host.command("unshare");
    command.args(["--mount", "bash", "-c", BIND]).arg(&plan.place);
    if plan.steppable {
        // Its file of the offset is read at every look at the clock; the clocks that cannot be stepped stay true.
        command.args(["env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_NO_CACHE=1", "FAKETIME_XRESET=1"]);
        command.arg(format!("FAKETIME_TIMESTAMP_FILE={}", path(&plan.clock())));
        command.arg("LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1");
    }
    let built = env!("CARGO_BIN_EXE_hamaster").to_owned();
    command.arg(std::env::var("HAMASTER_ELECT_BINARY").unwrap_or(built)).args(arguments);
    command
}

fn script(plan: &Plan, name: &str) -> Command {
    let mut command = plan.host.command("bash");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/elect").join(name))
        .args([&plan.group, &plan.id])
        .args([plan.source(), plan.manifest()]);
    command
}

fn elect_yaml(plan: &Plan, etcd: &Etcd) -> String {
    let Plan { id, group, place, profile, .. } = plan;
    format!(
        "apiVersion: hamaster/v1\n\
         kind: Elect\n\
         id: {id}\n\
         etcd:\n  endpoints: [{}]\n  caFile: {}\n  certFile: {}\n  keyFile: {}\n\
         leaseDuration: {}ms\n\
         stopTimeout: {}ms\n\
         runtimeDir: {}/run\n\
         groups:\n\
         - name: {group}\n  sourceFile: {}\n  destFile: {}\n  kind: file\n  confirm: none\n",
        etcd.endpoints().join(", "),
        path(&etcd.certs.ca()),
        path(&etcd.client.cert),
        path(&etcd.client.key),
        profile.lease.as_millis(),
        profile.stop.as_millis(),
        place.display(),
        path(&plan.source()),
        path(&plan.manifest()),
    )
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
