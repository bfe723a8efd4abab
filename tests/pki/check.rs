//! Reports on whole bundles: a sound one says nothing, each fault is found on the row it belongs to.

use std::path::{Path, PathBuf};

use hamaster::pki::bundle::{Bundle, Origin};
use hamaster::pki::check::{Report, Severity, State, report};
use hamaster::pki::issue;
use hamaster::pki::table::{CAS, LEAVES};
use hamaster::spec::layout::Layout;
use hamaster::spec::{Address, KeyAlgorithm};
use hamaster::state::desired::Placement;

use crate::common::{DAY, Made, node, now, spec};

/// Our bundle with paths relative to its root.
fn ours() -> Made {
    Made::new(&spec(KeyAlgorithm::EcdsaP256), &node(Layout::below("")), now())
}

/// The same certificates under kubeadm's names.
fn kubeadm() -> Made {
    let bundle = Bundle { origin: Origin::Kubeadm, bare: false };
    let mut made = ours();
    made.cas.iter_mut().zip(&CAS).for_each(|(ca, row)| (ca.cert, ca.key) = bundle.ca(row).unwrap());
    let place = |id: &str| LEAVES.iter().find(|row| row.id == id).and_then(|row| bundle.leaf(row));
    made.certs.retain(|cert| place(cert.id).is_some());
    for cert in &mut made.certs {
        if let Some(pair @ Placement::Pair { .. }) = place(cert.id) {
            cert.placement = pair;
        }
    }
    let mut again = Made { files: Default::default(), ..made };
    for ca in again.cas.clone() {
        let pair = issue::new_ca(&ca, now()).unwrap();
        again.put(&ca.cert, pair.cert_pem.as_bytes(), 0o644);
        again.put(&ca.key, pair.key_pem.expose(), 0o600);
    }
    for cert in again.certs.clone() {
        let pair = issue::leaf(&cert, &again.issuer(cert.issuer), now()).unwrap();
        again.place(&cert, &pair);
    }
    let key = issue::key(KeyAlgorithm::Rsa2048).unwrap();
    again.put(&bundle.pki("sa.key"), key.expose(), 0o600);
    again.put(&bundle.pki("sa.pub"), issue::public_pem(key.expose()).unwrap().as_bytes(), 0o644);
    again
}

fn findings(report: &Report) -> Vec<String> {
    let of_row = |row: &hamaster::pki::check::Row| {
        row.findings.iter().map(|f| format!("{}: {:?}: {}", row.id, f.severity, f.message)).collect::<Vec<_>>()
    };
    report.rows.iter().flat_map(of_row).collect()
}

/// kubeadm knows no flannel: what our cluster would want of it is not missing there. In ours it is.
#[test]
fn flannel_is_missed_in_our_bundle_only() {
    let mut spec = spec(KeyAlgorithm::EcdsaP256);
    spec.network.leases = hamaster::spec::FlannelLeases::Kubernetes;
    let wanted = hamaster::pki::catalog::certs(&spec, &node(Layout::below("")));
    for (made, missed) in [(ours(), true), (kubeadm(), false)] {
        let found = report(&made.facts(), &wanted, now()).unwrap();
        assert_eq!(found.rows.iter().any(|row| row.id == "flannel"), missed, "{:?}", found.origin);
    }
}

#[test]
fn a_sound_bundle_has_no_findings() {
    for (made, origin, rows) in [(ours(), Origin::Hamaster, 3 + 16 + 3), (kubeadm(), Origin::Kubeadm, 3 + 7 + 5 + 1)] {
        let found = report(&made.facts(), &[], now()).unwrap();
        assert_eq!(findings(&found), [""; 0]);
        assert_eq!((found.origin, found.rows.len()), (origin, rows));
        assert!(found.rows.iter().all(|row| row.state == State::Ok));
        assert!(made.files.keys().all(|path| Bundle::candidates().contains(path)));
    }
    let made = ours();
    assert_eq!(findings(&report(&made.facts(), &made.certs, now()).unwrap()), [""; 0]);
    assert_eq!(report(&Default::default(), &[], now()), None);
}

#[test]
fn the_bundle_directory_alone_is_enough() {
    for (made, origin) in [(ours(), Origin::Hamaster), (kubeadm(), Origin::Kubeadm)] {
        let inside =
            |(path, fact): (PathBuf, _)| Some((path.strip_prefix("etc/kubernetes/pki").ok()?.to_owned(), fact));
        let bare = made.facts().into_iter().filter_map(inside).collect();
        let found = report(&bare, &[], now()).unwrap();
        assert_eq!(found.origin, origin);
        assert!(found.rows.iter().all(|row| row.state == State::Ok), "{:?}", findings(&found));
        assert!(found.rows.iter().any(|row| row.path == Path::new("ca.crt")));
    }
}

