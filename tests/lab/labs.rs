//! `up`, `status` and `down`, around a driver of the test's own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hamaster::error::Kind;
use hamaster::host::Units;
use hamaster::host::supervisor::home::Home;
use hamaster::host::supervisor::loopback;
use hamaster::lab;
use hamaster::token::Role;

use crate::supervised::{HAMASTER, eventually, is_gone, kill, kind};

/// Leaves nothing behind, however the test ends.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _ = lab::down(self.0, true);
    }
}

#[test]
fn foreign_directories_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    let drive = |_: &lab::Lab| Ok(());
    assert_eq!(kind(lab::up(dir.path(), None, Path::new(HAMASTER), drive)), Kind::Conflict);
    assert_eq!(kind(lab::down(dir.path(), true)), Kind::Conflict);
    assert_eq!(kind(lab::status(dir.path())), Kind::Conflict);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["thesis.tex"]);

    let absent = dir.path().join("absent");
    assert_eq!(lab::down(&absent, true).unwrap(), lab::Down { stopped: false, purged: false });
    assert!(!absent.exists());
}

/// A real etcd, without TLS, as the only unit of a lab.
fn write_etcd(lab: &lab::Lab) -> hamaster::error::Result<()> {
    let lab::LabMaster { this, units } = &lab.masters[0];
    let ip = this.loopback;
    let data = this.layout.path("/var/lib/etcd");
    let text = format!(
        "[Service]\nType=notify\nUser=etcd\nRestart=on-failure\nRestartSec=1s\nExecStart=etcd --name=m1 \
         \"--data-dir={}\" --listen-client-urls=http://{ip}:2379 --advertise-client-urls=http://{ip}:2379 \
         --listen-peer-urls=http://{ip}:2380 --initial-advertise-peer-urls=http://{ip}:2380 \
         --initial-cluster=m1=http://{ip}:2380 --listen-metrics-urls=http://{ip}:2381\n",
        data.display()
    );
    let path = this.layout.unit("etcd.service");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    units.enable("etcd.service", true)?;
    units.start("etcd.service")
}

#[test]
fn up_heals_whatever_happened_to_a_real_etcd() {
    let parent = tempfile::tempdir().unwrap();
    let dir = &parent.path().join("a lab");
    let up = || lab::up(dir, None, Path::new(HAMASTER), write_etcd).unwrap().1;
    let healthy = |what: &str| eventually(what, || Some(lab::status(dir).unwrap()).filter(|s| s.is_healthy()));
    let master = |status: &lab::Status| status.masters[0].clone();
    let pid = |status: &lab::Status| master(status).supervisor.unwrap().units[0].pid.unwrap();
    let _down = Down(dir);

    let address = master(&up()).address;
    let first = healthy("etcd is healthy");
    // The second `up` changes nothing, a second lab gets an address of its own.
    up();
    assert_eq!(pid(&healthy("etcd is healthy")), pid(&first));
    assert_ne!(loopback::free().unwrap().0, address);

    kill(pid(&first));
    eventually("another etcd runs", || {
        master(&lab::status(dir).unwrap()).supervisor?.units[0].pid.filter(|&new| new != pid(&first))
    });
    let second = healthy("etcd is healthy again");

    kill(master(&second).supervisor.unwrap().pid);
    is_gone(pid(&second));
    let status = master(&lab::status(dir).unwrap());
    assert!(status.supervisor.is_none() && !status.etcd_healthy && status.etcd_problem.is_some());
    assert_eq!(master(&up()).address, address);
    healthy("etcd is healthy after its supervisor was killed");

    assert!(lab::down(dir, false).unwrap().stopped);
    assert!(dir.join("cluster.yaml").exists());
    // Somebody else took the address meanwhile.
    let other = TcpListener::bind((address, 2379)).unwrap();
    assert_eq!(kind(lab::up(dir, None, Path::new(HAMASTER), write_etcd)), Kind::Refused);
    drop(other);
    up();
    healthy("etcd is healthy after a down");
    assert_eq!(lab::down(dir, true).unwrap(), lab::Down { stopped: true, purged: true });
    assert!(!dir.exists());
}

#[test]
fn only_one_command_works_on_a_lab_at_a_time() {
    let parent = tempfile::tempdir().unwrap();
    let dir = &parent.path().join("lab");
    let outcome = lab::up(dir, None, Path::new(HAMASTER), |_| {
        assert_eq!(kind(lab::up(dir, None, Path::new(HAMASTER), |_| Ok(()))), Kind::Conflict);
        assert_eq!(kind(lab::down(dir, true)), Kind::Conflict);
        Ok(())
    });
    lab::down(dir, true).unwrap();
    outcome.unwrap();
}

