//! Keep it or make it: what the catalogue wants against what is there. Pure; time is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::server::ParsedCertificate;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer as _;

use crate::pki::{IssueReason, inspect};
use crate::spec::Address;
use crate::state::Digest;
use crate::state::desired::{CaSpec, CertSpec, Placement, SecretKind, SecretSpec};
use crate::state::observed::{CertFact, ContentFact, KeyFact, KubeconfigFact, PathFact};

/// What is at each path.
pub type Paths = BTreeMap<PathBuf, PathFact>;

/// A CA with less life than this signs nothing more: its leaves would be past their renewal point when they are made.
pub const CA_MINIMUM: Duration = Duration::from_secs(3600);

/// What to do about a CA or a secret that is made once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is none: make it.
    Make,
    /// The private half is good and stays, the public half is missing: derive it (`sa.pub`).
    Derive,
    /// It is good.
    Keep,
    /// A CA certificate without its key: leaves are asked for with signing requests.
    External,
    /// Neither usable nor ours to replace.
    Broken {
        /// What is wrong, naming the files.
        why: String,
        /// What to do.
        hint: String,
    },
}

/// Judges a CA: `ca.crt` and `ca.key`, ours or brought along.
pub fn ca(want: &CaSpec, paths: &Paths, now: OffsetDateTime) -> Verdict {
    let (cert, key) = (want.cert.display(), want.key.display());
    let broken = |why: String, hint: String| Verdict::Broken { why, hint };
    let restore = || format!("restore the right file, or move {cert} and {key} away to have a new CA made");
    let fact = match (content(paths, &want.cert), content(paths, &want.key)) {
        (None, None) => return Verdict::Make,
        (None, Some(_)) => return broken(format!("{key} is there but {cert} is missing"), restore()),
        (Some(ContentFact::Certs(certs)), _) if !certs.is_empty() => &certs[0],
        (Some(other), _) => {
            return broken(format!("{cert} cannot be used: {}", not("a certificate", other)), restore());
        }
    };
    if !fact.is_ca {
        return broken(format!("{cert} ({}) may not sign certificates: it is no CA", fact.common_name), restore());
    }
    let usable = match fact.algorithm.strip_prefix("rsa-") {
        Some(bits) => bits.parse().is_ok_and(|bits: u32| bits >= 2048),
        None => matches!(fact.algorithm.as_str(), "ecdsa-p256" | "ecdsa-p384"),
    };
    if !usable {
        let hint = "use a CA with an ECDSA P-256, P-384 or RSA key of 2048 bits or more";
        return broken(format!("{cert} has a key of type {}", fact.algorithm), hint.into());
    }
    if is_damaged(&fact.der) {
        return broken(format!("{cert} is damaged: its own signature does not fit it"), restore());
    }
    if let Err(why) = inspect::repeatable_subject(&fact.der) {
        let hint =
            "use a CA whose subject has each attribute once, or sign requests elsewhere: keep its key off this host";
        return broken(format!("{cert} cannot sign here: {why}"), hint.into());
    }
    if fact.not_before > now {
        return broken(
            format!("{cert} is not valid before {}", date(fact.not_before)),
            "set the clock of this host: timedatectl".into(),
        );
    }
    if left(fact, now).is_zero() {
        return broken(
            format!("{cert} expired on {}", date(fact.not_after)),
            format!("renew the CA, or move {cert} and {key} away to have a new one made"),
        );
    }
    if left(fact, now) < CA_MINIMUM {
        return broken(
            format!("{cert} expires within the hour"),
            format!("renew the CA, or move {cert} and {key} away to have a new one made"),
        );
    }
    match content(paths, &want.key) {
        None => Verdict::External,
        Some(ContentFact::Key(k)) if k.spki == fact.spki => Verdict::Keep,
        Some(ContentFact::Key(_)) => broken(format!("{key} does not match {cert}"), restore()),
        Some(other) => broken(format!("{key} cannot be used: {}", not("a private key", other)), restore()),
    }
}

