//! What lies on disk already: etcd's data, other clusters, old CAs.

use std::path::Path;

use time::Duration;

use super::Inspection;
use super::catalog;
use crate::etcd::bootstrap;
use crate::etcd::membership::quorum;
use crate::spec::{EtcdBootstrap, Node};
use crate::state::facts::{EtcdProcess, Unreachable};
use crate::state::observed::ContentFact;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// etcd's advice for a WAL sync; above it leaders are lost under load.
const SLOW_SYNC: std::time::Duration = std::time::Duration::from_millis(10);

pub(super) fn data(i: &mut Inspection) {
    disk_space(i);
    data_dir(i);
    founders(i);
    peers(i);
    foreign_etcd(i);
    manifests(i);
    installations(i);
    authorities(i);
}

fn disk_space(i: &mut Inspection) {
    if let Some(free) = i.facts.free_bytes.filter(|free| *free < 100 * MIB) {
        let message = format!("{} MiB free, hamaster wants 100", free / MIB);
        i.find(&catalog::DISK_SPACE, "/etc", message, "df -h /etc /var    # then make room");
    }
}

/// Filesystems that lose locks or syncs, and those that are gone after a boot.
const REFUSED: [&str; 10] = ["nfs", "cifs", "smb", "9p", "fuse", "overlay", "tmpfs", "ramfs", "ceph", "afs"];

