//! What this master proves itself with: `server.cert` of the bundle, and the cluster's CA behind it, in which a joiner
//! finds the key it has pinned. Read for each connection, so that a renewed one is used at once.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::pki::inspect;
use crate::spec::layout::Layout;
use crate::state::Digest;

/// Certificate, key, CA.
const FILES: [&str; 3] = ["server.cert", "server.key", "ca.crt"];

/// The certificate in use.
pub(super) struct Certificate {
    host: Host,
    layout: Layout,
    seen: Digest,
    acceptor: TlsAcceptor,
}

impl Certificate {
    /// Reads it.
    ///
    /// # Errors
    /// When a file is missing or does not read, or the key belongs to another certificate.
    pub(super) fn load(host: Host, layout: Layout) -> Result<Self> {
        let files = read(&host, &layout)?;
        let acceptor = acceptor(&layout, &files)?;
        Ok(Self { host, layout, seen: digest(&files), acceptor })
    }

    /// As it is now; with what is wrong with the files since they changed, while the one before stays in use. They may
    /// be half written yet.
    pub(super) fn current(&mut self) -> (TlsAcceptor, Option<Box<Error>>) {
        let trouble = read(&self.host, &self.layout).and_then(|files| {
            let now = digest(&files);
            if now != self.seen {
                (self.acceptor, self.seen) = (acceptor(&self.layout, &files)?, now);
            }
            Ok(())
        });
        (self.acceptor.clone(), trouble.err())
    }
}

fn read(host: &Host, layout: &Layout) -> Result<[Zeroizing<Vec<u8>>; 3]> {
    let file = |name: &str| {
        let path = layout.pki().join(name);
        let missing = || Error::conflict(format!("{} is missing", path.display())).hint("hamaster init --only pki");
        Ok::<_, Box<Error>>(Zeroizing::new(host.read(&path)?.ok_or_else(missing)?))
    };
    Ok([file(FILES[0])?, file(FILES[1])?, file(FILES[2])?])
}

fn digest(files: &[Zeroizing<Vec<u8>>; 3]) -> Digest {
    Digest::of(&files.each_ref().map(|f| Digest::of(f).0).concat())
}

fn acceptor(layout: &Layout, [cert, key, ca]: &[Zeroizing<Vec<u8>>; 3]) -> Result<TlsAcceptor> {
    let [cert_at, key_at, ca_at] = FILES.map(|name| layout.pki().join(name).display().to_string());
    let failed = |at: &str, e: &dyn std::fmt::Display| {
        Error::conflict(format!("cannot serve with {at}")).cause(e).hint("hamaster certs verify")
    };
    let certs = |at: &str, pem: &[u8]| {
        let all: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(pem).collect();
        all.map_err(|e| failed(at, &e))
    };
    // Half a pair is what a renewal looks like in the middle.
    let fact = |at: &str, e: String| failed(at, &e);
    let leaf = inspect::certs(cert).map_err(|e| fact(&cert_at, e))?;
    let pair = inspect::key(key).map_err(|e| fact(&key_at, e))?;
    if leaf.first().map(|c| c.spki) != Some(pair.spki) {
        return Err(failed(&key_at, &format!("it does not belong to {cert_at}")));
    }
    let mut chain = certs(&cert_at, cert)?;
    chain.extend(certs(&ca_at, ca)?);
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| failed(&key_at, &e))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| failed("this TLS library", &e))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| failed(&cert_at, &e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Nobody comes twice: nothing to resume, and no early data to replay.
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
