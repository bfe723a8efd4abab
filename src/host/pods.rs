//! What a kubelet has running on this host, seen without asking it or the runtime: either may be down, and neither has to
//! be of any particular kind.
#![allow(clippy::disallowed_methods, reason = "floor 3: reads /proc")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// A process of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Name of its program, `pause` for the one that holds the pod.
    pub program: String,
}

/// The running pods, each by its cgroup.
pub type Pods = BTreeMap<PathBuf, Vec<Process>>;

/// Every pod with a process on this host. Whatever ends while it is looked at is left out.
pub fn running() -> Pods {
    let mut pods = Pods::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let Some(pod) = pod_of(&read("cgroup")) else { continue };
        let command = read("cmdline");
        let program = command.split('\0').next().and_then(|p| Path::new(p).file_name()).unwrap_or_default();
        pods.entry(pod).or_default().push(Process { pid, program: program.to_string_lossy().into_owned() });
    }
    pods
}

/// Asks every process of these pods to end: what a kubelet does, where there is none.
pub fn terminate(pods: &Pods) {
    for process in pods.values().flatten() {
        let _ = Pid::from_raw(process.pid).map(|pid| kill_process(pid, Signal::TERM));
    }
}

/// The pod's cgroup in a `/proc/PID/cgroup`: `kubepods/burstable/pod<uid>` with the cgroupfs driver,
/// `kubepods-burstable-pod<uid>.slice` with systemd's. Only at the top: further down are those of a kubelet that itself
/// runs in a container, whose cluster is somebody else's.
fn pod_of(cgroups: &str) -> Option<PathBuf> {
    let path = cgroups
        .lines()
        .filter_map(|l| l.splitn(3, ':').nth(2))
        .find(|p| matches!(p.split('/').nth(1), Some("kubepods" | "kubepods.slice")))?;
    let is_pod = |name: &str| name.starts_with("pod") || name.contains("-pod");
    let ours = |p: &&Path| p.file_name().and_then(|n| n.to_str()).is_some_and(is_pod);
    // The outermost: a container may have cgroups of its own.
    Path::new(path).ancestors().filter(ours).last().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_found_with_either_driver() {
        let of = |text| pod_of(text).map(|p| p.display().to_string());
        let v1 = "3:cpu:/kubepods/burstable/pod8a6d/d920\n1:name=systemd:/kubepods/burstable/pod8a6d/d920\n";
        assert_eq!(of(v1).as_deref(), Some("/kubepods/burstable/pod8a6d"));
        let v2 =
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8a_6d.slice/cri-containerd-d9.scope\n";
        let slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8a_6d.slice";
        assert_eq!(of(v2).as_deref(), Some(slice));
        assert_eq!(of("0::/system.slice/podman.service\n"), None);
        assert_eq!(of("0::/kubepods.slice\n"), None);
        assert_eq!(of("0::/docker/7e21/kubelet/kubepods/burstable/pod8a6d/d920\n"), None);
    }
}
