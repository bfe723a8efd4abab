//! A host becomes a worker, says so, does nothing twice, and can be taken back.

use std::fs;
use std::process::Command;

use crate::host::Host;
use crate::master::Master;

/// Certificates of a worker, and what each is for.
const CERTIFICATES: [(&str, &str); 2] = [
    ("/var/lib/kubelet/pki/kubelet-client-current.pem", "sslclient"),
    ("/var/lib/kubelet/pki/kubelet.crt", "sslserver"),
];

#[test]
fn a_worker_has_what_a_node_has_and_nothing_of_a_master() {
    let m1 = Master::new();
    let token = m1.token(&["--worker"]);
    let w1 = Host::new("w1", 21);
    let before = w1.tree();
    let run = w1.join(&m1, &token).expect(0);
    assert!(run.stdout.contains("worker w1 at 192.0.2.21"), "{run:#?}");
    m1.logged("admitted w1 at 192.0.2.21 as a worker");

    // Its certificates are what the cluster's CA says of this node.
    for (file, purpose) in CERTIFICATES {
        assert!(w1.verifies(purpose, file), "{file}");
        let shown = w1.shown(file);
        assert!(shown.contains("O = system:nodes, CN = system:node:w1"), "{shown}");
    }
    assert!(!w1.verifies("sslserver", CERTIFICATES[0].0) && !w1.verifies("sslclient", CERTIFICATES[1].0));
    let server = w1.shown(CERTIFICATES[1].0);
    assert!(server.contains("DNS:w1, IP Address:192.0.2.21\n"), "{server}");
    let kubelet = w1.read("/etc/kubernetes/kubelet.conf");
    assert!(kubelet.contains(&format!("server: \"https://{}:6443\"", m1.ip)), "{kubelet}");
    assert!(w1.read("/etc/kubernetes/flannel.conf").contains(&format!("https://{}:6443", m1.ip)));

    // Keys are its own, and nobody else reads them; nothing of the master's secrets is here in any form.
    let tree = w1.tree();
    let is_secret = |text: &[u8]| String::from_utf8_lossy(text).contains("PRIVATE KEY");
    let secret: Vec<_> = tree.iter().filter(|(_, (_, text))| is_secret(text)).collect();
    let names: Vec<_> = secret.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    let keys = ["/var/lib/kubelet/pki/kubelet-client-current.pem", "/var/lib/kubelet/pki/kubelet.key"];
    assert_eq!(names, keys, "and none beside them");
    let conf = "/etc/kubernetes/flannel.conf";
    for path in keys.into_iter().chain([conf]) {
        assert_eq!(tree[std::path::Path::new(path)].0, 0o600, "{path}");
    }
    let given = fs::read(m1.layout().pki().join("ca.crt")).unwrap();
    assert_eq!(tree[std::path::Path::new("/etc/kubernetes/pki/ca.crt")].1, given);
    for (path, (_, text)) in &tree {
        let text = String::from_utf8_lossy(text);
        assert!(!text.contains("system:masters") && !text.contains("cluster-admins"), "{}", path.display());
        assert!(!path.starts_with("/etc/etcd") && !path.starts_with("/etc/kubernetes/manifests"), "{}", path.display());
    }

    // Again, with a token that is used up: nothing is asked, nothing is done.
    let again = w1.join(&m1, &token).expect(0);
    assert!(again.stdout.contains("nothing to do"), "{again:#?}");
    assert_eq!(w1.tree(), tree);
    let alone = w1.run(&["join", "--worker", "--yes", "--ignore-preflight", "all"]).expect(0);
    assert!(alone.stdout.contains("nothing to do"), "{alone:#?}");

    says_what_it_is(&w1);
    assert_eq!(w1.tree(), tree, "looked at and refused");

    // What was taken away is made again; what needs no CA needs no master either.
    fs::remove_file(w1.path("/var/lib/kubelet/config.yaml")).unwrap();
    w1.run(&["join", "--worker", "--yes", "--ignore-preflight", "all"]).expect(0);
    assert_eq!(
        w1.read("/var/lib/kubelet/config.yaml").as_bytes(),
        tree[std::path::Path::new("/var/lib/kubelet/config.yaml")].1
    );

    w1.run(&["reset", "--yes"]).expect(0);
    assert_eq!(w1.tree(), before);
}

