//! CA, client certificate and key: read again when the files change, in use once a member took them.
#![allow(clippy::disallowed_methods)] // floor 3: reads the TLS files

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::elect::config::TlsFiles;
use crate::error::{Error, Result};
use crate::host::http::{Identity, tls};
use crate::pki::inspect;
use crate::state::Secret;

/// New files that no member took are tried again after this long: they may be only half written, or ahead of etcd's
/// own CA. Nobody waits for it, the old ones stay in use.
const AGAIN: Duration = Duration::from_secs(4);

/// One reading of the files.
pub(super) struct Loaded {
    pub(super) connector: TlsConnector,
    /// The certificate's end.
    pub(super) expires: Option<OffsetDateTime>,
    /// Counts up with each set that came into use.
    pub(super) generation: u64,
    stamp: Stamp,
}

/// What changes when a file is rewritten or replaced: device, inode, size, mtime.
type Stamp = [Option<(u64, u64, u64, i64, i64)>; 3];

/// The set in use, and the last one that was refused.
pub(super) struct Credentials {
    pub(super) files: TlsFiles,
    state: Mutex<State>,
}

struct State {
    current: Arc<Loaded>,
    refused: Option<(Stamp, Instant)>,
}

impl Credentials {
    /// # Errors
    /// When a file does not read, or the key does not belong to the certificate.
    pub(super) fn load(files: TlsFiles) -> Result<Self> {
        let current = Arc::new(read(&files, 0)?);
        Ok(Self { files, state: Mutex::new(State { current, refused: None }) })
    }

    pub(super) fn current(&self) -> Arc<Loaded> {
        self.state().current.clone()
    }

    /// The files as they are now, if they are not what is in use; not adopted yet. `None` as well for a while after
    /// the same files were refused.
    pub(super) fn changed(&self) -> Option<Result<Arc<Loaded>>> {
        let stamp = stamp(&self.files);
        let (generation, wait) = {
            let state = self.state();
            let again = state.refused.as_ref().is_some_and(|(s, at)| *s == stamp && at.elapsed() < AGAIN);
            (state.current.generation, again || state.current.stamp == stamp)
        };
        if wait {
            return None;
        }
        let read = read(&self.files, generation + 1).map(Arc::new);
        if read.is_err() {
            self.refuse(stamp);
        }
        Some(read)
    }

    /// A member took them: from now on they are used.
    pub(super) fn adopt(&self, new: Arc<Loaded>) {
        let mut state = self.state();
        if state.current.generation < new.generation {
            (state.current, state.refused) = (new, None);
        }
    }

    /// No member took them.
    pub(super) fn reject(&self, new: &Loaded) {
        self.refuse(new.stamp);
    }

    fn refuse(&self, stamp: Stamp) {
        self.state().refused = Some((stamp, Instant::now()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a server may refuse the certificate. Go's TLS answers every reason with the same alert, so it is looked
    /// for here.
    pub(super) fn blemish(&self) -> Option<String> {
        let cert = inspect::certs(&fs::read(&self.files.cert).ok()?).ok()?.into_iter().next()?;
        let now = crate::host::clock::now();
        let path = self.files.cert.display();
        if !cert.client {
            return Some(format!("{path} lacks the extended key usage clientAuth"));
        }
        if cert.not_after < now {
            return Some(format!("{path} expired on {}", cert.not_after.date()));
        }
        (cert.not_before > now).then(|| format!("{path} is not valid before {}", cert.not_before.date()))
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    [&files.ca, &files.cert, &files.key].map(|path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
    })
}

fn read(files: &TlsFiles, generation: u64) -> Result<Loaded> {
    // Before the contents: a change in between is then seen as one.
    let stamp = stamp(files);
    let bytes = |path: &Path| {
        fs::read(path).map_err(|e| {
            Error::usage(format!("cannot read {}", path.display())).cause(e).hint(format!("ls -l {}", path.display()))
        })
    };
    let ca = bytes(&files.ca)?;
    let identity = Identity { cert_pem: bytes(&files.cert)?, key_pem: Secret::new(bytes(&files.key)?) };
    // An empty store would trust nobody, silently.
    if inspect::certs(&ca).map_or(true, |certs| certs.is_empty()) {
        let path = files.ca.display();
        return Err(
            Error::usage(format!("{path} holds no certificate")).hint(format!("openssl x509 -in {path} -noout"))
        );
    }
    let fits = |()| {
        Some(
            inspect::certs(&identity.cert_pem).ok()?.first()?.spki
                == inspect::key(identity.key_pem.expose()).ok()?.spki,
        )
    };
    let (cert, key) = (files.cert.display(), files.key.display());
    if fits(()) == Some(false) {
        return Err(Error::usage(format!("the key {key} does not belong to the certificate {cert}"))
            .hint(format!("openssl x509 -in {cert} -noout -pubkey; openssl pkey -in {key} -pubout")));
    }
    let mut config = tls(&ca, Some(&identity)).map_err(|e| {
        Error::usage(format!("cannot use {}, {cert} and {key} for TLS", files.ca.display()))
            .cause(e)
            .hint(format!("openssl verify -CAfile {} {cert}", files.ca.display()))
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let expires = inspect::certs(&identity.cert_pem).ok().and_then(|certs| Some(certs.first()?.not_after));
    Ok(Loaded { connector: TlsConnector::from(Arc::new(config)), expires, generation, stamp })
}
