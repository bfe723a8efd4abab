//! Facts of the real machine, gathered without a trace.

use super::*;

fn listing(dir: &Path) -> BTreeMap<PathBuf, std::time::SystemTime> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    let mut names: BTreeMap<_, _> = entries.map(|e| (e.path(), e.metadata().unwrap().modified().unwrap())).collect();
    names.insert(dir.to_owned(), dir.metadata().unwrap().modified().unwrap());
    names
}

#[test]
fn gathers_this_machine_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = load(None, &Overrides::default()).unwrap();
    spec.etcd.data_dir = dir.path().join("etcd/data");
    let before = listing(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let facts = gather(Path::new("/"), &spec, &Layout::host());
    assert_eq!(listing(dir.path()), before);

    let port = listener.local_addr().unwrap().port();
    let found = facts.listeners.iter().find(|l| l.port == port).expect("our own listener");
    assert_eq!(found.ip, ip("127.0.0.1"));
    let process = found.process.as_deref().unwrap();
    assert!(process.ends_with(&format!("[{}]", std::process::id())), "{process}");

    assert!(!facts.hostname.is_empty() && facts.cpus > Some(0) && facts.memory_bytes > Some(0));
    assert_eq!(facts.data_dir.nearest, dir.path());
    assert!(facts.data_dir.fsync_p99 > Some(Duration::ZERO));
    let hamaster = &facts.programs["hamaster"].path;
    assert_eq!(*hamaster, std::env::current_exe().unwrap());
    let said = std::process::Command::new("etcd").arg("--version").output().expect("etcd is installed for tests");
    let etcd = preflight::tools(&facts, &spec).etcd_version.to_string();
    assert!(String::from_utf8_lossy(&said.stdout).contains(&etcd), "{etcd}");
    let this = ThisNode {
        node: Node { name: "m1".into(), ip: ip(NODE_IP) },
        loopback: ip("127.0.0.1"),
        layout: Layout::host(),
    };
    preflight::run(Scope::Host, &spec, &this, &facts, &Observed::default(), now());
}

#[test]
fn a_listener_on_our_port_is_named() {
    // Port 0 in the table would never clash with another test; a port of its own address does not either.
    let listener = TcpListener::bind("127.9.8.7:2380").unwrap();
    let mut case = clean();
    case.this.node.ip = listener.local_addr().unwrap().ip();
    case.this.loopback = case.this.node.ip;
    case.scope = Scope::Lab;
    case.facts.listeners = gather(Path::new("/"), &case.spec, &Layout::host()).listeners;
    case.facts.listeners.retain(|l| l.ip == case.this.node.ip);
    let found = case.run();
    assert_eq!(found.iter().map(|f| f.id.as_str()).collect::<Vec<_>>(), ["Port-2380"]);
    assert!(found[0].message.contains(&format!("[{}]", std::process::id())), "{found:?}");
}

#[test]
fn tmpfs_is_seen_and_refused() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut case = clean();
    case.spec.etcd.data_dir = dir.path().join("etcd");
    case.facts.data_dir = gather(Path::new("/"), &case.spec, &Layout::host()).data_dir;
    assert_eq!(case.facts.data_dir.filesystem.as_deref(), Some("tmpfs"));
    assert!(case.run().iter().any(|f| f.id == "EtcdDataDirFilesystem"));
}

#[test]
fn what_cannot_be_reached_is_told_with_the_reason() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let [found] = &hamaster::host::facts::unreachable(&[listener.local_addr().unwrap(), open])[..] else {
        panic!("the closed one, and no other");
    };
    assert_eq!(found.at, open);
    assert!(found.why.contains("refused"), "{found:?}");
}

/// An image counts, not the machine it is built on, and links in it do not lead out of it.
#[test]
fn an_image_is_looked_at_below_its_root() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("etc/passwd", "root:x:0:0::/:/bin/sh\netcd:x:101:102::/var/lib/etcd:/usr/sbin/nologin\n");
    write("usr/bin/etcd", "");
    write("opt/cni/bin/bridge", "");
    write("var/lib/etcd/member/snap/db", "");
    write("var/lib/rancher/k3s/agent/x", "");
    std::os::unix::fs::symlink("/usr/lib/kubelet", root.path().join("usr/bin/kubelet")).unwrap();
    let spec = load(None, &Overrides::default()).unwrap();
    let facts = gather(root.path(), &spec, &Layout::host());
    assert!(facts.etcd_user && facts.unknown.is_empty(), "{:?}", facts.unknown);
    assert_eq!(facts.programs.keys().collect::<Vec<_>>(), ["etcd", "kubelet"]);
    assert_eq!(facts.programs["etcd"], program("/usr/bin/etcd", ""));
    assert_eq!(facts.cni_plugins.keys().collect::<Vec<_>>(), [Path::new("/opt/cni/bin")]);
    assert_eq!(facts.data_dir.entries, BTreeSet::from(["member".to_owned()]));
    assert_eq!(facts.installations, [Path::new("/var/lib/rancher/k3s")]);
    assert!(facts.listeners.is_empty() && facts.addresses.is_empty() && facts.hostname.is_empty());
}
