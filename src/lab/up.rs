//! Makes or heals a lab.

use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use super::{Status, status};
use crate::error::{Error, Result};
use crate::host::clock::{self, Waited};
use crate::host::processes::Supervised;
use crate::host::supervisor::home::{Home, Lock};
use crate::host::supervisor::loopback::Claim;
use crate::host::supervisor::socket::Phase;
use crate::host::supervisor::{await_end, loopback, programs};
use crate::spec::file::{Overrides, load, to_yaml};
use crate::spec::{ClusterSpec, Node, ThisNode};

/// Advertised by the apiserver: it refuses a loopback address, and nobody has one of the documentation's (RFC 5737).
const ADVERTISED: &str = "192.0.2.1";

/// How long whoever runs `up` or `start` waits for what a supervisor starts by itself: a member of etcd without a
/// quorum is never ready.
const SETTLED: Duration = Duration::from_secs(15);

/// How long whoever runs `up` or `start` waits for the ports of a killed master's last processes.
const DYING: Duration = Duration::from_secs(5);

/// A lab ready for the driver: its directory is ours, its supervisors run, nobody else works on it.
#[derive(Debug)]
pub struct Lab {
    /// What its masters should be.
    pub spec: ClusterSpec,
    /// Its masters, the first one first.
    pub masters: Vec<LabMaster>,
    /// Its workers.
    pub workers: Vec<ThisNode>,
    pub(super) home: Home,
    _lock: Lock,
    _claim: Claim,
}

/// One master of a lab.
#[derive(Debug, Clone)]
pub struct LabMaster {
    /// Its name, addresses and paths.
    pub this: ThisNode,
    /// What runs its units.
    pub units: Supervised,
}

impl LabMaster {
    pub(super) fn of(home: &Home) -> Result<Self> {
        Ok(Self { this: this_node(home)?, units: Supervised::of(home) })
    }
}

pub(super) fn this_node(home: &Home) -> Result<ThisNode> {
    Ok(ThisNode { node: home.node()?, loopback: home.loopback()?, layout: home.layout() })
}

/// Brings the lab at `dir` up with this many `masters`, by default as many as it has: `drive` applies the plan, the
/// rest is done here. `program` is this program, from which the supervisors are started.
///
/// # Errors
/// When `dir` holds something else or a lab of another size, another command is at work on it, its ports are taken, or
/// `drive` fails.
pub fn up<T>(
    dir: &Path,
    masters: Option<u8>,
    program: &Path,
    drive: impl FnOnce(&Lab) -> Result<T>,
) -> Result<(T, Status)> {
    let lab = prepare(dir, masters, program)?;
    let outcome = drive(&lab)?;
    Ok((outcome, status::of(&lab.home)?))
}

fn prepare(dir: &Path, wanted: Option<u8>, program: &Path) -> Result<Lab> {
    let (home, claim) = match Home::find(dir)? {
        Some(home) => {
            let claim = loopback::claim(home.node()?.ip);
            (home, claim)
        }
        None => {
            let (address, claim) = loopback::free()?;
            (Home::claim(dir, address, wanted.unwrap_or(1))?, Some(claim))
        }
    };
    let lock = home.lock()?;
    let homes = home.masters()?;
    if let Some(wanted) = wanted.filter(|&n| usize::from(n) != homes.len()) {
        let shown = home.dir().display();
        return Err(Error::conflict(format!("the lab at {shown} has {} masters, not {wanted}", homes.len()))
            .hint(format!("hamaster lab add --dir {shown}    # one more; or lab remove NAME"))
            .hint("or choose another directory with --dir"));
    }
    ready(home, lock, claim, program)
}

/// Boots every master of a lab that is there, and makes it ready for the driver.
///
/// # Errors
/// When its addresses are taken, or a supervisor does not start.
pub(super) fn ready(home: Home, lock: Lock, claim: Option<Claim>, program: &Path) -> Result<Lab> {
    let homes = home.masters()?;
    let claim = claim.ok_or_else(|| in_use(&home, "another lab is coming up there"))?;
    let nodes: Vec<Node> = homes.iter().map(Home::node).collect::<Result<_>>()?;
    let mut spec = spec(&home)?;
    spec.masters.clone_from(&nodes);
    for home in &homes {
        boot(home, program)?;
    }
    settled(&homes)?;
    let masters = homes.iter().map(LabMaster::of).collect::<Result<_>>()?;
    let workers = home.workers()?.iter().map(this_node).collect::<Result<_>>()?;
    Ok(Lab { spec, masters, workers, home, _lock: lock, _claim: claim })
}

