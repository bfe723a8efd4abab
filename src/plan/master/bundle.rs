//! The bundle's part of a plan: CAs, leaves, and the secret files that are not certificates.

use std::collections::BTreeMap;
use std::path::Path;

use super::Planner;
use crate::pki::IssueReason;
use crate::pki::judge::{self, Verdict};
use crate::plan::Action;
use crate::state::desired::{CaSpec, CertSpec, SecretKind};
use crate::state::observed::{ContentFact, PathKind};
use crate::state::{Owner, PhaseId};

impl Planner<'_> {
    pub(super) fn certificates(&mut self) {
        let desired = self.desired;
        let mut verdicts = BTreeMap::new();
        for ca in &desired.cas {
            let mut verdict = judge::ca(ca, &self.observed.paths, self.policy.now);
            if self.half_made(ca) {
                verdict = Verdict::Derive;
            }
            if self.id == PhaseId::Pki {
                match &verdict {
                    Verdict::Make | Verdict::Derive if self.observed.record.etcd.is_some() => {
                        self.lost(&ca.cert, "every certificate is signed by it");
                    }
                    Verdict::Make | Verdict::Derive => {
                        self.parents_of(&ca.cert);
                        self.steps.push(Action::IssueCa { ca: ca.clone() });
                    }
                    Verdict::Broken { why, hint } => self.conflict(&ca.cert, why, hint),
                    Verdict::Keep | Verdict::External => {}
                }
            }
            verdicts.insert(ca.id, verdict);
        }
        let id = self.id;
        for cert in desired.certs.iter().filter(|c| c.phase == id) {
            let Some(ca) = desired.cas.iter().find(|c| c.id == cert.issuer) else { continue };
            match verdicts.get(&cert.issuer) {
                Some(Verdict::Broken { .. }) | None => {}
                Some(verdict) => self.leaf(cert, ca, verdict),
            }
        }
    }

    /// A CA of ours whose key is there and whose certificate is not: a run was killed between the two.
    fn half_made(&self, ca: &CaSpec) -> bool {
        let key = matches!(self.content(&ca.key), Some(ContentFact::Key(_)));
        key && self.ours(&ca.key) && self.observed.at(&ca.cert).is_none()
    }

    fn leaf(&mut self, cert: &CertSpec, ca: &CaSpec, verdict: &Verdict) {
        let paths = &self.observed.paths;
        let exists = cert.placement.paths().iter().any(|p| paths.contains_key(*p));
        let reason = match self.content(&ca.cert) {
            Some(ContentFact::Certs(certs)) if *verdict != Verdict::Make && !certs.is_empty() => {
                judge::leaf(cert, paths, &certs[0], self.policy.now)
            }
            _ if exists => Some(IssueReason::WrongIssuer),
            _ => Some(IssueReason::Missing),
        };
        let Some(reason) = reason else { return self.modes(cert.placement.modes()) };
        for path in cert.placement.paths() {
            if self.observed.at(path).is_some_and(|fact| fact.kind != PathKind::File) {
                let hint = format!("rm {}    # then run again: it is made anew", path.display());
                self.conflict(path, format!("is not a regular file, and not good: {reason}"), hint);
                return;
            }
            if self.observed.at(path).is_some() && !self.ours(path) && !self.policy.adopt {
                self.conflict(
                    path,
                    format!("is not ours and cannot be used: {reason}"),
                    format!("mv {0} {0}.old, or run again with --adopt (it is backed up first)", path.display()),
                );
                return;
            }
            self.parents_of(path);
        }
        if *verdict == Verdict::External {
            self.requested(cert, ca)
        } else {
            self.steps.push(Action::IssueLeaf { cert: cert.clone(), issuer: ca.clone(), reason });
        }
    }

    /// Without the private half of these, what is in etcd cannot be read or trusted any more: a living cluster's are
    /// never made anew.
    fn lost(&mut self, path: &Path, what: &str) {
        let hint = format!("restore it from a backup to {}; to start over instead: hamaster reset", path.display());
        self.conflict(path, format!("is gone, and the cluster depends on it: {what}"), hint);
    }

    fn modes(&mut self, wanted: Vec<(&Path, u32, Owner)>) {
        for (path, mode, owner) in wanted {
            // A symlink is the kubelet's own rotation; what it leads to is the kubelet's.
            let file = self.observed.at(path).filter(|fact| fact.kind == PathKind::File);
            if file.is_some_and(|fact| !self.right(fact, mode, owner)) && self.ours(path) {
                self.steps.push(Action::SetMode { path: path.to_owned(), mode, owner });
            }
        }
    }

    pub(super) fn secrets(&mut self) {
        let (id, desired) = (self.id, self.desired);
        for secret in desired.secrets.iter().filter(|s| s.phase == id) {
            let reason = match judge::secret(secret, &self.observed.paths) {
                Verdict::Make => IssueReason::Missing,
                Verdict::Derive => IssueReason::HalfMissing,
                Verdict::Keep | Verdict::External => {
                    self.modes(secret.modes());
                    continue;
                }
                Verdict::Broken { why, hint } => {
                    self.conflict(&secret.path, why, hint);
                    continue;
                }
            };
            let keystone = matches!(secret.kind, SecretKind::ServiceAccountKey { .. } | SecretKind::EncryptionConfig);
            if reason == IssueReason::Missing && keystone && self.observed.record.etcd.is_some() {
                self.lost(&secret.path, "tokens or stored secrets could no longer be read");
                continue;
            }
            let foreign = secret.paths().into_iter().find(|p| self.observed.at(p).is_some() && !self.ours(p));
            if let Some(path) = foreign.filter(|_| reason == IssueReason::Missing && !self.policy.adopt) {
                let hint = format!("mv {0} {0}.old, or run again with --adopt (it is backed up first)", path.display());
                self.conflict(path, format!("is not ours, and {} is missing", secret.path.display()), hint);
                continue;
            }
            self.parents_of(&secret.path);
            self.steps.push(Action::WriteSecret { secret: secret.clone(), reason });
        }
    }
}
