//! Identical copies: one bundle, carried to the other founders, and every host comes to the same cluster.

use std::path::Path;
use std::process::Command;

const MASTERS: [(&str, &str); 3] = [("m1", "127.0.91.1"), ("m2", "127.0.91.2"), ("m3", "127.0.91.3")];
/// What the refusal of a master without the bundle says to carry.
const SHARED: &str = "etc/kubernetes/pki/{ca,front-proxy-ca}.{crt,key} etc/kubernetes/pki/sa.{key,pub} \
                      etc/kubernetes/pki/{known_tokens.csv,encryption-config.yaml} etc/etcd/pki/ca.{crt,key}";

/// `hamaster init --root dir/NAME` as the master `name` at `ip`.
pub(crate) fn command(dir: &Path, (name, ip): (&str, &str)) -> Command {
    let root = dir.join(name);
    std::fs::create_dir_all(root.join("etc")).unwrap();
    // The image has no etcd that could be asked: the unit is rendered for the one that the tests start.
    let etcd = Command::new("etcd").arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(etcd).unwrap().split_whitespace().nth(2).unwrap().to_owned();
    let spec = dir.join(format!("{name}.yaml"));
    if !spec.exists() {
        std::fs::write(&spec, format!("etcd: {{version: {version}}}")).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_hamaster"));
    command.arg("init").arg("-c").arg(spec).arg("--root").arg(root);
    command.args(["--name", name, "--advertise-ip", ip, "--yes"]);
    command
}

/// Runs it: exit code and what it said.
pub(crate) fn run(command: &mut Command) -> (i32, String) {
    let out = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status.code().unwrap_or(-1), said)
}

/// As a founder among all those that are named.
pub(crate) fn init(dir: &Path, master: (&str, &str), more: &[&str]) -> (i32, String) {
    let mut command = command(dir, master);
    command.args(["--etcd-bootstrap", "static"]).args(more);
    for (name, ip) in MASTERS {
        command.arg("--initial-master").arg(format!("{name}={ip}"));
    }
    run(&mut command)
}

/// Carries the bundle that `first` has to another.
pub(crate) fn carry(dir: &Path, first: &str, to: &str) {
    std::fs::create_dir_all(dir.join(to)).unwrap();
    let carry = format!("tar -C {first} -c {SHARED} | tar -C {to} -x");
    let done = Command::new("bash").args(["-o", "pipefail", "-c", &carry]).current_dir(dir).status().unwrap();
    assert!(done.success());
}

/// The line of a master's unit that begins with `flag`.
pub(crate) fn flag(dir: &Path, name: &str, flag: &str) -> String {
    let unit = std::fs::read_to_string(dir.join(name).join("etc/systemd/system/etcd.service")).unwrap();
    unit.lines().find(|l| l.contains(flag)).unwrap().trim().to_owned()
}

/// Three images, each made by its own run from one shared bundle.
pub(crate) fn three(dir: &Path) -> [(&'static str, &'static str); 3] {
    let (code, said) = init(dir, MASTERS[0], &["--only", "pki", "--ignore-preflight", "all"]);
    assert_eq!(code, 0, "{said}");
    for (name, _) in &MASTERS[1..] {
        carry(dir, "m1", name);
    }
    for master in MASTERS {
        let (code, said) = init(dir, master, &["--ignore-preflight", "all"]);
        assert_eq!(code, 0, "{said}");
        let (code, said) = init(dir, master, &["--ignore-preflight", "all"]);
        assert!(code == 0 && said.contains("nothing to do"), "{said}");
    }
    MASTERS
}

#[test]
fn a_founder_without_the_bundle_is_refused_unless_it_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = init(dir.path(), MASTERS[1], &[]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("EtcdFounders") && said.contains("init --only pki"), "{said}");
    assert!(said.contains(SHARED), "the refusal carries what this test carries: {said}");
    let (_, said) = init(dir.path(), MASTERS[1], &["--only", "pki"]);
    assert!(!said.contains("EtcdFounders"), "{said}");
}

#[test]
fn a_fourth_master_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = init(dir.path(), ("m4", "127.0.91.4"), &["--ignore-preflight", "all"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("m4: is not one of the masters") && said.contains("hamaster join"), "{said}");
    assert!(std::fs::read_dir(dir.path().join("m4/etc")).unwrap().next().is_none(), "nothing was touched");
}

#[test]
fn identical_copies_name_the_same_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let masters = three(dir.path());
    let flag = |name: &str, wanted: &str| flag(dir.path(), name, wanted);
    for (name, _) in masters {
        for same in ["--initial-cluster=", "--initial-cluster-token=", "--initial-cluster-state=new"] {
            assert_eq!(flag(name, same), flag("m1", same));
        }
    }
    assert!(flag("m3", "--initial-cluster=").contains("m1=https://127.0.91.1:2380,m2=https://127.0.91.2:2380"));
}

#[test]
fn masters_that_are_yet_to_be_found_are_not_rendered() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let render = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hamaster"));
        command.args(["render", "--node", "m1", "--advertise-ip", MASTERS[0].1, "--out"]).arg(&out);
        command.args(["--etcd-bootstrap", "discovery", "--discovery-url", "srv:example.test"]);
        run(command.args(more))
    };
    let (code, said) = render(&[]);
    assert!(code == 2 && said.contains("--initial-master NAME=IP"), "{said}");
    let named: Vec<String> = MASTERS.iter().map(|(name, ip)| format!("--initial-master={name}={ip}")).collect();
    let (code, said) = render(&named.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0, "{said}");
    assert!(flag(dir.path(), "out", "--initial-cluster=").contains("m3=https://127.0.91.3:2380"));
}
