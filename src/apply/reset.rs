//! `hamaster reset`: takes back exactly what is ours and lists what stays.

use std::path::PathBuf;

use crate::apply::event::{Event, Sink};
use crate::apply::perform::Performer;
use crate::apply::record::Ledger;
use crate::apply::{Outcome, stamp, step};
use time::OffsetDateTime;

use crate::error::{Error, Result};
use crate::etcd::client::Over;
use crate::host::{Host, clock, observe};
use crate::plan::reset::{self, Reset, ResetScope};
use crate::spec::ThisNode;

/// Plans a reset of the host. `time` names what is moved aside.
///
/// # Errors
/// When the host cannot be read, or hamaster owns nothing here.
pub fn preview(host: &Host, this: &ThisNode, purge: bool, time: OffsetDateTime) -> Result<Reset> {
    let layout = &this.layout;
    let record = observe::record(host, &layout.record())?;
    let originals = record.files.values().filter_map(|f| f.original.as_ref());
    let mut paths: Vec<PathBuf> = record.files.keys().chain(&record.dirs).chain(originals).cloned().collect();
    paths.extend([layout.record(), layout.backup(), layout.state(), layout.snapshots(), layout.snapshot_key()]);
    paths.extend(record.data_dir.clone());
    paths.extend(reset::copies(&record, &layout.manifests(), &layout.standby()));
    let units: Vec<String> = record.units.keys().cloned().collect();
    let observed = observe::observe(host, &paths, &units, &layout.record())?;
    let kept = layout.state().with_file_name(format!("hamaster-kept-{}", stamp(time)));
    let kept_data = match &record.data_dir {
        // A disk of its own, as etcd should have: its data cannot leave it.
        Some(dir) if !host.same_filesystem(dir, &kept)? => dir.join(format!("hamaster-kept-{}", stamp(time))),
        _ => kept.join("etcd"),
    };
    let apart = !host.same_filesystem(&layout.snapshots(), &kept)?;
    let scope = ResetScope {
        manifests: layout.manifests(),
        standby: layout.standby(),
        kept_data,
        kept,
        state: layout.state(),
        record: layout.record(),
        backup: layout.backup(),
        snapshots: Some(layout.snapshots()).filter(|_| !apart),
        snapshot_key: layout.snapshot_key(),
        purge,
        runs: host.starts_units(),
    };
    let mut reset = reset::plan(&observed, &scope);
    if apart {
        reset.stays.push(format!("{}: snapshots, on a filesystem of their own", layout.snapshots().display()));
    }
    Ok(reset)
}

/// Carries a reset out. Killed at any point it can be run again: the record goes last.
///
/// # Errors
/// What could not be stopped or removed.
pub fn apply(host: &mut Host, this: &ThisNode, reset: &Reset, sink: Sink<'_>) -> Result<Outcome> {
    let mut outcome = Outcome { changed: vec![], notes: reset.stays.clone() };
    let now = clock::now();
    let mut ledger = Ledger::new(&this.layout, observe::record(host, &this.layout.record())?);
    sink(Event::PhaseStarted { phase: "reset", steps: reset.steps.len() });
    let backup = this.layout.backup().join(stamp(now));
    let mut performer = Performer { host, ledger: &mut ledger, this, backup, now, over: &Over::Nothing, sink };
    for action in &reset.steps {
        step(&mut performer, action, &mut outcome).map_err(|e: Box<Error>| e.hint("hamaster reset (again)"))?;
    }
    sink(Event::Finished);
    Ok(outcome)
}
