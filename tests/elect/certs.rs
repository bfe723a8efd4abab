//! Certificates for mutual TLS, made without hamaster's own code. They are valid since a week ago, so that a stepped clock
//! does not void them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// A directory with `ca.crt` and pairs below it.
pub(crate) struct Certs {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Certs {
    /// Makes a CA in `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mut params = params("etcd-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// The CA's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A certificate for `name`, good for `uses`, valid for the addresses.
    pub(crate) fn issue(&self, name: &str, addresses: &[String], uses: &[ExtendedKeyUsagePurpose]) -> Pair {
        let mut params = params(name);
        params.subject_alt_names = CertificateParams::new(addresses).unwrap().subject_alt_names;
        params.extended_key_usages = uses.to_vec();
        let key = KeyPair::generate().unwrap();
        let pair = Pair { cert: self.dir.join(format!("{name}.crt")), key: self.dir.join(format!("{name}.key")) };
        fs::write(&pair.cert, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// The certificate's file.
    pub(crate) cert: PathBuf,
    /// The key's file.
    pub(crate) key: PathBuf,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) =
        (OffsetDateTime::now_utc() - Duration::days(7), OffsetDateTime::now_utc() + Duration::days(7));
    params
}