#[test]
fn a_number_that_is_free_is_used_again_with_nothing_on_its_disk() {
    let parent = tempfile::tempdir().unwrap();
    let ip = "127.0.9.1".parse().unwrap();
    let first = Home::claim(&parent.path().join("lab"), ip, 1).unwrap();
    for name in ["m2", "m3", "m4", "m5"] {
        assert_eq!(first.add(Role::Master).unwrap().name(), name);
    }
    assert_eq!(kind(first.add(Role::Master)), Kind::Usage);
    let file = |home: &Home| home.layout().path("/var/lib/left");
    let third = first.master("m3").unwrap();
    fs::create_dir_all(file(&third).parent().unwrap()).unwrap();
    fs::write(file(&third), "behind").unwrap();
    third.remove().unwrap();
    assert_eq!(first.masters().unwrap().iter().map(Home::name).collect::<Vec<_>>(), ["m1", "m2", "m4", "m5"]);
    assert_eq!(kind(first.master("m3")), Kind::Usage);
    let third = first.add(Role::Master).unwrap();
    assert_eq!(third.name(), "m3");
    assert!(!file(&third).exists());
    // The one that was made alone stays where it listens; who came later is behind a relay.
    assert_eq!(first.loopback().unwrap(), ip);
    assert_eq!(third.loopback().unwrap(), loopback::behind(third.node().unwrap().ip));
}

#[test]
fn labs_that_come_up_at_once_choose_different_addresses() {
    let (one, two) = (loopback::free().unwrap(), loopback::free().unwrap());
    assert_ne!(one.0, two.0);
    assert!(loopback::claim(one.0).is_none());
    let address = one.0;
    drop(one);
    assert!(loopback::claim(address).is_some());
}

/// `hamaster` as an operator runs it, with a controller-manager of ours in place of the real one.
fn hamaster(arguments: &[&str], dir: &Path, assets: &Path) -> String {
    let output = Command::new(HAMASTER)
        .args(arguments)
        .arg("--dir")
        .arg(dir)
        .env("KUBEBUILDER_ASSETS", assets)
        .env_remove("KUBE_BIN_DIR")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

#[test]
fn a_whole_master_comes_up_by_the_plan_of_init_and_its_manifests_are_run() {
    let parent = tempfile::tempdir().unwrap();
    // A name that has to be quoted wherever it is written.
    let (dir, assets) = (parent.path().join("it's a 100% lab"), parent.path().join("assets"));
    let _down = Down(&dir);
    fs::create_dir(&assets).unwrap();
    fs::write(assets.join("kube-controller-manager"), "#!/bin/sh\necho \"<$@>\"\nexec sleep 1000\n").unwrap();
    fs::set_permissions(assets.join("kube-controller-manager"), fs::Permissions::from_mode(0o755)).unwrap();

    let up = || hamaster(&["lab", "up"], &dir, &assets);
    up();
    let master = dir.canonicalize().unwrap().join("m1");
    eventually("the manifest is run with the flags it names", || {
        let log = fs::read_to_string(master.join("log/kube-controller-manager.kube-controller-manager.log")).ok()?;
        let flag = format!("--kubeconfig={}", master.join("etc/kubernetes/controller-manager.conf").display());
        log.contains(&flag).then_some(())
    });
    assert!(up().contains("nothing to do"));

    // The command we offer works as it stands, and etcd answers nobody without a certificate.
    let status = lab::status(&dir).unwrap();
    let shell = |command: &str| Command::new("sh").args(["-c", command]).output().unwrap();
    let etcdctl = &status.commands[0];
    let keys = shell(etcdctl);
    assert!(String::from_utf8_lossy(&keys.stdout).contains("/hamaster/v1/spec"), "{keys:?}");
    let (start, rest) = etcdctl.split_once(" --cert ").unwrap();
    let bare = format!("{start} --command-timeout 2s {}", &rest[rest.find(" get ").unwrap()..]);
    assert!(!shell(&bare).status.success(), "{bare}");

    kill(status.masters[0].supervisor.as_ref().unwrap().pid);
    assert!(up().contains("nothing to do"), "what is enabled starts with the supervisor");
    assert!(hamaster(&["lab", "down", "--purge"], &dir, &assets).contains("down"));
    assert!(!dir.exists());
}
