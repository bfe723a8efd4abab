//! Taking back exactly what hamaster owns, and naming what stays.

use std::path::{Path, PathBuf};

use crate::plan::{Action, Run};
use crate::state::observed::{FileRecord, Observed, PathFact, PathKind, Record, Stamp};

/// Stops what it runs only while it runs itself.
const KUBELET: &str = "kubelet.service";
/// Would put an elected manifest back. Stopped, it removes what it led and says so in etcd.
const ELECT: &str = "hamaster-elect.service";

/// What `reset` does and what it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Steps in order: static pods down while there is a kubelet to do it, units down, files away, directories, the record last.
    pub steps: Vec<Action>,
    /// What stays and why, one line each.
    pub stays: Vec<String>,
}

impl Reset {
    /// The steps before `unit` stops, and those from there on: all of them, where it goes on running.
    pub fn until_stop_of(&self, unit: &str) -> (&[Action], &[Action]) {
        let stops = |a: &Action| matches!(a, Action::SetUnit { unit: u, run, .. } if u == unit && *run != Run::Restart);
        self.steps.split_at(self.steps.iter().position(stops).unwrap_or(0))
    }
}

/// Where things are that a reset must know beside the record.
#[derive(Debug, Clone)]
pub struct ResetScope {
    /// Where the kubelet finds static pods.
    pub manifests: PathBuf,
    /// Where those wait that only the elected master runs.
    pub standby: PathBuf,
    /// Where etcd's data is moved: on the filesystem it is on.
    pub kept_data: PathBuf,
    /// Where keys that cannot be made again are moved.
    pub kept: PathBuf,
    /// Our state directory, removed last.
    pub state: PathBuf,
    /// The ownership record.
    pub record: PathBuf,
    /// The backups.
    pub backup: PathBuf,
    /// Snapshots that were taken here: no run of ours has them in the record. None where they are on a filesystem of
    /// their own, which may be others' too.
    pub snapshots: Option<PathBuf>,
    /// The key they were sealed with.
    pub snapshot_key: PathBuf,
    /// Delete data, keys and backups instead of keeping them.
    pub purge: bool,
    /// Units run here: it is no image.
    pub runs: bool,
}

