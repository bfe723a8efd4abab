//! Where the founders of an etcd cluster find each other. hamaster asks there itself; etcd's own discovery flags, which
//! are gone or quietly ignored in newer releases, are never used.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::address;
use super::mistake::Mistake;

/// The public service that answers no longer reliably.
const RETIRED: &str = "discovery.etcd.io";

/// `etcd.discovery`: the place, and how its server is told from an impostor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Where.
    pub place: Place,
    /// For `https`.
    pub tls: TlsFiles,
}

/// PEM files on this host. Without a CA the host's own are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CA that signed the server's certificate.
    pub ca: Option<PathBuf>,
    /// A client certificate, where the server wants one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// A place to find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `https://HOST/TOKEN`: a discovery service of the v2 protocol.
    V2 {
        /// The whole URL, token included, without a slash at its end.
        url: String,
    },
    /// `etcd3+https://HOST:PORT/TOKEN`: keys below `/_etcd/registry/TOKEN` in an etcd that exists.
    V3 {
        /// `HOST:PORT` or `HOST`.
        host: String,
        /// The token.
        token: String,
    },
    /// `srv:DOMAIN`: SRV records of `_etcd-server-ssl._tcp.DOMAIN`.
    Srv {
        /// The domain.
        domain: String,
    },
}

impl Discovery {
    /// A place alone.
    ///
    /// # Errors
    /// As [`Place::parse`].
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        Ok(Self { place: Place::parse(text)?, tls: TlsFiles::default() })
    }

    /// As it is written in `cluster.yaml`.
    pub(super) fn wire(&self) -> Value {
        let url = self.place.to_string();
        match self.tls.is_empty() {
            true => json!(url),
            false => json!({ "url": url, "ca": self.tls.ca, "cert": self.tls.cert, "key": self.tls.key }),
        }
    }
}

impl TlsFiles {
    /// None is named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Place {
    /// Reads a discovery URL.
    ///
    /// # Errors
    /// Another scheme, no token, the retired public service, a token or host that is none.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        const FORMS: &str = "write `https://HOST/TOKEN`, `etcd3+https://HOST:2379/TOKEN` or `srv:example.com`";
        let wrong = |why: &str| Mistake::new(format!("`{}` {why}", text.escape_debug())).hint(FORMS);
        if let Some(domain) = text.strip_prefix("srv:") {
            return Ok(Self::Srv { domain: address::dns_name(domain)? });
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("is not a discovery URL"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        if host.is_empty() || !host.chars().all(|c| plain(c) || ":[]".contains(c)) {
            return Err(wrong("names no host"));
        }
        if host.split(':').next() == Some(RETIRED) {
            return Err(Mistake::new(format!("{RETIRED} is no longer maintained"))
                .hint("run a discovery service of your own, or name the masters: `bootstrap: static`"));
        }
        let token = path.rsplit('/').next().unwrap_or_default();
        if token.is_empty() || token.starts_with(['.', '_']) || !path.chars().all(|c| plain(c) || c == '/') {
            return Err(wrong("ends with no token"));
        }
        match scheme {
            "http" | "https" => Ok(Self::V2 { url: format!("{scheme}://{host}/{path}") }),
            "etcd3+https" if path == token => Ok(Self::V3 { host: host.to_owned(), token: token.to_owned() }),
            "etcd3+http" => Err(wrong("would send who forms the cluster unprotected")),
            _ => Err(wrong("is not a discovery URL")),
        }
    }

    /// Its answers can be read and changed by whoever is on the way.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::V2 { url } if url.starts_with("http:"))
    }

    /// Whether it is asked with TLS.
    pub fn is_tls(&self) -> bool {
        !self.is_open() && !matches!(self, Self::Srv { .. })
    }

    /// The command that makes a token for another cluster of this size there.
    pub fn another(&self, size: usize) -> String {
        match self {
            Self::V2 { url } => {
                let (base, _) = url.rsplit_once('/').unwrap_or((url, ""));
                match base.contains("/v2/keys") {
                    true => format!("curl -X PUT -d value={size} {base}/NEW-TOKEN/_config/size"),
                    false => format!("curl '{base}/new?size={size}'"),
                }
            }
            Self::V3 { host, .. } => {
                format!("etcdctl --endpoints https://{host} put /_etcd/registry/NEW-TOKEN/_config/size {size}")
            }
            Self::Srv { domain } => format!("dig +short SRV _etcd-server-ssl._tcp.{domain}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V2 { url } => f.write_str(url),
            Self::V3 { host, token } => write!(f, "etcd3+https://{host}/{token}"),
            Self::Srv { domain } => write!(f, "srv:{domain}"),
        }
    }
}
