//! The one table of checks: id, severity in each scope, what it looks at.

use super::Scope;
use super::Severity::{self, Error, Warning};

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Stable id, kubeadm's where it has the same check.
    pub id: &'static str,
    /// How much it matters on a host; a check may find less. `None`: not looked at.
    pub host: Option<Severity>,
    /// The same in a lab.
    pub lab: Option<Severity>,
    /// The same in an image.
    pub image: Option<Severity>,
    /// What it demands, in a few words.
    pub what: &'static str,
}

impl Check {
    /// How much it matters in `scope`, if it is looked at there.
    pub fn severity(&self, scope: Scope) -> Option<Severity> {
        match scope {
            Scope::Host => self.host,
            Scope::Lab => self.lab,
            Scope::Image => self.image,
            Scope::Worker | Scope::WorkerImage if self.is_for_masters() => None,
            Scope::Worker => self.host,
            Scope::WorkerImage => self.image,
        }
    }

    /// It is about etcd, the control plane, or what they need.
    fn is_for_masters(&self) -> bool {
        const MASTERS: [&Check; 21] = [
            &FOUNDERS,
            &PEERS,
            &NUM_CPU,
            &MEM,
            &PORT_API,
            &PORT_CONTROLLER,
            &PORT_SCHEDULER,
            &PORT_ETCD_CLIENT,
            &PORT_ETCD_PEER,
            &PORT_ETCD_METRICS,
            &PORT_JOIN,
            &BINARY_ETCD,
            &ETCD_VERSION,
            &ETCD_BUGS,
            &ETCD_USER,
            &DATA_DIR,
            &DATA_DIR_FILESYSTEM,
            &DATA_DIR_SPACE,
            &DATA_DIR_FSYNC,
            &FOREIGN_ETCD,
            &MANIFESTS,
        ];
        MASTERS.iter().any(|check| check.id == self.id)
    }
}

const E: Option<Severity> = Some(Error);
const W: Option<Severity> = Some(Warning);
/// Not looked at.
const N: Option<Severity> = None;

macro_rules! checks {
    ($($name:ident $id:literal $host:ident $lab:ident $image:ident $what:literal)*) => {
        $(pub(super) const $name: Check = Check { id: $id, host: $host, lab: $lab, image: $image, what: $what };)*

        /// Every check there is.
        pub const CHECKS: &[Check] = &[$($name),*];
    };
}