#[test]
fn each_fault_is_found_where_it_is() {
    let sound = ours();
    let foreign = ours();
    let expect = |id: &str, state: State, message: &str, change: &dyn Fn(&mut Made)| {
        let mut made = Made { files: sound.files.clone(), cas: sound.cas.clone(), certs: vec![], secrets: vec![] };
        change(&mut made);
        let found = report(&made.facts(), &sound.certs, now()).unwrap();
        let row = found.rows.iter().find(|row| row.id == id).unwrap();
        assert!(row.findings.iter().any(|f| f.message.contains(message)), "{id} {message}: {:?}", findings(&found));
        assert_eq!(row.state, state, "{id}");
        let elsewhere = found.rows.iter().filter(|r| r.id != id).filter(|r| r.state != State::Ok).count();
        assert_eq!(elsewhere, 0, "{:?}", findings(&found));
    };
    let pki = |name: &str| Path::new("etc/kubernetes/pki").join(name);
    let copy = |from: &Made, name: &str| from.files[&pki(name)].0.clone();

    expect("server", State::Missing, "missing", &|m| drop(m.files.remove(&pki("server.cert"))));
    expect("server", State::Broken, "key does not match", &|m| {
        m.put(&pki("server.key"), &copy(m, "kubecfg.key"), 0o600)
    });
    expect("server", State::Broken, "mode 0644", &|m| m.put(&pki("server.key"), &copy(m, "server.key"), 0o644));
    expect("kubecfg", State::Broken, "not signed by kubernetes", &|m| {
        m.put(&pki("kubecfg.crt"), &copy(&foreign, "kubecfg.crt"), 0o644);
        m.put(&pki("kubecfg.key"), &copy(&foreign, "kubecfg.key"), 0o600);
    });
    expect("service-account-key", State::Broken, "does not match", &|m| {
        m.put(&pki("sa.pub"), &copy(&foreign, "sa.pub"), 0o644)
    });
    expect("known-tokens", State::Broken, "columns", &|m| m.put(&pki("known_tokens.csv"), b"a,b\n", 0o600));
    let again = |id: &str, change: &dyn Fn(&mut hamaster::state::desired::CertSpec), m: &mut Made| {
        let mut want = sound.cert(id);
        change(&mut want);
        let pair = issue::leaf(&want, &m.issuer(want.issuer), now()).unwrap();
        m.place(&want, &pair);
    };
    expect("server", State::Broken, "lacks SAN 203.0.113.10", &|m| {
        again("server", &|w| w.sans.retain(|s| *s != Address::Ip("203.0.113.10".parse().unwrap())), m);
    });
    expect("etcd-peer", State::Broken, "usage is server", &|m| again("etcd-peer", &|w| w.client = false, m));
    expect("scheduler", State::Broken, "common name", &|m| again("scheduler", &|w| w.common_name = "me".into(), m));
    expect("scheduler", State::Broken, "which the apiserver's certificate lacks", &|m| {
        again(
            "scheduler",
            &|w| {
                if let Placement::Kubeconfig { server, .. } = &mut w.placement {
                    *server = "https://198.51.100.9:6443".into();
                }
            },
            m,
        );
    });
    expect("kubecfg", State::Ok, "system:masters", &|m| {
        again("kubecfg", &|w| w.organization = Some("system:masters".into()), m);
    });
}

#[test]
fn time_passes_into_every_row() {
    let made = ours();
    let at = |days: u32| report(&made.facts(), &[], now() + days * DAY).unwrap();
    let leaves = |report: &Report| {
        report.rows.iter().filter(|r| r.not_after.is_some()).skip(3).map(|r| r.state).collect::<Vec<_>>()
    };
    assert!(leaves(&at(200)).iter().all(|s| *s == State::Ok));
    assert!(leaves(&at(250)).iter().all(|s| *s == State::Expiring));
    assert!(leaves(&at(366)).iter().all(|s| *s == State::Expired));
    let before = report(&made.facts(), &[], now() - DAY).unwrap();
    assert!(leaves(&before).iter().all(|s| *s == State::NotYetValid));
    let late = at(3650 - 100);
    assert_eq!(late.rows[0].state, State::Expiring);
    assert_eq!(late.rows[0].days_left, Some(100));
    assert_eq!(late.rows[0].findings[0].severity, Severity::Warning);
}

#[test]
fn json_says_when_in_rfc_3339() {
    let made = ours();
    let json = serde_json::to_value(report(&made.facts(), &[], now()).unwrap()).unwrap();
    assert_eq!(json["origin"], "hamaster");
    let row = &json["rows"][3];
    assert_eq!((row["id"].as_str(), row["state"].as_str()), (Some("server"), Some("ok")));
    assert!(row["notAfter"].as_str().unwrap().ends_with('Z'), "{row}");
    assert_eq!(row["daysLeft"], 365);
}