/// Judges a leaf: `None` keeps it. `issuer` is the CA that should have signed it.
///
/// The key's algorithm is not judged: a kubelet rotates to its own choice, and a changed spec is met at the next renewal.
pub fn leaf(want: &CertSpec, paths: &Paths, issuer: &CertFact, now: OffsetDateTime) -> Option<IssueReason> {
    let have = match Have::find(&want.placement, paths) {
        Ok(have) => have,
        Err(reason) => return Some(reason),
    };
    if have.key.spki != have.cert.spki {
        return Some(IssueReason::KeyMismatch);
    }
    // A kubeconfig also embeds the CA its client trusts.
    let trusts_another = have.kubeconfig.is_some_and(|k| k.ca != Some(Digest::of(&issuer.der)));
    if trusts_another || !signed_by(&have.cert.der, issuer) {
        return Some(IssueReason::WrongIssuer);
    }
    subject_or_usage(want, have.cert).map(IssueReason::SubjectOrUsage).or_else(|| {
        let (missing, extra) = sans(&want.sans, &have.cert.sans);
        match (&want.placement, have.kubeconfig) {
            _ if !missing.is_empty() => Some(IssueReason::SanMissing(missing)),
            _ if !extra.is_empty() => Some(IssueReason::SanExtra(extra)),
            _ if have.cert.not_before > now => Some(IssueReason::NotYetValid),
            _ if due(have.cert, want.renew_at_fraction.0, now) => {
                Some(IssueReason::Expiring { left: left(have.cert, now) })
            }
            (Placement::Kubeconfig { server, .. }, Some(found)) if found.server != *server => {
                Some(IssueReason::WrongServer { found: found.server.clone() })
            }
            _ => None,
        }
    })
}

/// Judges a secret that is made once: what is there and reads stays.
pub fn secret(want: &SecretSpec, paths: &Paths) -> Verdict {
    let path = want.path.display();
    let broken = |why: String| Verdict::Broken {
        why,
        hint: format!("restore {path} from a backup or another master; move it away only if nothing depends on it"),
    };
    let found = match content(paths, &want.path) {
        None => return Verdict::Make,
        Some(ContentFact::Corrupt(why)) => return broken(format!("{path} does not read: {why}")),
        Some(found) => found,
    };
    let SecretKind::ServiceAccountKey { public, .. } = &want.kind else { return Verdict::Keep };
    let ContentFact::Key(key) = found else {
        return broken(format!("{path} cannot be used: {}", not("a private key", found)));
    };
    match content(paths, public) {
        None => Verdict::Derive,
        Some(ContentFact::Public(pem)) => match inspect::public_keys(pem) {
            // More than one while it is rotated.
            Ok(keys) if keys.contains(&key.spki) => Verdict::Keep,
            _ => broken(format!("{path} does not match {}", public.display())),
        },
        Some(other) => broken(format!("{} cannot be used: {}", public.display(), not("a public key", other))),
    }
}

/// Whether `issuer` signed this certificate: its name and its signature, not its dates.
pub fn signed_by(der: &[u8], issuer: &CertFact) -> bool {
    let (Ok((_, cert)), Ok((_, ca))) = (X509Certificate::from_der(der), X509Certificate::from_der(&issuer.der)) else {
        return false;
    };
    // x509-parser is lenient outside the signed part; webpki is as strict as the clients that will read it.
    let sound = ParsedCertificate::try_from(&der.into()).is_ok();
    let named = cert.issuer().as_raw() == ca.subject().as_raw();
    sound && named && cert.verify_signature(Some(ca.public_key())).is_ok()
}

/// A self-signed certificate that was changed after it was signed. Nobody else checks: a root is trusted as it is.
fn is_damaged(der: &[u8]) -> bool {
    let Ok((_, cert)) = X509Certificate::from_der(der) else { return true };
    cert.issuer().as_raw() == cert.subject().as_raw()
        && matches!(cert.verify_signature(None), Err(X509Error::SignatureVerificationError))
}

