//! Decisions: what is left to do, as data. Pure: no file, process, network or clock is touched here.
//!
//! The laws every planner keeps (each has a test):
//! 1. *Converge*: apply the plan, plan again: empty.
//! 2. *Crash anywhere*: killed after any step and run again, the host ends as in the uncut run.
//! 3. *Level-triggered restarts*: a unit is restarted when its inputs differ from the stamp of its last start.
//! 4. *Never fight a human*: what exists, differs and is not ours is a [`Conflict`], never overwritten.
//! 5. *No secrets in a plan*: secret files are recipes.
//! 6. *Render everything before touching anything*: a `Desired` exists whole before the first plan.
//! 7. *Stale plan*: a phase is observed again right before it is applied.

pub mod compose;
pub mod diff;
pub mod keeping;
pub mod master;
pub mod reset;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::pki::IssueReason;
use crate::state::desired::{CaSpec, CertSpec, Readiness, SecretSpec};
use crate::state::{Digest, Owner, PhaseId};

/// One thing to do. A closed set: `apply::perform` has one arm for each, and each is idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a directory, or give it its mode and owner.
    EnsureDir {
        /// Absolute path.
        path: PathBuf,
        /// Mode bits.
        mode: u32,
        /// Owner.
        owner: Owner,
        /// It holds nothing yet and only our service will fill it, so an undo may empty it.
        scratch: bool,
    },
    /// Write a public file.
    WriteFile {
        /// Absolute path.
        path: PathBuf,
        /// Mode bits.
        mode: u32,
        /// Owner.
        owner: Owner,
        /// The bytes.
        bytes: Vec<u8>,
        /// What is there now, for the diff.
        before: Option<Vec<u8>>,
        /// Back up what is there first: it is not ours, or was edited.
        backup: bool,
    },
    /// The content is right, mode or owner is not.
    SetMode {
        /// Absolute path.
        path: PathBuf,
        /// Mode bits.
        mode: u32,
        /// Owner.
        owner: Owner,
    },
    /// Remove a file of ours.
    RemoveFile {
        /// Absolute path.
        path: PathBuf,
        /// The operator's file that goes back in its place.
        restore: Option<PathBuf>,
    },
    /// Remove a directory of ours if it is empty.
    RemoveDir {
        /// Absolute path.
        path: PathBuf,
    },
    /// Move data out of the way instead of deleting it, or delete it when purging.
    RetireData {
        /// The directory whose content goes.
        path: PathBuf,
        /// Where the content goes; none deletes it.
        to: Option<PathBuf>,
    },
    /// Make a CA: key and certificate.
    IssueCa {
        /// Which.
        ca: CaSpec,
    },
    /// Make a leaf.
    IssueLeaf {
        /// What.
        cert: CertSpec,
        /// Who signs.
        issuer: CaSpec,
        /// Why.
        reason: IssueReason,
    },
    /// External CA: make a key and a signing request.
    RequestLeaf {
        /// What.
        cert: CertSpec,
        /// Key beside the request.
        key: PathBuf,
        /// The request.
        csr: PathBuf,
    },
    /// External CA: a signed certificate has arrived; put it where it belongs.
    ImportLeaf {
        /// What.
        cert: CertSpec,
        /// Who signed.
        issuer: CaSpec,
        /// The arrived certificate.
        from: PathBuf,
        /// The key made with the request.
        key: PathBuf,
    },
    /// Make a secret file: tokens, passwords, keys.
    WriteSecret {
        /// What.
        secret: SecretSpec,
        /// Why.
        reason: IssueReason,
    },
    /// The manifests of these static pods are gone: wait until they have ended, which takes a kubelet.
    AwaitPods {
        /// Their programs.
        programs: Vec<String>,
    },
    /// Have the service manager read unit files again.
    ReloadUnits,
    /// Enable, start, restart, stop.
    SetUnit {
        /// Unit name.
        unit: String,
        /// Start at boot; none leaves it.
        enable: Option<bool>,
        /// What to do with the process.
        run: Run,
        /// Digest of the inputs, recorded as the stamp once the unit is ready.
        stamp: Option<Digest>,
        /// What to wait for.
        ready: Option<Readiness>,
    },
    /// The member is healthy for the first time: record its ids; from now on its unit says `existing`.
    SealMember {
        /// Unit name.
        unit: String,
        /// Stamp of the sealed unit, so that sealing does not restart it.
        stamp: Digest,
    },
    /// Write a key in etcd if it is absent.
    PutIfAbsent {
        /// Key.
        key: String,
        /// Value.
        value: Vec<u8>,
    },
    /// Register the spec under its generation number.
    PutSpec {
        /// The resolved spec.
        yaml: String,
    },
    /// Create the RBAC bindings through the local apiserver.
    ApplyBindings,
}

/// What to do with a unit's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Run {
    /// Leave it as it is.
    Leave,
    /// It does not run: start it.
    Start,
    /// It runs on other inputs: restart it.
    Restart,
    /// Stop it.
    Stop,
}

/// The steps of one phase, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Which.
    pub id: PhaseId,
    /// What is left to do; empty means the phase is done, unless it awaits something.
    pub steps: Vec<Action>,
    /// Certificates that somebody else must sign before any later phase can begin.
    pub awaits: Vec<Conflict>,
}

