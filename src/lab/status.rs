//! What a lab looks like now, and how to talk to it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::host::processes::Supervised;
use crate::host::supervisor::home::Home;
use crate::host::supervisor::loopback;
use crate::host::supervisor::socket::Report;

/// One look at a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its directory.
    pub dir: PathBuf,
    /// Its master's address.
    pub address: IpAddr,
    /// What its supervisor runs; `None` when the lab is down.
    pub supervisor: Option<Report>,
    /// etcd says it is healthy.
    pub etcd_healthy: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_problem: Option<String>,
    /// For kubectl, as administrator.
    pub kubeconfig: PathBuf,
    /// Commands to copy: etcdctl and kubectl on this lab.
    pub commands: Vec<String>,
}

/// The status of the lab at `dir`.
///
/// # Errors
/// When there is no lab, or its supervisor does not answer.
pub fn status(dir: &Path) -> Result<Status> {
    match Home::find(dir)? {
        Some(home) => of(&home),
        None => Err(Error::conflict(format!("there is no lab at {}", dir.display())).hint("hamaster lab up")),
    }
}

pub(super) fn of(home: &Home) -> Result<Status> {
    let address = home.address()?;
    let supervisor = Supervised::of(home).report()?;
    let etcd = loopback::etcd_health(address);
    let kubeconfig = home.layout().kubeconfig("admin");
    Ok(Status {
        dir: home.dir().to_owned(),
        address,
        supervisor,
        etcd_healthy: etcd.is_ok(),
        etcd_problem: etcd.err(),
        commands: commands(home, address, &kubeconfig),
        kubeconfig,
    })
}

fn commands(home: &Home, address: IpAddr, kubeconfig: &Path) -> Vec<String> {
    let pki = home.layout().pki();
    let [ca, cert, key] = [
        home.layout().etcd_pki().join("ca.crt"),
        pki.join("apiserver-etcd-client.crt"),
        pki.join("apiserver-etcd-client.key"),
    ]
    .map(|path| shell_word(&path));
    vec![
        format!(
            "ETCDCTL_API=3 etcdctl --endpoints https://{address}:2379 --cacert {ca} --cert {cert} --key {key} \
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
