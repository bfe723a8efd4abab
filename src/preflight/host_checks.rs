//! The machine itself: privileges, size, kernel, clock.

use super::Inspection;
use super::catalog;
use crate::state::facts::Cgroups;

const MB: u64 = 1_000_000;

pub(super) fn host(i: &mut Inspection) {
    unknown(i);
    rights(i);
    size(i);
    swap(i);
    cgroups(i);
    architecture(i);
    sysctls(i);
    services(i);
}

fn unknown(i: &mut Inspection) {
    for fact in &i.facts.unknown {
        i.find(&catalog::UNKNOWN_FACT, &fact.what, format!("cannot be checked: {}", fact.why), "check it by hand");
    }
}

fn rights(i: &mut Inspection) {
    if i.facts.uid != 0 {
        i.find(&catalog::PRIVILEGED, "user", format!("uid {} is not root", i.facts.uid), "run it with sudo");
    }
    if !i.facts.systemd {
        let hint = "hamaster lab up    # without systemd; or write an image with --root DIR";
        i.find(&catalog::SYSTEMD, "PID 1", "is not systemd", hint);
    }
    if !i.facts.etcd_user {
        let hint =
            "useradd --system --home-dir /var/lib/etcd --no-create-home --shell /usr/sbin/nologin --user-group etcd";
        i.find(&catalog::ETCD_USER, "etcd", "there is no such user, and etcd does not run as root", hint);
    }
    if !i.facts.machine_id {
        i.find(&catalog::MACHINE_ID, "/etc/machine-id", "is missing or empty", "systemd-machine-id-setup");
    }
}

fn size(i: &mut Inspection) {
    if let Some(cpus @ ..2) = i.facts.cpus {
        i.find(&catalog::NUM_CPU, "CPUs", format!("{cpus}, a master wants 2"), "give this machine another CPU");
    }
    if let Some(bytes) = i.facts.memory_bytes.filter(|bytes| *bytes < 1700 * MB) {
        let message = format!("{} MB, a master wants 1700", bytes / MB);
        i.find(&catalog::MEM, "memory", message, "give this machine more memory");
    }
}

fn swap(i: &mut Inspection) {
    let Some(swaps) = i.facts.swaps.as_ref().filter(|swaps| !swaps.is_empty()) else { return };
    let object = swaps.join(", ");
    let allowed = i.spec.kubernetes.kubelet_extra_args.get("fail-swap-on").is_some_and(|value| value == "false");
    if allowed {
        i.warn(&catalog::SWAP, object, "is in use; pods may become slow without notice", "swapoff -a");
    } else {
        let hint = "swapoff -a    # and remove it from /etc/fstab; or kubeletExtraArgs: { fail-swap-on: \"false\" }";
        i.find(&catalog::SWAP, object, "is in use: the kubelet will not start", hint);
    }
}

fn cgroups(i: &mut Inspection) {
    let v1 = match i.facts.cgroups {
        None | Some(Cgroups::V2) => return,
        Some(Cgroups::Hybrid) => "cgroups are mounted hybrid, which counts as v1",
        Some(Cgroups::V1) => "cgroups are v1",
    };
    let hint = "boot with systemd.unified_cgroup_hierarchy=1";
    match i.minor() {
        ..31 => {}
        31..35 => {
            i.warn(&catalog::CGROUPS, "/sys/fs/cgroup", format!("{v1}: only maintained, refused from 1.35"), hint)
        }
        35.. => i.find(&catalog::CGROUPS, "/sys/fs/cgroup", format!("{v1}: the kubelet will not start"), hint),
    }
}

fn architecture(i: &mut Inspection) {
    if !["x86_64", "aarch64", "ppc64le", "s390x"].contains(&i.facts.arch.as_str()) {
        let message = format!("Kubernetes is not released for {}", i.facts.arch);
        i.find(&catalog::ARCHITECTURE, "architecture", message, "build it yourself, or take another machine");
    }
}

fn sysctls(i: &mut Inspection) {
    // Warnings: the network phase writes both and has systemd load them.
    let (ip_forward, bridge) = if i.spec.kubernetes.pod_cidr.is_ipv4() {
        ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables")
    } else {
        ("net.ipv6.conf.all.forwarding", "net.bridge.bridge-nf-call-ip6tables")
    };
    let on = |name: &str| i.facts.sysctls.get(name).is_some_and(|value| value == "1");
    let (forwards, bridges) = (on(ip_forward), on(bridge));
    if !forwards {
        let hint = format!("sysctl -w {ip_forward}=1    # the network phase sets it too");
        i.find(&catalog::IP_FORWARD, ip_forward, "is not 1", hint);
    }
    if !bridges {
        let hint = format!("modprobe br_netfilter && sysctl -w {bridge}=1    # the network phase does both too");
        i.find(&catalog::BRIDGE_NF, bridge, "is not 1, or br_netfilter is not loaded", hint);
    }
}

fn services(i: &mut Inspection) {
    if i.facts.clock_synchronised == Some(false) {
        let hint = "timedatectl set-ntp true    # or install chrony";
        i.find(&catalog::CLOCK, "clock", "is not synchronised: certificates and leases depend on it", hint);
    }
    if i.facts.active_units.contains("firewalld.service") {
        let hint = "firewall-cmd --permanent --add-port={6443,10250,2379,2380,7443}/tcp --add-port=8472/udp && \
                    firewall-cmd --reload";
        i.find(&catalog::FIREWALLD, "firewalld.service", "is active and may close the cluster's ports", hint);
    }
    if i.facts.selinux_enforcing {
        let hint = "ausearch -m avc -ts recent    # after init; label what it names, or setenforce 0";
        i.find(&catalog::SELINUX, "SELinux", "is enforcing; hamaster sets no labels", hint);
    }
}
