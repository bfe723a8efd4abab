//! Load balancers: one backend per master, read by the real programs where they are installed.

use hamaster::render::load_balancer;
use hamaster::spec::*;

use crate::samples::{run, spec, templates};

fn files(spec: &ClusterSpec) -> std::collections::BTreeMap<String, String> {
    let files = load_balancer(spec, templates()).unwrap();
    files.into_iter().map(|(p, b)| (p.to_str().unwrap().to_owned(), String::from_utf8(b).unwrap())).collect()
}

#[test]
fn every_master_is_a_backend() {
    let mut spec = spec(34);
    spec.masters.push(Node { name: "m4".into(), ip: "2001:db8::4".parse().unwrap() });
    spec.load_balancer.port = 8443;
    let files = files(&spec);
    let (haproxy, nginx) = (&files["haproxy.cfg"], &files["nginx.conf"]);
    assert!(haproxy.contains("bind *:8443\n") && nginx.contains("listen 8443;\n"));
    for (name, address) in [("m1", "10.0.0.1:6443"), ("m3", "10.0.0.3:6443"), ("m4", "[2001:db8::4]:6443")] {
        assert!(haproxy.contains(&format!("  server {name} {address}\n")), "{haproxy}");
        assert!(nginx.contains(&format!("    server {address} max_fails=2")), "{nginx}");
    }
    assert!(files["keepalived.conf"].contains("    203.0.113.10\n"));
}

#[test]
fn no_shared_address_no_keepalived() {
    let mut spec = spec(34);
    spec.load_balancer.addresses.remove(0);
    assert!(!files(&spec).contains_key("keepalived.conf"));
    spec.masters.clear();
    let err = load_balancer(&spec, templates()).unwrap_err();
    assert!(err.hints()[0].contains("masters:"), "{err}");
}

#[test]
fn the_real_programs_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(&spec(34));
    for (name, text) in &files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    // haproxy loads the CA while it checks: any certificate will do.
    let ca = dir.path().join("ca.crt");
    let args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ca -keyout ca.key -out ca.crt";
    if run("openssl", &args.split(' ').collect::<Vec<_>>(), dir.path()).is_some_and(|(ok, ..)| ok) {
        let haproxy = files["haproxy.cfg"].replace("/etc/haproxy/k8s-ca.crt", ca.to_str().unwrap());
        std::fs::write(dir.path().join("haproxy.cfg"), haproxy).unwrap();
        if let Some((ok, out, err)) = run("haproxy", &["-c", "-f", "haproxy.cfg"], dir.path()) {
            assert!(ok && !err.to_lowercase().contains("warning"), "{out}{err}");
        }
    }
    let path = dir.path().join("nginx.conf");
    // Debian's package has the stream module as a file to load.
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if std::path::Path::new(module).exists() {
        std::fs::write(&path, format!("load_module {module};\n{}", files["nginx.conf"])).unwrap();
        let pid = format!("pid {}/pid; error_log stderr;", dir.path().display());
        let args = ["-t", "-q", "-c", path.to_str().unwrap(), "-g", &pid];
        if let Some((ok, out, err)) = run("nginx", &args, dir.path()) {
            assert!(ok, "{out}{err}");
        }
    }
}
