//! Law 5: no private key, token or password is in anything a run says, records or names.

use std::fs;

use hamaster::apply::{self, Options};

use crate::common::{Image, Said, Tree};
use crate::stale::{master, open};

/// Every secret of a tree, as the texts that would give it away.
pub fn secrets(tree: &Tree) -> Vec<String> {
    let mut found = vec![];
    for (path, thing) in &tree.0 {
        let text = String::from_utf8_lossy(&thing.content);
        let name = path.file_name().unwrap().to_string_lossy();
        let mut in_key = false;
        for line in text.lines() {
            in_key = (in_key || line.starts_with("-----BEGIN")) && !line.starts_with("-----END");
            let key_file = name.ends_with(".key") || name.ends_with("-current.pem") && line.len() == 64;
            found.extend((in_key && key_file && !line.starts_with('-')).then(|| line.to_owned()));
            let value = line.split_once(": ").map(|(_, value)| value.trim().trim_matches('"'));
            found.extend(
                value.filter(|_| line.contains("client-key-data") || line.contains("secret: ")).map(str::to_owned),
            );
            let token = line.split(',').next().filter(|_| name.ends_with(".csv"));
            found.extend(token.map(str::to_owned));
        }
    }
    // A certificate in the combined file is public.
    let public: Vec<String> = tree.0.values().map(|t| String::from_utf8_lossy(&t.content).into_owned()).collect();
    let certificates: Vec<&String> = public.iter().filter(|t| !t.contains("PRIVATE KEY")).collect();
    found.retain(|s| s.len() > 20 && !certificates.iter().any(|t| t.contains("BEGIN CERTIFICATE") && t.contains(s)));
    found
}

#[track_caller]
fn assert_mute(what: &str, text: &str, secrets: &[String]) {
    if let Some(secret) = secrets.iter().find(|s| text.contains(*s)) {
        panic!("{what} gives away a secret of {} characters:\n{}", secret.len(), text.replace(secret, "<SECRET>"));
    }
}

#[test]
fn nothing_that_is_said_gives_a_secret_away() {
    let image = Image::new();
    let args = ["--kubernetes-version=v1.18.20"];
    let mut heard: Vec<(String, Said)> = vec![];
    let mut hear = |what: &str, said| heard.push((what.to_owned(), said));
    hear("dry run", image.init(&[&args[..], &["--dry-run"]].concat()));
    hear("init", image.init(&[&args[..], &["-v"]].concat()).expect(0));
    let all = secrets(&image.tree());
    assert!(all.len() > 40, "only {} secrets are known", all.len());
    // A new load balancer: leaves are issued again, and files change.
    let changed = [&args[..], &["--lb-ip=203.0.113.99"]].concat();
    for more in [&["--dry-run"][..], &["--dry-run", "-v"], &["--dry-run", "-o", "json"], &["-v"]] {
        hear(&format!("{more:?}"), image.init(&[&changed[..], more].concat()).expect(0));
    }
    // Somebody pastes a key into a file that is otherwise shown in diffs.
    let key = image.read("/etc/kubernetes/pki/ca.key");
    image.put("/etc/hamaster/elect.yaml", &format!("# see:\n{key}"), 0o644);
    for more in [&["--dry-run"][..], &["--dry-run", "-o", "json"], &["-v"]] {
        hear(&format!("pasted {more:?}"), image.init(&[&changed[..], more].concat()).expect(0));
    }
    // Errors: a key that does not fit, a token file and a kubeconfig that do not read.
    let tokens = image.read("/etc/kubernetes/pki/known_tokens.csv");
    image.put("/etc/kubernetes/pki/known_tokens.csv", &tokens.replace(',', ";"), 0o600);
    image.put("/etc/kubernetes/pki/ca.key", &image.read("/etc/kubernetes/pki/sa.key"), 0o600);
    image.put("/etc/kubernetes/admin.conf", &image.read("/etc/kubernetes/admin.conf").replace(": ", ":: "), 0o600);
    for more in [&[][..], &["-o", "json"], &["-v"]] {
        hear(&format!("error {more:?}"), image.init(&[&changed[..], more].concat()).expect(4));
    }
    hear("certs verify", image.run(&["certs", "verify", "-v"]));
    hear("doctor", image.run(&["doctor"]));
    hear("status", image.run(&["status"]));
    hear("reset", image.run(&["reset", "--yes", "-v"]));
    let all = [all, secrets(&image.tree())].concat();
    for (what, said) in &heard {
        assert_mute(what, &said.to_string(), &all);
    }
}

#[test]
fn neither_record_nor_debug_nor_public_files_hold_one() {
    let image = Image::new();
    image.init(&[]).expect(0);
    let tree = image.tree();
    let all = secrets(&tree);
    for (path, thing) in &tree.0 {
        let private = thing.stat.0 & 0o077 == 0;
        let text = String::from_utf8_lossy(&thing.content);
        if !private || path.ends_with("record.json") {
            assert_mute(&path.display().to_string(), &text, &all);
        }
        assert_mute("a path", &path.display().to_string(), &all);
    }
    // Everything a plan is made of and everything it is, on a host where much is left to do.
    fs::remove_file(image.path("/etc/kubernetes/pki/server.cert")).unwrap();
    fs::remove_file(image.path("/etc/kubernetes/pki/sa.pub")).unwrap();
    image.put(
        "/etc/kubernetes/admin.conf",
        &image.read("/etc/kubernetes/admin.conf").replace("192.0.2.10", "192.0.2.9"),
        0o600,
    );
    let (host, master) = (open(&image), master());
    let observed = master.observe(&host).unwrap();
    let seen = apply::preview(&host, &master, &Options::default()).unwrap();
    assert!(!seen.is_empty());
    let desired = master.desired(&observed).unwrap();
    assert_mute("Debug", &format!("{observed:?}{desired:?}{:?}", seen.phases), &secrets(&image.tree()));
}
