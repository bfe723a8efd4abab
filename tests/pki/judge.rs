//! The judge: what was just issued is kept, and each single perturbation is named for what it is.

use std::collections::{BTreeMap, BTreeSet};

use hamaster::pki::judge::{self, Verdict};
use hamaster::pki::{IssueReason, inspect, issue, kubeconfig};
use hamaster::spec::layout::Layout;
use hamaster::spec::{Address, KeyAlgorithm};
use hamaster::state::desired::{CaId, CertSpec, Placement, SecretKind};
use hamaster::state::observed::CertFact;
use time::OffsetDateTime;

use crate::common::{DAY, Made, node, now, spec};

fn made() -> Made {
    Made::new(&spec(KeyAlgorithm::EcdsaP256), &node(Layout::host()), now())
}

fn issuers(made: &Made) -> BTreeMap<CaId, CertFact> {
    made.cas.iter().map(|ca| (ca.id, made.issuer(ca.id).cert().clone())).collect()
}

fn judged(made: &Made, want: &CertSpec, at: OffsetDateTime) -> Option<IssueReason> {
    judge::leaf(want, &made.facts(), made.issuer(want.issuer).cert(), at)
}

#[test]
fn what_was_issued_is_kept() {
    let made = made();
    for want in &made.certs {
        assert_eq!(judged(&made, want, now()), None, "{}", want.id);
        assert_eq!(judged(&made, want, now() + 240 * DAY), None, "{}: two thirds are not over", want.id);
    }
    for ca in &made.cas {
        assert_eq!(judge::ca(ca, &made.facts(), now()), Verdict::Keep);
    }
    for secret in &made.secrets {
        assert_eq!(judge::secret(secret, &made.facts()), Verdict::Keep, "{}", secret.path.display());
    }
}

#[test]
fn each_perturbation_of_the_want_is_named() {
    let made = made();
    let facts = made.facts();
    let issuers = issuers(&made);
    for right in &made.certs {
        let judged = |change: fn(&mut CertSpec)| {
            let mut want = right.clone();
            change(&mut want);
            judge::leaf(&want, &facts, &issuers[&want.issuer], now())
        };
        let another = Address::Ip("198.51.100.7".parse().unwrap());
        assert_eq!(
            judged(|w| w.sans.push(Address::Ip("198.51.100.7".parse().unwrap()))),
            Some(IssueReason::SanMissing(vec![another]))
        );
        if let Some(last) = right.sans.last() {
            assert_eq!(judged(|w| drop(w.sans.pop())), Some(IssueReason::SanExtra(vec![last.clone()])));
        }
        for change in [
            (|w| w.common_name.push('x')) as fn(&mut CertSpec),
            |w| w.organization = Some("others".into()),
            |w| w.server = !w.server,
            |w| w.client = !w.client,
        ] {
            let reason = judged(change);
            assert!(matches!(reason, Some(IssueReason::SubjectOrUsage(_))), "{}: {reason:?}", right.id);
        }
        if let Placement::Kubeconfig { server, .. } = &right.placement {
            let reason = judged(|w| match &mut w.placement {
                Placement::Kubeconfig { server, .. } => server.push('0'),
                _ => unreachable!(),
            });
            assert_eq!(reason, Some(IssueReason::WrongServer { found: server.clone() }));
        }
    }
}

#[test]
fn each_perturbation_of_the_time_is_named() {
    let made = made();
    let facts = made.facts();
    let issuers = issuers(&made);
    for want in &made.certs {
        assert_eq!(judge::leaf(want, &facts, &issuers[&want.issuer], now() - DAY), Some(IssueReason::NotYetValid));
        let due = judge::leaf(want, &facts, &issuers[&want.issuer], now() + 241 * DAY);
        assert!(matches!(due, Some(IssueReason::Expiring { left }) if left > 123 * DAY), "{due:?}");
        let over = judge::leaf(want, &facts, &issuers[&want.issuer], now() + 366 * DAY);
        assert!(matches!(over, Some(IssueReason::Expiring { left }) if left.is_zero()), "{over:?}");
    }
}