/// Something only the operator can settle: a thing in the way that is not ours, a certificate an external CA must sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The path.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
    /// What to run.
    pub hint: String,
}

impl Action {
    /// The path the action is about, if it is about one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Action::EnsureDir { path, .. }
            | Action::WriteFile { path, .. }
            | Action::SetMode { path, .. }
            | Action::RemoveFile { path, .. }
            | Action::RemoveDir { path }
            | Action::RetireData { path, .. } => Some(path),
            Action::IssueCa { ca } => Some(&ca.cert),
            Action::IssueLeaf { cert, .. } | Action::ImportLeaf { cert, .. } => Some(cert.placement.path()),
            Action::RequestLeaf { csr, .. } => Some(csr),
            Action::WriteSecret { secret, .. } => Some(&secret.path),
            _ => None,
        }
    }

    /// A stable word for JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::EnsureDir { .. } => "ensure-dir",
            Action::WriteFile { .. } => "write-file",
            Action::SetMode { .. } => "set-mode",
            Action::RemoveFile { .. } => "remove-file",
            Action::RemoveDir { .. } => "remove-dir",
            Action::RetireData { .. } => "retire-data",
            Action::IssueCa { .. } => "issue-ca",
            Action::IssueLeaf { .. } => "issue-leaf",
            Action::RequestLeaf { .. } => "request-leaf",
            Action::ImportLeaf { .. } => "import-leaf",
            Action::WriteSecret { .. } => "write-secret",
            Action::AwaitPods { .. } => "await-pods",
            Action::ReloadUnits => "reload-units",
            Action::SetUnit { .. } => "set-unit",
            Action::SealMember { .. } => "seal-member",
            Action::PutIfAbsent { .. } => "put-if-absent",
            Action::PutSpec { .. } => "put-spec",
            Action::ApplyBindings => "apply-bindings",
        }
    }

    /// Every file the action creates or replaces: what the ownership record must name before it happens.
    pub fn writes(&self) -> Vec<&Path> {
        match self {
            Action::WriteFile { path, .. } => vec![path],
            Action::IssueCa { ca } => vec![&ca.cert, &ca.key],
            Action::IssueLeaf { cert, .. } | Action::ImportLeaf { cert, .. } => cert.placement.paths(),
            Action::RequestLeaf { key, csr, .. } => vec![key, csr],
            Action::WriteSecret { secret, .. } => secret.paths(),
            _ => vec![],
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::EnsureDir { path, mode, owner, .. } => {
                write!(f, "directory {} {mode:04o} {}", path.display(), owner_word(*owner))
            }
            Action::WriteFile { path, before: None, .. } => write!(f, "write {}", path.display()),
            Action::WriteFile { path, backup, .. } => {
                write!(f, "change {}{}", path.display(), if *backup { " (backed up first)" } else { "" })
            }
            Action::SetMode { path, mode, owner } => {
                write!(f, "mode {} {mode:04o} {}", path.display(), owner_word(*owner))
            }
            Action::RemoveFile { path, restore: None } => write!(f, "remove {}", path.display()),
            Action::RemoveFile { path, restore: Some(_) } => {
                write!(f, "put back the original of {}", path.display())
            }
            Action::RemoveDir { path } => write!(f, "remove {}/ if empty", path.display()),
            Action::RetireData { path, to: Some(to) } => {
                write!(f, "move {} to {}", path.display(), to.display())
            }
            Action::RetireData { path, to: None } => write!(f, "delete {}", path.display()),
            Action::IssueCa { ca } => write!(f, "make CA {} (CN {})", ca.cert.display(), ca.common_name),
            Action::IssueLeaf { cert, reason, .. } => {
                write!(f, "issue {} → {} ({reason})", cert.id, cert.placement.path().display())
            }
            Action::RequestLeaf { cert, csr, .. } => {
                write!(f, "signing request for {} → {}", cert.id, csr.display())
            }
            Action::ImportLeaf { cert, from, .. } => write!(f, "take signed {} from {}", cert.id, from.display()),
            Action::WriteSecret { secret, reason } => {
                write!(f, "make {} ({reason})", secret.path.display())
            }
            Action::AwaitPods { programs } => write!(f, "wait until the pods have ended: {}", programs.join(", ")),
            Action::ReloadUnits => f.write_str("reload unit files"),
            Action::SetUnit { unit, enable, run, .. } => {
                let mut words = vec![];
                match enable {
                    Some(true) => words.push("enable"),
                    Some(false) => words.push("disable"),
                    None => {}
                }
                match run {
                    Run::Leave => {}
                    Run::Start => words.push("start"),
                    Run::Restart => words.push("restart"),
                    Run::Stop => words.push("stop"),
                }
                write!(f, "{} {unit}", words.join(" and "))
            }
            Action::SealMember { unit, .. } => write!(f, "seal {unit}: its cluster exists now"),
            Action::PutIfAbsent { key, .. } => write!(f, "etcd key {key}, if absent"),
            Action::PutSpec { .. } => f.write_str("register the cluster spec in etcd"),
            Action::ApplyBindings => f.write_str("create the RBAC bindings in the API"),
        }
    }
}

fn owner_word(owner: Owner) -> &'static str {
    match owner {
        Owner::Root => "root",
        Owner::Etcd => "etcd",
    }
}
