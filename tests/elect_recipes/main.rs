//! The recipes of `examples/elect`, as they stand: two hosts, one real etcd, the real daemon. Exactly one is active; the
//! other takes over when it is told to stop, and when it is gone.
#![allow(clippy::disallowed_methods, reason = "tests are effects")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod etcd;
mod host;
mod network;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use etcd::Etcd;
use host::{Host, example};
use network::Network;

/// For what must come to pass some time: generous, it is no measurement.
const LIVENESS: Duration = Duration::from_secs(90);

/// Asks until there is an answer.
pub(crate) fn awaited<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        match ask() {
            Some(answer) => return answer,
            None if begin.elapsed() < LIVENESS => sleep(Duration::from_millis(20)),
            None => panic!("waited in vain for {what}"),
        }
    }
}

fn here(program: &str) -> Command {
    Command::new(program)
}

/// Two hosts, and how to see whether a recipe's payload is active on one.
struct Pair<'a> {
    hosts: [Host; 2],
    active: &'a dyn Fn(&Host) -> bool,
}

impl Pair<'_> {
    /// Which host is active; never both.
    fn active(&self) -> Option<usize> {
        let active = [0, 1].map(|n| (self.active)(&self.hosts[n]));
        assert_ne!(active, [true, true], "both are active");
        active.iter().position(|a| *a)
    }

    fn await_active(&self, host: usize) {
        awaited("the other one to take over", || (self.active() == Some(host)).then_some(()));
    }

    /// The life of a recipe. `lost`: what a host that is gone leaves behind is put away.
    fn plays(&mut self, group: &str, lost: impl Fn(&Host)) {
        self.hosts.iter_mut().for_each(Host::start);
        let first = awaited("one of them to be active", || self.active());
        let second = 1 - first;
        awaited("the second one to wait", || {
            assert_eq!(self.active(), Some(first));
            self.hosts[second].state(group).filter(|s| s == "head" || s == "queued")
        });

        let status = self.hosts[first].end(Signal::TERM);
        assert_eq!(status.code(), Some(0), "told to stop, it lets go");
        assert_ne!(self.active(), Some(first), "nothing is left where it was");
        self.await_active(second);

        self.hosts[first].start();
        awaited("the first one to wait", || self.hosts[first].state(group).filter(|s| s == "head" || s == "queued"));
        assert_eq!(self.active(), Some(second), "nobody takes it away");
        self.hosts[second].end(Signal::KILL);
        lost(&self.hosts[second]);
        assert_ne!(self.active(), Some(second), "fenced");
        self.await_active(first);
    }
}

fn recipe(name: &str, dir: &Path, etcd: &Etcd) -> [Host; 2] {
    ["a", "b"].map(|host| Host::of_recipe(name, &dir.join(host), etcd, here))
}

#[test]
fn script() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&dir.path().join("etcd"), true, here);
    let hosts = recipe("script", dir.path(), &etcd);
    for host in &hosts {
        host.install("/usr/local/bin/collector.sh", &example("script/collector.sh"), 0o755);
        fs::create_dir_all(host.path("/var/lib/collector")).unwrap();
    }
    // The script's process, by its command line.
    let active = |host: &Host| {
        let log = host.path("/var/lib/collector/log").display().to_string();
        Command::new("pgrep")
            .args(["-f", &format!("^/bin/sh .*collector.sh {log}$")])
            .output()
            .unwrap()
            .status
            .success()
    };
    let mut pair = Pair { hosts, active: &active };
    pair.plays("collector", Host::fence);
    let log = |n: usize| fs::read_to_string(pair.hosts[n].path("/var/lib/collector/log")).unwrap();
    let stopped = [log(0), log(1)].concat().lines().filter(|l| l.ends_with(" stopped")).count();
    assert!(stopped >= 1, "SIGTERM lets the script end by itself");
    let mut tokens: Vec<u64> = [log(0), log(1)]
        .concat()
        .lines()
        .filter_map(|l| l.strip_suffix(" started")?.rsplit(':').next()?.parse().ok())
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 3, "three terms, three tokens");
}

/// Keeps what is started as a file, as systemd keeps it in memory.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
state=@ROOT@/units
mkdir -p "$state"
echo "$*" >>"@ROOT@/systemctl.log"
verb= unit= properties=
for word in "$@"; do
    case $word in
    -*) case $word in --property=* | -p*) properties=$word ;; esac ;;
    *.service) unit=$word ;;
    *) [ -n "$verb" ] || verb=$word ;;
    esac
done
active() { [ -e "$state/$unit" ]; }
case $verb in
start | restart) touch "$state/$unit" ;;
stop | kill) rm -f "$state/$unit" ;;
is-active) if active; then echo active; else echo inactive && exit 3; fi ;;
show)
    if active; then echo "ActiveState=active"; else echo "ActiveState=inactive"; fi
    echo "LoadState=loaded"
    ;;
esac
"#;

