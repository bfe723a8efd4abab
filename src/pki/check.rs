//! Reports on a whole bundle, ours or kubeadm's: every certificate, how long it lives, and what is wrong with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;

use crate::pki::IssueReason;
use crate::pki::bundle::{Bundle, Origin};
use crate::pki::judge::{self, Have, Paths};
pub use crate::pki::report::{Finding, Report, Row, Severity, State};
use crate::pki::table::{CAS, LEAVES, LeafRow, Name, Sans};
use crate::pki::{auth, inspect};
use crate::spec::Address;
use crate::state::desired::{CaId, CertSpec, Placement};
use crate::state::observed::{CertFact, ContentFact, PathKind};
use crate::state::{Digest, Owner};

/// A CA with less life than this is worth a word now: replacing it takes planning. Half a year.
pub const CA_WARNING: Duration = Duration::from_secs(182 * 86_400);

/// Judges what is at `files`, relative paths as in [`Bundle::candidates`]. `wanted` is this master's catalogue where the
/// spec is known, else empty: then names are checked against what every cluster has. `None`: there is no bundle here.
pub fn report(files: &Paths, wanted: &[CertSpec], now: OffsetDateTime) -> Option<Report> {
    let bundle = Bundle::detect(files)?;
    let mut check = Check { bundle, files, wanted, now, cas: BTreeMap::new(), api_names: None };
    let mut rows = check.authorities();
    check.api_names = LEAVES.iter().find(|row| row.sans == Sans::Apiserver).and_then(|row| {
        let placement = bundle.leaf(row)?;
        Have::find(&placement, files).ok().map(|have| have.cert.sans.as_slice())
    });
    rows.extend(LEAVES.iter().filter_map(|row| check.leaf(row)));
    rows.extend(check.secrets());
    Some(Report { origin: bundle.origin, rows })
}

struct Check<'a> {
    bundle: Bundle,
    files: &'a Paths,
    wanted: &'a [CertSpec],
    now: OffsetDateTime,
    cas: BTreeMap<CaId, &'a CertFact>,
    api_names: Option<&'a [Address]>,
}

impl<'a> Check<'a> {
    fn authorities(&mut self) -> Vec<Row> {
        let mut rows = vec![];
        for (ca, (cert, key)) in CAS.iter().filter_map(|row| self.bundle.ca(row).map(|files| (row, files))) {
            let mut row = Row::new(ca.common_name, &cert);
            match self.content(&cert) {
                None => row.missing(),
                Some(ContentFact::Certs(certs)) if !certs.is_empty() => {
                    let fact = &certs[0];
                    self.cas.insert(ca.id, fact);
                    row.describe(fact, self.now);
                    if !fact.is_ca {
                        row.error("it is no CA", None);
                    }
                    if judge::left(fact, self.now) < CA_WARNING && row.state != State::Expired {
                        row.expiring("replace it soon: leaves never outlive it");
                    }
                    match self.content(&key) {
                        None => row
                            .warning(format!("{} is not here: new leaves need signing requests", key.display()), None),
                        Some(ContentFact::Key(k)) if k.spki == fact.spki => {}
                        Some(ContentFact::Key(_)) => row.error(format!("{} does not match it", key.display()), None),
                        Some(other) => {
                            row.error(format!("{}: {}", key.display(), judge::not("a private key", other)), None)
                        }
                    }
                }
                Some(other) => row.error(judge::not("a certificate", other), None),
            }
            self.public(&mut row, &cert);
            self.private(&mut row, &key, Owner::Root);
            rows.push(row);
        }
        rows
    }

