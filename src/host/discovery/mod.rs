//! Where founders register and find each other: asked, registered at, taken back.

mod dns;
mod v2;
mod v3;

pub use dns::targets;

use crate::error::{Error, Result};
use crate::etcd::discovery::Listing;
use crate::host::http::{self, Identity};
use crate::host::operator;
use crate::spec::discovery::{Discovery, Place};
use crate::state::Secret;

/// A registry of either protocol. What fails is said in words: whoever waits asks again.
pub enum Registry {
    /// The v2 protocol over HTTP.
    V2(v2::Service),
    /// Keys in another etcd.
    V3(v3::Keys),
}

impl Registry {
    /// The registry of a discovery URL; nothing for DNS, where nobody registers. Nothing is sent yet.
    ///
    /// # Errors
    /// When a certificate or key does not read.
    pub fn of(discovery: &Discovery) -> Result<Option<Self>> {
        match &discovery.place {
            Place::V2 { url } => v2::Service::new(url, tls(discovery)?).map(Self::V2).map(Some),
            Place::V3 { host, token } => Ok(Some(Self::V3(v3::Keys::new(host, token, tls(discovery)?)))),
            Place::Srv { .. } => Ok(None),
        }
    }

    /// All that is registered.
    ///
    /// # Errors
    /// In words: no answer, refused, not such a service.
    pub fn listing(&self) -> Result<Listing, String> {
        match self {
            Self::V2(service) => service.listing(),
            Self::V3(keys) => keys.listing(),
        }
    }

    /// Registers `value` under `id`; one that is there stays.
    ///
    /// # Errors
    /// In words. It may have happened all the same; again is safe.
    pub fn register(&self, id: &str, value: &str) -> Result<(), String> {
        match self {
            Self::V2(service) => service.register(id, value),
            Self::V3(keys) => keys.register(id, value),
        }
    }

    /// Takes a registration back.
    ///
    /// # Errors
    /// In words. It may have happened all the same; again is safe.
    pub fn withdraw(&self, id: &str) -> Result<(), String> {
        match self {
            Self::V2(service) => service.withdraw(id),
            Self::V3(keys) => keys.withdraw(id),
        }
    }
}

fn tls(discovery: &Discovery) -> Result<rustls::ClientConfig> {
    if discovery.place.is_open() {
        return http::tls(&[], None);
    }
    let files = &discovery.tls;
    let identity = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            Some(Identity { cert_pem: operator::read(cert)?, key_pem: Secret::new(operator::read(key)?) })
        }
        _ => None,
    };
    let Some(ca) = &files.ca else { return http::tls_of_host(identity.as_ref()) };
    let pem = operator::read(ca)?;
    if !String::from_utf8_lossy(&pem).contains("BEGIN CERTIFICATE") {
        return Err(Error::usage(format!("{} holds no certificate", ca.display()))
            .hint(format!("openssl x509 -noout -subject -in {}", ca.display())));
    }
    http::tls(&pem, identity.as_ref())
}
