//! Taking back exactly what hamaster owns, and naming what stays.

use std::path::{Path, PathBuf};

use crate::plan::{Action, Run};
use crate::state::observed::{Observed, PathKind};

/// What `reset` does and what it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Steps in order: units down, files away, directories, the record last.
    pub steps: Vec<Action>,
    /// What stays and why, one line each.
    pub stays: Vec<String>,
}

/// Where things are that a reset must know beside the record.
#[derive(Debug, Clone)]
pub struct ResetScope {
    /// etcd's data directory.
    pub data_dir: PathBuf,
    /// Our state directory, removed last.
    pub state: PathBuf,
    /// The ownership record.
    pub record: PathBuf,
    /// The backups.
    pub backup: PathBuf,
    /// Delete data, keys and backups instead of keeping them.
    pub purge: bool,
    /// `20261122-170301`: names what is moved aside.
    pub time: String,
}

/// Plans a reset from what the record says and the host holds.
///
/// A file edited since we wrote it stays. Keys that cannot be made again (CA, service account, encryption) and etcd's
/// data are moved aside unless `purge` is set: a cluster can be revived from them.
pub fn plan(observed: &Observed, scope: &ResetScope) -> Reset {
    let mut steps = vec![];
    let mut stays = vec![];
    let record = &observed.record;
    for unit in record.units.keys().rev() {
        let fact = observed.units.get(unit).cloned().unwrap_or_default();
        if fact.active || fact.enabled || fact.failed {
            let run = if fact.active || fact.failed { Run::Stop } else { Run::Leave };
            let enable = fact.enabled.then_some(false);
            steps.push(Action::SetUnit { unit: unit.clone(), enable, run, stamp: None, ready: None });
        }
    }
    let kept = scope.state.with_file_name(format!("hamaster-kept-{}", scope.time));
    if observed.at(&scope.data_dir).is_some() && record.units.contains_key("etcd.service") {
        let to = (!scope.purge).then(|| kept.join("etcd"));
        if let Some(to) = &to {
            stays.push(format!("{}: etcd's data; remove it with: rm -r {}", to.display(), kept.display()));
        }
        steps.push(Action::RetireData { path: scope.data_dir.clone(), to });
    }
    let mut units_changed = false;
    for (path, entry) in &record.files {
        let Some(fact) = observed.at(path) else { continue };
        let original = entry.original.as_ref().map(|copy| observed.at(copy));
        match original {
            // Put back by a reset that was killed later; its last steps are what is left.
            Some(None) => continue,
            Some(Some(copy)) if copy.digest == fact.digest => {
                steps.push(Action::RemoveFile { path: path.clone(), restore: entry.original.clone() });
                continue;
            }
            _ => {}
        }
        let edited = entry.digest.is_some() && fact.digest != entry.digest;
        if edited || fact.kind != PathKind::File {
            stays.push(format!("{}: changed since hamaster wrote it", path.display()));
            continue;
        }
        if entry.digest.is_none() && !scope.purge && cannot_be_made_again(path) {
            steps.push(Action::RetireData { path: path.clone(), to: Some(kept.join(file_name(path))) });
            stays.push(format!("{}: cannot be made again", kept.join(file_name(path)).display()));
            continue;
        }
        units_changed |= path.components().any(|c| c.as_os_str() == "systemd");
        steps.push(Action::RemoveFile { path: path.clone(), restore: entry.original.clone() });
    }
    if units_changed {
        steps.push(Action::ReloadUnits);
    }
    if observed.at(&scope.backup).is_some() {
        if scope.purge || record.files.values().all(|f| f.original.is_none()) && stays.is_empty() {
            steps.push(Action::RetireData { path: scope.backup.clone(), to: None });
        } else {
            stays.push(format!("{}: backups of what hamaster replaced", scope.backup.display()));
        }
    }
    // The record goes after everything it names; only the directory it is in, and what that is in, can go later.
    let mut dirs: Vec<&PathBuf> = record.dirs.iter().chain([&scope.backup, &scope.state]).collect();
    dirs.sort_by_key(|d| (std::cmp::Reverse(d.components().count()), *d));
    dirs.dedup();
    dirs.retain(|d| observed.at(d).is_some());
    let (last, first): (Vec<_>, Vec<_>) = dirs.into_iter().partition(|d| scope.record.starts_with(d));
    let remove = |path: &PathBuf| Action::RemoveDir { path: path.clone() };
    steps.extend(first.into_iter().map(remove));
    if observed.at(&scope.record).is_some() {
        steps.push(Action::RemoveFile { path: scope.record.clone(), restore: None });
    }
    steps.extend(last.into_iter().map(remove));
    Reset { steps, stays }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Keys whose loss makes a backup of etcd useless. etcd's own CA is not one: its members' certificates can all be new.
fn cannot_be_made_again(path: &Path) -> bool {
    let in_bundle = path.parent().is_some_and(|d| d.ends_with("kubernetes/pki"));
    in_bundle
        && matches!(file_name(path).as_str(), "ca.crt" | "ca.key" | "sa.key" | "sa.pub" | "encryption-config.yaml")
}
