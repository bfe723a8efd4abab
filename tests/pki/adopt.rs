//! CAs brought along: made by openssl in every form keys come in, and the ones that must be refused.

use std::path::Path;

use hamaster::pki::issue::{self, Issuer};
use hamaster::pki::judge::{self, Verdict};
use hamaster::spec::KeyAlgorithm;
use hamaster::spec::layout::Layout;
use hamaster::state::desired::{CaId, CaSpec};
use time::OffsetDateTime;

use crate::common::{DAY, Made, fact, node, now, run, spec, text};

/// A CA by openssl: `key_args` make `ca.key`, `req_args` shape `ca.crt`.
fn openssl_ca(dir: &Path, key_args: &[&str], req_args: &[&str]) -> CaSpec {
    let want = CaSpec {
        id: CaId::Cluster,
        common_name: "kubernetes".into(),
        cert: dir.join("ca.crt"),
        key: dir.join("ca.key"),
        validity: 3650 * DAY,
        algorithm: KeyAlgorithm::EcdsaP256,
    };
    run("openssl", &[&key_args[..1], &["-out", text(&want.key)], &key_args[1..]].concat());
    let base = ["req", "-x509", "-new", "-key", text(&want.key), "-out", text(&want.cert)];
    run("openssl", &[&base[..], req_args].concat());
    want
}

fn verdict(want: &CaSpec) -> Verdict {
    // Later: openssl does not backdate.
    verdict_at(want, now() + DAY)
}

fn verdict_at(want: &CaSpec, at: OffsetDateTime) -> Verdict {
    let paths = [&want.cert, &want.key].into_iter().filter(|p| p.exists());
    let facts = paths.map(|p| (p.clone(), fact(p, &std::fs::read(p).unwrap(), 0o600))).collect();
    judge::ca(want, &facts, at)
}

fn broken(want: &CaSpec) -> String {
    match verdict(want) {
        Verdict::Broken { why, hint } => {
            assert!(!hint.is_empty());
            why
        }
        other => panic!("{other:?}"),
    }
}

const SUBJECT: [&str; 4] = ["-subj", "/C=DE/O=Corp/OU=Ops/CN=Corp CA", "-days", "3650"];

#[test]
fn keys_in_every_form_sign_leaves_openssl_verifies() {
    let forms: [(&[&str], &str); 6] = [
        (&["genrsa", "-traditional", "2048"], "-----BEGIN RSA PRIVATE KEY"),
        (&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "-----BEGIN PRIVATE KEY"),
        (&["ecparam", "-name", "prime256v1", "-genkey"], "-----BEGIN EC PARAMETERS"),
        (&["ecparam", "-name", "prime256v1", "-genkey", "-noout"], "-----BEGIN EC PRIVATE KEY"),
        (&["ecparam", "-name", "secp384r1", "-genkey"], "-----BEGIN EC PARAMETERS"),
        (&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], "-----BEGIN PRIVATE KEY"),
    ];
    let made = Made::new(&spec(KeyAlgorithm::EcdsaP256), &node(Layout::host()), now());
    for (args, begins) in forms {
        let dir = tempfile::tempdir().unwrap();
        let want = openssl_ca(dir.path(), args, &SUBJECT);
        let (cert, key) = (std::fs::read(&want.cert).unwrap(), std::fs::read(&want.key).unwrap());
        assert!(key.starts_with(begins.as_bytes()), "{args:?}");
        assert_eq!(verdict(&want), Verdict::Keep, "{args:?}");
        let issuer = Issuer::load(&cert, &key).unwrap();
        let leaf = issue::leaf(&made.cert("server"), &issuer, now()).unwrap();
        let path = dir.path().join("leaf.crt");
        std::fs::write(&path, leaf.cert_pem).unwrap();
        run("openssl", &["verify", "-CAfile", text(&want.cert), "-purpose", "sslserver", text(&path)]);
    }
}