    fn leaf(&self, catalogued: &LeafRow) -> Option<Row> {
        let placement = self.bundle.leaf(catalogued)?;
        let wanted = self.wanted.iter().find(|w| w.id == catalogued.id);
        let path = match &placement {
            Placement::Pair { cert, .. } => cert,
            Placement::Kubeconfig { path, .. } | Placement::Combined { path } => path,
        };
        let mut row = Row::new(catalogued.id, path);
        let have = match Have::find(&placement, self.files) {
            Ok(have) => have,
            // super-admin.conf lives on the first master only, flannel's pair where flannel is.
            Err(IssueReason::Missing)
                if wanted.is_none() && ["super-admin", "flannel-etcd-client", "flannel"].contains(&row.id) =>
            {
                return None;
            }
            Err(IssueReason::Missing) => {
                row.missing();
                return Some(row);
            }
            Err(reason) => {
                row.error(reason.to_string(), None);
                return Some(row);
            }
        };
        row.describe(have.cert, self.now);
        if row.state == State::Ok && judge::due(have.cert, wanted.map_or(0.66, |w| w.renew_at_fraction.0), self.now) {
            row.expiring("hamaster init re-issues it");
        }
        if have.key.spki != have.cert.spki {
            row.error("key does not match", None);
        }
        self.chain(&mut row, catalogued, &have);
        self.subject(&mut row, catalogued, have.cert);
        match wanted {
            Some(wanted) => self.names(&mut row, &wanted.sans, &have.cert.sans),
            None => usual_names(&mut row, catalogued.sans, &have.cert.sans),
        }
        if let Some(server) = have.kubeconfig.map(|k| k.server.as_str()) {
            self.server(&mut row, server, wanted);
        }
        match &placement {
            Placement::Pair { cert, key, owner } => {
                self.public(&mut row, cert);
                self.private(&mut row, key, *owner);
            }
            Placement::Kubeconfig { path, .. } | Placement::Combined { path } => {
                self.private(&mut row, path, Owner::Root)
            }
        }
        Some(row)
    }

    fn chain(&self, row: &mut Row, catalogued: &LeafRow, have: &Have<'_>) {
        let Some(ca) = self.cas.get(&catalogued.issuer) else {
            row.warning("its CA is not here: the chain was not checked", None);
            return;
        };
        if !judge::signed_by(&have.cert.der, ca) {
            row.error(format!("not signed by {}", ca.common_name), None);
        }
        if have.kubeconfig.is_some_and(|k| k.ca != Some(Digest::of(&ca.der))) {
            row.error(format!("trusts another CA than {}", ca.common_name), None);
        }
        if have.cert.not_after > ca.not_after {
            row.warning(format!("outlives its CA, which ends on {}", ca.not_after.date()), None);
        }
    }

    fn subject(&self, row: &mut Row, catalogued: &LeafRow, have: &CertFact) {
        let named = match catalogued.name {
            Name::Fixed(name) => have.common_name == name,
            Name::Node(prefix) => have.common_name.strip_prefix(prefix).is_some_and(|node| !node.is_empty()),
        };
        if !named {
            row.error(format!("its common name is {:?}", have.common_name), None);
        }
        let (server, client) = (catalogued.usage.server(), catalogued.usage.client());
        if (have.server, have.client) != (server, client) {
            let (found, wanted) = (judge::usage(have.server, have.client), judge::usage(server, client));
            row.error(format!("usage is {found}, not {wanted}"), None);
        }
        if have.is_ca {
            row.error("it is a CA", None);
        }
        let same = have.organizations.as_slice() == catalogued.organization.map(str::to_owned).as_slice();
        if !same && have.organizations.iter().any(|o| o == "system:masters") {
            // kubeadm before 1.29 put its clients there; RBAC cannot take it back.
            row.warning("is in system:masters: works without RBAC and cannot be revoked", None);
        } else if !same && self.bundle.origin == Origin::Hamaster {
            row.error(format!("its organization is {:?}", have.organizations.join(", ")), None);
        }
    }

    fn names(&self, row: &mut Row, wanted: &[Address], have: &[Address]) {
        let (missing, extra) = judge::sans(wanted, have);
        if !missing.is_empty() {
            row.error(IssueReason::SanMissing(missing).to_string(), Some("hamaster init re-issues it".to_owned()));
        }
        if !extra.is_empty() {
            row.warning(IssueReason::SanExtra(extra).to_string(), None);
        }
    }

