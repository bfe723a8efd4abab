//! A daemon that is killed and comes back under an edited configuration: what the old one led is not forgotten.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::elector::{Elector, Profile, hamaster};
use crate::group::{Cluster, Group};
use crate::network::{skipped, within};
use crate::node::Node;
use crate::runtime::{Shared, serve};

const SOON: Duration = Duration::from_secs(60);

/// Three nodes, none of them under a supervisor.
fn group(cluster: &Cluster) -> Group<'_> {
    let group = cluster.group(Elector::Hamaster, Profile::named("plain"));
    group.skip_first_wait();
    group
}

/// Starts the daemon alone, without what systemd runs after it.
fn spawn(node: &Node) -> Child {
    let log = fs::File::options().create(true).append(true).open(node.plan.place.join("log")).unwrap();
    let config = node.plan.place.join("elect.yaml").display().to_string();
    let mut command = hamaster(&node.plan, &["elect", "-c", &config]);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// From now on another directory is the destination.
fn move_destination(node: &Node) -> std::path::PathBuf {
    let elsewhere = node.plan.place.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let moved = elsewhere.join("moved.yaml");
    let (from, to) = (node.plan.manifest().display().to_string(), moved.display().to_string());
    node.rewrite(|text| text.replace(&from, &to));
    moved
}

/// The payload is a pod, whose death a container runtime confirms.
fn make_it_a_pod(node: &Node) {
    let socket = node.plan.place.join("cri.sock");
    serve(&socket, &Shared::default());
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: x, image: x}]}\n";
    fs::write(node.plan.source(), pod).unwrap();
    node.rewrite(|text| {
        let cri = format!("kind: pod\n  confirm: cri\n  criSocket: unix://{}", socket.display());
        let text = text.replace("kind: file\n  confirm: none", &cri);
        let lines = text.lines().map(|l| if l.starts_with("stopTimeout:") { "stopTimeout: 2s" } else { l });
        lines.collect::<Vec<_>>().join("\n")
    });
}

#[test]
fn a_daemon_started_with_another_destination_removes_what_the_old_one_left() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new(Duration::from_millis(500));
    let group = group(&cluster);
    let node = &group.nodes[0];
    make_it_a_pod(node);
    let first = spawn(node);
    within(SOON, "it leads", || node.plan.manifest().exists());
    end(first);
    let moved = move_destination(node);
    assert!(node.plan.manifest().exists(), "nothing fenced it yet");
    let second = spawn(node);
    within(SOON, "it leads again", || {
        assert!(!(moved.exists() && node.plan.manifest().exists()), "both\n{}", node.plan.log());
        moved.exists()
    });
    assert!(node.plan.log().contains("led under another configuration"), "{}", node.plan.log());
    end(second);
}

#[test]
fn what_runs_after_a_daemon_that_died_knows_what_it_led() {
    if skipped() {
        return;
    }
    let cluster = Cluster::new(Duration::from_millis(500));
    let group = group(&cluster);
    let node = &group.nodes[0];
    let daemon = spawn(node);
    within(SOON, "it leads", || node.plan.manifest().exists());
    end(daemon);
    move_destination(node);
    let mut fence = Elector::Hamaster.stop_post(&node.plan, false).unwrap();
    assert!(fence.status().unwrap().success());
    assert!(!node.plan.manifest().exists(), "kept for a daemon that would not go on with it");
}