fn says_what_it_is(w1: &Host) {
    let status = w1.run(&["status", "-o", "json"]).expect(0);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(
        (&status["role"], &status["node"], &status["ip"]),
        (&"worker".into(), &"w1".into(), &"192.0.2.21".into())
    );
    assert!(status["etcd"].is_null(), "{status}");
    let certificates = status["certificates"].as_array().unwrap();
    assert!(certificates.len() == 4 && certificates.iter().all(|c| c["state"] == "good"), "{certificates:?}");
    let text = w1.run(&["status"]).expect(0).stdout;
    assert!(text.starts_with("worker  w1 at 192.0.2.21") && !text.contains("etcd"), "{text}");

    let doctor: serde_json::Value = serde_json::from_str(&w1.run(&["doctor", "-o", "json"]).stdout).unwrap();
    let found = doctor["findings"].as_array().unwrap();
    let ids: Vec<_> = found.iter().map(|f| f["id"].as_str().unwrap()).collect();
    assert!(!ids.iter().any(|id| id.to_lowercase().contains("etcd") || id.contains("manifests")), "{ids:?}");
    let plan = doctor["plan"].as_array().unwrap();
    assert!(doctor["conflict"].is_null() && plan.iter().all(|p| p["steps"].as_array().unwrap().is_empty()), "{plan:?}");

    for words in [&["init", "--yes", "--ignore-preflight", "all"][..], &["join", "192.0.2.1", "--yes"]] {
        let refused = w1.run(words);
        // Masters do not join below a root at all.
        let code = if words[0] == "init" { 4 } else { 2 };
        assert_eq!(refused.code, Some(code), "{refused:#?}");
    }
    let refused = w1.run(&["init", "--yes"]);
    assert!(refused.said.contains("this host is the worker w1") && refused.said.contains("hint: "), "{refused:#?}");
}

/// A host that `init` has made a master, or begun to, is no worker; nor is one in the middle of becoming a worker a master.
#[test]
fn a_host_is_one_thing() {
    let m1 = Master::new();
    let host = Host::new("m9", 29);
    let words = ["init", "--name", "m9", "--advertise-ip", "192.0.2.29", "--yes", "--ignore-preflight", "all"];
    host.run(&words).expect(0);
    let token = m1.token(&["--worker"]);
    let refused = host.join(&m1, &token).expect(4);
    assert!(refused.said.contains("master") && refused.said.contains("hint: hamaster reset"), "{refused:#?}");

    let half = Host::new("w2", 22);
    assert!(half.killed_at("join.bundle:1", &m1, &token));
    let refused = half.run(&["init", "--yes", "--ignore-preflight", "all"]).expect(4);
    assert!(refused.said.contains("worker w2"), "{refused:#?}");
    let status = half.run(&["status"]).expect(4);
    assert!(status.stdout.contains("not finished"), "{status:#?}");
    half.join(&m1, &token).expect(0);
    half.run(&["status"]).expect(0);
}

#[test]
fn a_dry_run_shows_what_a_join_would_do_and_does_none_of_it() {
    let m1 = Master::new();
    let (token, w1) = (m1.token(&["--worker"]), Host::new("w1", 21));
    let plan = w1.dry_run(&m1, &token).expect(0);
    for words in ["signing request for kubelet-client", "+  - name: \"system:node:w1\"", "nothing was done"] {
        assert!(plan.stdout.contains(words), "{words}: {plan:#?}");
    }
    let there: Vec<_> = w1.tree().into_keys().filter(|path| !path.starts_with("/var/lib/hamaster")).collect();
    assert_eq!(there, Vec::<std::path::PathBuf>::new());
    // The attempt is known: the same token goes on with it.
    w1.join(&m1, &token).expect(0);
    assert!(w1.dry_run(&m1, &token).expect(0).stdout.contains("nothing to do"));
    let bundle = w1.run(&["join", "--worker", "--offline", "b", "--yes"]).expect(2);
    assert!(bundle.said.contains("--offline"), "{bundle:#?}");
}

