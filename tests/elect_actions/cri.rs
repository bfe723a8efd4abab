//! A pod's death, confirmed and brought about through its runtime.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hamaster::elect::actions::PayloadEvent;
use hamaster::elect::config::{Confirm, FileKind};

use crate::runtime::{Shared, serve};
use crate::stage::{Stage, wait_for};

fn stage(stop: Duration) -> (Stage, Shared) {
    let stage = Stage::file(FileKind::Pod, Confirm::Cri, stop);
    let state = Shared::default();
    serve(&stage.path("cri.sock"), &state);
    (stage, state)
}

#[test]
fn it_is_dead_when_the_runtime_says_so_and_not_killed_while_it_has_time() {
    let (mut stage, state) = stage(Duration::from_secs(60));
    stage.start().unwrap();
    state.lock().unwrap().add("kube-system", "x-node1");
    stage.order_stop();
    wait_for("the removal", || !stage.dest().exists());
    assert_eq!(stage.event(Duration::from_millis(400)), None);
    // Past the time a young manifest is given: nothing but the containers is waited for.
    assert_eq!(stage.event(Duration::from_millis(1000)), None);
    // Containers first, their sandbox later: the kubelet might still start another in it.
    state.lock().unwrap().containers[0].state = 2;
    assert_eq!(stage.event(Duration::from_millis(600)), None);
    state.lock().unwrap().end("x-node1");
    assert_eq!(stage.stopped(), [""; 0]);
    assert_eq!(state.lock().unwrap().calls, [""; 0]);
}

#[test]
fn after_half_of_its_time_it_is_killed_and_nobody_else_is() {
    let (mut stage, state) = stage(Duration::from_millis(1000));
    stage.start().unwrap();
    let node = rustix::system::uname().nodename().to_str().unwrap().to_lowercase();
    {
        let mut state = state.lock().unwrap();
        state.add("kube-system", &format!("x-{node}"));
        state.add("kube-system", &format!("x-too-{node}"));
        state.add("default", &format!("x-{node}"));
        state.sandboxes.last_mut().unwrap().id = "s-other".to_owned();
        let other = state.containers.last_mut().unwrap();
        (other.id, other.sandbox) = ("c-other".to_owned(), "s-other".to_owned());
    }
    let missed = stage.stop();
    assert!(missed.len() <= 1, "{missed:?}");
    assert_eq!(
        state.lock().unwrap().calls,
        [format!("StopContainer c-x-{node} 0"), format!("StopPodSandbox s-x-{node} 0")]
    );
}

#[test]
fn an_old_runtime_is_asked_in_its_own_words() {
    let (mut stage, state) = stage(Duration::from_millis(600));
    state.lock().unwrap().old = true;
    stage.start().unwrap();
    state.lock().unwrap().add("kube-system", "x-node1");
    stage.stop();
    assert_eq!(state.lock().unwrap().calls, ["StopContainer c-x-node1 0", "StopPodSandbox s-x-node1 0"]);
}

#[test]
fn an_update_waits_for_the_old_pods_death() {
    let (mut stage, state) = stage(Duration::from_secs(60));
    stage.start().unwrap();
    state.lock().unwrap().add("kube-system", "x-node1");
    std::fs::write(stage.source(), crate::stage::pod("x", "second")).unwrap();
    wait_for("the removal", || !stage.dest().exists());
    assert_eq!(stage.event(Duration::from_millis(500)), None);
    assert!(!stage.dest().exists(), "not before the old one is dead");
    state.lock().unwrap().end("x-node1");
    assert_eq!(stage.next(), PayloadEvent::Synced);
    assert!(stage.dest().exists());
}

#[test]
fn a_stop_during_an_update_stops() {
    let (mut stage, state) = stage(Duration::from_secs(60));
    stage.start().unwrap();
    state.lock().unwrap().add("kube-system", "x-node1");
    std::fs::write(stage.source(), crate::stage::pod("x", "second")).unwrap();
    wait_for("the removal", || !stage.dest().exists());
    stage.order_stop();
    state.lock().unwrap().end("x-node1");
    assert_eq!(stage.stopped(), [""; 0]);
    assert!(!stage.dest().exists());
}