fn data_dir(i: &mut Inspection) {
    let dir = i.this.layout.path(&i.spec.etcd.data_dir);
    let shown = dir.display().to_string();
    let facts = &i.facts.data_dir;
    let record = &i.observed.record;
    let ours = record.etcd.is_some() || record.dirs.contains(&dir) || i.owns_unit("etcd.service");
    if !facts.entries.is_empty() && !ours {
        let names = facts.entries.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        // The content is moved, not the directory: that may be a mount point.
        let hint = format!(
            "systemctl disable --now etcd; mkdir -p /var/backups/etcd && \
             find {shown} -mindepth 1 -maxdepth 1 -exec mv -t /var/backups/etcd {{}} +"
        );
        i.find(&catalog::DATA_DIR, &shown, format!("holds {names}, which is not hamaster's"), hint);
    }
    if let Some(filesystem) = facts.filesystem.as_deref().filter(|f| REFUSED.contains(f)) {
        let message = format!("{} is on {filesystem}, which loses locks, syncs or everything", facts.nearest.display());
        i.find(
            &catalog::DATA_DIR_FILESYSTEM,
            &shown,
            message,
            "mount a local disk there, or write another etcd.dataDir",
        );
    }
    let wanted = i.spec.etcd.quota_bytes.max(2 * GIB);
    if let Some(free) = facts.free_bytes.filter(|free| *free < wanted) {
        let message = format!("{:.1} GiB free, etcd may grow to {:.1}", gib(free), gib(wanted));
        i.find(
            &catalog::DATA_DIR_SPACE,
            &shown,
            message,
            "mount a larger disk there, or write a smaller etcd.quotaBytes",
        );
    }
    if let Some(p99) = facts.fsync_p99.filter(|p99| *p99 > SLOW_SYNC) {
        let message = format!("syncing takes {:.1} ms (99th percentile), etcd wants 10", p99.as_secs_f64() * 1000.0);
        i.find(&catalog::DATA_DIR_FSYNC, &shown, message, "mount a faster disk there, best an SSD of its own");
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB as f64
}

/// Everything that is the same on all masters, for tar to carry from the first one.
const SHARED: &str = "etc/kubernetes/pki/{ca,front-proxy-ca}.{crt,key} etc/kubernetes/pki/sa.{key,pub} \
                      etc/kubernetes/pki/{known_tokens.csv,encryption-config.yaml} etc/etcd/pki/ca.{crt,key}";

fn founders(i: &mut Inspection) {
    if i.spec.etcd.bootstrap == EtcdBootstrap::New || i.observed.record.etcd.is_some() {
        return;
    }
    let named = i.spec.etcd.bootstrap == EtcdBootstrap::Static;
    if let Some(why) = bootstrap::even(i.spec.masters.len()).filter(|_| named) {
        i.warn(&catalog::FOUNDERS, "masters", why, "hamaster render    # after naming one master more, or one less");
    }
    let ca = i.this.layout.etcd_pki().join("ca.crt");
    if i.observed.at(&ca).is_none() {
        let message = "is missing: each master would make a CA of its own, and they could never form a cluster";
        let hint = format!(
            "bash -c 'ssh FIRST tar -C / -c {SHARED}' | tar -C / -x    # FIRST made them: hamaster init --only pki"
        );
        i.find(&catalog::FOUNDERS, ca.display().to_string(), message, hint);
    }
}

/// A learner that no majority can be reached from would never catch up, and keep all others from joining meanwhile.
fn peers(i: &mut Inspection) {
    let unreachable = &i.facts.unreachable;
    let is_reached = |node: &&Node| unreachable.iter().all(|u| u.at.ip() != node.ip);
    let others = i.spec.masters.iter().filter(|m| m.name != i.this.node.name);
    let (known, reached) = (others.clone().count(), others.filter(is_reached).count());
    let enough = reached >= quorum(known);
    for Unreachable { at, why } in unreachable {
        let hint = format!(
            "on the host at {}: systemctl status etcd; then let ports 2379 and 2380 through, both ways",
            at.ip()
        );
        match enough {
            true => i.warn(&catalog::PEERS, at.to_string(), why.clone(), hint),
            false => i.find(&catalog::PEERS, at.to_string(), why.clone(), hint),
        }
    }
}

fn foreign_etcd(i: &mut Inspection) {
    let unit = i.observed.units.get("etcd.service").and_then(|u| u.pid).filter(|_| i.owns_unit("etcd.service"));
    let foreign: Vec<&EtcdProcess> = i.facts.etcd_processes.iter().filter(|p| Some(p.pid) != unit).collect();
    for process in &foreign {
        let data = process.data_dir.as_ref().map_or(String::new(), |d| format!(" on {}", d.display()));
        let message = format!("another etcd runs{data}, pid {}", process.pid);
        let (object, hint) = match &process.unit {
            Some(unit) => (unit.clone(), format!("systemctl disable --now {unit}")),
            None => ("etcd".to_owned(), format!("kill {}", process.pid)),
        };
        i.find(&catalog::FOREIGN_ETCD, object, message, hint);
    }
    if foreign.is_empty() && unit.is_none() && i.facts.active_units.contains("etcd.service") {
        let message = "an etcd that is not hamaster's is active; Debian's package starts one when it is installed";
        if !i.owns_unit("etcd.service") {
            i.find(&catalog::FOREIGN_ETCD, "etcd.service", message, "systemctl disable --now etcd");
        }
    }
}

fn manifests(i: &mut Inspection) {
    let (dir, standby) = (i.this.layout.manifests(), i.this.layout.standby());
    // The one that is elected puts what is ours on standby into the directory.
    let ours = |name: &String| [&dir, &standby].iter().any(|d| i.owns_file(&d.join(name)));
    // The kubelet passes over dotfiles only: `x.yaml.bak` runs as well.
    let foreign = |name: &&String| !name.starts_with('.') && !ours(name);
    let names: Vec<&str> = i.facts.manifests.iter().filter(foreign).map(String::as_str).collect();
    if !names.is_empty() {
        let message = format!("the kubelet would run what is not hamaster's: {}", names.join(", "));
        let hint = format!("mv {}/{} /var/tmp/    # and each of the others", dir.display(), names[0]);
        i.find(&catalog::MANIFESTS, dir.display().to_string(), message, hint);
    }
}

/// What other installers leave, and how each is removed.
const UNINSTALL: [(&str, &str); 5] = [
    ("kubeadm-flags.env", "kubeadm reset"),
    ("k3s", "/usr/local/bin/k3s-uninstall.sh"),
    ("rke2", "/usr/local/bin/rke2-uninstall.sh"),
    ("k0s", "k0s stop && k0s reset"),
    ("microk8s", "snap remove microk8s"),
];

fn installations(i: &mut Inspection) {
    for path in &i.facts.installations {
        let named = |name: &str| path.iter().any(|part| part == name);
        let hint = UNINSTALL.iter().find(|(name, _)| named(name)).map_or("remove that cluster first", |(_, hint)| hint);
        let message = "another cluster is, or was, installed on this host";
        i.find(&catalog::INSTALLATION, path.display().to_string(), message, hint);
    }
}

fn authorities(i: &mut Inspection) {
    let layout = &i.this.layout;
    let kubernetes = ["ca.crt", "front-proxy-ca.crt"].map(|name| layout.pki().join(name));
    for path in kubernetes.into_iter().chain([layout.etcd_pki().join("ca.crt")]) {
        authority(i, &path);
    }
}

fn authority(i: &mut Inspection, path: &Path) {
    let Some(ContentFact::Certs(certs)) = i.observed.at(path).map(|fact| &fact.content) else { return };
    let Some(ca) = certs.first() else { return };
    let shown = path.display().to_string();
    if ca.not_after <= i.now {
        let message = format!("this CA expired on {}", ca.not_after.date());
        i.find(&catalog::CA_VALIDITY, shown, message, "move the old bundle away, then run `hamaster init` again");
    } else if ca.not_before > i.now {
        let message = format!("this CA is not valid before {}", ca.not_before);
        i.find(&catalog::CA_VALIDITY, shown, message, "timedatectl    # is this host's clock right?");
    } else if ca.not_after - i.now < Duration::days(365) {
        let message = format!("this CA expires on {}; no leaf outlives it", ca.not_after.date());
        i.find(&catalog::CA_EXPIRY, shown, message, "plan a new CA before that day");
    }
}
