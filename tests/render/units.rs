//! Units as systemd sees them: `systemd-analyze verify` exits 0 on unknown keys and bad values, so any output fails.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hamaster::elect::config::{Payload, load, pod_name, source_note};
use hamaster::pki::catalog;
use hamaster::render;
use hamaster::spec::*;
use hamaster::state::PhaseId;
use hamaster::state::desired::{Placement, Readiness, SecretKind};

use crate::samples::{Set, cis, run, spec, this, variants};

/// What foreign packages bring: units that ours order themselves by.
const FOREIGN: &[(&str, &str)] = &[
    ("docker.service", "[Service]\nType=notify\nExecStart=/usr/bin/dockerd\n"),
    ("containerd.service", "[Service]\nExecStart=/usr/bin/containerd\n"),
    ("cri-docker.service", "[Service]\nExecStart=/usr/bin/cri-dockerd\n"),
];
const PROGRAMS: &[&str] =
    &["etcd", "flanneld", "kubelet", "hamaster", "dockerd", "containerd", "cri-dockerd", "test", "modprobe", "kill"];

/// A root with systemd's own units, stubs for every program and the set's units, and their names.
fn root(set: &Set, dir: &Path) -> Vec<String> {
    let system = dir.join("usr/lib/systemd/system");
    let own = Path::new("/usr/lib/systemd/system");
    for sub in [&system, &dir.join("usr/bin"), &dir.join("etc/systemd/system")] {
        std::fs::create_dir_all(sub).unwrap();
    }
    for entry in std::fs::read_dir(own).unwrap() {
        let path = entry.unwrap().path();
        let needed = path.extension().is_some_and(|e| e == "target" || e == "slice" || e == "mount" || e == "socket");
        if (needed || path.file_name().unwrap().to_str().unwrap().starts_with("modprobe@"))
            && let Ok(text) = std::fs::read(&path)
        {
            std::fs::write(system.join(path.file_name().unwrap()), text).unwrap();
        }
    }
    for program in PROGRAMS {
        for bin in ["usr/bin", "usr/sbin", "sbin", "bin"] {
            std::fs::create_dir_all(dir.join(bin)).unwrap();
            let path = dir.join(bin).join(program);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    std::fs::create_dir_all(dir.join("usr/lib/systemd")).unwrap();
    for program in ["systemd-modules-load", "systemd-sysctl"] {
        let path = dir.join("usr/lib/systemd").join(program);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    FOREIGN.iter().for_each(|(name, text)| std::fs::write(system.join(name), text).unwrap());
    let mut names = vec![];
    for file in set.files.iter().filter(|f| f.path.starts_with("/etc/systemd/system")) {
        let path = dir.join(file.path.strip_prefix("/").unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &file.bytes).unwrap();
        let parent = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        names.push(parent.strip_suffix(".d").unwrap_or(path.file_name().unwrap().to_str().unwrap()).to_owned());
    }
    names
}

pub fn verify(set: &Set) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let names = root(set, dir.path());
    let root = format!("--root={}", dir.path().display());
    let mut args = vec!["verify", "--man=no", &root];
    args.extend(names.iter().map(String::as_str));
    let (ok, out, err) = run("systemd-analyze", &args, dir.path())?;
    let said = format!("{out}{err}");
    assert!(ok || !said.is_empty());
    Some(said)
}

#[test]
fn systemd_has_nothing_to_say() {
    let mut classic = spec(23);
    classic.network.path = NetworkPath::Classic;
    let mut containerd = cis(spec(37));
    containerd.runtime = Runtime::Containerd;
    let mut elsewhere = spec(34);
    elsewhere.etcd.data_dir = "/srv/etcd data/100%".into();
    elsewhere.kubernetes.kubelet_extra_args = [("node-labels".into(), "a=\"%i $HOME;\\\n😀".into())].into();
    for spec in [spec(20), spec(34), classic, containerd, elsewhere] {
        let Some(said) = verify(&Set::of(&spec)) else { return };
        assert_eq!(said, "");
    }
}

/// The check above can fail: the mistakes that `verify` does not count as errors do print something.
#[test]
fn a_misspelt_setting_would_be_heard() {
    let mut set = Set::of(&spec(34));
    let etcd = set.files.iter_mut().find(|f| f.path.ends_with("etcd.service")).unwrap();
    etcd.bytes = String::from_utf8_lossy(&etcd.bytes).replace("LimitNOFILE", "LimitNOFILES").into();
    let Some(said) = verify(&set) else { return };
    assert!(said.contains("LimitNOFILES"), "{said:?}");
}

#[test]
fn etcd_is_confined() {
    let dir = tempfile::tempdir().unwrap();
    for data_dir in ["/var/lib/etcd", "/srv/etcd", "/var/lib/data/etcd", "/home/etcd/data"] {
        let mut spec = spec(34);
        spec.etcd.data_dir = data_dir.into();
        let set = Set::of(&spec);
        let path = dir.path().join("etcd.service");
        std::fs::write(&path, set.text("etcd.service")).unwrap();
        let args = ["security", "--offline=true", "--threshold=20", "--no-pager", path.to_str().unwrap()];
        let Some((ok, out, err)) = run("systemd-analyze", &args, dir.path()) else { return };
        assert!(ok, "{data_dir}: above 2.0: {}{err}", out.lines().last().unwrap_or_default());
    }
}

#[test]
fn etcds_data_is_reachable_and_its_directory_made_only_where_systemd_can() {
    let unit = |data_dir: &str| {
        let mut spec = spec(34);
        spec.etcd.data_dir = data_dir.into();
        Set::of(&spec).text("etcd.service").to_owned()
    };
    assert!(unit("/var/lib/etcd").contains("\nStateDirectory=etcd\nStateDirectoryMode=0700\n"));
    let elsewhere = unit("/srv/etcd");
    assert!(elsewhere.contains("\nReadWritePaths=/srv/etcd\n") && !elsewhere.contains("StateDirectory"));
    assert!(elsewhere.contains("ProtectHome=yes") && !unit("/home/etcd").contains("ProtectHome"));
}

#[test]
fn a_sealed_member_says_existing_and_changes_nothing_else() {
    let (spec, tools) = (spec(34), render::assumed_tools(&spec(34)));
    let this = this(&spec);
    let files = |sealed| {
        let etcd = render::EtcdStart { sealed, token: "t", initial_cluster: None };
        Set::render(&render::Input {
            spec: &spec,
            this: &this,
            role: hamaster::token::Role::Master,
            tools: &tools,
            etcd,
            external_ca: false,
        })
        .files
    };
    for (fresh, sealed) in files(false).into_iter().zip(files(true)) {
        let fresh = String::from_utf8(fresh.bytes).unwrap();
        assert_eq!(fresh.replace("state=new", "state=existing"), String::from_utf8(sealed.bytes).unwrap());
    }
}

#[test]
fn units_read_every_file_that_is_theirs() {
    for minor in [20, 23, 24, 34, 37] {
        for (name, spec) in variants(minor) {
            let set = Set::of(&spec);
            let read: Vec<_> = set.units.iter().flat_map(|u| &u.inputs).collect();
            let for_units = |p: &Path| {
                let text = p.to_string_lossy();
                text.starts_with("/etc/systemd")
                    || ["/etc/modules", "/etc/sysctl", "/etc/docker", "/etc/containerd"]
                        .iter()
                        .any(|dir| text.starts_with(dir))
            };
            for path in set.paths().into_iter().filter(|p| for_units(p)) {
                assert!(
                    read.iter().any(|r| *r == path),
                    "{name}: nothing is restarted when {} changes",
                    path.display()
                );
            }
            let phases: Vec<_> = set.units.iter().map(|u| u.phase).collect();
            assert!(phases.is_sorted(), "{name}: {phases:?}");
            assert_eq!(set.units[0].name, "etcd.service");
            let ready = Readiness::EtcdHealthy { ip: [127, 0, 0, 1].into(), port: 2381 };
            assert_eq!((set.units[0].phase, set.units[0].ready.clone()), (PhaseId::Etcd, Some(ready)));
        }
    }
}

/// A file that a unit, a pod or a kubeconfig reads is one that we make.
#[test]
fn whatever_is_read_is_made_by_someone() {
    for minor in [18, 20, 24, 34] {
        for (name, spec) in variants(minor) {
            let (set, this) = (Set::of(&spec), this(&spec));
            let mut made: BTreeSet<PathBuf> = set.paths().into_iter().map(Path::to_owned).collect();
            made.extend(catalog::cas(&spec, &this).into_iter().flat_map(|ca| [ca.cert, ca.key]));
            for cert in catalog::certs(&spec, &this) {
                match cert.placement {
                    Placement::Pair { cert, key, .. } => made.extend([cert, key]),
                    Placement::Kubeconfig { path, .. } | Placement::Combined { path } => made.extend([path]),
                }
            }
            for secret in catalog::secrets(&spec, &this) {
                if let SecretKind::ServiceAccountKey { public, .. } = secret.kind {
                    made.insert(public);
                }
                made.insert(secret.path);
            }
            let read = set.files.iter().flat_map(|f| &f.inputs).chain(set.units.iter().flat_map(|u| &u.inputs));
            let missing: BTreeSet<_> = read.filter(|path| !made.contains(*path)).collect();
            assert!(missing.is_empty(), "{name}: nobody makes {missing:?}");
            assert!(made.contains(&this.layout.kubelet_client_pem()));
        }
    }
}

/// The runtimes' own checks, where they are installed.
#[test]
fn runtimes_read_their_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = spec(34);
    std::fs::write(dir.path().join("daemon.json"), Set::of(&spec).text("daemon.json")).unwrap();
    if let Some((ok, out, err)) = run("dockerd", &["--validate", "--config-file=daemon.json"], dir.path()) {
        assert!(ok, "{out}{err}");
    }
    spec.runtime = Runtime::Containerd;
    let Some((_, version, _)) = run("containerd", &["--version"], dir.path()) else { return };
    let mut tools = render::assumed_tools(&spec);
    tools.containerd = (if version.contains(" 1.") { 1 } else { 2 }, 0);
    let set = Set::with(&spec, &this(&spec), &tools);
    std::fs::write(dir.path().join("config.toml"), set.text("config.toml")).unwrap();
    let (ok, out, err) = run("containerd", &["--config=config.toml", "config", "dump"], dir.path()).unwrap();
    assert!(ok && out.contains("registry.k8s.io/pause:3.10.1") && out.contains("SystemdCgroup = true"), "{out}{err}");
}

#[test]
fn every_master_serves_joiners() {
    let set = Set::of(&spec(34));
    let serve = set.units.iter().find(|u| u.name == "hamaster-serve.service").unwrap();
    assert!(serve.enable && serve.run);
    assert_eq!(serve.ready, Some(Readiness::Active));
    assert_eq!(serve.inputs, [Path::new("/etc/systemd/system/hamaster-serve.service")]);
}

/// What is rendered is what the daemon takes, and its units keep the times that it counts on.
#[test]
fn the_election_is_taken_as_it_is_rendered() {
    for minor in [18, 23, 24, 34] {
        for (name, mut spec) in variants(minor).into_iter().filter(|(_, s)| s.election.mode == ElectionMode::Podmaster)
        {
            for lease in [5, 10, 30, 3600] {
                spec.election.lease_duration = Duration::from_secs(lease);
                let set = Set::of(&spec);
                let config = load("elect.yaml", set.text("elect.yaml")).unwrap_or_else(|e| panic!("{name}: {e}"));
                let names: Vec<_> = config.groups.iter().map(|g| g.name.as_str()).collect();
                assert_eq!(names, ["scheduler", "controller-manager"]);
                let timing = config.groups[0].timing;
                assert_eq!(timing.lease(), spec.election.lease_duration);
                let unit = set.text("hamaster-elect.service");
                let watchdog = format!("WatchdogSec={}ms\n", timing.watchdog().as_millis());
                assert!(unit.contains(&watchdog), "{name}: {watchdog}{unit}");
                let stop = unit.lines().find_map(|l| l.strip_prefix("TimeoutStopSec=")?.strip_suffix('s')).unwrap();
                assert!(Duration::from_secs(stop.parse().unwrap()) > timing.bound(), "{name}: {stop}");
                for group in &config.groups {
                    let Payload::File(file) = &group.payload else { panic!() };
                    let source = set.files.iter().find(|f| f.path == file.source).unwrap();
                    let pod = pod_name(&source.bytes).unwrap();
                    assert_eq!(pod, ("kube-system".to_owned(), format!("kube-{}", group.name)), "{name}");
                    assert_eq!(source_note(group, &source.bytes), None, "{name}");
                    assert_eq!(file.dest.parent().unwrap().to_str(), Some("/etc/kubernetes/manifests"));
                    assert!(unit.contains("ReadWritePaths=/etc/kubernetes\n"), "{name}: {unit}");
                }
            }
        }
    }
}

#[test]
fn the_fence_is_before_the_kubelet_and_the_daemon_runs_after_it() {
    let set = Set::of(&spec(34));
    let order: Vec<_> = set.units.iter().filter(|u| u.phase == PhaseId::Election).collect();
    assert_eq!(
        order.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(),
        ["hamaster-fence.service", "hamaster-elect.service"]
    );
    assert!(order.iter().all(|u| u.enable && u.run && u.ready == Some(Readiness::Active)));
    let fence = set.text("hamaster-fence.service");
    for line in ["Before=kubelet.service\n", "RequiredBy=kubelet.service\n", "RemainAfterExit=yes\n"] {
        assert!(fence.contains(line), "{line}{fence}");
    }
}