#[test]
fn a_pod_of_an_earlier_process_is_killed_by_a_fence() {
    let (stage, state) = stage(Duration::from_secs(1));
    state.lock().unwrap().add("kube-system", "x-node1");
    let fenced = Arc::clone(&state);
    stage.fence(Duration::from_secs(4)).unwrap();
    assert_eq!(fenced.lock().unwrap().calls.len(), 2);
}

#[test]
fn a_port_that_still_answers_is_a_payload_that_lives() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut stage = Stage::file(FileKind::Pod, Confirm::Port(address), Duration::from_millis(300));
    stage.start().unwrap();
    let listener = TcpListener::bind(address).unwrap();
    stage.order_stop();
    assert!(matches!(stage.next(), PayloadEvent::Stopped(Err(why)) if why.contains("still accepts")));
    drop(listener);
    stage.stopped();
}

#[test]
fn a_payload_that_may_not_have_begun_is_not_dead_because_its_port_is_closed() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut stage = Stage::file(FileKind::Pod, Confirm::Port(address), Duration::from_millis(1000));
    stage.start().unwrap();
    let missed = stage.stop();
    assert!(missed[0].contains("may not have begun"), "{missed:?}");
}

#[test]
fn a_file_that_comes_back_during_a_stop_counts_from_its_last_removal() {
    let stop = Duration::from_millis(1500);
    let mut stage = Stage::file(FileKind::Pod, Confirm::None, stop);
    stage.start().unwrap();
    stage.order_stop();
    wait_for("the removal", || !stage.dest().exists());
    assert!(!matches!(stage.event(Duration::from_millis(1000)), Some(PayloadEvent::Stopped(Ok(())))));
    let again = std::time::Instant::now();
    std::fs::copy(stage.source(), stage.dest()).unwrap();
    stage.stopped();
    assert!(again.elapsed() >= stop, "{:?}", again.elapsed());
    assert!(!stage.dest().exists());
}

#[test]
fn a_command_that_fails_is_a_payload_that_lives() {
    let mut stage = Stage::file(FileKind::Pod, Confirm::None, Duration::from_millis(300));
    let dead = stage.path("dead");
    let ask = stage.script("ask", &format!("test -e {}", dead.display()));
    stage.file_payload().confirm = Confirm::Exec(vec![ask]);
    stage.start_unconfirmed(&dead);
    stage.order_stop();
    assert!(matches!(stage.next(), PayloadEvent::Stopped(Err(_))));
    std::fs::write(&dead, "").unwrap();
    stage.stopped();
}

#[test]
fn a_manifest_that_was_there_for_a_moment_may_still_become_a_pod() {
    let (mut stage, state) = stage(Duration::from_secs(60));
    stage.start().unwrap();
    stage.order_stop();
    wait_for("the removal", || !stage.dest().exists());
    // The kubelet had read it already.
    state.lock().unwrap().add("kube-system", "x-node1");
    assert_eq!(stage.event(Duration::from_millis(1500)), None);
    state.lock().unwrap().end("x-node1");
    assert_eq!(stage.stopped(), [""; 0]);
}

#[test]
fn what_a_hung_runtime_was_last_seen_to_run_is_killed_in_its_cgroup() {
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(Path::new)
        .into_iter()
        .find(|p| p.join("cgroup.procs").exists());
    let id = "c0ffee".repeat(8);
    let Some(cgroup) =
        root.map(|r| r.join(format!("cri-containerd-{id}.scope"))).filter(|c| std::fs::create_dir(c).is_ok())
    else {
        eprintln!("skipped: no cgroup can be made here");
        return;
    };
    let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(cgroup.join("cgroup.procs"), process.id().to_string()).unwrap();
    let (mut stage, state) = stage(Duration::from_secs(3));
    stage.start().unwrap();
    state.lock().unwrap().add("kube-system", "x-node1");
    state.lock().unwrap().containers[0].id = id;
    stage.order_stop();
    // It is asked, and answers, before it hangs.
    let lists = state.lock().unwrap().lists;
    wait_for("a question", || state.lock().unwrap().lists > lists + 2);
    state.lock().unwrap().hung = true;
    wait_for("its death", || process.try_wait().unwrap().is_some());
    state.lock().unwrap().hung = false;
    stage.stopped();
    std::fs::remove_dir(cgroup).unwrap();
}
