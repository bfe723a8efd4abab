//! The programs to assume where no host can be asked.

use std::path::PathBuf;

use crate::spec::ClusterSpec;
use crate::state::facts::Tools;

/// Programs in the places their packages put them, and the etcd version the spec names or Kubernetes pins.
pub fn assumed_tools(spec: &ClusterSpec) -> Tools {
    let version = &spec.kubernetes.version;
    let bin = |name: &str| PathBuf::from("/usr/bin").join(name);
    Tools {
        etcd_version: spec.etcd.version.unwrap_or_else(|| version.default_etcd()),
        etcd: bin("etcd"),
        hamaster: bin("hamaster"),
        kubelet: bin("kubelet"),
        flanneld: bin("flanneld"),
        cri_dockerd: bin("cri-dockerd"),
        // Kubernetes 1.35 is the last to take containerd 1.x.
        containerd: if version.minor > 35 { (2, 2) } else { (1, 7) },
        cni_bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
        resolv_conf: None,
    }
}
