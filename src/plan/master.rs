//! What is left to do to make this host the master the spec asks for.

mod bundle;
mod external_ca;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::plan::{Action, Conflict, Phase, Run};
use crate::state::desired::{Desired, DesiredUnit, INPUTS_DIGEST, ManagedFile};
use crate::state::observed::{ContentFact, FileRecord, Observed, PathFact, PathKind};
use crate::state::{Digest, Owner, PhaseId};

/// What the operator allows and what the clock says.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Take over files that exist, differ and are not ours (backed up first).
    pub adopt: bool,
    /// A service manager runs here; false below `--root`, where units are enabled but nothing is started.
    pub starts_units: bool,
    /// Now.
    pub now: OffsetDateTime,
}

/// Plans one phase.
///
/// # Errors
/// Every [`Conflict`] in the phase: something exists that is not ours.
pub fn plan(id: PhaseId, desired: &Desired, observed: &Observed, policy: Policy) -> Result<Phase, Vec<Conflict>> {
    let mut p = Planner {
        id,
        desired,
        observed,
        policy,
        dirs: BTreeMap::new(),
        steps: vec![],
        awaits: vec![],
        conflicts: vec![],
    };
    p.certificates();
    p.secrets();
    p.files();
    p.keys();
    p.units();
    p.bindings();
    let mut steps = p.directories();
    steps.append(&mut p.steps);
    if p.conflicts.is_empty() { Ok(Phase { id, steps, awaits: p.awaits }) } else { Err(p.conflicts) }
}

/// Plans the seal of a member that is healthy for the first time. `sealed` is the desired state of a sealed member.
pub fn seal(sealed: &Desired, observed: &Observed, unit: &str) -> Option<Phase> {
    let wanted = sealed.units.iter().find(|u| u.name == unit)?;
    let running = observed.units.get(unit).is_some_and(|f| f.active);
    (wanted.run && running && observed.record.etcd.is_none()).then(|| Phase {
        id: PhaseId::Etcd,
        steps: vec![Action::SealMember {
            unit: unit.to_owned(),
            stamp: inputs_digest(&wanted.inputs, sealed, observed),
        }],
        awaits: vec![],
    })
}

/// Every path a plan of `desired` must have been observed at: what it writes, what that depends on, and all parents.
pub fn paths_of_interest(desired: &Desired) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = vec![];
    all.extend(desired.dirs.iter().map(|d| d.path.clone()));
    all.extend(desired.cas.iter().flat_map(|c| [c.cert.clone(), c.key.clone()]));
    for cert in &desired.certs {
        all.extend(cert.placement.paths().into_iter().map(Path::to_path_buf));
        if let Some(dir) = external_ca::request_dir(desired) {
            all.extend(["key", "csr", "crt"].map(|ext| dir.join(format!("{}.{ext}", cert.id))));
        }
    }
    all.extend(desired.secrets.iter().flat_map(|s| s.paths().into_iter().map(Path::to_path_buf)));
    all.extend(desired.files.iter().flat_map(|f| f.inputs.iter().chain([&f.path])).cloned());
    all.extend(desired.units.iter().flat_map(|u| u.inputs.clone()));
    let parents: Vec<PathBuf> = all.iter().flat_map(|p| p.ancestors().skip(1)).map(Path::to_path_buf).collect();
    all.extend(parents);
    all.retain(|p| p.parent().is_some());
    all.sort();
    all.dedup();
    all
}

/// The digest of what a unit or a static pod reads: rendered files as they will be, everything else as it is.
pub fn inputs_digest(inputs: &[PathBuf], desired: &Desired, observed: &Observed) -> Digest {
    let mut all = String::new();
    for path in inputs {
        let digest = match desired.files.iter().find(|f| f.path == *path) {
            Some(file) => Some(Digest::of(&file.bytes)),
            None => observed.digest(path),
        };
        all.push_str(&format!("{}={}\n", path.display(), digest.map_or("absent".to_owned(), |d| d.to_string())));
    }
    Digest::of(all.as_bytes())
}

/// The final bytes of a rendered file: the placeholder replaced by the digest of its inputs.
pub fn final_bytes(file: &ManagedFile, desired: &Desired, observed: &Observed) -> Vec<u8> {
    match std::str::from_utf8(&file.bytes) {
        Ok(text) if !file.inputs.is_empty() => {
            text.replace(INPUTS_DIGEST, &inputs_digest(&file.inputs, desired, observed).to_string()).into_bytes()
        }
        _ => file.bytes.clone(),
    }
}

