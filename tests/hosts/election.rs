//! The election as systemd runs it: what becomes of a leader whose daemon is killed, frozen, held, stopped or reloaded,
//! of a host whose plug is pulled while it leads, and of payloads other than manifests.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::lab::{Lab, within};
use crate::machine::{Machine, said};

/// A wait that ends well ends early.
const PATIENCE: Duration = Duration::from_secs(120);
/// A manifest is gone this long after the last renewal.
const LEASE: Duration = Duration::from_secs(30);
const ELECT: &str = "hamaster-elect.service";
const FENCE: &str = "hamaster-fence.service";
/// Groups, and the manifest of each.
const GROUPS: [(&str, &str); 2] =
    [("scheduler", "kube-scheduler.yaml"), ("controller-manager", "kube-controller-manager.yaml")];
const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// Who leads is elected by default. A lease long enough for a daemon to be started anew within it on a busy machine.
const CLUSTER: &str = "\
kubernetes:
  version: v1.20.2
loadBalancer:
  addresses: [192.0.2.100]
network:
  plugin: none
runtime: containerd
election:
  leaseDuration: 30s
";

/// Stands in for the kubelet: notes what it finds when it starts, which is what the real one would run.
const KUBELET: &str = "\
#!/bin/sh
case \"$*\" in *version*) echo Kubernetes v1.20.2; exit ;; esac
ls -A /etc/kubernetes/manifests >/var/lib/found
exec sleep infinity
";

/// Stands in for the apiserver, which that kubelet does not run: `/readyz`, with the certificate that `init` made.
const APISERVER: &str = "\
[Service]
WorkingDirectory=/srv
ExecStart=/usr/bin/openssl s_server -quiet -WWW -accept 6443 \
    -cert /etc/kubernetes/pki/server.cert -key /etc/kubernetes/pki/server.key

[Install]
WantedBy=multi-user.target
";

/// A debugger that holds a process until it dies. `systemctl stop` sends SIGCONT after SIGTERM, so one that is only
/// stopped would hear of it.
const HOLD: &str = r#"
my %ptrace = (x86_64 => 101, aarch64 => 117);
chomp(my $machine = `uname -m`);
my $pid = $ARGV[0] + 0;
syscall($ptrace{$machine}, 16, $pid, 0, 0) == 0 or die "cannot attach: $!";
waitpid $pid, 0;
print "held\n";
open STDOUT, '>', '/dev/null';
waitpid $pid, 0;
"#;

/// A master that leads both groups.
fn leading_master(lab: &Lab) -> Machine<'_> {
    let mut host = lab.machine("m1", 11);
    // An overlay cannot lie on another overlay, and without its snapshots containerd could not say what runs.
    host.keep_apart("/var/lib/containerd");
    host.write("/usr/local/bin/kubelet", KUBELET, 0o755);
    host.write("/etc/cluster.yaml", CLUSTER, 0o644);
    host.write("/etc/systemd/system/apiserver.service", APISERVER, 0o644);
    host.write("/srv/readyz", "ok", 0o644);
    switch_on(&mut host);
    let mut words: Vec<_> =
        "hamaster init -c /etc/cluster.yaml --name m1 --advertise-ip 192.0.2.11 --yes --adopt".split(' ').collect();
    words.extend(["--ignore-preflight", "EtcdDataDirFilesystem,NumCPU,Mem,Swap"]);
    // All but the last, which talks to an apiserver.
    let phases = ["pki", "kubeconfig", "etcd", "network", "runtime", "kubelet", "control-plane", "election"];
    words.extend(phases.iter().flat_map(|p| ["--only", *p]));
    host.ok(&words);
    host.ok(&["systemctl", "enable", "--now", "apiserver.service"]);
    leads(&host);
    host
}

/// With one boot ID for all. systemd-nspawn puts one of its own over the kernel's, and services whose sandbox has a
/// /proc of its own do not see it: outside of containers there is only one.
fn switch_on(host: &mut Machine) {
    host.boot();
    host.ok(&["sh", "-c", "while umount /proc/sys/kernel/random/boot_id 2>/dev/null; do :; done"]);
}

fn manifest(host: &Machine, name: &str) -> PathBuf {
    host.path(&format!("{MANIFESTS}/{name}"))
}

