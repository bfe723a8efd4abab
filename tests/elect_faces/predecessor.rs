//! Whose payload a daemon must fence before its own configuration counts.

use hamaster::elect::config::{Config, load, to_yaml};
use hamaster::elect::predecessor::{Fate, fence_all, orphans};
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

/// The stop of the first ends only when the file of the second is gone.
#[test]
fn no_group_waits_for_anothers_fence() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    let yaml = format!(
        "etcd: {{endpoints: ['http://127.0.0.1:2379']}}\nleaseDuration: 30s\ngroups:\n\
         - {{name: slow, kind: file, sourceFile: {at}/s, destFile: {at}/slow, stopTimeout: 20s, \
           onStop: [/bin/sh, -c, 'while [ -e {at}/quick ]; do sleep 0.02; done']}}\n\
         - {{name: quick, kind: file, sourceFile: {at}/s, destFile: {at}/quick, stopTimeout: 0s}}\n\
         - {{name: spared, kind: file, sourceFile: {at}/s, destFile: {at}/spared, stopTimeout: 0s}}\n"
    );
    let config = load("elect.yaml", &yaml).unwrap();
    for name in ["slow", "quick", "spared"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    let spared = |group: &hamaster::elect::config::Group| (group.name == "spared").then(|| "not yet".to_owned());
    let fates = fence_all(&config.groups, None, "boot", false, spared);
    let names: Vec<_> = fates.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["slow", "quick", "spared"]);
    assert!(matches!(&fates[..], [(_, Fate::Fenced), (_, Fate::Fenced), (_, Fate::Kept(_))]), "{fates:?}");
    assert!(dir.path().join("spared").exists());
    // Its time runs out while the others are busy: then it is fenced as well.
    std::fs::write(dir.path().join("quick"), "").unwrap();
    let asked = std::cell::Cell::new(0);
    let runs_out = |group: &hamaster::elect::config::Group| {
        asked.set(asked.get() + 1);
        (group.name == "spared" && asked.get() < 4).then(|| "not yet".to_owned())
    };
    let groups = [config.groups[0].clone(), config.groups[2].clone(), config.groups[1].clone()];
    let fates = fence_all(&groups, None, "boot", false, runs_out);
    assert!(fates.iter().all(|(_, fate)| matches!(fate, Fate::Fenced)), "{fates:?}");
    assert!(!dir.path().join("spared").exists());
}
