//! Every path hamaster owns, in one place.
//!
//! A layout has a *prefix*: empty on a real host, the master's directory in a lab, where the files themselves must
//! name paths below it. It is not `--root`: an image is written below a root but its files name the final paths.

use std::path::{Path, PathBuf};

/// Where everything lives on one master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    prefix: PathBuf,
}

impl Default for Layout {
    fn default() -> Self {
        Self::host()
    }
}

impl Layout {
    /// A real host: `/etc/kubernetes`, `/var/lib/etcd`, …
    pub fn host() -> Self {
        Self { prefix: PathBuf::from("/") }
    }

    /// Everything below `prefix`, which must be absolute (a lab master).
    pub fn below(prefix: impl Into<PathBuf>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// `/` on a host, the master's directory in a lab.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// An absolute host path moved below the prefix.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let p = absolute.as_ref();
        self.prefix.join(p.strip_prefix("/").unwrap_or(p))
    }

    /// `/etc/kubernetes`
    pub fn kubernetes(&self) -> PathBuf {
        self.path("/etc/kubernetes")
    }

    /// The bundle: one directory to copy or archive.
    pub fn pki(&self) -> PathBuf {
        self.path("/etc/kubernetes/pki")
    }

    /// etcd's own keys, apart because CIS 1.1.19 wants everything in the bundle owned by root.
    pub fn etcd_pki(&self) -> PathBuf {
        self.path("/etc/etcd/pki")
    }

    /// `admin`, `super-admin`, `controller-manager`, `scheduler`, `kubelet` → `/etc/kubernetes/<name>.conf`
    pub fn kubeconfig(&self, name: &str) -> PathBuf {
        self.path(format!("/etc/kubernetes/{name}.conf"))
    }

    /// The kubelet's static pod directory.
    pub fn manifests(&self) -> PathBuf {
        self.path("/etc/kubernetes/manifests")
    }

    /// Where elected manifests wait.
    pub fn standby(&self) -> PathBuf {
        self.path("/etc/kubernetes/standby")
    }

    /// Audit policy, admission configuration and the like.
    pub fn policy(&self) -> PathBuf {
        self.path("/etc/kubernetes/policy")
    }

    /// A unit file of ours, or a drop-in (`docker.service.d/40-hamaster.conf`).
    pub fn unit(&self, name: &str) -> PathBuf {
        self.path("/etc/systemd/system").join(name)
    }

    /// `/etc/hamaster`
    pub fn config(&self) -> PathBuf {
        self.path("/etc/hamaster")
    }

    /// The resolved spec of this master.
    pub fn cluster_yaml(&self) -> PathBuf {
        self.config().join("cluster.yaml")
    }

    /// What load balancers before the masters are to do.
    pub fn load_balancer(&self) -> PathBuf {
        self.config().join("loadbalancer")
    }

    /// `/var/lib/hamaster`
    pub fn state(&self) -> PathBuf {
        self.path("/var/lib/hamaster")
    }

    /// Ownership and stamps; no content, no secrets.
    pub fn record(&self) -> PathBuf {
        self.state().join("record.json")
    }

    /// What we replaced, by time.
    pub fn backup(&self) -> PathBuf {
        self.state().join("backup")
    }

    /// Where snapshots go unless `etcd.snapshots.dir` says otherwise.
    pub fn snapshots(&self) -> PathBuf {
        self.state().join("snapshots")
    }

    /// The key that the timer seals them with.
    pub fn snapshot_key(&self) -> PathBuf {
        self.config().join("snapshot.key")
    }

    /// `/var/lib/kubelet`
    pub fn kubelet(&self) -> PathBuf {
        self.path("/var/lib/kubelet")
    }

    /// The KubeletConfiguration file.
    pub fn kubelet_config(&self) -> PathBuf {
        self.kubelet().join("config.yaml")
    }

    /// Certificate and key in one PEM, the file kubelet's own rotation replaces.
    pub fn kubelet_client_pem(&self) -> PathBuf {
        self.kubelet().join("pki/kubelet-client-current.pem")
    }

    /// `/etc/cni/net.d`
    pub fn cni(&self) -> PathBuf {
        self.path("/etc/cni/net.d")
    }

    /// Audit logs of the apiserver.
    pub fn audit_log_dir(&self) -> PathBuf {
        self.path("/var/log/kubernetes/audit")
    }
}
