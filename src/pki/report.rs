//! The rows of a report on a bundle: what `hamaster certs check` and `verify` show and print as JSON.

use std::path::{Path, PathBuf};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::pki::bundle::Origin;
use crate::state::observed::CertFact;

/// What a bundle is like.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whose layout it has.
    pub origin: Origin,
    /// CAs first, then leaves, then secrets, in the catalogue's order.
    pub rows: Vec<Row>,
}

/// One certificate or secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Id of the catalogue.
    pub id: &'static str,
    /// The file, relative to the directory that was asked about.
    pub path: PathBuf,
    /// Common name and organization.
    pub subject: Option<String>,
    /// Issuer's common name.
    pub issuer: Option<String>,
    /// End of validity.
    #[serde(serialize_with = "rfc3339")]
    pub not_after: Option<OffsetDateTime>,
    /// Whole days until then; negative once it is over.
    pub days_left: Option<i64>,
    /// All findings in one word.
    pub state: State,
    /// What is wrong or worth knowing.
    pub findings: Vec<Finding>,
}

/// How a row is, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing to do.
    Ok,
    /// Past its renewal point.
    Expiring,
    /// Something is wrong with it.
    Broken,
    /// Its validity has not begun.
    NotYetValid,
    /// Its life is over.
    Expired,
    /// It is not there.
    Missing,
}

/// One thing that is wrong or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not work, or will not soon.
    Error,
    /// It works, but.
    Warning,
}

impl Row {
    pub(super) fn new(id: &'static str, path: &Path) -> Self {
        Self {
            id,
            path: path.to_owned(),
            subject: None,
            issuer: None,
            not_after: None,
            days_left: None,
            state: State::Ok,
            findings: vec![],
        }
    }

    pub(super) fn describe(&mut self, fact: &CertFact, now: OffsetDateTime) {
        let groups = fact.organizations.iter().map(|o| format!(" (O={o})"));
        self.subject = Some(std::iter::once(fact.common_name.clone()).chain(groups).collect());
        self.issuer = Some(fact.issuer_common_name.clone());
        self.not_after = Some(fact.not_after);
        self.days_left = Some((fact.not_after - now).whole_seconds().div_euclid(86_400));
        if fact.not_after <= now {
            self.error(format!("expired on {}", fact.not_after.date()), None);
            self.state = State::Expired;
        } else if fact.not_before > now {
            self.error(format!("not valid before {}", fact.not_before.date()), Some("timedatectl".to_owned()));
            self.state = State::NotYetValid;
        }
    }

    pub(super) fn missing(&mut self) {
        self.error("missing", None);
        self.state = State::Missing;
    }

    pub(super) fn expiring(&mut self, hint: &str) {
        self.warning(format!("{} days left", self.days_left.unwrap_or_default()), Some(hint.to_owned()));
        self.state = self.state.max(State::Expiring);
    }

    pub(super) fn error(&mut self, message: impl Into<String>, hint: Option<String>) {
        self.findings.push(Finding { severity: Severity::Error, message: message.into(), hint });
        self.state = self.state.max(State::Broken);
    }

    pub(super) fn warning(&mut self, message: impl Into<String>, hint: Option<String>) {
        self.findings.push(Finding { severity: Severity::Warning, message: message.into(), hint });
    }
}

fn rfc3339<S: serde::Serializer>(at: &Option<OffsetDateTime>, s: S) -> Result<S::Ok, S::Error> {
    at.and_then(|at| at.format(&Rfc3339).ok()).serialize(s)
}
