//! Certificates: the catalogue of what a cluster has, how a certificate is read, judged and made.
//!
//! [`table`] is what everything iterates, [`catalog`] resolves it for one master. [`inspect`] turns PEM into facts, [`judge`] turns facts into
//! *keep* or *issue, because*, [`issue`] makes keys and certificates, [`kubeconfig`] and [`auth`] the files that carry them,
//! [`check`] reports on a whole [`bundle`], ours or kubeadm's.

pub mod auth;
pub mod bundle;
pub mod catalog;
pub mod check;
pub mod inspect;
pub mod issue;
pub mod judge;
pub mod kubeconfig;
mod pem;
pub mod report;
pub mod table;

use std::fmt;
use std::time::Duration;

use crate::spec::Address;

/// Why a certificate is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssueReason {
    /// There is none.
    Missing,
    /// The file is there but does not read as what it should be.
    Corrupt(String),
    /// A wanted name or address is not in it.
    SanMissing(Vec<Address>),
    /// It has names that are no longer wanted.
    SanExtra(Vec<Address>),
    /// It is past its renewal point, or expired (`left` zero).
    Expiring {
        /// Life left.
        left: Duration,
    },
    /// Its validity has not begun.
    NotYetValid,
    /// Signed by another authority than the one on disk.
    WrongIssuer,
    /// Certificate and key do not belong together.
    KeyMismatch,
    /// Common name, organization or usages differ from the catalogue.
    SubjectOrUsage(String),
    /// The kubeconfig talks to another server than wanted.
    WrongServer {
        /// What it says.
        found: String,
    },
    /// The private half is there, its public half is not.
    HalfMissing,
}

impl fmt::Display for IssueReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |a: &[Address]| a.iter().map(Address::to_string).collect::<Vec<_>>().join(", ");
        match self {
            IssueReason::Missing => f.write_str("missing"),
            IssueReason::Corrupt(why) => write!(f, "does not read: {why}"),
            IssueReason::SanMissing(a) => write!(f, "lacks SAN {}", list(a)),
            IssueReason::SanExtra(a) => write!(f, "has unwanted SAN {}", list(a)),
            IssueReason::Expiring { left } if left.is_zero() => f.write_str("expired"),
            IssueReason::Expiring { left } => write!(f, "{} days left", left.as_secs() / 86_400),
            IssueReason::NotYetValid => f.write_str("not valid yet"),
            IssueReason::WrongIssuer => f.write_str("signed by another CA"),
            IssueReason::KeyMismatch => f.write_str("key does not match"),
            IssueReason::SubjectOrUsage(what) => f.write_str(what),
            IssueReason::WrongServer { found } => write!(f, "points at {found}"),
            IssueReason::HalfMissing => f.write_str("public half is missing"),
        }
    }
}