/// Past `fraction` of its life.
pub fn due(cert: &CertFact, fraction: f64, now: OffsetDateTime) -> bool {
    now - cert.not_before >= (cert.not_after - cert.not_before) * fraction
}

/// Life left, zero when it is over.
pub fn left(cert: &CertFact, now: OffsetDateTime) -> Duration {
    Duration::try_from(cert.not_after - now).unwrap_or_default()
}

/// Names that are wanted and not there; names that are there and not wanted.
pub(super) fn sans(want: &[Address], have: &[Address]) -> (Vec<Address>, Vec<Address>) {
    let without = |a: &[Address], b: &[Address]| a.iter().filter(|x| !b.contains(x)).cloned().collect();
    (without(want, have), without(have, want))
}

fn subject_or_usage(want: &CertSpec, have: &CertFact) -> Option<String> {
    if have.common_name != want.common_name {
        return Some(format!("common name is {}, not {}", have.common_name, want.common_name));
    }
    if have.organizations.as_slice() != want.organization.as_slice() {
        let named = |o: &[String]| if o.is_empty() { "none".to_owned() } else { o.join(", ") };
        return Some(format!(
            "organization is {}, not {}",
            named(&have.organizations),
            named(want.organization.as_slice())
        ));
    }
    if (have.server, have.client) != (want.server, want.client) {
        return Some(format!("usage is {}, not {}", usage(have.server, have.client), usage(want.server, want.client)));
    }
    have.is_ca.then(|| "it is a CA".to_owned())
}

pub(super) fn usage(server: bool, client: bool) -> &'static str {
    match (server, client) {
        (true, true) => "server and client",
        (true, false) => "server",
        (false, true) => "client",
        (false, false) => "none",
    }
}

/// A leaf with its key, wherever they are kept.
pub(super) struct Have<'a> {
    pub(super) cert: &'a CertFact,
    pub(super) key: &'a KeyFact,
    pub(super) kubeconfig: Option<&'a KubeconfigFact>,
}

impl<'a> Have<'a> {
    pub(super) fn find(placement: &Placement, paths: &'a Paths) -> Result<Self, IssueReason> {
        let at = |path: &Path| content(paths, path).ok_or(IssueReason::Missing);
        let corrupt = |wanted, found| Err(IssueReason::Corrupt(not(wanted, found)));
        match placement {
            Placement::Pair { cert, key, .. } => match (at(cert)?, at(key)?) {
                (ContentFact::Certs(certs), ContentFact::Key(key)) if !certs.is_empty() => {
                    Ok(Have { cert: &certs[0], key, kubeconfig: None })
                }
                (ContentFact::Certs(_), other) => corrupt("a private key", other),
                (other, _) => corrupt("a certificate", other),
            },
            Placement::Combined { path } => match at(path)? {
                ContentFact::Combined(cert, key) => Ok(Have { cert, key, kubeconfig: None }),
                other => corrupt("a certificate with its key", other),
            },
            Placement::Kubeconfig { path, .. } => match at(path)? {
                ContentFact::Kubeconfig(found @ KubeconfigFact { client: Some(cert), key: Some(key), .. }) => {
                    Ok(Have { cert, key, kubeconfig: Some(found) })
                }
                other => corrupt("a kubeconfig with certificate and key", other),
            },
        }
    }
}

pub(super) fn content<'a>(paths: &'a Paths, path: &Path) -> Option<&'a ContentFact> {
    paths.get(path).map(|fact| &fact.content)
}

/// Why a file is not `wanted`.
pub(super) fn not(wanted: &str, found: &ContentFact) -> String {
    match found {
        ContentFact::Corrupt(why) => why.clone(),
        _ => format!("not {wanted}"),
    }
}

fn date(at: OffsetDateTime) -> String {
    at.date().to_string()
}