/// Starts the supervisor of a master where none runs; it starts what is enabled.
///
/// # Errors
/// When its ports are taken, or it does not start.
pub(super) fn boot(home: &Home, program: &Path) -> Result<()> {
    let units = Supervised::of(home);
    if units.report()?.is_none() {
        // What a killed supervisor left goes first: its ports are ours.
        drop(await_end(home, Duration::from_secs(30))?);
        let addresses = [home.node()?.ip, home.loopback()?];
        let taken = || addresses.iter().flat_map(|&ip| loopback::taken(ip)).collect::<Vec<u16>>();
        // What it had started in its last moment dies with it, but stands in no list to be waited for.
        let free = || if taken().is_empty() { Poll::Ready(()) } else { Poll::Pending };
        if clock::poll(DYING, Duration::from_millis(20), free, |_| {}) != Waited::Ready(()) {
            return Err(in_use(home, &format!("ports {:?}", taken())));
        }
        units.launch(program)?;
    }
    units.search_like_me()
}

/// Waits until what the supervisors started by themselves is ready; what is not by then is the driver's to judge.
///
/// # Errors
/// When a supervisor does not answer.
pub(super) fn settled(homes: &[Home]) -> Result<()> {
    let starting = |home: &Home| {
        let report = Supervised::of(home).report()?;
        Ok(report.is_some_and(|r| r.units.iter().any(|unit| unit.phase == Phase::Starting)))
    };
    let look = || match homes.iter().map(starting).collect::<Result<Vec<bool>>>() {
        Ok(starting) if starting.contains(&true) => Poll::Pending,
        other => Poll::Ready(other.map(|_| ())),
    };
    match clock::poll(SETTLED, Duration::from_millis(50), look, |_| {}) {
        Waited::Ready(result) => result,
        Waited::TimedOut | Waited::Interrupted => Ok(()),
    }
}

fn in_use(home: &Home, by: &str) -> Box<Error> {
    let dir = home.dir().display();
    let address = home.node().map(|n| n.ip.to_string()).unwrap_or_default();
    Error::refused(format!("{address}, the address of {} of the lab at {dir}, is in use: {by}", home.name()))
        .hint(format!("ss -ltnp src {address}"))
        .hint(format!("to make the lab anew on another address: hamaster lab down --purge --dir {dir}"))
}

/// The lab's `cluster.yaml`, made at the first `up`; its version is that of the kube-apiserver on this machine, if any.
fn spec(home: &Home) -> Result<ClusterSpec> {
    let overrides = Overrides { kubernetes_version: kubernetes_version(), ..Overrides::default() };
    let name = home.cluster_yaml().display().to_string();
    if let Some(text) = home.read_cluster_yaml()? {
        return load(Some((&name, &text)), &overrides);
    }
    let spec = load(Some((&name, &first_yaml(home.masters()?.len()))), &overrides)?;
    home.write_cluster_yaml(&to_yaml(&spec))?;
    Ok(spec)
}

fn first_yaml(masters: usize) -> String {
    // With a single master there is nobody to be elected.
    let mode = if masters == 1 { "native" } else { "podmaster" };
    format!(
        "apiVersion: hamaster/v1\n\
         kind: Cluster\n\
         name: lab\n\
         kubernetes:\n\
         \x20 apiserverExtraArgs: {{ advertise-address: {ADVERTISED} }}\n\
         runtime: containerd\n\
         network: {{ plugin: none }}\n\
         election: {{ mode: {mode} }}\n"
    )
}

/// `v1.34.1` of `Kubernetes v1.34.1`.
fn kubernetes_version() -> Option<String> {
    let apiserver = programs::find(&programs::search_dirs(), "kube-apiserver")?;
    let version = programs::version_of(&apiserver)?;
    version.split_whitespace().find(|word| word.starts_with("v1.")).map(str::to_owned)
}
