//! Addresses and names, and which of them a certificate and a cluster can carry.

use std::net::{IpAddr, Ipv6Addr};

use super::mistake::Mistake;
use super::{Address, Node};

impl Address {
    /// Reads an IP or a DNS name; a wildcard is taken as the whole first label only.
    ///
    /// # Errors
    /// Anything else. What looks like an IP but is none is never taken for a name.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        if looks_like_ip(text) {
            return ip(text).map(Address::Ip);
        }
        dns_name(text).map(Address::Dns)
    }
}

impl Node {
    /// A node of this name at this address, both checked.
    ///
    /// # Errors
    /// As [`node_name`] and [`ip`].
    pub fn parse(name: &str, address: &str) -> Result<Self, Mistake> {
        Ok(Self { name: node_name(name)?, ip: ip(address)? })
    }
}

/// Reads a unicast IP address.
///
/// # Errors
/// Not an IP, or one no host can be reached at: `0.0.0.0`, multicast, with a zone.
pub fn ip(text: &str) -> Result<IpAddr, Mistake> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        let mistake = Mistake::new(format!("`{text}` is not an IP address"));
        return Err(match intended_ip(text) {
            Some(meant) => mistake.hint(format!("write `{meant}`")),
            None => mistake.hint("write e.g. `203.0.113.10` or `2001:db8::10`"),
        });
    };
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(Mistake::new(format!("`{ip}` is not the address of a host")).hint("write the address clients use"));
    }
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            let v4 = v6.to_ipv4_mapped().map(|v4| v4.to_string()).unwrap_or_default();
            Err(Mistake::new(format!("`{text}` is an IPv4 address in IPv6 form")).hint(format!("write `{v4}`")))
        }
        _ => Ok(ip),
    }
}

/// Reads a node name: a lower-case DNS subdomain, as Kubernetes requires it.
///
/// # Errors
/// Upper case, underscores, empty or long labels, more than 253 characters, an IP.
pub fn node_name(text: &str) -> Result<String, Mistake> {
    if looks_like_ip(text) {
        return Err(
            Mistake::new(format!("`{text}` is not a node name: it reads as an IP")).hint("write e.g. `master-1`")
        );
    }
    // A kubelet is given a certificate for its node's name, and must not pass for the API with it.
    if text == "localhost" || text == "kubernetes" || text.starts_with("kubernetes.") {
        return Err(
            Mistake::new(format!("`{text}` cannot be a node name: the API is known by it")).hint("e.g. `master-1`")
        );
    }
    subdomain(text, text, "a node name")
}

/// Reads a DNS name for a SAN; a wildcard is taken as the whole first label only.
///
/// # Errors
/// As [`node_name`], and a wildcard anywhere else.
pub fn dns_name(text: &str) -> Result<String, Mistake> {
    if looks_like_ip(text) {
        return Err(Mistake::new(format!("`{text}` is not a DNS name: it reads as an IP")));
    }
    match text.strip_prefix("*.") {
        Some(rest) if rest.contains('.') && !rest.contains('*') => {
            subdomain(rest, text, "a DNS name").map(|_| text.into())
        }
        _ if text.contains('*') => Err(Mistake::new(format!("`{text}` has a wildcard where no client accepts one"))
            .hint("write it as the whole first label, e.g. `*.example.com`")),
        _ => subdomain(text, text, "a DNS name"),
    }
}

/// Reads a DNS label: a name without dots, at most 63 characters.
///
/// # Errors
/// Anything else.
pub fn label(text: &str) -> Result<String, Mistake> {
    if text.contains('.') {
        return Err(Mistake::new(format!("`{text}` is not a DNS label: it has a dot")).hint(write_lower(text, true)));
    }
    subdomain(text, text, "a DNS label")
}

fn subdomain(checked: &str, text: &str, what: &str) -> Result<String, Mistake> {
    let mistake = |why: &str| Mistake::new(format!("`{}` is not {what}: {why}", text.escape_debug()));
    if checked.is_empty() {
        return Err(mistake("it is empty"));
    }
    if checked.len() > 253 {
        return Err(Mistake::new(format!("a name of {} characters is not {what}", checked.len()))
            .hint("use at most 253 characters"));
    }
    if let Some((_, rest)) = checked.split_once("://") {
        return Err(mistake("it is a URL").hint(format!("write `{}`", rest.split(['/', ':']).next().unwrap_or(rest))));
    }
    if let Some(odd) = checked.chars().find(|c| !c.is_ascii_lowercase() && !c.is_ascii_digit() && !"-.".contains(*c)) {
        return Err(match odd {
            'A'..='Z' => mistake("it has upper-case letters").hint(write_lower(text, false)),
            ' ' => mistake("it has a space").hint("list two names as two entries"),
            ':' => mistake("it has a port").hint("leave the port out"),
            '_' => mistake("it has an underscore").hint(write_lower(text, false)),
            _ => mistake(&format!("it has `{}`", odd.escape_debug())).hint("use a-z, 0-9, `-` and dots"),
        });
    }
    for label in checked.split('.') {
        if label.is_empty() {
            return Err(mistake("a dot stands at an end or beside another"));
        }
        if label.len() > 63 {
            return Err(mistake("a label is longer than 63 characters"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(mistake("a label starts or ends with `-`"));
        }
    }
    Ok(text.into())
}

fn write_lower(text: &str, label: bool) -> String {
    let from: &[char] = if label { &['_', '.'] } else { &['_'] };
    format!("write `{}`", text.to_ascii_lowercase().replace(from, "-"))
}

/// Whether a person meant an IP: resolvers take every name whose last label is a number for one.
fn looks_like_ip(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    let host = text.trim_start_matches('[').split(['/', ']', '%']).next().unwrap_or(text);
    let numeric = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    let port = text.rsplit_once(':').is_some_and(|(host, _)| host.parse::<IpAddr>().is_ok());
    numeric || port || host.parse::<IpAddr>().is_ok() || text.matches(':').count() > 1 && !text.contains("://")
}

/// The address in `10.0.0.1/24`, `10.0.0.1:6443`, `[::1]:6443` or `fe80::1%eth0`.
fn intended_ip(text: &str) -> Option<IpAddr> {
    let inner = text.trim_start_matches('[').split(['/', ']', '%']).next()?;
    inner.parse().ok().or_else(|| inner.rsplit_once(':')?.0.parse().ok()).filter(|ip| match ip {
        // A zone is part of a link-local address: without it the address means nothing to another host.
        IpAddr::V6(v6) => !is_link_local(v6),
        IpAddr::V4(_) => true,
    })
}

fn is_link_local(ip: &Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}