/// Which of the elected manifests are there.
fn manifests(host: &Machine) -> Vec<&'static str> {
    GROUPS.iter().map(|(_, file)| *file).filter(|f| manifest(host, f).exists()).collect()
}

/// What this host knows of a group; nothing before a daemon ran on this boot.
fn status(host: &Machine, group: &str) -> serde_json::Value {
    let out = host.run(&["cat", &format!("/run/hamaster/elect/{group}.json")]);
    serde_json::from_slice(&out.stdout).unwrap_or_default()
}

fn property(host: &Machine, unit: &str, name: &str) -> String {
    host.ok(&["systemctl", "show", "--value", "-p", name, unit]).trim().to_owned()
}

fn number(host: &Machine, unit: &str, name: &str) -> u64 {
    property(host, unit, name).parse().unwrap()
}

/// What the unit said since this was last asked.
fn news(host: &Machine, unit: &str) -> String {
    let cursor = format!("--cursor-file=/run/{unit}.cursor");
    host.ok(&["journalctl", "--sync"]);
    host.ok(&["journalctl", "-q", "-o", "cat", "--no-pager", &cursor, "-u", unit])
}

/// Waits until this host leads all groups, under a daemon that runs.
fn leads(host: &Machine) {
    let leads =
        |group| status(host, group)["state"] == "leading" && host.succeeds(&["hamaster", "elect", "check", group]);
    let all = || manifests(host).len() == 2 && GROUPS.iter().all(|(group, _)| leads(group));
    if std::panic::catch_unwind(|| within(PATIENCE, "this host leads", all)).is_err() {
        let units = ["-u", ELECT, "-u", FENCE, "-u", "apiserver.service"];
        let journal = host.run(&[&["journalctl", "--no-pager", "-n", "100"], &units[..]].concat());
        panic!("{}\n{}", said(&host.run(&["hamaster", "elect", "status"])), said(&journal));
    }
}

/// The term of a group as etcd has it.
fn term(host: &Machine, group: &str) -> serde_json::Value {
    let client = "etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/pki/ca.crt \
                  --cert=/etc/etcd/pki/hamaster.crt --key=/etc/etcd/pki/hamaster.key get --print-value-only";
    let key = format!("/hamaster/elect/{group}/term");
    let words: Vec<_> = client.split_whitespace().chain([key.as_str()]).collect();
    serde_json::from_str(&host.ok(&words)).unwrap()
}

/// What a payload that was not touched keeps: its file, and the term that it belongs to.
fn leaderships(host: &Machine) -> BTreeMap<&'static str, (u64, i64, i64, u64)> {
    let of = |group, file| {
        let meta = fs::metadata(manifest(host, file)).unwrap();
        (meta.ino(), meta.mtime(), meta.mtime_nsec(), term(host, group)["number"].as_u64().unwrap())
    };
    GROUPS.into_iter().map(|(group, file)| (group, of(group, file))).collect()
}

/// The clock that the status files go by.
fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

fn main_pid(host: &Machine) -> String {
    let pid = property(host, ELECT, "MainPID");
    assert_ne!(pid, "0");
    pid
}

/// Waits for another daemon than `before` that leads; nothing of what is led changed meanwhile.
fn another_adopts(host: &Machine, before: &str, led: &BTreeMap<&str, (u64, i64, i64, u64)>, what: &str) {
    within(PATIENCE, &format!("systemd starts another daemon after {what}"), || {
        let pid = property(host, ELECT, "MainPID");
        pid != before && pid != "0" && property(host, ELECT, "ActiveState") == "active"
    });
    leads(host);
    let journal = || said(&host.run(&["journalctl", "--no-pager", "-n", "40", "-u", ELECT]));
    assert_eq!(&leaderships(host), led, "{what}: the payload was touched, or another term began: {}", journal());
}

