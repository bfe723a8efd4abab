//! What this master's keeper says of it in etcd. On a lease: a master that says nothing any more has nothing there. Not so
//! that it changes, or failed to: the others must know of it when it is dead.

use std::collections::BTreeMap;
use std::time::Duration;

use time::format_description::well_known::Rfc3339;

use crate::apply::members::Members;
use crate::error::{Error, Result};
use crate::etcd::keys;
use crate::host::clock::{self, Stopwatch};
use crate::state::report::{Report, Standing};

/// A report is gone this long after its keeper is.
const LIFE: Duration = Duration::from_secs(60);
/// How often it is kept alive.
const RENEWAL: Duration = Duration::from_secs(20);

/// The reports of one master.
pub(super) struct Bulletin {
    name: String,
    lease: Option<i64>,
    renewed: Stopwatch,
    last: Option<Report>,
}

impl Bulletin {
    /// For the master `name`.
    pub(super) fn new(name: String) -> Self {
        Self { name, lease: None, renewed: Stopwatch::start(), last: None }
    }

    /// What a keeper that ended here said last.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub(super) fn remember(&mut self, members: &mut Members) -> Result<()> {
        if self.last.is_none() {
            self.last = members.ask(|c| c.reports())?.remove(&self.name);
        }
        Ok(())
    }

    /// What was said last, by this keeper or the one before.
    pub(super) fn last(&self) -> Option<&Report> {
        self.last.as_ref()
    }

    /// What the reports are on.
    pub(super) fn lease(&self) -> Option<i64> {
        self.lease
    }

    /// The words for the journal, when this is not what was said last.
    pub(super) fn news(&self, generation: u64, standing: Standing, why: &[String]) -> Option<String> {
        let same = |last: &Report| (last.generation, last.standing, &*last.why) == (generation, standing, why);
        let because = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
        (!self.last.as_ref().is_some_and(same)).then(|| format!("spec {generation}: {}{because}", standing.as_str()))
    }

    /// Says how this master stands.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub(super) fn put(
        &mut self,
        members: &mut Members,
        generation: u64,
        standing: Standing,
        why: Vec<String>,
    ) -> Result<()> {
        let now = clock::now().replace_nanosecond(0).unwrap_or_else(|_| clock::now());
        let since = match &self.last {
            Some(last) if last.standing == standing && last.generation == generation => last.since.clone(),
            _ => now.format(&Rfc3339).unwrap_or_default(),
        };
        let hamaster = env!("CARGO_PKG_VERSION").to_owned();
        let report = Report { generation, standing, why, since, hamaster };
        if self.lease.is_none() || self.last.as_ref() != Some(&report) {
            self.write(members, &report)?;
            self.last = Some(report);
        }
        Ok(())
    }

    /// Keeps what was said alive, or says it again.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub(super) fn stay(&mut self, members: &mut Members) -> Result<()> {
        let (Some(lease), Some(last)) = (self.lease, self.last.clone()) else { return Ok(()) };
        if self.renewed.elapsed() < RENEWAL {
            return Ok(());
        }
        if !members.ask(|c| c.keep_alive(lease))? {
            self.lease = None;
            return self.write(members, &last);
        }
        self.renewed = Stopwatch::start();
        Ok(())
    }

    fn write(&mut self, members: &mut Members, report: &Report) -> Result<()> {
        let value = serde_json::to_vec(report).map_err(|e| Error::apply("cannot encode a report").cause(e))?;
        let lease = match self.lease {
            Some(lease) if members.ask(|c| c.keep_alive(lease))? => lease,
            _ => members.ask(|c| c.grant(LIFE))?,
        };
        (self.lease, self.renewed) = (Some(lease), Stopwatch::start());
        let key = format!("{}{}", keys::MASTERS, self.name);
        let on = if report.standing.is_leased() { lease } else { 0 };
        members.ask(|c| c.put_on(&key, &value, on))
    }

    /// What the others say.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub(super) fn others(&self, members: &mut Members) -> Result<BTreeMap<String, Report>> {
        let mut all = members.ask(|c| c.reports())?;
        all.remove(&self.name);
        Ok(all)
    }
}
