//! Ports of a master: free, or held by what hamaster runs itself.

use super::catalog::{self, Check};
use super::{Inspection, Scope};
use crate::state::observed::Listener;

/// Who is to listen on a port.
enum Holder {
    /// The main process of a unit.
    Unit(&'static str),
    /// A process the kubelet starts from a manifest of ours.
    Pod(&'static str),
}

use Holder::{Pod, Unit};

/// Port, check, holder, and whether it is bound on every address of a host.
const PORTS: [(u16, Check, Holder, bool); 9] = [
    (6443, catalog::PORT_API, Pod("kube-apiserver"), true),
    (10250, catalog::PORT_KUBELET, Unit("kubelet.service"), true),
    (10248, catalog::PORT_KUBELET_HEALTH, Unit("kubelet.service"), false),
    (10257, catalog::PORT_CONTROLLER, Pod("kube-controller-manager"), false),
    (10259, catalog::PORT_SCHEDULER, Pod("kube-scheduler"), false),
    (2379, catalog::PORT_ETCD_CLIENT, Unit("etcd.service"), false),
    (2380, catalog::PORT_ETCD_PEER, Unit("etcd.service"), false),
    (2381, catalog::PORT_ETCD_METRICS, Unit("etcd.service"), false),
    (7443, catalog::PORT_JOIN, Unit("hamaster-serve.service"), true),
];

/// The kernel keeps this much of a process' name.
const COMM: usize = 15;

pub(super) fn ports(i: &mut Inspection) {
    // A lab of several masters has a relay at each advertised address; its masters listen behind it.
    let relayed = i.scope == Scope::Lab && i.this.node.ip.is_loopback() && i.this.node.ip != i.this.loopback;
    for (port, check, holder, everywhere) in &PORTS {
        let in_the_way = |l: &&Listener| {
            l.port == *port
                && (l.ip.is_unspecified()
                    || l.ip == i.this.node.ip && !relayed
                    || l.ip == i.this.loopback
                    || *everywhere && matches!(i.scope, Scope::Host | Scope::Worker))
                && !is_ours(i, holder, l)
        };
        let Some(listener) = i.facts.listeners.iter().find(in_the_way) else { continue };
        let who = listener.process.as_deref().unwrap_or("a process that could not be found");
        let message = format!("{} is held by {who}", std::net::SocketAddr::new(listener.ip, *port));
        let hint = match pid(listener) {
            Some(pid) => format!("systemctl status {pid}    # then stop and disable the unit it belongs to"),
            None => format!("ss -ltnp 'sport = :{port}'    # as root; then stop what listens there"),
        };
        i.find(check, port.to_string(), message, hint);
    }
}

fn is_ours(i: &Inspection, holder: &Holder, listener: &Listener) -> bool {
    let layout = &i.this.layout;
    match holder {
        Unit(unit) => {
            let main = i.observed.units.get(*unit).and_then(|u| u.pid);
            i.owns_unit(unit) && main.is_some() && main == pid(listener)
        }
        Pod(name) => {
            let file = format!("{name}.yaml");
            let ours = [layout.manifests(), layout.standby()].iter().any(|d| i.owns_file(&d.join(&file)));
            let comm = listener.process.as_deref().and_then(|p| p.split('[').next());
            ours && comm == name.get(..COMM.min(name.len()))
        }
    }
}

/// The pid in `name[pid]`.
fn pid(listener: &Listener) -> Option<u32> {
    listener.process.as_deref()?.rsplit_once('[')?.1.strip_suffix(']')?.parse().ok()
}
