//! What a lab looks like now, and how to talk to it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::admit;
use super::leaders::{Leadership, leaders};
use super::up::this_node;
use crate::error::{Error, Result};
use crate::host::processes::Supervised;
use crate::host::supervisor::home::Home;
use crate::host::supervisor::loopback;
use crate::host::supervisor::socket::Report;
use crate::host::{Host, NoUnits};

/// One look at a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its directory.
    pub dir: PathBuf,
    /// Its masters, the first one first.
    pub masters: Vec<MasterStatus>,
    /// Its workers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerStatus>,
    /// Who leads each group of its election.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaders: Vec<Leadership>,
    /// For kubectl, as administrator.
    pub kubeconfig: PathBuf,
    /// Commands to copy: etcdctl and kubectl on this lab.
    pub commands: Vec<String>,
}

/// One look at a master of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MasterStatus {
    /// `m1`
    pub name: String,
    /// Where the others reach it.
    pub address: IpAddr,
    /// What its supervisor runs; `None` when the master is down.
    pub supervisor: Option<Report>,
    /// It is cut off from the others.
    pub partitioned: bool,
    /// Its etcd says it is healthy.
    pub etcd_healthy: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_problem: Option<String>,
}

/// One look at a worker of a lab, of which there is nothing but files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// `w1`
    pub name: String,
    /// What it told the others.
    pub address: IpAddr,
    /// With it a kubelet would be this worker's.
    pub kubeconfig: PathBuf,
    /// It has joined.
    pub joined: bool,
}

impl Status {
    /// Every member of etcd says it is healthy.
    pub fn is_healthy(&self) -> bool {
        self.masters.iter().all(|m| m.etcd_healthy)
    }
}

/// The status of the lab at `dir`.
///
/// # Errors
/// When there is no lab, or a supervisor does not answer.
pub fn status(dir: &Path) -> Result<Status> {
    of(&find(dir)?)
}

/// The first master of the lab at `dir`, which must be there.
pub(super) fn find(dir: &Path) -> Result<Home> {
    let absent = || Error::conflict(format!("there is no lab at {}", dir.display())).hint("hamaster lab up");
    Home::find(dir)?.ok_or_else(absent)
}

pub(super) fn of(home: &Home) -> Result<Status> {
    let homes = home.masters()?;
    let masters = homes.iter().map(master).collect::<Result<Vec<_>>>()?;
    // Those of a master that can answer.
    let n = masters.iter().position(|m| m.etcd_healthy).unwrap_or_default();
    let kubeconfig = homes[n].layout().kubeconfig("admin");
    let commands = commands(&homes[n], &masters, &kubeconfig);
    let leaders = leaders(home.dir())?;
    let workers = home.workers()?.iter().map(worker).collect::<Result<_>>()?;
    Ok(Status { dir: home.dir().to_owned(), masters, workers, leaders, commands, kubeconfig })
}

fn master(home: &Home) -> Result<MasterStatus> {
    let supervisor = Supervised::of(home).report()?;
    let etcd = loopback::etcd_health(home.loopback()?);
    let node = home.node()?;
    Ok(MasterStatus {
        name: node.name,
        address: node.ip,
        supervisor,
        partitioned: home.is_partitioned(),
        etcd_healthy: etcd.is_ok(),
        etcd_problem: etcd.err(),
    })
}

fn worker(home: &Home) -> Result<WorkerStatus> {
    let this = this_node(home)?;
    let joined = admit::is_worker(&Host::new("/", Box::new(NoUnits))?, &this)?;
    let kubeconfig = this.layout.kubeconfig("kubelet");
    Ok(WorkerStatus { name: this.node.name, address: this.node.ip, kubeconfig, joined })
}

fn commands(home: &Home, masters: &[MasterStatus], kubeconfig: &Path) -> Vec<String> {
    let pki = home.layout().pki();
    let [ca, cert, key] = [
        home.layout().etcd_pki().join("ca.crt"),
        pki.join("apiserver-etcd-client.crt"),
        pki.join("apiserver-etcd-client.key"),
    ]
    .map(|path| shell_word(&path));
    let endpoints: Vec<String> = masters.iter().map(|m| format!("https://{}:2379", m.address)).collect();
    let endpoints = endpoints.join(",");
    vec![
        format!(
            "ETCDCTL_API=3 etcdctl --endpoints {endpoints} --cacert {ca} --cert {cert} --key {key} \
             get --prefix --keys-only /"
        ),
        format!("kubectl --kubeconfig {} get --raw /readyz", shell_word(kubeconfig)),
    ]
}

/// A path as one word of a shell's command line.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c)) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
