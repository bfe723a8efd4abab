//! Bytes nobody wrote on purpose: reading them gives a reason, never a panic and never a secret.

use std::path::Path;
use std::sync::LazyLock;

use hamaster::pki::judge::Paths;
use hamaster::pki::{check, inspect, issue, judge};
use hamaster::spec::KeyAlgorithm;
use hamaster::spec::layout::Layout;
use hamaster::state::desired::CaId;
use hamaster::state::observed::ContentFact;
use proptest::prelude::*;

use crate::common::{Made, node, now, spec};

static MADE: LazyLock<Made> =
    LazyLock::new(|| Made::new(&spec(KeyAlgorithm::EcdsaP256), &node(Layout::below("")), now()));

static FACTS: LazyLock<Paths> = LazyLock::new(|| MADE.facts());
static ISSUER: LazyLock<issue::Issuer> = LazyLock::new(|| MADE.issuer(CaId::Cluster));

const NAMES: [&str; 9] = [
    "ca.crt",
    "server.cert",
    "ca.key",
    "sa.pub",
    "kubelet-client-current.pem",
    "admin.conf",
    "kubelet.conf",
    "known_tokens.csv",
    "encryption-config.yaml",
];

fn damaged() -> impl Strategy<Value = (&'static Path, Vec<u8>)> {
    let files: Vec<_> = MADE.files.iter().map(|(path, (bytes, _))| (path.as_path(), bytes)).collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    (prop::sample::select(files), changes, any::<Option<prop::sample::Index>>()).prop_map(
        |((path, bytes), changes, cut)| {
            let mut bytes = bytes.clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            (path, bytes)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_bytes_under_any_name(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for name in NAMES {
            inspect::content(Path::new(name), &bytes);
        }
    }

    #[test]
    fn any_der_in_sound_pem(der in prop::collection::vec(any::<u8>(), 0..300)) {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(&der);
        for label in ["CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "PUBLIC KEY"] {
            let pem = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
            for name in NAMES {
                inspect::content(Path::new(name), pem.as_bytes());
            }
        }
    }

    /// A few changed bytes in a sound file: still a reason, and whatever is understood can be judged and reported.
    #[test]
    fn damaged_files((path, bytes) in damaged()) {
        let mut facts = FACTS.clone();
        facts.get_mut(path).unwrap().content = inspect::content(path, &bytes);
        for want in &MADE.certs {
            judge::leaf(want, &facts, ISSUER.cert(), now());
        }
        for want in &MADE.cas {
            judge::ca(want, &facts, now());
        }
        check::report(&facts, &[], now());
    }

    /// DER damaged inside sound PEM, which base64 alone would have caught above.
    #[test]
    fn damaged_certificates(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut der = ISSUER.cert().der.clone();
        let at = at.index(der.len());
        der[at] = byte;
        if let Ok(fact) = inspect::cert(&der) {
            judge::signed_by(&ISSUER.cert().der, &fact);
            let key = MADE.files[&MADE.ca(CaId::Cluster).key].0.clone();
            use base64::Engine as _;
            let body = base64::engine::general_purpose::STANDARD.encode(&der);
            let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            if let Ok(issuer) = issue::Issuer::load(pem.as_bytes(), &key) {
                let _ = issue::leaf(&MADE.cert("kubecfg"), &issuer, now());
            }
        }
    }
}

/// Whatever we can say about any file, damaged or not, holds no piece of a secret in it.
#[test]
fn nothing_shown_holds_a_secret() {
    let ca = MADE.ca(CaId::Cluster);
    let pair = issue::leaf(&MADE.cert("admin"), &ISSUER, now()).unwrap();
    let request = issue::csr(&MADE.cert("admin"), None).unwrap();
    let mut shown = format!("{:?}{pair:?}{request:?}{:?}", *ISSUER, *FACTS);
    let mut secrets: Vec<&[u8]> = vec![pair.key_pem.expose(), request.key_pem.expose(), &MADE.files[&ca.key].0];
    for (path, (bytes, mode)) in &MADE.files {
        if *mode == 0o600 {
            secrets.push(bytes);
            // Cut anywhere: the reason why it does not read may not quote what it read.
            for end in (0..bytes.len()).step_by(97) {
                let fact = inspect::content(path, &bytes[..end]);
                shown.push_str(&format!("{fact:?}"));
            }
            for (from, to) in [(b':', b'{'), (b'=', b'\n'), (b'"', b',')] {
                let broken: Vec<u8> = bytes.iter().map(|b| if *b == from { to } else { *b }).collect();
                if let ContentFact::Corrupt(why) = inspect::content(path, &broken) {
                    shown.push_str(&why);
                }
            }
        }
    }
    for secret in secrets {
        let text = String::from_utf8(secret.to_vec()).unwrap();
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/_-=".contains(c))).filter(|w| w.len() >= 40)
        {
            // Certificates are public, and one is in every kubeconfig.
            let public =
                MADE.files.values().any(|(b, mode)| *mode == 0o644 && String::from_utf8_lossy(b).contains(word));
            assert!(public || !shown.contains(word), "{word}");
        }
    }
}
