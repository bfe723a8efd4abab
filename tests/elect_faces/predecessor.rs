//! Whose payload a daemon must fence before its own configuration counts.

use hamaster::elect::config::{Config, load, to_yaml};
use hamaster::elect::predecessor::orphans;
use hamaster::elect::status::Status;
use hamaster::host::runtime_dir::RuntimeDir;

use crate::leader;

fn config(lease: &str, dest: &str, more: &str) -> Config {
    let yaml = format!(
        "etcd: {{endpoints: ['http://127.0.0.1:2379']}}\nleaseDuration: {lease}\n{more}\n\
         groups: [{{name: scheduler, sourceFile: /s/x.yaml, destFile: {dest}}}]\n"
    );
    load("elect.yaml", &yaml).unwrap()
}

/// The names of those that a daemon with `new` finds after one with `old`.
fn found(old: &Config, new: &Config, status: Status) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let directory = RuntimeDir::open(dir.path()).unwrap();
    directory.accept(&to_yaml(old)).unwrap();
    directory.write(&status).unwrap();
    orphans(new, &directory, &status.boot_id).into_iter().map(|g| g.name).collect()
}

fn led() -> Status {
    leader("scheduler", 1)
}

#[test]
fn whoever_goes_on_with_the_same_group_fences_nothing() {
    // Times that are no whole milliseconds are rounded when they are written.
    for lease in ["10s", "9999ms", "7777ms", "61s"] {
        let config = config(lease, "/m/x.yaml", "");
        assert_eq!(found(&config, &config, led()), [""; 0], "{lease}");
    }
}

#[test]
fn what_the_new_configuration_does_not_look_after_is_fenced() {
    let old = config("10s", "/m/x.yaml", "");
    let others =
        [config("10s", "/m/y.yaml", ""), config("12s", "/m/x.yaml", ""), config("10s", "/m/x.yaml", "id: other")];
    for new in &others {
        assert_eq!(found(&old, new, led()), ["scheduler"]);
    }
    let ended = Status { deadline_ns: None, ..led() };
    assert_eq!(found(&old, &others[0], ended), [""; 0], "it was seen to end");
    let dir = tempfile::tempdir().unwrap();
    assert!(orphans(&old, &RuntimeDir::open(dir.path()).unwrap(), "boot").is_empty(), "there was none before");
}