#[test]
fn a_leader_is_adopted_after_a_crash_a_freeze_and_a_reload_and_let_go_by_a_stop() {
    let Some(lab) = Lab::new() else { return };
    let host = leading_master(&lab);
    for unit in [ELECT, FENCE] {
        assert_eq!(property(&host, unit, "ActiveState"), "active", "{unit}");
    }
    let table = host.ok(&["hamaster", "elect", "status"]);
    let led = table.lines().filter(|l| l.contains(" m1 ") && l.contains(" leading "));
    assert_eq!(led.count(), 2, "{table}");
    sandboxed(&host);
    news(&host, ELECT);

    let led = leaderships(&host);
    let (pid, restarts) = (main_pid(&host), number(&host, ELECT, "NRestarts"));
    host.ok(&["systemctl", "kill", "-s", "KILL", ELECT]);
    another_adopts(&host, &pid, &led, "SIGKILL");
    assert_eq!(number(&host, ELECT, "NRestarts"), restarts + 1);
    let told = news(&host, ELECT);
    assert!(told.contains("kept, its lead lasts") && told.contains("adopted"), "{told}");

    let pid = main_pid(&host);
    host.ok(&["kill", "-STOP", &pid]);
    another_adopts(&host, &pid, &led, "SIGSTOP");
    assert_eq!(number(&host, ELECT, "NRestarts"), restarts + 2);
    let told = news(&host, ELECT);
    for line in ["Watchdog timeout", "Failed with result 'watchdog'", "kept, its lead lasts", "adopted"] {
        assert!(told.contains(line), "`{line}` is not in: {told}");
    }

    let pid = main_pid(&host);
    host.ok(&["systemctl", "reload", ELECT]);
    let mut told = String::new();
    within(PATIENCE, "it starts anew", || {
        told += &news(&host, ELECT);
        told.contains("read again") && told.matches("adopted").count() == 2
    });
    leads(&host);
    assert_eq!((main_pid(&host), leaderships(&host)), (pid.clone(), led), "reload");

    host.ok(&["kill", "-STOP", &pid]);
    host.ok(&["systemctl", "stop", ELECT]);
    assert_eq!(manifests(&host), Vec::<&str>::new(), "frozen and stopped");
    host.ok(&["systemctl", "start", ELECT]);
    leads(&host);

    host.ok(&["systemctl", "stop", ELECT]);
    assert_eq!(manifests(&host), Vec::<&str>::new(), "stopped");
    for (group, _) in GROUPS {
        assert_eq!(term(&host, group)["state"], "released");
        assert_eq!(host.run(&["hamaster", "elect", "check", group]).status.code(), Some(8));
    }
}

/// The manifests go before another host may lead, which last heard of this one when it `renewed`.
fn gone_in_time(host: &Machine, renewed: [u64; 2]) {
    within(PATIENCE, "the manifests go", || manifests(host).is_empty());
    let since = boottime_ns() - renewed.iter().min().unwrap();
    assert!(since < LEASE.as_nanos() as u64, "another host may lead already: gone {since} ns after the last renewal");
}

