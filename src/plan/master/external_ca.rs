//! A CA whose key is elsewhere: signing requests go out, signed certificates are judged and taken.

use std::path::{Path, PathBuf};

use crate::pki::{IssueReason, judge};
use crate::plan::{Action, Conflict};
use crate::state::Owner;
use crate::state::desired::{CaId, CaSpec, CertSpec, Desired, Placement};
use crate::state::observed::ContentFact;

use super::Planner;

/// Where signing requests for an external CA are kept: `csr` beside the cluster CA.
pub(super) fn request_dir(desired: &Desired) -> Option<PathBuf> {
    desired.cas.iter().find(|c| c.id == CaId::Cluster)?.cert.parent().map(|d| d.join("csr"))
}

impl Planner<'_> {
    /// First a key and a request, then, once the signed certificate has arrived, the import.
    pub(super) fn requested(&mut self, cert: &CertSpec, ca: &CaSpec) {
        let Some(dir) = request_dir(self.desired) else { return };
        let [key, csr, signed] = ["key", "csr", "crt"].map(|ext| dir.join(format!("{}.{ext}", cert.id)));
        if self.observed.at(&signed).is_some() {
            return self.arrived(cert, ca, signed, key, &csr);
        }
        if self.observed.at(&csr).is_none() || self.observed.at(&key).is_none() {
            self.dirs.insert(dir, (0o700, Owner::Root, false));
            self.steps.push(Action::RequestLeaf { cert: cert.clone(), key, csr: csr.clone() });
        }
        let sign = format!(
            "openssl x509 -req -in {} -CA {} -CAkey CA.key -copy_extensions copy -days 365 -out {}",
            csr.display(),
            ca.cert.display(),
            signed.display()
        );
        self.awaits.push(Conflict { path: signed, message: format!("{} has yet to be signed", cert.id), hint: sign });
    }

    /// A signed certificate is judged before it is taken: whoever signs may have dropped a name or a usage.
    fn arrived(&mut self, cert: &CertSpec, ca: &CaSpec, signed: PathBuf, key: PathBuf, csr: &Path) {
        let placement = Placement::Pair { cert: signed.clone(), key: key.clone(), owner: Owner::Root };
        let as_signed = CertSpec { placement, ..cert.clone() };
        let why = match self.content(&ca.cert) {
            Some(ContentFact::Certs(certs)) if !certs.is_empty() => {
                judge::leaf(&as_signed, &self.observed.paths, &certs[0], self.policy.now)
            }
            _ => Some(IssueReason::WrongIssuer),
        };
        match why {
            None => self.steps.push(Action::ImportLeaf { cert: cert.clone(), issuer: ca.clone(), from: signed, key }),
            Some(why) => {
                let hint = format!("rm {}    # and sign {} again", signed.display(), csr.display());
                self.conflict(&signed, format!("was signed, but cannot be used: {why}"), hint);
            }
        }
    }
}