checks! {
    // name              id                          host lab image
    PRIVILEGED           "IsPrivilegedUser"             E N N "hamaster runs as root"
    SYSTEMD              "Systemd"                      E N N "systemd is PID 1"
    NUM_CPU              "NumCPU"                       E W N "at least 2 CPUs"
    MEM                  "Mem"                          E W N "at least 1700 MB of memory"
    SWAP                 "Swap"                         E N N "no swap while the kubelet's failSwapOn is true"
    CGROUPS              "Cgroups"                      E N N "cgroup v2 for Kubernetes 1.35 and newer"
    ARCHITECTURE         "Architecture"                 W N N "an architecture Kubernetes is released for"
    KERNEL_VERSION       "KernelVersion"                E N N "kernel 5.6 or newer for flannel's wireguard"
    BRIDGE_NF            "FileContent-bridge-nf-call-iptables" W N N "bridged packets pass iptables"
    IP_FORWARD           "FileContent-ip_forward"       W N N "the kernel forwards packets"
    MACHINE_ID           "MachineID"                    W N N "/etc/machine-id holds an id"
    CLOCK                "ClockSync"                    W N N "the clock is synchronised"
    FIREWALLD            "Firewalld"                    W N N "firewalld is not in the way"
    SELINUX              "SELinux"                      W N N "SELinux is not enforcing"
    DISK_SPACE           "DiskSpace"                    E E E "100 MB free for what hamaster writes"
    UNKNOWN_FACT         "HostFacts"                    W N W "everything that is checked can be read"
    NODE_NAME            "NodeName"                     E E E "the node name is valid and the one this host has"
    HOSTNAME             "Hostname"                     W N N "the host name is the node name and resolves to this host"
    ADVERTISE_IP         "AdvertiseAddress"             E N N "the advertised address is on an interface"
    LOAD_BALANCER        "LoadBalancer"                 W N N "the load balancer resolves and is not this host"
    OVERLAP              "NetworkOverlap"               E N E "pod and service range are nobody else's"
    HTTP_PROXY           "HTTPProxy"                    W N N "cluster addresses are not sent to a proxy"
    PORT_API             "Port-6443"                    E E N "free, or our kube-apiserver's"
    PORT_KUBELET         "Port-10250"                   E N N "free, or our kubelet's"
    PORT_KUBELET_HEALTH  "Port-10248"                   E N N "free, or our kubelet's"
    PORT_CONTROLLER      "Port-10257"                   E E N "free, or our kube-controller-manager's"
    PORT_SCHEDULER       "Port-10259"                   E E N "free, or our kube-scheduler's"
    PORT_ETCD_CLIENT     "Port-2379"                    E E N "free, or our etcd's"
    PORT_ETCD_PEER       "Port-2380"                    E E N "free, or our etcd's"
    PORT_ETCD_METRICS    "Port-2381"                    E E N "free, or our etcd's"
    PORT_JOIN            "Port-7443"                    E E N "free, or our join endpoint's"
    BINARY_ETCD          "Binary-etcd"                  E E E "etcd is installed"
    ETCD_VERSION         "EtcdVersion"                  E E E "etcd 3.4 to 3.7"
    ETCD_BUGS            "EtcdKnownBugs"                W W W "no release with a bug that matters here"
    BINARY_KUBELET       "Binary-kubelet"               E N E "the kubelet is installed"
    KUBELET_VERSION      "KubeletVersion"               E N E "a kubelet the control plane takes"
    BINARY_DOCKER        "Binary-docker"                E N E "docker is installed, where it is the runtime"
    BINARY_CRI_DOCKERD   "Binary-cri-dockerd"           E N E "cri-dockerd is installed, for docker from 1.24"
    BINARY_CONTAINERD    "Binary-containerd"            E N E "containerd is installed, where it is the runtime"
    RUNTIME_VERSION      "ContainerRuntimeVersion"      E N E "a runtime the kubelet takes"
    BINARY_FLANNELD      "Binary-flanneld"              E N E "flanneld is installed, where it makes the pod network"
    CNI_PLUGINS          "CNIPlugins"                   E N E "flannel's CNI plugins are installed"
    FILE_CONNTRACK       "FileExisting-conntrack"       E N E "conntrack, for a kubelet before 1.32"
    FILE_IP              "FileExisting-ip"              E N E "ip, for a kubelet before 1.33"
    FILE_IPTABLES        "FileExisting-iptables"        E N E "iptables, for flannel and a kubelet before 1.33"
    FILE_MOUNT           "FileExisting-mount"           E N E "mount, for the kubelet"
    FILE_NSENTER         "FileExisting-nsenter"         E N E "nsenter, for the kubelet"
    ETCD_USER            "EtcdUser"                     E N E "the user etcd exists"
    DATA_DIR             "DirAvailable--var-lib-etcd"   E E E "etcd's data directory is empty or ours"
    DATA_DIR_FILESYSTEM  "EtcdDataDirFilesystem"        E W N "etcd's data is on a local disk"
    DATA_DIR_SPACE       "EtcdDataDirSpace"             W W N "room for etcd's quota"
    DATA_DIR_FSYNC       "EtcdDataDirFsync"             W W N "the disk syncs within 10 ms"
    FOUNDERS             "EtcdFounders"                 E N E "masters that start together have the same CA, and are an odd number"
    PEERS                "EtcdPeers"                    E N N "the masters that a joiner is told of can be reached at etcd's ports"
    FOREIGN_ETCD         "ForeignEtcd"                  E N N "no other etcd runs here"
    MANIFESTS            "DirAvailable--etc-kubernetes-manifests" E E E "no static pods but ours"
    INSTALLATION         "OtherInstallation"            E N E "no other cluster is installed here"
    CA_VALIDITY          "CAValidity"                   E E E "existing CAs are valid now"
    CA_EXPIRY            "CAExpiry"                     W W W "existing CAs live another year"
}
