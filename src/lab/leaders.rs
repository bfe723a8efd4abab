//! Who leads in a lab, as the candidates themselves say.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::status::find;
use crate::elect::instant::Instant;
use crate::elect::status::Status;
use crate::error::Result;
use crate::host::clock::boottime;
use crate::host::processes::Supervised;
use crate::host::supervisor::home::Home;
use crate::host::{Host, NoUnits, identity};

/// A group of a lab's election, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leadership {
    /// `scheduler`
    pub group: String,
    /// Who leads; `None` while nobody may.
    pub leader: Option<String>,
    /// Its fencing token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Why it became leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// How long the last handover took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handover_ms: Option<u64>,
    /// Masters that run and whose manifests have what is elected. More than one for the moment of a machine that is
    /// frozen as a whole; never otherwise.
    pub manifests: Vec<String>,
    /// Since when, on the boot-time clock.
    #[serde(skip)]
    pub since: Option<Instant>,
}

/// Every group of the lab at `dir` that a candidate has ever spoken of.
///
/// # Errors
/// When there is no lab, or a file of it cannot be read.
pub fn leaders(dir: &Path) -> Result<Vec<Leadership>> {
    let homes = find(dir)?.masters()?;
    let host = Host::new("/", Box::new(NoUnits))?;
    let boot = identity::boot_id()?;
    let mut groups: BTreeMap<String, Leadership> = BTreeMap::new();
    for home in &homes {
        let runs = Supervised::of(home).report()?.is_some();
        for status in statuses(&host, home)? {
            let group = groups.entry(status.group.clone()).or_insert_with(|| nobody(&status.group));
            // What a killed one said last would count until its deadline.
            if runs && !status.left(&boot, boottime()).is_zero() {
                leads(group, &status);
            }
            let manifest = home.layout().manifests().join(format!("kube-{}.yaml", status.group));
            if runs && host.stat(&manifest)?.is_some() {
                group.manifests.push(home.name());
            }
        }
    }
    Ok(groups.into_values().collect())
}

fn statuses(host: &Host, home: &Home) -> Result<Vec<Status>> {
    let dir = home.layout().path("/run/hamaster/elect");
    let names = host.list(&dir)?.unwrap_or_default();
    let files = names.iter().map(|name| dir.join(name)).filter(|path| path.extension().is_some_and(|e| e == "json"));
    let mut all = vec![];
    for path in files.filter(|path| !path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."))) {
        all.extend(host.read(&path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()));
    }
    Ok(all)
}

fn nobody(group: &str) -> Leadership {
    Leadership {
        group: group.to_owned(),
        leader: None,
        token: None,
        cause: None,
        handover_ms: None,
        manifests: vec![],
        since: None,
    }
}

fn leads(group: &mut Leadership, status: &Status) {
    group.leader = Some(status.id.clone());
    group.token = status.token.map(|t| t.to_string());
    group.cause = status.last.as_ref().map(|t| t.cause.clone());
    group.handover_ms = status.last.as_ref().and_then(|t| t.took_ms);
    group.since = Some(Instant::from_nanos(status.since_ns));
}

/// Whether the master `name` of the lab at `dir` runs nothing of the pod `pod`: what its election asks before it lets
/// another master have it.
///
/// # Errors
/// When there is no such master, or its supervisor does not answer.
pub fn is_gone(dir: &Path, name: &str, pod: &str) -> Result<bool> {
    let report = Supervised::of(&find(dir)?.master(name)?).report()?;
    // Nothing outlives a supervisor.
    Ok(report.is_none_or(|r| r.pods.iter().all(|p| p.name != pod)))
}
