//! The etcd member's unit. Every setting is a flag: the CIS benchmark reads the process' command line, and a setting in
//! both a flag and the environment stops etcd.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{ETCD_METRICS_PORT, Input, Rendered, text, url};
use crate::error::Result;
use crate::spec::{EtcdBootstrap, Node};
use crate::state::PhaseId;

/// etcd.service
#[derive(Serialize)]
struct EtcdUnit {
    argv: Vec<String>,
    data_dir: String,
    /// The data directory below `/var/lib`, which systemd then makes with the right owner and mode.
    state_directory: Option<String>,
    /// The data directory is not in somebody's home, so homes can be hidden.
    hide_homes: bool,
}

pub(super) fn files(i: &Input, out: &mut Rendered) -> Result<()> {
    let data_dir = data_dir(i);
    let below = |parent: &str| data_dir.starts_with(parent);
    let context = EtcdUnit {
        argv: argv(i),
        state_directory: data_dir.strip_prefix("/var/lib").ok().map(text),
        hide_homes: !["/home", "/root", "/run/user"].into_iter().any(below),
        data_dir: text(&data_dir),
    };
    out.add(PhaseId::Etcd, i.this.layout.unit("etcd.service"), 0o644, "systemd/etcd.service.hbs", &context)
}

/// Files etcd reads at start besides its unit.
pub(super) fn inputs(i: &Input) -> Vec<PathBuf> {
    ["ca.crt", "server.crt", "server.key", "peer.crt", "peer.key"].map(|f| i.etcd_pki(f)).into()
}

fn data_dir(i: &Input) -> PathBuf {
    i.this.layout.path(&i.spec.etcd.data_dir)
}

fn argv(i: &Input) -> Vec<String> {
    let (spec, node, version) = (&i.spec.etcd, &i.this.node, i.tools.etcd_version);
    let minor = if version.major > 3 { u32::MAX } else { version.minor };
    let peer_url = |ip| url("https", ip, 2380);
    // A lab's member listens behind its relay.
    let own = if i.lab() { i.this.loopback } else { node.ip };
    let member = |m: &Node| format!("{}={}", m.name, peer_url(m.ip));
    let founders = || founders(i).iter().map(member).collect::<Vec<_>>().join(",");
    let initial_cluster = i.etcd.initial_cluster.map_or_else(founders, str::to_owned);
    let mut client_ips = vec![own, i.this.loopback];
    client_ips.dedup();
    let client_urls: Vec<_> = client_ips.into_iter().map(|ip| url("https", ip, 2379)).collect();

    let mut argv = vec![text(&i.tools.etcd)];
    let mut put = |name: &str, value: &str| argv.push(format!("--{name}={value}"));
    put("name", &node.name);
    put("data-dir", &text(data_dir(i)));
    put("listen-peer-urls", &peer_url(own));
    put("initial-advertise-peer-urls", &peer_url(node.ip));
    put("listen-client-urls", &client_urls.join(","));
    put("advertise-client-urls", &url("https", node.ip, 2379));
    // Health and metrics without a client certificate, which the client port insists on.
    put("listen-metrics-urls", &metrics_url(i.this.loopback));
    put("initial-cluster", &initial_cluster);
    put("initial-cluster-state", if i.etcd.sealed { "existing" } else { "new" });
    put("initial-cluster-token", i.etcd.token);
    put("client-cert-auth", "true");
    put("trusted-ca-file", &pem(i, "ca.crt"));
    put("cert-file", &pem(i, "server.crt"));
    put("key-file", &pem(i, "server.key"));
    put("peer-client-cert-auth", "true");
    put("peer-trusted-ca-file", &pem(i, "ca.crt"));
    put("peer-cert-file", &pem(i, "peer.crt"));
    put("peer-key-file", &pem(i, "peer.key"));
    if minor >= 6 || (minor == 5 && version.patch >= 8) || (minor == 4 && version.patch >= 25) {
        put("tls-min-version", "TLS1.2");
    }
    put("heartbeat-interval", &spec.heartbeat_interval.as_millis().to_string());
    put("election-timeout", &spec.election_timeout.as_millis().to_string());
    put("quota-backend-bytes", &spec.quota_bytes.to_string());
    if minor <= 5 {
        // The default from 3.6 on; the old one of 100000 only costs memory.
        put("snapshot-count", "10000");
    }
    if minor == 4 {
        // Defaults from 3.5 on: fewer disruptive elections when a member comes back, and structured logs.
        put("pre-vote", "true");
        put("logger", "zap");
        put("log-outputs", "stderr");
    }
    if minor >= 6 {
        put("feature-gates", "InitialCorruptCheck=true");
        put("watch-progress-notify-interval", "5s");
    } else {
        put("experimental-initial-corrupt-check", "true");
        // Lets the apiserver answer consistent lists from its cache.
        if minor == 5 || version.patch >= 11 {
            put("experimental-watch-progress-notify-interval", "5s");
        }
    }
    argv
}

/// The members the first cluster is formed of. Once sealed only the member itself is named: the list is never read again
/// while there is data, it must not change with the masters, and without data it leads to no other member, so an
/// emptied disk forms no new cluster.
pub(super) fn founders<'a>(i: &Input<'a>) -> &'a [Node] {
    match i.spec.etcd.bootstrap != EtcdBootstrap::New && !i.etcd.sealed {
        true => &i.spec.masters,
        false => std::slice::from_ref(&i.this.node),
    }
}

fn metrics_url(loopback: IpAddr) -> String {
    url("http", loopback, ETCD_METRICS_PORT)
}

fn pem(i: &Input, name: &str) -> String {
    text(Path::new(&i.etcd_pki(name)))
}
