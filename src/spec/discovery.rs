//! Where the founders of an etcd cluster find each other. hamaster asks there itself; etcd's own discovery flags, which
//! are gone or quietly ignored in newer releases, are never used.

use std::fmt;

use super::address;
use super::mistake::Mistake;

/// The public service that answers no longer reliably.
const RETIRED: &str = "discovery.etcd.io";

/// A place to find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// `https://HOST/TOKEN`: a discovery service of the v2 protocol.
    V2 {
        /// The whole URL, token included, without a slash at its end.
        url: String,
    },
    /// `etcd3+https://HOST:PORT/TOKEN`: keys below `/_etcd/registry/TOKEN` in an etcd that exists.
    V3 {
        /// `http://HOST:PORT` or `https://HOST:PORT`.
        endpoint: String,
        /// The token.
        token: String,
    },
    /// `srv:DOMAIN`: SRV records of `_etcd-server-ssl._tcp.DOMAIN`, else `_etcd-server._tcp.DOMAIN`.
    Srv {
        /// The domain.
        domain: String,
    },
}

impl Discovery {
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
            "etcd3+http" | "etcd3+https" if path == token => {
                Ok(Self::V3 { endpoint: format!("{}://{host}", &scheme["etcd3+".len()..]), token: token.to_owned() })
            }
            _ => Err(wrong("is not a discovery URL")),
        }
    }
}

impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V2 { url } => f.write_str(url),
            Self::V3 { endpoint, token } => write!(f, "etcd3+{endpoint}/{token}"),
            Self::Srv { domain } => write!(f, "srv:{domain}"),
        }
    }
}