    /// A kubeconfig must talk to a name the apiserver can prove.
    fn server(&self, row: &mut Row, server: &str, wanted: Option<&CertSpec>) {
        if let Some(Placement::Kubeconfig { server: right, .. }) = wanted.map(|w| &w.placement)
            && right != server
        {
            row.error(format!("points at {server}, not {right}"), Some("hamaster init re-issues it".to_owned()));
        }
        match (host(server), self.api_names) {
            (None, _) => row.error(format!("points at {server:?}, which is no https URL"), None),
            (Some(host), Some(names)) if !names.contains(&host) => {
                row.error(format!("points at {host}, which the apiserver's certificate lacks"), None);
            }
            _ => {}
        }
    }

    fn secrets(&self) -> Vec<Row> {
        let mut rows = vec![];
        let (private, public) = (self.bundle.pki("sa.key"), self.bundle.pki("sa.pub"));
        let mut row = Row::new("service-account-key", &private);
        match (self.content(&private), self.content(&public)) {
            (None, _) => row.missing(),
            (Some(ContentFact::Key(key)), Some(ContentFact::Public(pem))) => {
                if !inspect::public_keys(pem).is_ok_and(|keys| keys.contains(&key.spki)) {
                    row.error("sa.pub does not match it", None);
                }
            }
            (Some(ContentFact::Key(_)), None) => row.error("sa.pub is missing", None),
            (Some(ContentFact::Key(_)), Some(other)) => {
                row.error(format!("sa.pub: {}", judge::not("a public key", other)), None)
            }
            (Some(other), _) => row.error(judge::not("a private key", other), None),
        }
        self.private(&mut row, &private, Owner::Root);
        rows.push(row);
        for (id, name) in [
            ("encryption-config", auth::ENCRYPTION_CONFIG),
            ("known-tokens", auth::KNOWN_TOKENS),
            ("basic-auth", auth::BASIC_AUTH),
        ] {
            let path = self.bundle.pki(name);
            let Some(content) = self.content(&path) else { continue };
            let mut row = Row::new(id, &path);
            if *content != ContentFact::SecretReadable {
                row.error(judge::not("readable", content), None);
            }
            self.private(&mut row, &path, Owner::Root);
            rows.push(row);
        }
        rows
    }

    fn public(&self, row: &mut Row, path: &Path) {
        self.mode(row, path, 0o644);
    }

    fn private(&self, row: &mut Row, path: &Path, owner: Owner) {
        let mode = match owner {
            Owner::Root => 0o600,
            Owner::Etcd => 0o640,
        };
        self.mode(row, path, mode);
    }

    fn mode(&self, row: &mut Row, path: &Path, most: u32) {
        // A symlink (the kubelet's rotation) has no mode of its own.
        if let Some(fact) = self.files.get(path)
            && fact.kind == PathKind::File
            && fact.mode & !most != 0
        {
            let hint = format!("chmod {most:o} {}", path.display());
            row.error(
                format!("{} has mode {:04o}, at most {most:04o} is right", path.display(), fact.mode),
                Some(hint),
            );
        }
    }

    fn content(&self, path: &Path) -> Option<&'a ContentFact> {
        judge::content(self.files, path)
    }
}

/// Names every cluster's certificates have, for when the spec is not known.
fn usual_names(row: &mut Row, rule: Sans, have: &[Address]) {
    let usual: &[&str] = match rule {
        Sans::None | Sans::Kubelet => &[],
        Sans::Etcd => &["localhost"],
        Sans::Apiserver => &["kubernetes", "kubernetes.default", "kubernetes.default.svc"],
    };
    let usual: Vec<Address> = usual.iter().map(|name| Address::Dns((*name).to_owned())).collect();
    let (missing, _) = judge::sans(&usual, have);
    if !missing.is_empty() {
        row.error(IssueReason::SanMissing(missing).to_string(), None);
    }
    if rule != Sans::None && !have.iter().any(|san| matches!(san, Address::Ip(_))) {
        row.error("has no IP address among its SANs", None);
    }
}

/// The host of an `https://` URL.
fn host(url: &str) -> Option<Address> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => authority.split(':').next()?,
    };
    match host.parse() {
        Ok(ip) => Some(Address::Ip(ip)),
        Err(_) => (!host.is_empty()).then(|| Address::Dns(host.to_ascii_lowercase())),
    }
}