/// systemd's watchdog does not look at a service any more once it was told to stop.
#[test]
fn a_daemon_held_while_it_is_stopped_is_fenced_before_another_host_may_lead() {
    let Some(lab) = Lab::new() else { return };
    let host = leading_master(&lab);
    news(&host, ELECT);
    let mut debugger = host.spawn(&["perl", "-e", HOLD, &main_pid(&host)]);
    let mut line = String::new();
    BufReader::new(debugger.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let renewed = GROUPS.map(|(group, _)| status(&host, group)["renewedAtNs"].as_u64().unwrap());
    host.ok(&["systemctl", "stop", "--no-block", ELECT]);
    gone_in_time(&host, renewed);
    host.ok(&["systemctl", "stop", ELECT]);
    assert!(debugger.wait().unwrap().success());
    let told = news(&host, ELECT);
    for (group, _) in GROUPS {
        assert!(told.contains(&format!("{group}: fenced")), "{told}");
        assert_eq!(term(&host, group)["state"], "held", "nobody could tell etcd: {told}");
    }
}

/// systemd runs nothing more of a service that is stopped while it waits for its restart.
#[test]
fn a_lead_kept_for_a_daemon_that_never_comes_back_is_fenced_when_it_is_over() {
    let Some(lab) = Lab::new() else { return };
    let host = leading_master(&lab);
    host.write(&format!("/etc/systemd/system/{ELECT}.d/slow.conf"), "[Service]\nRestartSec=1h\n", 0o644);
    host.ok(&["systemctl", "daemon-reload"]);
    news(&host, ELECT);
    host.ok(&["kill", "-KILL", &main_pid(&host)]);
    within(PATIENCE, "it waits for its restart", || property(&host, ELECT, "SubState") == "auto-restart");
    assert_eq!(manifests(&host).len(), 2, "kept for the daemon: {}", news(&host, ELECT));
    let renewed = GROUPS.map(|(group, _)| status(&host, group)["renewedAtNs"].as_u64().unwrap());
    host.ok(&["systemctl", "stop", ELECT]);
    gone_in_time(&host, renewed);
}

/// The daemon sees what it must write to and nothing else, and all it does works in there.
fn sandboxed(host: &Machine) {
    for unit in [ELECT, FENCE] {
        assert_eq!(property(host, unit, "ProtectSystem"), "strict");
    }
    let pid = main_pid(host);
    let touch = |path: &str| host.succeeds(&["nsenter", "-m", "-t", &pid, "touch", path]);
    for path in ["/etc/kubernetes/.probe", "/run/hamaster/elect/.probe"] {
        assert!(touch(path), "{path} cannot be written");
        host.ok(&["rm", path]);
    }
    for path in ["/etc/probe", "/usr/probe", "/var/lib/probe", "/etc/hamaster/probe"] {
        assert!(!touch(path), "{path} can be written");
    }
    assert!(host.succeeds(&["test", "-S", "/run/hamaster/elect/elect.sock"]));

    // A source that changes: noticed, staged, the old pod's death confirmed by the runtime, renamed.
    let before = leaderships(host);
    let (_, file) = GROUPS[0];
    let source = host.path(&format!("/etc/kubernetes/standby/{file}"));
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, format!("{text}# changed\n")).unwrap();
    let ends = || fs::read_to_string(manifest(host, file)).is_ok_and(|t| t.ends_with("# changed\n"));
    within(PATIENCE, "the change arrives", ends);
    fs::write(&source, &text).unwrap();
    within(PATIENCE, "it is taken back", || fs::read_to_string(manifest(host, file)).is_ok_and(|t| t == text));
    let other = GROUPS[1].0;
    assert_eq!(leaderships(host)[other], before[other], "the other group was touched");
    assert_eq!(leaderships(host)[GROUPS[0].0].3, before[GROUPS[0].0].3, "another term began");

    let told = news(host, ELECT) + &news(host, FENCE);
    for trouble in ["Read-only", "denied", "not permitted", "cannot"] {
        assert!(!told.contains(trouble), "{trouble}: {told}");
    }
}

#[test]
fn a_host_that_comes_back_is_fenced_before_its_kubelet_looks_or_has_no_kubelet() {
    let Some(lab) = Lab::new() else { return };
    let mut host = leading_master(&lab);
    host.power_off();
    assert_eq!(manifests(&host).len(), 2, "what the crash left");
    fs::remove_file(host.path("/var/lib/found")).unwrap();
    switch_on(&mut host);
    within(PATIENCE, "the kubelet looks", || host.path("/var/lib/found").exists());
    let found = host.ok(&["cat", "/var/lib/found"]);
    let told = news(&host, FENCE);
    for (group, file) in GROUPS {
        assert!(!found.contains(file), "the kubelet found {found}");
        assert!(told.contains(&format!("{group}: fenced")), "{told}");
    }
    assert!(found.contains("kube-apiserver.yaml"), "what is not elected stays: {found}");
    let done = number(&host, FENCE, "ExecMainExitTimestampMonotonic");
    let looked = number(&host, "kubelet.service", "ExecMainStartTimestampMonotonic");
    assert!(0 < done && done <= looked, "fenced at {done} µs, kubelet at {looked} µs");
    leads(&host);

    // What a mount covers cannot be unlinked: the fence fails, and a kubelet would run a scheduler that another
    // host may run as well.
    host.ok(&["systemctl", "stop", ELECT, FENCE, "kubelet.service"]);
    let stuck = format!("{MANIFESTS}/{}", GROUPS[0].1);
    host.write(&stuck, "stale", 0o600);
    host.ok(&["mount", "--bind", &stuck, &stuck]);
    let refused = host.run(&["systemctl", "start", "kubelet.service"]);
    assert!(!refused.status.success(), "the kubelet was started: {}", said(&refused));
    assert_eq!(property(&host, "kubelet.service", "MainPID"), "0");
    // It gives up on its own, later than the kubelet's start.
    within(PATIENCE, "the fence fails", || property(&host, FENCE, "ActiveState") == "failed");
    assert_eq!((property(&host, FENCE, "Result").as_str(), number(&host, FENCE, "ExecMainStatus")), ("exit-code", 7));
    assert_eq!(property(&host, "kubelet.service", "MainPID"), "0");
    host.ok(&["umount", &stuck]);
    host.ok(&["systemctl", "start", "kubelet.service"]);
    assert_eq!(manifests(&host), Vec::<&str>::new());
}