#[test]
fn each_perturbation_of_the_files_is_named() {
    let right = made();
    let foreign = made();
    for want in &right.certs {
        let (first, key) = match &want.placement {
            Placement::Pair { cert, key, .. } => (cert, Some(key)),
            Placement::Kubeconfig { path, .. } | Placement::Combined { path } => (path, None),
        };
        let with = |change: &dyn Fn(&mut Made)| {
            let mut files = Made { files: right.files.clone(), cas: right.cas.clone(), certs: vec![], secrets: vec![] };
            change(&mut files);
            judged(&files, want, now())
        };
        assert_eq!(with(&|m| drop(m.files.remove(first))), Some(IssueReason::Missing));
        assert!(matches!(with(&|m| m.put(first, b"", 0o600)), Some(IssueReason::Corrupt(_))));
        // Two sound files that are not each other's.
        let other = issue::leaf(want, &right.issuer(want.issuer), now()).unwrap();
        let mixed =
            issue::Pair { cert_pem: issue::leaf(want, &right.issuer(want.issuer), now()).unwrap().cert_pem, ..other };
        assert_eq!(with(&|m| m.place(want, &mixed)), Some(IssueReason::KeyMismatch), "{}", want.id);
        // Same names, another CA: only the signature can tell.
        let alien = issue::leaf(want, &foreign.issuer(want.issuer), now()).unwrap();
        assert_eq!(with(&|m| m.place(want, &alien)), Some(IssueReason::WrongIssuer), "{}", want.id);
        if let Some(key) = key {
            assert_eq!(with(&|m| drop(m.files.remove(key))), Some(IssueReason::Missing));
            assert!(matches!(with(&|m| m.put(key, b"junk", 0o600)), Some(IssueReason::Corrupt(_))));
        }
        if let Placement::Kubeconfig { server, cluster, .. } = &want.placement {
            let good = issue::leaf(want, &right.issuer(want.issuer), now()).unwrap();
            let trusting = foreign.issuer(want.issuer);
            let text = kubeconfig::render(cluster, server, trusting.cert_pem(), "x", &good).unwrap();
            assert_eq!(with(&|m| m.put(first, text.expose(), 0o600)), Some(IssueReason::WrongIssuer), "embedded CA");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_certificate_is_never_kept() {
    let made = made();
    let issuer = made.issuer(CaId::Cluster);
    let leaf = issue::leaf(&made.cert("server"), &issuer, now()).unwrap();
    let der = inspect::certs(leaf.cert_pem.as_bytes()).unwrap().remove(0).der;
    assert!(judge::signed_by(&der, issuer.cert()));
    for byte in 0..der.len() {
        let mut bad = der.clone();
        bad[byte] ^= 1;
        assert!(
            !judge::signed_by(&bad, issuer.cert()),
            "byte {byte}: {:02x?}",
            &der[byte.saturating_sub(4)..(byte + 8).min(der.len())]
        );
    }
}

#[test]
fn a_leaf_never_outlives_its_ca() {
    let mut spec = spec(KeyAlgorithm::EcdsaP256);
    spec.pki.ca_validity = 30 * DAY;
    let made = Made::new(&spec, &node(Layout::host()), now());
    for want in &made.certs {
        let issuer = made.issuer(want.issuer);
        let end = issue::capped(want.validity, issuer.cert(), now());
        assert_eq!(end, Some(issuer.cert().not_after));
        let pair = issue::leaf(want, &issuer, now()).unwrap();
        let fact: CertFact = inspect::certs(pair.cert_pem.as_bytes()).unwrap().remove(0);
        assert_eq!(Some(fact.not_after), end);
        assert_eq!(fact.not_before, now() - issue::BACKDATE);
        assert_eq!(judged(&made, want, now()), None, "a capped leaf must not be renewed at once");
    }
    let at_the_end = judge::ca(made.ca(CaId::Cluster), &made.facts(), now() + 30 * DAY - judge::CA_MINIMUM / 2);
    assert!(matches!(at_the_end, Verdict::Broken { why, .. } if why.contains("within the hour")));
}

#[test]
fn a_service_account_key_is_never_made_anew() {
    let mut made = made();
    let want = made.secrets.iter().find(|s| matches!(s.kind, SecretKind::ServiceAccountKey { .. })).unwrap().clone();
    let SecretKind::ServiceAccountKey { public, .. } = &want.kind else { unreachable!() };
    let key = made.files[&want.path].0.clone();
    made.files.remove(public);
    assert_eq!(judge::secret(&want, &made.facts()), Verdict::Derive);
    for (path, bytes) in hamaster::pki::auth::make(&want, Some(&key)).unwrap() {
        made.put(&path, bytes.expose(), 0o600);
    }
    assert_eq!(made.files[&want.path].0, key);
    assert_eq!(judge::secret(&want, &made.facts()), Verdict::Keep);

    let alien = issue::public_pem(issue::key(KeyAlgorithm::EcdsaP256).unwrap().expose()).unwrap();
    made.put(public, alien.as_bytes(), 0o644);
    assert!(matches!(judge::secret(&want, &made.facts()), Verdict::Broken { .. }));
    made.put(&want.path, &key[..40], 0o600);
    assert!(matches!(judge::secret(&want, &made.facts()), Verdict::Broken { .. }));
    made.files.remove(&want.path);
    assert_eq!(judge::secret(&want, &made.facts()), Verdict::Make);
}

#[test]
fn serials_are_long_positive_and_unique() {
    let made = made();
    let issuer = made.issuer(CaId::Cluster);
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let pair = issue::leaf(&made.cert("kubecfg"), &issuer, now()).unwrap();
        let serial = inspect::certs(pair.cert_pem.as_bytes()).unwrap().remove(0).serial;
        assert_eq!(serial.len(), 32, "{serial}");
        assert!(serial.as_bytes()[0] < b'8', "negative: {serial}");
        assert!(seen.insert(serial));
    }
}