#[test]
fn systemd_service() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&dir.path().join("etcd"), true, here);
    let hosts = ["a", "b"].map(|name| {
        let root = dir.path().join(name);
        let path = format!("{}:{}", root.join("usr/local/bin").display(), std::env::var("PATH").unwrap());
        let host = Host::of_recipe("systemd-service", &root, &etcd, move |program| {
            let mut command = Command::new(program);
            command.env("PATH", &path);
            command
        });
        host.install("/usr/local/bin/systemctl", &SYSTEMCTL.replace("@ROOT@", &root.display().to_string()), 0o755);
        host
    });
    let active = |host: &Host| host.path("/units/report-mailer.service").exists();
    Pair { hosts, active: &active }.plays("report-mailer", Host::fence);
}

#[test]
fn virtual_ip() {
    let dir = tempfile::tempdir().unwrap();
    let network = Network::new(&["vip-a", "vip-b"]);
    let etcd = Etcd::start(&dir.path().join("etcd"), true, network.wrap());
    let hosts = ["a", "b"].map(|name| {
        let host = Host::of_recipe("virtual-ip", &dir.path().join(name), &etcd, network.wrap());
        let conf = example("virtual-ip/vip.conf").replace("DEVICE=eth0", &format!("DEVICE=vip-{name}"));
        host.install("/etc/hamaster/vip.conf", &conf, 0o644);
        host.install("/usr/local/sbin/vip.sh", &example("virtual-ip/vip.sh"), 0o755);
        fs::create_dir_all(host.path("/run/hamaster")).unwrap();
        host
    });
    let active = |host: &Host| {
        let device = format!("vip-{}", host.root.file_name().unwrap().to_str().unwrap());
        network.addresses(&device).contains("10.0.0.100")
    };
    Pair { hosts, active: &active }.plays("vip", Host::fence);
}

#[test]
fn spread() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&dir.path().join("etcd"), true, here);
    let mut hosts = recipe("spread", dir.path(), &etcd);
    let groups = ["kube-scheduler", "kube-controller-manager"];
    for host in &mut hosts {
        for name in groups {
            host.install(&format!("/etc/kubernetes/standby/{name}.yaml"), &pod(name), 0o600);
        }
        fs::create_dir_all(host.path("/etc/kubernetes/manifests")).unwrap();
        host.start();
    }
    let holds = |host: &Host| groups.map(|g| host.path(&format!("/etc/kubernetes/manifests/{g}.yaml")).exists());
    let never_twice = |hosts: &[Host]| {
        let [a, b] = [holds(&hosts[0]), holds(&hosts[1])];
        assert!((0..2).all(|n| !(a[n] && b[n])), "a group on both hosts");
        (a, b)
    };
    awaited("one group on each host", || {
        let (a, b) = never_twice(&hosts);
        (a != b && a[0] != a[1] && b[0] != b[1]).then_some(())
    });
    let status = hosts[0].end(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    awaited("both groups on the survivor", || (never_twice(&hosts).1 == [true, true]).then_some(()));
}

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: kube-system}}\nspec:\n  \
         terminationGracePeriodSeconds: 2\n  containers: [{{name: main, image: {name}}}]\n"
    )
}

/// What the pod's volume does: `/run/hamaster` is the host's own.
fn own_run(root: &Path) -> impl Fn(&str) -> Command + 'static {
    let own = root.join("run/hamaster");
    fs::create_dir_all(&own).unwrap();
    let mount = "mount -t tmpfs tmpfs /run && mkdir /run/hamaster && mount --bind \"$0\" /run/hamaster && exec \"$@\"";
    let unshare = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    move |program| {
        let mut command = Command::new("unshare");
        command.args([unshare, "sh", "-c", mount]).arg(&own).arg(program);
        command
    }
}

#[test]
fn podmaster() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(&dir.path().join("etcd"), false, here);
    let manifest: serde_json::Value = serde_yaml::from_str(&example("podmaster/podmaster.yaml")).unwrap();
    for container in manifest["spec"]["containers"].as_array().unwrap() {
        let words: Vec<_> = container["command"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        assert_eq!(words[..2], ["/hamaster", "elect"]);
        let key = words.iter().find_map(|w| w.strip_prefix("--key=")).unwrap();
        let file = words.iter().find_map(|w| w.strip_prefix("--dest-file=/dst/")).unwrap();
        let hosts = ["a", "b"].map(|name| {
            let root = dir.path().join(key).join(name);
            let at = root.display();
            let arguments = words[2..].iter().map(|w| {
                // Volumes, etcd's address, and no patience for half a minute.
                w.replace("=/src/", &format!("={at}/src/"))
                    .replace("=/dst/", &format!("={at}/dst/"))
                    .replace("http://127.0.0.1:2379", &etcd.url)
                    .replace("--ttl-secs=30", "--ttl-secs=5")
            });
            let more = [format!("--whoami={name}")];
            let host = Host::new(&root, arguments.chain(more).collect(), own_run(&root));
            host.install(&format!("/src/{file}"), &pod(file.trim_end_matches(".yaml")), 0o600);
            fs::create_dir_all(host.path("/dst")).unwrap();
            host
        });
        let manifest = format!("/dst/{file}");
        let active = |host: &Host| host.path(&manifest).exists();
        // A host that is gone: the file goes with it.
        let gone = |host: &Host| fs::remove_file(host.path(&manifest)).unwrap();
        Pair { hosts, active: &active }.plays(key, gone);
    }
}
