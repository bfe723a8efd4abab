//! Static pods as processes: a manifest that appears, changes, goes, or makes no sense.

use std::fs;

use crate::supervised::{Lab, eventually, is_gone, runs};

#[test]
fn pods_follow_their_manifests() {
    let lab = Lab::new();
    lab.program("apiserver", "echo started as \"$@\"; exec sleep 1000");
    let path = "/usr/local/bin/apiserver";
    lab.manifest("a.yaml", &[path, "--colour=$(NONE)", "--price=$$5"]);
    let first = lab.pod_runs("a");
    lab.log_says("a.main", "started as --colour=$(NONE) --price=$5");

    // The same again is no change, a dot file is no manifest.
    lab.manifest("a.yaml", &[path, "--colour=$(NONE)", "--price=$$5"]);
    fs::write(lab.home.layout().manifests().join(".b.yaml"), "not yet").unwrap();
    lab.manifest("c.yaml", &[path]);
    lab.pod_runs("c");
    assert_eq!(lab.pod_runs("a"), first);
    assert_eq!(lab.report().pods.len(), 2);

    lab.manifest("a.yaml", &[path, "--colour=red"]);
    eventually("a new process runs", || Some(lab.pod_runs("a")).filter(|&pid| pid != first));
    assert!(!runs(first));
    lab.log_says("a.main", "started as --colour=red");

    let last = lab.pod_runs("a");
    fs::remove_file(lab.home.layout().manifests().join("a.yaml")).unwrap();
    is_gone(last);
    eventually("the pod is forgotten", || lab.pod("a").is_none().then_some(()));
    lab.pod_runs("c");
}

#[test]
fn a_pod_is_never_there_twice() {
    let lab = Lab::new();
    let mark = lab.dir.path().join("running");
    // Takes its time to end; a second one beside it would find the directory there.
    let body = format!(
        "mkdir {0} || {{ echo TWICE; exec sleep 1000; }}\ntrap 'sleep 0.6; rmdir {0}; exit 0' TERM\necho up \"$@\"\n\
         while :; do sleep 0.05; done",
        mark.display()
    );
    lab.program("slow", &body);
    for round in ["1", "2", "3"] {
        lab.manifest("slow.yaml", &["slow", round]);
        lab.log_says("slow.main", &format!("up {round}"));
    }
    fs::remove_file(lab.home.layout().manifests().join("slow.yaml")).unwrap();
    eventually("the pod is forgotten", || lab.pod("slow").is_none().then_some(()));
    assert!(!lab.log("slow.main").contains("TWICE") && !mark.exists());
}

#[test]
fn a_missing_program_and_a_broken_manifest_are_shown_and_hurt_nobody() {
    let lab = Lab::new();
    lab.program("works", "exec sleep 1000");
    lab.manifest("missing.yaml", &["/usr/local/bin/no-such-kube-apiserver"]);
    lab.manifest("works.yaml", &["works"]);
    let dir = lab.home.layout().manifests();
    fs::write(dir.join("broken.yaml"), "kind: Pod\nmetadata: [").unwrap();
    fs::write(dir.join("evil.yaml"), "{kind: Pod, metadata: {name: ../../x}, spec: {containers: []}}").unwrap();
    lab.pod_runs("works");
    let problem = eventually("the missing program is told", || lab.pod("missing")?.containers[0].problem.clone());
    assert_eq!(problem, "no program no-such-kube-apiserver on PATH or in KUBEBUILDER_ASSETS");
    for file in ["broken.yaml", "evil.yaml"] {
        assert!(lab.pod(file).unwrap().problem.is_some(), "{file}");
    }
    lab.program("no-such-kube-apiserver", "exec sleep 1000");
    lab.pod_runs("missing");
    fs::write(
        dir.join("broken.yaml"),
        "{kind: Pod, metadata: {name: mended}, spec: {containers: [{name: main, command: [works]}]}}",
    )
    .unwrap();
    lab.pod_runs("mended");
}

#[test]
fn a_crashing_container_is_restarted_ever_more_slowly() {
    let lab = Lab::new();
    let starts = lab.dir.path().join("starts");
    lab.program("crashes", &format!("date +%s%N >> {}; exit 1", starts.display()));
    lab.manifest("crashes.yaml", &["crashes"]);
    let times: Vec<u64> = eventually("it was started three times", || {
        let text = fs::read_to_string(&starts).ok()?;
        let times: Vec<u64> = text.lines().filter_map(|l| l.parse().ok()).collect();
        (times.len() >= 3).then_some(times)
    });
    // Pauses of one and two seconds lie between; slower is the machine, faster would be wrong.
    assert!(times[1] - times[0] > 900_000_000, "{times:?}");
    assert!(times[2] - times[1] > 1_900_000_000, "{times:?}");
    eventually("the crashes are told", || {
        let container = lab.pod("crashes")?.containers.remove(0);
        (container.restarts >= 2 && container.problem? == "exit status: 1").then_some(())
    });
}
