//! Bad files and flags: exit code 2, all mistakes in one report, nothing touched, whichever command reads them.

use crate::sandbox::{INIT, Sandbox};

/// Content of `bad.yaml`, what is said, what to write.
const FILES: &[(&str, &str, &str)] = &[
    ("nmae: prod", "bad.yaml:1:1: unknown key `nmae`", "write `name`"),
    ("name: a\nname: b", "bad.yaml:2:1: duplicate key `name`", "keep one"),
    ("- a", "the file is a list, not a mapping", "key: value"),
    ("kubernetes: {version: 1.34}", "`1.34` lacks the patch", "v1.34.1"),
    ("kubernetes: {version: v1.9}", "`v1.9` is older than", "v1.34.1"),
    ("kubernetes: {version: latest}", "`latest`", "v1.34.1"),
    ("masters: [{name: m1, ip: 192.0.2.300}]", "192.0.2.300", ""),
    ("loadBalancer: {addresses: [api example.com]}", "api example.com", ""),
    ("loadBalancer: {addresses: [api.*.example.com]}", "api.*.example.com", ""),
    ("kubernetes: {podCIDR: 10.96.0.0/16}", "overlap", ""),
];

/// Flags, what is said, what to write.
const FLAGS: &[(&[&str], &str, &str)] = &[
    (&["--kubernetes-version", "1.34"], "`1.34` lacks the patch", "v1.34.1"),
    (&["--kubernetes-version", "latest"], "`latest`", "v1.34.1"),
    (&["--lb-ip", "192.0.2"], "192.0.2", ""),
    (&["--lb-name", "a b"], "a b", ""),
    (&["--lb-name", "a.*.b"], "a.*.b", ""),
    (&["--runtime", "rocket"], "rocket", "docker"),
    (&["--profile", "ciss"], "ciss", "cis"),
    (&["--templates", "nowhere"], "nowhere", ""),
    (&["-c", "nowhere.yaml"], "nowhere.yaml", ""),
];

fn commands<'a>(more: &[&'a str]) -> [Vec<&'a str>; 3] {
    let node = ["--name", "m1", "--advertise-ip", "192.0.2.11"];
    let with = |head: &[&'a str]| [head, &node, more].concat();
    [[&INIT[..], more].concat(), with(&["certs", "generate", "--out", "out"]), with(&["render", "--out", "out"])]
}

#[test]
fn a_bad_file_is_refused_by_every_command_that_reads_it() {
    for (yaml, message, hint) in FILES {
        let sandbox = Sandbox::new();
        sandbox.write("bad.yaml", yaml);
        for command in commands(&["-c", "bad.yaml"]) {
            sandbox.refuses(&command, 2, message, hint);
        }
    }
}

#[test]
fn bad_flags_are_refused_by_every_command_that_takes_them() {
    let sandbox = Sandbox::new();
    for (flags, message, hint) in FLAGS {
        for command in commands(flags) {
            sandbox.refuses(&command, 2, message, hint);
        }
    }
}

#[test]
fn every_mistake_is_in_one_report() {
    let sandbox = Sandbox::new();
    sandbox.write("bad.yaml", "nmae: prod\nruntime: rocket\nkubernetes:\n  version: 1.34\n  podCIDR: 10.0.0.0\n");
    let run = sandbox.run(INIT.iter().chain(&["-c", "bad.yaml", "--lb-ip", "192.0.2"])).expect(2);
    for mistake in ["bad.yaml:1:1:", "bad.yaml:2:10:", "bad.yaml:4:12:", "bad.yaml:5:12:", "--lb-ip"] {
        assert!(run.stderr.contains(mistake), "{mistake}: {}", run.stderr);
    }
    assert_eq!(run.stderr.matches("error:").count(), 1, "{}", run.stderr);
}

#[test]
fn a_broken_template_override_leaves_no_trace() {
    let cases: [(&str, &[u8], &str); 3] = [
        ("systemd/etcd.service.hbs", b"{{#if}}", "systemd/etcd.service.hbs"),
        ("systemd/etcd.service.hbs", b"{{no_such_field}}", "no_such_field"),
        ("systemd/etcd.service.hbs", b"\xff\xfe", "UTF-8"),
    ];
    for (name, content, message) in cases {
        let sandbox = Sandbox::new();
        sandbox.write(&format!("mine/{name}"), content);
        for command in commands(&["--templates", "mine"]) {
            if command[0] != "certs" {
                sandbox.refuses(&command, 2, message, "");
            }
        }
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("mine/systemd/etcd.service.hbs")).unwrap();
    sandbox.refuses(&commands(&["--templates", "mine"])[0], 2, "etcd.service.hbs", "");
    let sandbox = Sandbox::new();
    sandbox.write("mine/systemd/etc.service.hbs", "");
    sandbox.refuses(&commands(&["--templates", "mine"])[0], 2, "etc.service.hbs", "etcd.service.hbs");
}

#[test]
fn unknown_phases_and_checks_are_named_with_those_there_are() {
    let sandbox = Sandbox::new();
    sandbox.refuses(&[&INIT[..], &["--only", "pkii"]].concat(), 2, "pkii", "pki");
    let run = ["init", "--root", "img", "--name", "m1", "--advertise-ip", "192.0.2.11", "--yes"];
    sandbox.refuses(&[&run[..], &["--ignore-preflight", "Swop"]].concat(), 2, "Swop", "--ignore-preflight Swap");
}

#[test]
fn typing_errors_get_a_suggestion_and_a_bare_call_the_help() {
    let sandbox = Sandbox::new();
    let run = sandbox.run(["inti"]).expect(2);
    assert!(run.stderr.contains("'init'"), "{}", run.stderr);
    let run = sandbox.run(["init", "--advertise"]).expect(2);
    assert!(run.stderr.contains("--advertise-ip"), "{}", run.stderr);
    let run = sandbox.run([] as [&str; 0]).expect(2);
    assert!(run.stderr.contains("Usage: hamaster") && run.stderr.contains("Exit codes: 0"), "{}", run.stderr);
}