struct Planner<'a> {
    id: PhaseId,
    desired: &'a Desired,
    observed: &'a Observed,
    policy: Policy,
    /// Directories the steps need: path → mode, owner, scratch.
    dirs: BTreeMap<PathBuf, (u32, Owner, bool)>,
    steps: Vec<Action>,
    awaits: Vec<Conflict>,
    conflicts: Vec<Conflict>,
}

impl Planner<'_> {
    fn conflict(&mut self, path: &Path, message: impl Into<String>, hint: impl Into<String>) {
        self.conflicts.push(Conflict { path: path.to_owned(), message: message.into(), hint: hint.into() });
    }

    fn ours(&self, path: &Path) -> bool {
        self.observed.record.files.contains_key(path)
    }

    fn recorded(&self, path: &Path) -> Option<&FileRecord> {
        self.observed.record.files.get(path)
    }

    /// A parent that is missing is made, 0755 root.
    fn parents_of(&mut self, path: &Path) {
        for parent in path.ancestors().skip(1).filter(|p| p.parent().is_some()) {
            if self.observed.at(parent).is_none() {
                self.dirs.entry(parent.to_owned()).or_insert((0o755, Owner::Root, false));
            }
        }
    }

    fn directories(&mut self) -> Vec<Action> {
        let (id, desired) = (self.id, self.desired);
        for dir in desired.dirs.iter().filter(|d| d.phase == id) {
            self.parents_of(&dir.path);
            let ours = self.observed.record.dirs.contains(&dir.path);
            // A directory that was there before keeps its mode, unless what we put there demands a private one.
            let strict = ours || dir.scratch || dir.mode == 0o700;
            let wrong = match self.observed.at(&dir.path) {
                // Before the first start always, so that an undo of it knows that everything in there is new.
                Some(fact) if fact.kind == PathKind::Dir => {
                    strict && !self.right(fact, dir.mode, dir.owner) || dir.scratch && self.first_start()
                }
                _ => true,
            };
            if wrong || self.dirs.contains_key(&dir.path) {
                self.dirs.insert(dir.path.clone(), (dir.mode, dir.owner, dir.scratch));
            }
        }
        self.moved_data();
        let dirs = std::mem::take(&mut self.dirs);
        let mut steps = vec![];
        for (path, (mode, owner, scratch)) in dirs {
            match self.observed.at(&path) {
                Some(fact) if fact.kind != PathKind::Dir => self.conflict(
                    &path,
                    "is in the way: a directory is needed here",
                    format!("mv {0} {0}.old", path.display()),
                ),
                _ => steps.push(Action::EnsureDir { path, mode, owner, scratch }),
            }
        }
        steps
    }

    /// A member that has data never starts on another directory: it would be a stranger to its own cluster.
    fn moved_data(&mut self) {
        let wanted = self.desired.dirs.iter().find(|d| d.scratch && d.phase == self.id).map(|d| &d.path);
        let (Some(wanted), Some(known)) = (wanted, &self.observed.record.data_dir) else { return };
        if self.observed.record.etcd.is_some() && wanted != known {
            let hint = format!("etcd.dataDir: {} in cluster.yaml", known.display());
            let message = format!("etcd's data is in {}; it cannot be moved by changing etcd.dataDir", known.display());
            self.conflict(&wanted.clone(), message, hint);
        }
    }

    fn right(&self, fact: &PathFact, mode: u32, owner: Owner) -> bool {
        let (uid, gid) = match owner {
            Owner::Root => self.observed.owners.root,
            Owner::Etcd => self.observed.owners.etcd,
        };
        fact.mode == mode && fact.uid == uid && fact.gid == gid
    }

    /// The member is about to be started for the first time.
    fn first_start(&self) -> bool {
        let starts = |u: &&DesiredUnit| u.phase == PhaseId::Etcd && u.run;
        let unit = self.desired.units.iter().find(starts).and_then(|u| self.observed.units.get(&u.name));
        let down = unit.is_some_and(|fact| !fact.active);
        self.policy.starts_units && self.observed.record.etcd.is_none() && down
    }

    fn content(&self, path: &Path) -> Option<&ContentFact> {
        self.observed.at(path).map(|f| &f.content)
    }

    fn files(&mut self) {
        let (id, desired) = (self.id, self.desired);
        for file in desired.files.iter().filter(|f| f.phase == id) {
            self.parents_of(&file.path);
            let bytes = final_bytes(file, desired, self.observed);
            let (path, mode, owner) = (file.path.clone(), file.mode, file.owner);
            let Some(fact) = self.observed.at(&path) else {
                self.steps.push(Action::WriteFile { path, mode, owner, bytes, before: None, backup: false });
                continue;
            };
            if fact.kind != PathKind::File {
                self.conflict(&path, "is in the way: not a regular file", format!("mv {0} {0}.old", path.display()));
            } else if fact.digest == Some(Digest::of(&bytes)) {
                if self.recorded(&path).is_some_and(|known| known.digest != fact.digest) {
                    // Killed between the file and the record: without its digest a later edit could not be told.
                    let before = Some(bytes.clone());
                    self.steps.push(Action::WriteFile { path, mode, owner, bytes, before, backup: false });
                } else if !self.right(fact, mode, owner) && (self.ours(&path) || self.policy.adopt) {
                    self.steps.push(Action::SetMode { path, mode, owner });
                }
            } else if self.ours(&path) || self.policy.adopt {
                let written = |known: &FileRecord| fact.digest.is_some_and(|found| known.wrote(found));
                let backup = !self.recorded(&path).is_some_and(written);
                let before = match &fact.content {
                    ContentFact::Public(b) => Some(b.clone()),
                    _ => Some(vec![]),
                };
                self.steps.push(Action::WriteFile { path, mode, owner, bytes, before, backup });
            } else {
                let hint = format!("mv {0} {0}.old, or run again with --adopt (it is backed up first)", path.display());
                self.conflict(&path, "exists, differs from what is wanted, and is not ours", hint);
            }
        }
    }

    fn keys(&mut self) {
        if !self.policy.starts_units {
            return;
        }
        for key in self.desired.keys.iter().filter(|k| k.phase == self.id) {
            let found = self.observed.store.as_ref().and_then(|s| s.get(&key.key));
            if key.spec && found != Some(&key.value) {
                let yaml = String::from_utf8_lossy(&key.value).into_owned();
                self.steps.push(Action::PutSpec { yaml });
            } else if !key.spec && found.is_none() {
                self.steps.push(Action::PutIfAbsent { key: key.key.clone(), value: key.value.clone() });
            }
        }
    }

    fn units(&mut self) {
        let mut steps = vec![];
        let mut reload = self.steps.iter().any(
            |s| matches!(s, Action::WriteFile { path, .. } if path.components().any(|c| c.as_os_str() == "systemd")),
        );
        for unit in self.desired.units.iter().filter(|u| u.phase == self.id) {
            let fact = self.observed.units.get(&unit.name).cloned().unwrap_or_default();
            reload |= fact.needs_reload;
            let stamp = inputs_digest(&unit.inputs, self.desired, self.observed);
            let known = self.observed.record.units.get(&unit.name).and_then(|s| s.inputs);
            let run = match (unit.run && self.policy.starts_units, fact.active) {
                (false, _) => Run::Leave,
                (true, false) => Run::Start,
                (true, true) if known != Some(stamp) => Run::Restart,
                (true, true) => Run::Leave,
            };
            let enable = (unit.enable && !fact.enabled).then_some(true);
            if enable.is_some() || run != Run::Leave {
                let (ready, stamp) = match run {
                    Run::Leave => (None, None),
                    _ => (unit.ready.clone(), Some(stamp)),
                };
                steps.push(Action::SetUnit { unit: unit.name.clone(), enable, run, stamp, ready });
            }
        }
        if reload && self.policy.starts_units {
            self.steps.push(Action::ReloadUnits);
        }
        self.steps.append(&mut steps);
    }

    fn bindings(&mut self) {
        let Some(path) = &self.desired.bindings else { return };
        let Some(file) = self.desired.files.iter().find(|f| f.path == *path) else { return };
        let wanted = Digest::of(&file.bytes);
        if self.id == PhaseId::Register && self.policy.starts_units && self.observed.record.bindings != Some(wanted) {
            self.steps.push(Action::ApplyBindings);
        }
    }
}
