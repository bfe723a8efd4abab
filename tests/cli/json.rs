//! `-o json`: one document with a `schema` from every command, its shape pinned in `fixtures/`.
//!
//! A shape has the keys of a document with the types of their values; elements of a list are merged into one.
//! After a change that is meant: `UPDATE_FIXTURES=1 cargo test --test cli json`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::sandbox::{INIT, Run, Sandbox};

fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(items) => items.iter().map(shape).reduce(merge).into_iter().collect(),
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), shape(v))).collect::<Map<_, _>>().into(),
    }
}

fn merge(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Object(mut a), Value::Object(b)) => {
            for (key, value) in b {
                let merged = match a.remove(&key) {
                    Some(known) => merge(known, value),
                    None => value,
                };
                a.insert(key, merged);
            }
            a.sort_keys();
            Value::Object(a)
        }
        (Value::Array(a), Value::Array(b)) => a.into_iter().chain(b).reduce(merge).into_iter().collect(),
        (Value::String(a), Value::String(b)) => {
            let mut types: Vec<&str> = a.split('|').chain(b.split('|')).collect();
            types.sort_unstable();
            types.dedup();
            types.join("|").into()
        }
        (a, b) if a == b => a,
        (a, b) => panic!("two shapes in one place: {a} and {b}"),
    }
}

/// The document has this schema and the pinned shape.
fn pinned(run: &Run, schema: &str, fixture: &str) {
    let document = run.json();
    assert_eq!(document["schema"], format!("hamaster/v1/{schema}"), "{document:#}");
    let mut shape = shape(&document);
    shape["schema"] = document["schema"].clone();
    shape.sort_all_objects();
    let text = format!("{shape:#}\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/fixtures").join(format!("{fixture}.json"));
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, known, "{fixture}: the shape has changed");
}

fn json<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["-o", "json"]].concat()
}

#[test]
fn changing_commands() {
    let sandbox = Sandbox::new();
    pinned(&sandbox.run(json(&[&INIT[..], &["--dry-run"]].concat())).expect(0), "plan", "init-dry-run");
    pinned(&sandbox.run(json(&INIT)).expect(0), "outcome", "outcome");
    pinned(&sandbox.run(json(&INIT)).expect(0), "outcome", "outcome-nothing");
    pinned(&sandbox.run(json(&["reset", "--root", "img", "--dry-run"])).expect(0), "plan", "reset-dry-run");
    pinned(&sandbox.run(json(&["reset", "--root", "img", "--yes"])).expect(0), "outcome", "outcome");
    let generate = ["certs", "generate", "--out", "b", "--name", "m1", "--advertise-ip", "192.0.2.11"];
    pinned(&sandbox.run(json(&generate)).expect(0), "outcome", "certs-generate");
}

#[test]
fn looking_commands() {
    let sandbox = Sandbox::new();
    sandbox.init(&[]);
    pinned(&sandbox.run(json(&["certs", "check", "img"])).expect(0), "certs", "certs");
    pinned(&sandbox.run(json(&["certs", "verify", "img"])).expect(0), "certs", "certs");
    let render = ["render", "--node", "m1", "--advertise-ip", "192.0.2.11", "--out", "out"];
    pinned(&sandbox.run(json(&render)).expect(0), "render", "render");
    pinned(&sandbox.run(json(&["status", "--root", "img"])).expect(0), "status", "status");
    pinned(&sandbox.run(json(&["doctor", "--root", "img"])).expect(4), "doctor", "doctor");
    pinned(&sandbox.run(json(&["man", "--out", "man"])).expect(0), "man", "man");
}

#[test]
fn a_lab_that_does_not_run() {
    let sandbox = Sandbox::new();
    pinned(&sandbox.run(json(&["lab", "down", "--dir", "lab"])).expect(0), "lab-down", "lab-down");
}

#[test]
fn errors() {
    let sandbox = Sandbox::new();
    sandbox.write("bad.yaml", "nmae: prod\n");
    let run = sandbox.run(json(&[&INIT[..], &["-c", "bad.yaml"]].concat())).expect(2);
    pinned(&run, "error", "error");
    assert_eq!(run.json()["exitCode"], 2);
    assert_eq!(run.stderr, "", "machines read one stream");
}
