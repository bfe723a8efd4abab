//! Every reason not to touch a host, found at once: pure functions over facts.
//!
//! Nothing stops at the first finding. Each has a stable id of the table in [`catalog`], kubeadm's name where it has
//! one, so that an operator can accept it with `--ignore-preflight ID`.

mod binaries;
pub mod catalog;
mod cluster_checks;
mod data_checks;
mod host_checks;
mod ports;

use std::fmt;
use std::path::Path;

use serde::Serialize;
use time::OffsetDateTime;

pub use binaries::tools;
pub use catalog::{CHECKS, Check};

use crate::error::{Error, Problem, Result};
use crate::spec::{ClusterSpec, ThisNode};
use crate::state::facts::HostFacts;
use crate::state::observed::Observed;

/// What is being prepared; decides which checks make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The machine this process runs on.
    Host,
    /// A master on loopback below a directory: no root, no kubelet, no runtime.
    Lab,
    /// A file system below `--root`: nothing of the running machine counts.
    Image,
    /// As `Host`, without what only masters have.
    Worker,
    /// As `Image`, without what only masters have.
    WorkerImage,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is refused.
    Warning,
    /// Refused unless ignored by id.
    Error,
}

/// One reason not to go on, or to think twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Id of the check.
    pub id: String,
    /// How much it matters here.
    pub severity: Severity,
    /// What it is about: a port, a path, a program.
    pub object: String,
    /// What is wrong, lower case.
    pub message: String,
    /// The command to run or the value to write.
    pub hint: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}

/// Everything that speaks against preparing this node, in the order of [`CHECKS`].
pub fn run(
    scope: Scope,
    spec: &ClusterSpec,
    this: &ThisNode,
    facts: &HostFacts,
    observed: &Observed,
    now: OffsetDateTime,
) -> Vec<Finding> {
    let mut i = Inspection { scope, spec, this, facts, observed, now, findings: vec![] };
    host_checks::host(&mut i);
    cluster_checks::cluster(&mut i);
    ports::ports(&mut i);
    binaries::binaries(&mut i);
    data_checks::data(&mut i);
    let place = |f: &Finding| CHECKS.iter().position(|c| c.id == f.id);
    i.findings.sort_by_key(place);
    i.findings
}

/// Refuses if an error is left that is not ignored. `all` ignores every one.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for an ignored id that does not exist;
/// [`Kind::Refused`](crate::error::Kind::Refused) with every error left.
pub fn refuse(findings: &[Finding], ignored: &[String]) -> Result<()> {
    let unknown: Vec<Problem> = ignored.iter().filter(|id| !is_known(id)).map(|id| unknown_id(id)).collect();
    if !unknown.is_empty() {
        return Err(Error::usage("cannot ignore checks that do not exist").problems(unknown));
    }
    let left: Vec<Problem> = findings
        .iter()
        .filter(|f| f.severity == Severity::Error && !accepts(ignored, f))
        .map(|f| Problem { at: f.id.clone(), message: f.to_string(), hint: Some(f.hint.clone()) })
        .collect();
    let Some(first) = left.first() else { return Ok(()) };
    let message = match left.len() {
        1 => "preflight found an error; nothing was touched".to_owned(),
        n => format!("preflight found {n} errors; nothing was touched"),
    };
    let hint = format!("--ignore-preflight {}    # for each one you accept", first.at);
    Err(Error::refused(message).hint(hint).problems(left))
}

/// Whether a list of ignored ids covers a finding.
pub fn accepts(ignored: &[String], finding: &Finding) -> bool {
    ignored.iter().any(|id| id.eq_ignore_ascii_case(&finding.id) || id == ALL)
}

/// Id of the check of masters that form a cluster together.
pub const FOUNDERS: &str = catalog::FOUNDERS.id;

/// Stands for every id in a list of ignored ones.
const ALL: &str = "all";

fn is_known(id: &str) -> bool {
    id == ALL || CHECKS.iter().any(|c| c.id.eq_ignore_ascii_case(id))
}

fn unknown_id(id: &str) -> Problem {
    let distance = |known: &str| strsim::damerau_levenshtein(&known.to_lowercase(), &id.to_lowercase());
    let nearest = CHECKS.iter().map(|c| c.id).min_by_key(|known| distance(known)).unwrap_or(ALL);
    Problem {
        at: "--ignore-preflight".into(),
        message: format!("there is no check `{id}`"),
        hint: Some(format!("--ignore-preflight {nearest}")),
    }
}

/// What the checks look at, and what they have found so far.
struct Inspection<'a> {
    scope: Scope,
    spec: &'a ClusterSpec,
    this: &'a ThisNode,
    facts: &'a HostFacts,
    observed: &'a Observed,
    now: OffsetDateTime,
    findings: Vec<Finding>,
}

impl Inspection<'_> {
    /// Records a finding with the severity `check` has in this scope; none where it is not looked at.
    fn find(&mut self, check: &Check, object: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        if let Some(severity) = check.severity(self.scope) {
            let (object, message, hint) = (object.into(), message.into(), hint.into());
            self.findings.push(Finding { id: check.id.to_owned(), severity, object, message, hint });
        }
    }

    /// As [`find`](Self::find), for what is only worth a warning in any scope.
    fn warn(&mut self, check: &Check, object: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.find(
            &Check { host: lower(check.host), lab: lower(check.lab), image: lower(check.image), ..*check },
            object,
            message,
            hint,
        );
    }

    /// The minor version of Kubernetes that is wanted.
    fn minor(&self) -> u32 {
        self.spec.kubernetes.version.minor
    }

    /// Whether hamaster wrote `path`.
    fn owns_file(&self, path: &Path) -> bool {
        self.observed.record.files.contains_key(path)
    }

    /// Whether hamaster wrote or started `unit`. Its file comes before its stamp, so after a crash either may be alone.
    fn owns_unit(&self, unit: &str) -> bool {
        self.observed.record.units.contains_key(unit) || self.owns_file(&self.this.layout.unit(unit))
    }
}

fn lower(severity: Option<Severity>) -> Option<Severity> {
    severity.map(|_| Severity::Warning)
}