/// Where the CA's key is elsewhere, the requests are there to be signed, and what is signed is judged.
#[test]
fn an_external_ca_signs_for_workers_too() {
    let m1 = Master::new();
    let pki = m1.layout().pki();
    let key = m1.dir.path().join("kept-elsewhere.key");
    fs::rename(pki.join("ca.key"), &key).unwrap();
    let token = m1.token(&["--worker"]);
    let w1 = Host::new("w1", 21);
    let waits = w1.join(&m1, &token).expect(4);
    assert!(waits.said.contains("3 certificates wait for an external CA"), "{waits:#?}");
    assert!(waits.said.contains("/etc/kubernetes/pki/csr/kubelet-client.crt"), "{waits:#?}");
    for id in ["kubelet-client", "kubelet-server", "flannel"] {
        let file = |extension: &str| w1.path(&format!("/etc/kubernetes/pki/csr/{id}.{extension}"));
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-copy_extensions", "copy", "-days", "100"]);
        sign.arg("-in").arg(file("csr")).arg("-CA").arg(pki.join("ca.crt")).arg("-CAkey").arg(&key);
        sign.arg("-out").arg(file("crt"));
        let out = sign.output().unwrap();
        assert!(out.status.success(), "{out:?}");
    }
    // No master is needed for the rest.
    w1.run(&["join", "--worker", "--yes", "--ignore-preflight", "all"]).expect(0);
    assert!(CERTIFICATES.iter().all(|(file, purpose)| w1.verifies(purpose, file)));
    let again = w1.join(&m1, &token).expect(0);
    assert!(again.stdout.contains("nothing to do"), "{again:#?}");
}

/// A certificate that is due is asked for anew, with a new key; the rest stays.
#[test]
fn a_certificate_that_is_gone_is_asked_for_again() {
    let m1 = Master::new();
    let w1 = Host::new("w1", 21);
    w1.join(&m1, &m1.token(&["--worker"])).expect(0);
    let before = w1.tree();
    fs::remove_file(w1.path("/var/lib/kubelet/pki/kubelet.crt")).unwrap();
    let nobody = w1.run(&["join", "--worker", "--yes", "--ignore-preflight", "all"]).expect(2);
    assert!(nobody.said.contains("no master is named"), "{nobody:#?}");
    // A token that could be any host's is not enough to be this one again.
    let other = w1.join(&m1, &m1.token(&["--worker"])).expect(3);
    assert!(other.said.contains("hint: hamaster token create --worker --node w1"), "{other:#?}");
    w1.join(&m1, &m1.token(&["--worker", "--node", "w1"])).expect(0);
    assert!(w1.verifies("sslserver", CERTIFICATES[1].0));
    let (old, new) = (&before, w1.tree());
    let changed: Vec<_> =
        new.iter().filter(|(path, file)| old.get(*path) != Some(*file)).map(|(path, _)| path).collect();
    let wanted =
        ["/var/lib/hamaster/record.json", "/var/lib/kubelet/pki/kubelet.crt", "/var/lib/kubelet/pki/kubelet.key"];
    let kept = |path: &&&std::path::PathBuf| !path.starts_with("/var/lib/hamaster/backup");
    let changed: Vec<_> = changed.iter().filter(kept).map(|path| path.to_str().unwrap()).collect();
    assert!(changed.iter().all(|path| wanted.contains(path)) && changed.len() >= 2, "{changed:?}");
}
