//! PEM, kubeconfigs and auth files turned into facts. Nothing here panics on any bytes, and no fact holds a secret.

use std::net::IpAddr;
use std::path::Path;

use rcgen::{KeyPair, PublicKeyData as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::pki::{auth, kubeconfig, pem};
use crate::spec::Address;
use crate::state::Digest;
use crate::state::observed::{CertFact, ContentFact, KeyFact};

/// Every certificate of a PEM file; the first is the leaf.
///
/// # Errors
/// Why it does not read, with the line, for the operator.
pub fn certs(pem: &[u8]) -> Result<Vec<CertFact>, String> {
    let mut facts = vec![];
    for block in pem::blocks(pem)?.iter().filter(|b| b.label == "CERTIFICATE") {
        facts.push(cert(block.der.expose()).map_err(|why| format!("line {}: {why}", block.line))?);
    }
    if facts.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(facts) }
}

/// The fact of one DER certificate.
///
/// # Errors
/// Why it does not read.
pub fn cert(der: &[u8]) -> Result<CertFact, String> {
    let (rest, x509) = X509Certificate::from_der(der).map_err(|_| "not a certificate".to_owned())?;
    if !rest.is_empty() {
        return Err(format!("{} stray bytes after the certificate", rest.len()));
    }
    let constraints = x509.basic_constraints().map_err(|_| "unreadable basic constraints".to_owned())?;
    let usage = x509.key_usage().map_err(|_| "unreadable key usage".to_owned())?;
    let extended = x509.extended_key_usage().map_err(|_| "unreadable extended key usage".to_owned())?;
    let names = x509.subject_alternative_name().map_err(|_| "unreadable subject alternative names".to_owned())?;
    Ok(CertFact {
        common_name: common_name(x509.subject()),
        organizations: x509.subject().iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect(),
        issuer_common_name: common_name(x509.issuer()),
        serial: x509.raw_serial().iter().map(|b| format!("{b:02x}")).collect(),
        not_before: x509.validity().not_before.to_datetime(),
        not_after: x509.validity().not_after.to_datetime(),
        sans: names.map(|n| n.value.general_names.iter().filter_map(address).collect()).unwrap_or_default(),
        server: extended.as_ref().is_some_and(|e| e.value.server_auth),
        client: extended.as_ref().is_some_and(|e| e.value.client_auth),
        // A CA that may not sign certificates is none: verifiers refuse its leaves.
        is_ca: constraints.is_some_and(|c| c.value.ca) && usage.is_none_or(|u| u.value.key_cert_sign()),
        spki: Digest::of(x509.public_key().raw),
        algorithm: algorithm(x509.public_key()),
        der: der.to_vec(),
    })
}

/// Whether rcgen can write this certificate's subject as the issuer of another: it rebuilds the name from a map, so that of
/// two OUs one is lost (the leaf would chain to nothing), and it panics on an OID that is none.
///
/// # Errors
/// Why it cannot.
pub fn repeatable_subject(der: &[u8]) -> Result<(), String> {
    let (_, x509) = X509Certificate::from_der(der).map_err(|_| "not a certificate".to_owned())?;
    let mut seen = vec![];
    for part in x509.subject().iter() {
        let mut attributes = part.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err("its subject has several attributes in one part".to_owned());
        };
        let oid: Vec<u64> = attribute.attr_type().iter().map(Iterator::collect).unwrap_or_default();
        if !matches!(oid[..], [0 | 1, 0..40, ..] | [2, _, ..]) {
            return Err("its subject has an attribute without a valid type".to_owned());
        }
        if seen.contains(&oid) {
            return Err("its subject repeats an attribute".to_owned());
        }
        seen.push(oid);
    }
    Ok(())
}

/// The fact of a private key in PKCS#8, PKCS#1 or SEC1.
///
/// # Errors
/// Why it does not read.
pub fn key(pem: &[u8]) -> Result<KeyFact, String> {
    Ok(KeyFact { spki: spki(&key_pair(pem)?) })
}

/// The digest a key shares with its certificate.
pub(super) fn spki(key: &KeyPair) -> Digest {
    Digest::of(&key.subject_public_key_info())
}

/// The first private key of a PEM file. `openssl ecparam -genkey` puts an `EC PARAMETERS` block before it.
pub(super) fn key_pair(pem: &[u8]) -> Result<KeyPair, String> {
    let blocks = pem::blocks(pem)?;
    let block = blocks.iter().find(|b| b.label.ends_with("PRIVATE KEY")).ok_or("no private key in it")?;
    if block.label == "ENCRYPTED PRIVATE KEY" {
        return Err(format!("line {}: encrypted with a passphrase", block.line));
    }
    KeyPair::try_from(block.der.expose()).map_err(|_| {
        format!("line {}: not a private key hamaster can use (RSA of 2048 bits or more, P-256, P-384)", block.line)
    })
}

