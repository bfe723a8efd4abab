//! The apiserver of this master: up, and up again after its manifest changed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use crate::apply::event::{Event, Sink};
use crate::apply::wait;
use crate::error::{Error, Result};
use crate::host::clock::{self, Waited};
use crate::host::{Host, http, pods};
use crate::pki::kubeconfig;
use crate::spec::ThisNode;

/// How long it may take: image, container and its own start. An operator waits for it once, at `init`; the other
/// masters' keepers at each change of its manifest.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// Where it listens.
const PORT: u16 = 6443;

/// Where it runs, it runs a kube-apiserver.
pub const KUBELET_UNIT: &str = "kubelet.service";

/// A kube-apiserver that runs, and what it runs by. Under a new manifest its processes are other ones; until the kubelet
/// has seen to that, it answers as well as ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    processes: BTreeSet<i32>,
    manifest: Option<Vec<u8>>,
}

impl Serving {
    /// The one on this host; `None` where none runs, or nobody would replace it.
    ///
    /// # Errors
    /// When its manifest or the kubelet's unit cannot be looked at.
    pub fn of(host: &Host, this: &ThisNode) -> Result<Option<Self>> {
        if !host.starts_units() || !host.units().state(KUBELET_UNIT)?.active {
            return Ok(None);
        }
        let processes = processes();
        let manifest = host.read(&manifest(this))?;
        Ok((!processes.is_empty()).then_some(Self { processes, manifest }))
    }

    /// Its manifest is another one by now.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub fn is_outdated(&self, host: &Host, this: &ThisNode) -> Result<bool> {
        Ok(host.read(&manifest(this))? != self.manifest)
    }

    /// It still runs.
    pub fn runs(&self) -> bool {
        !processes().is_disjoint(&self.processes)
    }
}

fn manifest(this: &ThisNode) -> PathBuf {
    this.layout.manifests().join("kube-apiserver.yaml")
}

fn processes() -> BTreeSet<i32> {
    pods::running().into_values().flatten().filter(|p| p.program == "kube-apiserver").map(|p| p.pid).collect()
}

/// Waits until `old` does not run any more, and the apiserver is ready.
///
/// # Errors
/// When it is not in time, or its identity cannot be used.
pub fn replaced(host: &Host, this: &ThisNode, old: &Serving, sink: Sink<'_>) -> Result<()> {
    let label = "the kubelet to run the new kube-apiserver";
    let gone = || if old.runs() { Poll::Pending } else { Poll::Ready(()) };
    match clock::poll(DEADLINE, Duration::from_millis(500), gone, |since| {
        sink(Event::Waiting { condition: label, since });
    }) {
        Waited::Ready(()) => {}
        Waited::TimedOut => return Err(late(label)),
        Waited::Interrupted => return Err(wait::interrupted(&format!("waiting for {label}"))),
    }
    let conf = this.layout.kubeconfig("super-admin");
    ready(this, &conf, &identity(host, &conf)?, sink).map(drop)
}

/// Whether it is ready now; if not, why.
///
/// # Errors
/// When its identity cannot be used.
pub fn answers(host: &Host, this: &ThisNode) -> Result<std::result::Result<(), String>> {
    let conf = this.layout.kubeconfig("super-admin");
    let tls = tls(&conf, &identity(host, &conf)?)?;
    Ok(http::apiserver_ready(this.node.ip, PORT, tls))
}

fn identity(host: &Host, conf: &Path) -> Result<Vec<u8>> {
    let missing = || Error::conflict(format!("{} is missing", conf.display())).hint("run hamaster init again");
    host.read(conf)?.ok_or_else(missing)
}

fn tls(conf: &Path, identity: &[u8]) -> Result<rustls::ClientConfig> {
    let credentials = kubeconfig::credentials(identity)
        .map_err(|why| Error::conflict(format!("{} cannot be used", conf.display())).cause(why))?;
    http::tls(
        &credentials.ca_pem,
        Some(&http::Identity { cert_pem: credentials.cert_pem, key_pem: credentials.key_pem }),
    )
}

/// Waits for it. Where it is, and with what it is spoken to: the break-glass `identity` of `conf`.
///
/// # Errors
/// When it is not ready in time, or the identity cannot be used.
pub(super) fn ready(
    this: &ThisNode,
    conf: &Path,
    identity: &[u8],
    sink: Sink<'_>,
) -> Result<(SocketAddr, rustls::ClientConfig)> {
    let tls = tls(conf, identity)?;
    let at = SocketAddr::new(this.node.ip, PORT);
    let mut says = String::new();
    let label = format!("the apiserver at {at} to be ready");
    let outcome = clock::poll(
        DEADLINE,
        Duration::from_millis(500),
        || match http::apiserver_ready(at.ip(), at.port(), tls.clone()) {
            Ok(()) => Poll::Ready(()),
            Err(why) => {
                says = why;
                Poll::Pending
            }
        },
        |since| sink(Event::Waiting { condition: &label, since }),
    );
    match outcome {
        Waited::Ready(()) => Ok((at, tls)),
        Waited::TimedOut => Err(late(&label).cause(says)),
        Waited::Interrupted => Err(wait::interrupted(&format!("waiting for {label}"))),
    }
}

fn late(label: &str) -> Box<Error> {
    Error::apply(format!("waited {} s for {label}", DEADLINE.as_secs()))
        .hint("crictl ps -a --name kube-apiserver; journalctl -u kubelet -n 50 --no-pager")
}
