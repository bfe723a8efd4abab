//! Keys and certificates made with rcgen on aws-lc-rs.
//!
//! rcgen's defaults are set aside one by one: its subject (`rcgen self signed cert`), validity (1975 to 4096), serial (a
//! hash of the public key, which repeats when a key is certified twice), key usages and key identifiers (none).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, RsaKeySize, SanType, SerialNumber, SignatureAlgorithm, SubjectPublicKeyInfo,
};
use time::{Date, Month, OffsetDateTime, Time};

use crate::error::{Error, Result};
use crate::pki::{inspect, pem};
use crate::spec::{Address, KeyAlgorithm};
use crate::state::Secret;
use crate::state::desired::{CaSpec, CertSpec};
use crate::state::observed::CertFact;

/// How far NotBefore lies back, so that a host whose clock is a little behind takes the certificate: 5 minutes.
pub const BACKDATE: Duration = Duration::from_secs(300);

/// A certificate and its key. Debug shows the certificate only.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM of the certificate.
    pub cert_pem: String,
    /// PKCS#8 PEM of the key.
    pub key_pem: Secret,
}

/// A signing request and its key: external CA mode.
#[derive(Debug, Clone)]
pub struct Request {
    /// PEM of the request.
    pub csr_pem: String,
    /// PKCS#8 PEM of the key.
    pub key_pem: Secret,
}

/// A CA that can sign: certificate and key, verified to belong together.
pub struct Issuer {
    fact: CertFact,
    pem: String,
    signer: rcgen::Issuer<'static, KeyPair>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("common_name", &self.fact.common_name).finish_non_exhaustive()
    }
}

impl Issuer {
    /// Takes a CA that is there: its key may be PKCS#8, PKCS#1 or SEC1, as kubeadm and openssl write them.
    ///
    /// # Errors
    /// When one of them does not read, or they do not belong together.
    pub fn load(ca_pem: &[u8], key_pem: &[u8]) -> Result<Self> {
        let refuse = |why: String| Error::refused("the CA cannot be used").cause(why);
        let fact = inspect::certs(ca_pem).and_then(first).map_err(refuse)?;
        if !fact.is_ca {
            return Err(refuse(format!("certificate {} may not sign certificates", fact.common_name)));
        }
        inspect::repeatable_subject(&fact.der).map_err(refuse)?;
        let key = inspect::key_pair(key_pem).map_err(refuse)?;
        if inspect::spki(&key) != fact.spki {
            return Err(refuse(format!("key and certificate {} do not belong together", fact.common_name)));
        }
        let signer =
            rcgen::Issuer::from_ca_cert_der(&fact.der.as_slice().into(), key).map_err(|e| refuse(e.to_string()))?;
        let pem = String::from_utf8_lossy(ca_pem).into_owned();
        Ok(Self { fact, pem, signer })
    }

    /// Facts of the CA certificate.
    pub fn cert(&self) -> &CertFact {
        &self.fact
    }

    /// The CA file as it was given: what kubeconfigs embed.
    pub fn cert_pem(&self) -> &str {
        &self.pem
    }
}

/// A new key in PKCS#8 PEM.
///
/// # Errors
/// When the random source fails.
pub fn key(algorithm: KeyAlgorithm) -> Result<Secret> {
    Fresh::generate(algorithm).map(|key| pem::encode("PRIVATE KEY", key.pkcs8.expose()))
}

/// The public half of a private key in PEM: `sa.pub`. An apiserver refuses a PKCS#8 EC private key in its place.
///
/// # Errors
/// When the key does not read.
pub fn public_pem(key_pem: &[u8]) -> Result<String> {
    let key = inspect::key_pair(key_pem).map_err(|why| Error::refused("private key cannot be used").cause(why))?;
    Ok(key.public_key_pem())
}

/// A new self-signed CA.
///
/// # Errors
/// When the random source fails.
pub fn new_ca(want: &CaSpec, now: OffsetDateTime) -> Result<Pair> {
    ca_for(want, key(want.algorithm)?, now)
}