/// The public key of a signing request in PEM, as DER: the request's own signature shows that whoever made it has the
/// private half.
///
/// # Errors
/// Why it does not read, or that it was made with another key, or with one that clients do not take.
pub fn requested_key(pem: &[u8]) -> Result<Vec<u8>, String> {
    let blocks = pem::blocks(pem)?;
    let block = blocks.iter().find(|b| b.label == "CERTIFICATE REQUEST").ok_or("no certificate request in it")?;
    let Ok(([], request)) = X509CertificationRequest::from_der(block.der.expose()) else {
        return Err("not a certificate request".to_owned());
    };
    request.verify_signature().map_err(|_| "it is not signed with the key it is about".to_owned())?;
    let key = &request.certification_request_info.subject_pki;
    match algorithm(key).as_str() {
        "rsa-2048" | "rsa-3072" | "rsa-4096" | "ecdsa-p256" | "ecdsa-p384" => Ok(key.raw.to_vec()),
        other => Err(format!("a key of type {other} is not taken")),
    }
}

/// Digests of the public keys in a `PUBLIC KEY` PEM file: `sa.pub`, which holds several during a rotation.
///
/// # Errors
/// Why it does not read.
pub fn public_keys(pem: &[u8]) -> Result<Vec<Digest>, String> {
    let mut found = vec![];
    for block in pem::blocks(pem)?.iter().filter(|b| b.label == "PUBLIC KEY") {
        match SubjectPublicKeyInfo::from_der(block.der.expose()) {
            Ok(([], spki)) => found.push(Digest::of(spki.raw)),
            _ => return Err(format!("line {}: not a public key", block.line)),
        }
    }
    if found.is_empty() { Err("no public key in it".to_owned()) } else { Ok(found) }
}

/// What a file of ours (or of kubeadm) says. Its name decides what it should be.
///
/// A kubeconfig without anything secret in it (`kubelet.conf` refers to a file) is [`ContentFact::Public`].
pub fn content(path: &Path, bytes: &[u8]) -> ContentFact {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let fact = match (name, extension) {
        (auth::KNOWN_TOKENS | auth::BASIC_AUTH, _) => auth::read_csv(bytes).map(|()| ContentFact::SecretReadable),
        (auth::ENCRYPTION_CONFIG, _) => auth::read_encryption(bytes).map(|()| ContentFact::SecretReadable),
        (_, "crt" | "cert") => certs(bytes).map(ContentFact::Certs),
        (_, "key") => key(bytes).map(ContentFact::Key),
        (_, "pub") => public_keys(bytes).map(|_| ContentFact::Public(bytes.to_vec())),
        (_, "pem") => combined(bytes),
        (_, "conf") if kubeconfig::FILES.contains(&name) => kubeconfig::read(bytes).map(|k| match k.secret {
            true => ContentFact::Kubeconfig(k.fact),
            false => ContentFact::Public(bytes.to_vec()),
        }),
        _ => Ok(public(bytes)),
    };
    fact.unwrap_or_else(ContentFact::Corrupt)
}

fn combined(bytes: &[u8]) -> Result<ContentFact, String> {
    let leaf = certs(bytes)?.into_iter().next().ok_or("no certificate in it")?;
    Ok(ContentFact::Combined(leaf, key(bytes)?))
}

/// Text is kept for diffs, except what smells of a key.
fn public(bytes: &[u8]) -> ContentFact {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains("PRIVATE KEY") => ContentFact::Public(bytes.to_vec()),
        _ => ContentFact::Opaque,
    }
}

fn common_name(name: &X509Name<'_>) -> String {
    name.iter_common_name().next().and_then(|n| n.as_str().ok()).unwrap_or_default().to_owned()
}

fn address(name: &GeneralName<'_>) -> Option<Address> {
    match name {
        GeneralName::DNSName(dns) => Some(Address::Dns(dns.to_ascii_lowercase())),
        GeneralName::IPAddress(raw) => match <[u8; 4]>::try_from(*raw) {
            Ok(v4) => Some(Address::Ip(IpAddr::from(v4))),
            Err(_) => <[u8; 16]>::try_from(*raw).ok().map(|v6| Address::Ip(IpAddr::from(v6))),
        },
        _ => None,
    }
}

fn algorithm(spki: &SubjectPublicKeyInfo<'_>) -> String {
    let oid = &spki.algorithm.algorithm;
    if *oid == OID_PKCS1_RSAENCRYPTION {
        return match spki.parsed() {
            Ok(PublicKey::RSA(rsa)) => format!("rsa-{}", rsa.key_size()),
            _ => "rsa".to_owned(),
        };
    }
    if *oid == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
        return match curve {
            Some(c) if c == OID_EC_P256 => "ecdsa-p256",
            Some(c) if c == OID_NIST_EC_P384 => "ecdsa-p384",
            Some(c) if c == OID_NIST_EC_P521 => "ecdsa-p521",
            _ => "ecdsa",
        }
        .to_owned();
    }
    if *oid == OID_SIG_ED25519 { "ed25519".to_owned() } else { oid.to_id_string() }
}
