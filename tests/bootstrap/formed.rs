//! Real members, started from the rendered units of identical copies, are one cluster.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::image;

struct Member(Child);

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The member of a unit, its paths moved below the image.
fn start(root: &Path, loopback: &str) -> Member {
    let unit = std::fs::read_to_string(root.join("etc/systemd/system/etcd.service")).unwrap();
    let shown = root.display();
    let argv = unit.replace("\\\n", " ");
    let argv = argv.lines().find_map(|l| l.trim().strip_prefix("ExecStart=")).unwrap();
    let argv: Vec<String> = argv
        .split_whitespace()
        .map(|word| word.trim_matches('"').replace("=/etc/", &format!("={shown}/etc/")))
        .map(|word| word.replace("=/var/", &format!("={shown}/var/")).replace("127.0.0.1:", &format!("{loopback}:")))
        .collect();
    let log = std::fs::File::create(root.join("etcd.log")).unwrap();
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Member(command.spawn().unwrap())
}

fn etcdctl(root: &Path, ip: &str, words: &[&str]) -> Option<String> {
    let pki = root.join("etc/etcd/pki");
    let out = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints=https://{ip}:2379"))
        .arg(format!("--cacert={}", pki.join("ca.crt").display()))
        .arg(format!("--cert={}", pki.join("hamaster.crt").display()))
        .arg(format!("--key={}", pki.join("hamaster.key").display()))
        .args(words)
        .output()
        .unwrap();
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Starts the member of each image at its address, `loopbacks.N` for what a host has on its loopback.
pub(crate) fn forms_one_cluster(dir: &Path, masters: [(&str, &str); 3], loopbacks: &str) {
    let root = |name: &str| dir.join(name);
    let member = |n: usize| start(&root(masters[n].0), &format!("{loopbacks}.{}", n + 1));
    let mut members = vec![member(0)];
    assert!(etcdctl(&root(masters[0].0), masters[0].1, &["get", "x"]).is_none(), "one of three has no quorum");
    members.extend([member(1), member(2)]);
    let begun = Instant::now();
    let put = |(name, ip): (&str, &str)| etcdctl(&root(name), ip, &["put", name, "here"]).is_some();
    while !masters.into_iter().all(put) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no cluster; see {}", dir.display());
        let dead = masters.iter().zip(&mut members).find_map(|(at, m)| m.0.try_wait().unwrap().map(|_| at));
        if let Some((name, _)) = dead {
            panic!("{name} exited: {}", std::fs::read_to_string(root(name).join("etcd.log")).unwrap());
        }
    }
    for (name, ip) in masters {
        let list = etcdctl(&root(name), ip, &["member", "list"]).unwrap();
        assert_eq!(list.lines().count(), 3, "{list}");
        let keys = etcdctl(&root(name), ip, &["get", "--prefix", "m", "--keys-only"]).unwrap();
        assert_eq!(keys.split_whitespace().count(), 3);
    }
}

#[test]
fn three_rendered_members_form_one_cluster_once_two_run() {
    let dir = tempfile::tempdir().unwrap();
    forms_one_cluster(dir.path(), image::three(dir.path()), "127.0.92");
}