/// The self-signed certificate of a CA whose key is there: what the key has signed stays good.
///
/// # Errors
/// When the key does not read, or the random source fails.
pub fn ca_for(want: &CaSpec, key_pem: Secret, now: OffsetDateTime) -> Result<Pair> {
    let unusable = |why: String| Error::refused(format!("key of CA {} cannot be used", want.common_name)).cause(why);
    let key = inspect::key_pair(key_pem.expose()).map_err(unusable)?;
    let mut params = params(&want.common_name, None, &[], failed(&want.common_name))?;
    params.serial_number = serial()?;
    params.not_before = now - BACKDATE;
    params.not_after = after(now, want.validity);
    // No path length: rotation cross-signs the next CA with this one.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.self_signed(&key).map_err(failed(&want.common_name))?;
    Ok(Pair { cert_pem: encode_cert(cert.der()), key_pem })
}

/// A new key and the leaf of `want` for it. Its end is capped at the issuer's: see [`capped`].
///
/// # Errors
/// When the random source fails or a SAN cannot be written.
pub fn leaf(want: &CertSpec, issuer: &Issuer, now: OffsetDateTime) -> Result<Pair> {
    let key = Fresh::generate(want.algorithm)?;
    let params = leaf_params_for(want, issuer, now)?;
    let cert = params.signed_by(&key, &issuer.signer).map_err(failed(&want.common_name))?;
    Ok(Pair { cert_pem: encode_cert(cert.der()), key_pem: pem::encode("PRIVATE KEY", key.pkcs8.expose()) })
}

/// The leaf of `want` for the key that a request was made with: whoever asks has that key, and of what the request says
/// beside it nothing counts.
///
/// # Errors
/// [`Kind::Refused`](crate::error::Kind::Refused) when it is no request, its own signature does not fit its key, or the
/// key is none that clients take; else as [`leaf()`].
pub fn certify(want: &CertSpec, csr_pem: &[u8], issuer: &Issuer, now: OffsetDateTime) -> Result<String> {
    let asked = inspect::requested_key(csr_pem)
        .map_err(|why| Error::refused(format!("the request for {} cannot be signed", want.id)).cause(why))?;
    let params = leaf_params_for(want, issuer, now)?;
    let key = SubjectPublicKeyInfo::from_der(&asked).map_err(failed(&want.common_name))?;
    params.signed_by(&key, &issuer.signer).map(|cert| encode_cert(cert.der())).map_err(failed(&want.common_name))
}

/// A signing request for `want`, with a new key or the one already there.
///
/// # Errors
/// When the key does not read or a SAN cannot be written.
pub fn csr(want: &CertSpec, key_pem: Option<&[u8]>) -> Result<Request> {
    let key = match key_pem {
        Some(pem) => inspect::key_pair(pem)
            .map_err(|why| Error::refused(format!("key of {} cannot be used", want.id)).cause(why))?,
        None => generate(want.algorithm)?,
    };
    let request = leaf_params(want)?.serialize_request(&key).map_err(failed(&want.common_name))?;
    let csr_pem = encode("CERTIFICATE REQUEST", request.der());
    Ok(Request { csr_pem, key_pem: key_pem.map_or_else(|| encode_key(&key), |pem| Secret::new(pem.to_vec())) })
}

/// The end of a leaf that would outlive its issuer: the issuer's end. `None` when the wanted life fits.
pub fn capped(validity: Duration, issuer: &CertFact, now: OffsetDateTime) -> Option<OffsetDateTime> {
    (after(now, validity) > issuer.not_after).then_some(issuer.not_after)
}