#[test]
fn what_is_no_usable_ca_is_refused() {
    let p256 = ["ecparam", "-name", "prime256v1", "-genkey", "-noout"];
    let dir = tempfile::tempdir().unwrap();
    let ca = |name: &str, key: &[&str], req: &[&str]| {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        openssl_ca(&dir, key, req)
    };
    let good = ca("good", &p256, &SUBJECT);
    let other = ca("other", &p256, &SUBJECT);

    std::fs::copy(&other.key, &good.key).unwrap();
    assert!(broken(&good).contains("does not match"));
    let load = Issuer::load(&std::fs::read(&good.cert).unwrap(), &std::fs::read(&good.key).unwrap());
    assert!(load.unwrap_err().to_string().contains("do not belong together"));

    std::fs::remove_file(&good.key).unwrap();
    assert_eq!(verdict(&good), Verdict::External);
    std::fs::remove_file(&good.cert).unwrap();
    assert_eq!(verdict(&good), Verdict::Make);
    std::fs::remove_file(&other.cert).unwrap();
    assert!(broken(&other).contains("is missing"));

    let leaf = ca("leaf", &p256, &[&SUBJECT[..], &["-addext", "basicConstraints=critical,CA:FALSE"]].concat());
    assert!(broken(&leaf).contains("no CA"));
    let unusable = ca("usage", &p256, &[&SUBJECT[..], &["-addext", "keyUsage=critical,digitalSignature"]].concat());
    assert!(broken(&unusable).contains("no CA"));
    let old = ca("old", &p256, &["-subj", "/CN=old", "-days", "1"]);
    assert!(matches!(verdict_at(&old, now() + 2 * DAY), Verdict::Broken { why, .. } if why.contains("expired on")));
    assert!(matches!(verdict_at(&old, now() - DAY), Verdict::Broken { why, .. } if why.contains("not valid before")));
    let ed = ca("ed25519", &["genpkey", "-algorithm", "ed25519"], &SUBJECT);
    assert!(broken(&ed).contains("ed25519"));
    let small = ca("small", &["genrsa", "1024"], &SUBJECT);
    assert!(broken(&small).contains("rsa-1024"), "{}", broken(&small));

    let cut = ca("cut", &p256, &SUBJECT);
    let pem = std::fs::read_to_string(&cut.cert).unwrap();
    std::fs::write(&cut.cert, &pem[..pem.len() / 2]).unwrap();
    assert!(broken(&cut).contains("line 1: BEGIN CERTIFICATE is never closed"), "{}", broken(&cut));
    let locked = ca("locked", &["genrsa", "-traditional", "2048"], &SUBJECT);
    run(
        "openssl",
        &["rsa", "-traditional", "-aes128", "-passout", "pass:x", "-in", text(&locked.key), "-out", text(&locked.key)],
    );
    assert!(broken(&locked).contains("passphrase"));
}

#[test]
fn a_subject_that_cannot_be_repeated_is_refused_before_it_signs_unverifiable_leaves() {
    for subject in ["/O=Corp/OU=One/OU=Two/CN=Corp CA", "/O=Corp+OU=One/CN=Corp CA"] {
        let dir = tempfile::tempdir().unwrap();
        let req = ["-multivalue-rdn", "-subj", subject, "-days", "3650"];
        let want = openssl_ca(dir.path(), &["ecparam", "-name", "prime256v1", "-genkey"], &req);
        assert!(broken(&want).contains("its subject"), "{}", broken(&want));
        let loaded = Issuer::load(&std::fs::read(&want.cert).unwrap(), &std::fs::read(&want.key).unwrap());
        assert!(loaded.unwrap_err().to_string().contains("its subject"));
    }
}

#[test]
fn a_changed_ca_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let want = openssl_ca(dir.path(), &["ecparam", "-name", "prime256v1", "-genkey"], &SUBJECT);
    let path = dir.path().join("ca.der");
    run("openssl", &["x509", "-in", text(&want.cert), "-outform", "DER", "-out", text(&path)]);
    let mut der = std::fs::read(&path).unwrap();
    // In issuer and subject alike: every field still reads.
    for at in (0..der.len() - 7).filter(|at| &der[*at..*at + 7] == b"Corp CA").collect::<Vec<_>>() {
        der[at] = b'c';
    }
    std::fs::write(&path, der).unwrap();
    run("openssl", &["x509", "-inform", "DER", "-in", text(&path), "-out", text(&want.cert)]);
    assert!(broken(&want).contains("is damaged"), "{}", broken(&want));
}

#[test]
fn a_request_signed_elsewhere_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let ca = openssl_ca(dir.path(), &["ecparam", "-name", "prime256v1", "-genkey"], &SUBJECT);
    let mut made = Made::new(&spec(KeyAlgorithm::EcdsaP256), &node(Layout::below(dir.path())), now());
    let issuer = hamaster::pki::inspect::certs(&std::fs::read(&ca.cert).unwrap()).unwrap().remove(0);
    for id in ["server", "kubecfg"] {
        let want = made.cert(id);
        let request = issue::csr(&want, None).unwrap();
        let again = issue::csr(&want, Some(request.key_pem.expose())).unwrap();
        assert_eq!(again.key_pem.expose(), request.key_pem.expose(), "the key of a request must stay");
        let (csr, cert) = (dir.path().join("leaf.csr"), dir.path().join("leaf.crt"));
        std::fs::write(&csr, &request.csr_pem).unwrap();
        run("openssl", &["req", "-in", text(&csr), "-verify", "-noout"]);
        let sign = ["x509", "-req", "-in", text(&csr), "-CA", text(&ca.cert), "-CAkey", text(&ca.key), "-days", "365"];
        run("openssl", &[&sign[..], &["-copy_extensions", "copyall", "-CAcreateserial", "-out", text(&cert)]].concat());
        let cert_pem = std::fs::read_to_string(&cert).unwrap();
        made.place(&want, &issue::Pair { cert_pem, key_pem: request.key_pem });
        assert_eq!(judge::leaf(&want, &made.facts(), &issuer, now() + DAY), None, "{id}");
    }
}
