//! The ownership record on disk: named before a file is written, so that a kill in between still leaves it ours.

use std::path::{Path, PathBuf};

use crate::apply::ETCD_UNIT;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::plan::Action;
use crate::spec::layout::Layout;
use crate::state::observed::{FileRecord, Record, SealedMember, Stamp};
use crate::state::{Digest, Owner};

/// Format of the record.
const SCHEMA: &str = "hamaster/v1/record";

/// The record and where it is kept.
pub struct Ledger {
    path: PathBuf,
    dir: PathBuf,
    /// The record as it is on disk.
    pub record: Record,
}

impl Ledger {
    /// The ledger of the host with `layout`, which holds `record` now.
    pub fn new(layout: &Layout, record: Record) -> Self {
        Self { path: layout.record(), dir: layout.state(), record: Record { schema: SCHEMA.into(), ..record } }
    }

    /// Names everything `steps` will make, before they do, and what public files will say. What is there and not ours is
    /// backed up first, and `reset` will put it back.
    ///
    /// # Errors
    /// When a backup or the record cannot be written.
    pub fn claim(
        &mut self,
        host: &mut Host,
        node: &str,
        steps: &[Action],
        backup: &Path,
        data_dir: &Path,
    ) -> Result<()> {
        let before = self.record.clone();
        self.record.node = Some(node.to_owned());
        let absent = |host: &Host, dir: &Path| matches!(host.stat(dir), Ok(None));
        // The state directory is ours even if it is there: a run may have been killed before the record was in it.
        let ours = |d: &&Path| d.parent().is_some() && (*d == self.dir || absent(host, d));
        let mut dirs: Vec<PathBuf> = self.dir.ancestors().filter(ours).map(Path::to_path_buf).collect();
        for step in steps {
            for path in step.writes() {
                if !self.record.files.contains_key(path) {
                    let original = host.backup(path, backup)?;
                    self.record.files.insert(path.to_owned(), FileRecord { original, ..FileRecord::default() });
                }
            }
            match step {
                Action::WriteFile { path, bytes, .. } => {
                    let (entry, next) = (self.record.files.entry(path.clone()).or_default(), Digest::of(bytes));
                    entry.pending = (entry.digest != Some(next)).then_some(next);
                }
                Action::EnsureDir { path, .. } if absent(host, path) => dirs.push(path.clone()),
                Action::SetUnit { unit, .. } if !self.record.units.contains_key(unit) => {
                    let fact = host.units().state(unit)?;
                    let found = Stamp { inputs: None, was_active: fact.active, was_enabled: fact.enabled };
                    self.record.units.insert(unit.clone(), found);
                }
                _ => {}
            }
        }
        let starts_etcd = |s: &Action| matches!(s, Action::SetUnit { unit, .. } if unit == ETCD_UNIT);
        if self.record.data_dir.is_none() && steps.iter().any(starts_etcd) && host.is_vacant(data_dir)? {
            self.record.data_dir = Some(data_dir.to_owned());
        }
        dirs.retain(|d| !self.record.dirs.contains(d));
        self.record.dirs.extend(dirs);
        self.record.dirs.sort();
        self.record.dirs.dedup();
        if self.record == before { Ok(()) } else { self.save(host) }
    }

    /// Notes the bytes just written to a public file.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn wrote(&mut self, host: &mut Host, path: &Path, digest: Digest) -> Result<()> {
        let entry = self.record.files.entry(path.to_owned()).or_default();
        (entry.digest, entry.pending) = (Some(digest), None);
        self.save(host)
    }

    /// Stamps a unit whose start succeeded with the digest of what it read.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn stamp(&mut self, host: &mut Host, unit: &str, inputs: Option<Digest>) -> Result<()> {
        self.record.units.entry(unit.to_owned()).or_default().inputs = inputs;
        self.save(host)
    }

    /// Seals the member: its cluster exists, and the unit's next content will not restart it.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn seal(&mut self, host: &mut Host, unit: &str, inputs: Digest, member: SealedMember) -> Result<()> {
        self.record.joining = None;
        self.record.etcd = Some(member);
        self.stamp(host, unit, Some(inputs))
    }

    /// Notes which bindings are in the API.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn bound(&mut self, host: &mut Host, bindings: Digest) -> Result<()> {
        self.record.bindings = Some(bindings);
        self.save(host)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&mut self, host: &mut Host) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(&self.record)
            .map_err(|e| Error::apply("cannot encode the ownership record").cause(e))?;
        json.push(b'\n');
        host.ensure_dir(&self.dir, 0o700, Owner::Root)?;
        host.write(&self.path, &json, 0o600, Owner::Root)?;
        Ok(())
    }
}