fn leaf_params_for(want: &CertSpec, issuer: &Issuer, now: OffsetDateTime) -> Result<CertificateParams> {
    let mut params = leaf_params(want)?;
    params.serial_number = serial()?;
    params.not_before = now - BACKDATE;
    params.not_after = capped(want.validity, &issuer.fact, now).unwrap_or_else(|| after(now, want.validity));
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn leaf_params(want: &CertSpec) -> Result<CertificateParams> {
    let mut params = params(&want.common_name, want.organization.as_deref(), &want.sans, failed(&want.common_name))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Key encipherment is an RSA key exchange; on an ECDSA certificate it would be a lie.
    if matches!(want.algorithm, KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096) {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    if want.server {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if want.client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    Ok(params)
}

fn params(
    common_name: &str,
    organization: Option<&str>,
    sans: &[Address],
    failed: impl Fn(rcgen::Error) -> Box<Error>,
) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    for san in sans {
        params.subject_alt_names.push(match san {
            Address::Ip(ip) => SanType::IpAddress(*ip),
            Address::Dns(name) => SanType::DnsName(name.as_str().try_into().map_err(&failed)?),
        });
    }
    Ok(params)
}

/// 16 bytes, positive and of full length in DER: the top bit is clear and the next one set, which leaves 126 random bits.
fn serial() -> Result<Option<SerialNumber>> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| no_randomness())?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(Some(SerialNumber::from_slice(&serial)))
}

/// A new key that signs nothing here: what rcgen needs to certify it, and what is written. rcgen's own `KeyPair` parses
/// an EC key again that it has just made, which costs as much as the signature.
struct Fresh {
    public: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
    pkcs8: Secret,
}

impl Fresh {
    fn generate(algorithm: KeyAlgorithm) -> Result<Self> {
        let (curve, signature) = match algorithm {
            KeyAlgorithm::EcdsaP256 => (&ECDSA_P256_SHA256_ASN1_SIGNING, &rcgen::PKCS_ECDSA_P256_SHA256),
            KeyAlgorithm::EcdsaP384 => (&ECDSA_P384_SHA384_ASN1_SIGNING, &rcgen::PKCS_ECDSA_P384_SHA384),
            _ => {
                let key = generate(algorithm)?;
                let pkcs8 = Secret::new(key.serialized_der().to_vec());
                return Ok(Self { public: key.der_bytes().to_vec(), algorithm: key.algorithm(), pkcs8 });
            }
        };
        let key = EcdsaKeyPair::generate(curve).map_err(|_| no_randomness())?;
        let pkcs8 = key.to_pkcs8v1().map_err(|_| no_randomness())?;
        let public = key.public_key().as_ref().to_vec();
        Ok(Self { public, algorithm: signature, pkcs8: Secret::new(pkcs8.as_ref().to_vec()) })
    }
}

impl PublicKeyData for Fresh {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

fn generate(algorithm: KeyAlgorithm) -> Result<KeyPair> {
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
    match algorithm {
        KeyAlgorithm::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyAlgorithm::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyAlgorithm::Rsa2048 => rsa(RsaKeySize::_2048),
        KeyAlgorithm::Rsa3072 => rsa(RsaKeySize::_3072),
        KeyAlgorithm::Rsa4096 => rsa(RsaKeySize::_4096),
    }
    .map_err(|_| no_randomness())
}

/// `now + validity`, at most the last moment X.509 can say (RFC 5280 §4.1.2.5).
fn after(now: OffsetDateTime, validity: Duration) -> OffsetDateTime {
    let last = Date::from_calendar_date(9999, Month::December, 31)
        .map_or(now, |day| OffsetDateTime::new_utc(day, Time::MIDNIGHT));
    time::Duration::try_from(validity).ok().and_then(|d| now.checked_add(d)).map_or(last, |end| end.min(last))
}

fn first(certs: Vec<CertFact>) -> Result<CertFact, String> {
    certs.into_iter().next().ok_or_else(|| "no certificate in it".to_owned())
}

fn encode_key(key: &KeyPair) -> Secret {
    pem::encode("PRIVATE KEY", key.serialized_der())
}

fn encode_cert(der: &[u8]) -> String {
    encode("CERTIFICATE", der)
}

fn encode(label: &str, der: &[u8]) -> String {
    String::from_utf8_lossy(pem::encode(label, der).expose()).into_owned()
}

fn failed(common_name: &str) -> impl Fn(rcgen::Error) -> Box<Error> {
    move |e| Error::apply(format!("certificate of {common_name} cannot be made")).cause(e)
}

pub(super) fn no_randomness() -> Box<Error> {
    Error::apply("key cannot be made").cause("the system's random source failed")
}