/// Plans a reset from what the record says and the host holds.
///
/// A file edited since we wrote it stays. Keys that cannot be made again (CA, service account, encryption), tokens and
/// etcd's data are moved aside unless `purge` is set: a cluster can be revived from them. A unit that ran before hamaster
/// came is not stopped but restarted without what was ours.
pub fn plan(observed: &Observed, scope: &ResetScope) -> Reset {
    let mut steps = vec![];
    let mut stays = vec![];
    let record = &observed.record;
    let (pods, files): (Vec<_>, Vec<_>) =
        record.files.iter().partition(|(path, e)| path.parent() == Some(&*scope.manifests) && e.original.is_none());
    let stop_unit = |unit: &String, stamp: &Stamp| {
        let fact = observed.units.get(unit).cloned().unwrap_or_default();
        // One that is neither active nor failed may be about to start: an etcd that waits for its quorum lives, too.
        let run = if scope.runs && !stamp.was_active { Run::Stop } else { Run::Leave };
        let enable = (fact.enabled && !stamp.was_enabled).then_some(false);
        let unit = unit.clone();
        (enable.is_some() || run != Run::Leave).then_some(Action::SetUnit {
            unit,
            enable,
            run,
            stamp: None,
            ready: None,
        })
    };
    steps.extend(record.units.get_key_value(ELECT).and_then(|(unit, stamp)| stop_unit(unit, stamp)));
    let mut programs = vec![];
    for (path, entry) in pods {
        match observed.at(path) {
            Some(fact) if edited(entry, fact) => {
                stays.push(format!("{}: changed since hamaster wrote it", path.display()));
                continue;
            }
            Some(_) => steps.push(Action::RemoveFile { path: path.clone(), restore: None }),
            // Removed by a reset that did not get further.
            None => {}
        }
        programs.extend(path.file_stem().map(|n| n.to_string_lossy().into_owned()));
    }
    // A kubelet that is stopped leaves its containers running.
    if !programs.is_empty() && record.units.contains_key(KUBELET) {
        steps.push(Action::AwaitPods { programs });
    }
    // A daemon that is dead left its copies: what is still the same as on standby is ours.
    let (elected, edited_copies): (Vec<_>, Vec<_>) = elected(observed, scope).partition(|(_, ours)| *ours);
    stays.extend(edited_copies.iter().map(|(path, _)| format!("{}: changed since it was elected", path.display())));
    let elected: Vec<PathBuf> = elected.into_iter().map(|(path, _)| path).collect();
    if !elected.is_empty() {
        let programs = elected.iter().filter_map(|p| p.file_stem()).map(|n| n.to_string_lossy().into_owned()).collect();
        steps.extend(elected.into_iter().map(|path| Action::RemoveFile { path, restore: None }));
        if record.units.contains_key(KUBELET) {
            steps.push(Action::AwaitPods { programs });
        }
    }
    let unelected = record.units.iter().rev().filter(|(unit, _)| *unit != ELECT);
    steps.extend(unelected.filter_map(|(unit, stamp)| stop_unit(unit, stamp)));
    let kept = &scope.kept;
    if let Some(data_dir) = record.data_dir.as_ref().filter(|dir| observed.at(dir).is_some()) {
        let to = (!scope.purge).then(|| scope.kept_data.clone());
        if let Some(to) = &to {
            stays.push(format!("{0}: etcd's data; remove it with: rm -r {0}", to.display()));
        }
        steps.push(Action::RetireData { path: data_dir.clone(), to });
    }
    let mut units_changed = false;
    for (path, entry) in files {
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
        if edited(entry, fact) {
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
    for (unit, _) in record.units.iter().filter(|(_, stamp)| stamp.was_active) {
        let unit = unit.clone();
        steps.push(Action::SetUnit { unit, enable: None, run: Run::Restart, stamp: None, ready: None });
    }
    // Snapshots that are elsewhere are nobody's without the key: it goes with those that go, and is kept otherwise.
    let go = scope.purge && scope.snapshots.as_ref().is_some_and(|dir| observed.at(dir).is_some());
    for path in scope.snapshots.iter().chain([&scope.snapshot_key]).filter(|path| observed.at(path).is_some()) {
        let to = (!go).then(|| kept.join(file_name(path)));
        stays.extend(to.iter().map(|to| format!("{}: opens, or is, a snapshot of etcd's data", to.display())));
        steps.push(Action::RetireData { path: path.clone(), to });
    }
    if observed.at(&scope.backup).is_some() {
        if scope.purge || record.files.values().all(|f| f.original.is_none()) && stays.is_empty() {
            steps.push(Action::RetireData { path: scope.backup.clone(), to: None });
        } else {
            stays.push(format!("{}: backups of what hamaster replaced", scope.backup.display()));
        }
    }
    // The record goes after everything it names; only the directory it is in, and what that is in, can go later.
    let mut dirs: Vec<&PathBuf> =
        record.dirs.iter().chain(&scope.snapshots).chain([&scope.backup, &scope.state]).collect();
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

/// Where the elected master has a copy of what others keep on standby.
pub fn copies(record: &Record, manifests: &Path, standby: &Path) -> Vec<PathBuf> {
    let waiting = record.files.keys().filter(|path| path.parent() == Some(standby));
    let copies = waiting.filter_map(|path| Some(manifests.join(path.file_name()?)));
    copies.filter(|copy| !record.files.contains_key(copy)).collect()
}

/// The copies that are there, and whether each is what waits on standby.
fn elected(observed: &Observed, scope: &ResetScope) -> impl Iterator<Item = (PathBuf, bool)> {
    copies(&observed.record, &scope.manifests, &scope.standby).into_iter().filter_map(|copy| {
        let fact = observed.at(&copy)?;
        let source = observed.at(&scope.standby.join(copy.file_name()?));
        let same = source.is_some_and(|s| s.digest.is_some() && s.digest == fact.digest);
        Some((copy, same))
    })
}

/// It is not what we wrote, so it is not ours to remove.
fn edited(entry: &FileRecord, fact: &PathFact) -> bool {
    entry.digest.is_some() && !fact.digest.is_some_and(|found| entry.wrote(found)) || fact.kind != PathKind::File
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Keys whose loss makes a backup of etcd useless, and the lists an operator may have added users to. etcd's own CA is
/// not one: its members' certificates can all be new.
fn cannot_be_made_again(path: &Path) -> bool {
    const KEPT: [&str; 7] =
        ["ca.crt", "ca.key", "sa.key", "sa.pub", "encryption-config.yaml", "known_tokens.csv", "basic_auth.csv"];
    path.parent().is_some_and(|d| d.ends_with("kubernetes/pki")) && KEPT.contains(&file_name(path).as_str())
}