/// What a unit and a program look like to `hamaster elect` outside of any master.
const OTHERS: &str = "\
apiVersion: hamaster/v1
kind: Elect
etcd:
  endpoints: [http://127.0.0.1:2379]
leaseDuration: 10s
stopTimeout: 2s
groups:
  - name: mailer
    unit: mailer.service
  - name: job
    exec: [/usr/local/bin/job]
";
/// Another candidate for one of them, on the same host for simplicity.
const RIVAL: &str = "\
apiVersion: hamaster/v1
kind: Elect
id: m2
runtimeDir: /run/rival
etcd:
  endpoints: [http://127.0.0.1:2379]
leaseDuration: 10s
stopTimeout: 2s
groups:
  - name: mailer
    unit: rival.service
";
/// With a child that leaves its session.
const JOB: &str = "#!/bin/sh\nsetsid sleep 654321 &\nexec sleep 123456\n";

#[test]
fn a_unit_and_a_program_are_led_under_systemd_and_end_with_the_lead() {
    let Some(lab) = Lab::new() else { return };
    let mut host = lab.machine("m1", 11);
    host.write("/etc/elect.yaml", OTHERS, 0o644);
    host.write("/etc/rival.yaml", RIVAL, 0o644);
    host.write("/usr/local/bin/job", JOB, 0o755);
    for unit in ["mailer", "rival"] {
        host.write(&format!("/etc/systemd/system/{unit}.service"), "[Service]\nExecStart=/bin/sleep infinity\n", 0o644);
    }
    host.boot();
    host.ok(&["systemd-run", "--service-type=notify", "/usr/bin/etcd", "--data-dir=/var/lib/plain"]);
    // Nothing but the daemon's own process is killed by systemd: what else ends is hamaster's doing.
    let start = |name: &str, config: &str| {
        let unit = format!("--unit={name}");
        let mut words = vec!["systemd-run", &unit, "--service-type=notify"];
        words.extend(["-p", "KillMode=process", "-p", "WatchdogSec=1500ms", "-p", "WatchdogSignal=SIGKILL"]);
        words.extend(["hamaster", "elect", "-c", config]);
        host.ok(&words);
    };
    let runs = |process: &str| host.succeeds(&["pgrep", "-fx", process]);
    let active = |unit: &str| property(&host, unit, "ActiveState") == "active";
    let all = || active("mailer.service") && runs("sleep 123456") && runs("sleep 654321");
    let none = || !(active("mailer.service") || runs("sleep 123456") || runs("sleep 654321"));
    start("first", "/etc/elect.yaml");
    within(PATIENCE, "both are led", all);

    start("second", "/etc/rival.yaml");
    host.ok(&["hamaster", "elect", "-c", "/etc/elect.yaml", "resign", "mailer"]);
    assert!(!active("mailer.service"), "the successor was told that it is over");
    within(PATIENCE, "the other's unit is started", || active("rival.service"));
    assert!(runs("sleep 123456"), "the other group goes on");
    host.ok(&["systemctl", "stop", "second.service"]);
    assert!(!active("rival.service"), "stopped with its daemon");
    within(PATIENCE, "the unit comes back", all);

    host.ok(&["systemctl", "kill", "--kill-who=main", "-s", "KILL", "first.service"]);
    within(PATIENCE, "the program dies with the daemon", || !runs("sleep 123456"));
    host.ok(&["hamaster", "elect", "-c", "/etc/elect.yaml", "fence"]);
    assert!(none(), "fenced, with all that the program started");

    start("third", "/etc/elect.yaml");
    within(PATIENCE, "both are led again", all);
    host.ok(&["systemctl", "stop", "third.service"]);
    assert!(none(), "stopped");
}
