//! Makes or heals a lab.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::{Status, status};
use crate::error::{Error, Result};
use crate::host::processes::Supervised;
use crate::host::supervisor::home::{Home, Lock, MASTER};
use crate::host::supervisor::loopback::Claim;
use crate::host::supervisor::{await_end, loopback, programs};
use crate::spec::file::{Overrides, load, to_yaml};
use crate::spec::{ClusterSpec, Node, ThisNode};

/// Advertised by the apiserver: it refuses a loopback address, and nobody has one of the documentation's (RFC 5737).
const ADVERTISED: &str = "192.0.2.1";

/// A lab ready for the driver: its directory is ours, its supervisor runs, nobody else works on it.
#[derive(Debug)]
pub struct Lab {
    /// What its master should be.
    pub spec: ClusterSpec,
    /// Its master.
    pub this: ThisNode,
    /// What runs its units.
    pub units: Supervised,
    home: Home,
    _lock: Lock,
    _claim: Claim,
}

/// Brings the lab at `dir` up: `drive` applies the plan, the rest is done here. `program` is this program, from which
/// the supervisor is started.
///
/// # Errors
/// When `dir` holds something else, another command is at work on it, its ports are taken, or `drive` fails.
pub fn up<T>(dir: &Path, program: &Path, drive: impl FnOnce(&Lab) -> Result<T>) -> Result<(T, Status)> {
    let lab = prepare(dir, program)?;
    let outcome = drive(&lab)?;
    Ok((outcome, status::of(&lab.home)?))
}

fn prepare(dir: &Path, program: &Path) -> Result<Lab> {
    let (home, claim) = match Home::find(dir)? {
        Some(home) => {
            let claim = loopback::claim(home.address()?);
            (home, claim)
        }
        None => {
            let (address, claim) = loopback::free()?;
            (Home::claim(dir, address)?, Some(claim))
        }
    };
    let lock = home.lock()?;
    let address = home.address()?;
    let claim = claim.ok_or_else(|| in_use(&home, address, "another lab is coming up there"))?;
    let mut spec = spec(&home, address)?;
    let node = Node { name: MASTER.to_owned(), ip: address };
    spec.masters = vec![node.clone()];
    let units = Supervised::of(&home);
    if units.report()?.is_none() {
        // What a killed supervisor left goes first: its ports are ours.
        drop(await_end(&home, Duration::from_secs(30))?);
        let taken = loopback::taken(address);
        if !taken.is_empty() {
            return Err(in_use(&home, address, &format!("ports {taken:?}")));
        }
        units.launch(program)?;
    }
    units.search_like_me()?;
    let this = ThisNode { node, loopback: address, layout: home.layout() };
    Ok(Lab { spec, this, units, home, _lock: lock, _claim: claim })
}

fn in_use(home: &Home, address: IpAddr, by: &str) -> Box<Error> {
    let dir = home.dir().display();
    Error::refused(format!("{address}, the address of the lab at {dir}, is in use: {by}"))
        .hint(format!("ss -ltnp src {address}"))
        .hint(format!("to make the lab anew on another address: hamaster lab down --purge --dir {dir}"))
}

/// The lab's `cluster.yaml`, made at the first `up`; its version is that of the kube-apiserver on this machine, if any.
fn spec(home: &Home, address: IpAddr) -> Result<ClusterSpec> {
    let overrides = Overrides { kubernetes_version: kubernetes_version(), ..Overrides::default() };
    let name = home.cluster_yaml().display().to_string();
    if let Some(text) = home.read_cluster_yaml()? {
        return load(Some((&name, &text)), &overrides);
    }
    let spec = load(Some((&name, &first_yaml(address))), &overrides)?;
    home.write_cluster_yaml(&to_yaml(&spec))?;
    Ok(spec)
}

fn first_yaml(address: IpAddr) -> String {
    format!(
        "apiVersion: hamaster/v1\n\
         kind: Cluster\n\
         name: lab\n\
         kubernetes:\n\
         \x20 apiserverExtraArgs: {{ bind-address: \"{address}\", advertise-address: {ADVERTISED} }}\n\
         runtime: containerd\n\
         network: {{ plugin: none }}\n\
         election: {{ mode: native }}\n"
    )
}

/// `v1.34.1` of `Kubernetes v1.34.1`.
fn kubernetes_version() -> Option<String> {
    let apiserver = programs::find(&programs::search_dirs(), "kube-apiserver")?;
    let version = programs::version_of(&apiserver)?;
    version.split_whitespace().find(|word| word.starts_with("v1.")).map(str::to_owned)
}
