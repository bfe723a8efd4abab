//! What each value of `elect.yaml` must be.

use std::net::SocketAddr;
use std::path::{Component, PathBuf};
use std::time::Duration;

use crate::elect::config::{Confirm, Endpoint, FileKind, Unfenceable, Update};
use crate::spec::Address;
use crate::spec::checks::{Checked, number};
use crate::spec::mistake::{Mistake, nearest};
use crate::spec::units;

/// etcd's client port.
const ETCD_PORT: u16 = 2379;

/// A group's name: part of a key, a file name and a label.
pub(super) fn name(text: &str) -> Checked<String> {
    let mistake = |why: &str| Mistake::new(format!("`{}` is not a group's name: {why}", text.escape_debug()));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.contains('/') {
        return Err(mistake("it has a slash").hint(format!("write `{}`", text.trim_matches('/').replace('/', "-"))));
    }
    match text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.len() <= 63 && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(mistake("it goes into keys and file names")
            .hint("begin with a letter or digit, go on with letters, digits, `-`, `_`, `.`, at most 63 in all")),
    }
}

/// The name of a candidate: shown, and typed by operators.
pub(super) fn id(text: &str) -> Checked<String> {
    let plain = |c: char| c.is_ascii_graphic() && !"/\\\"'".contains(c);
    match !text.is_empty() && text.len() <= 253 && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(Mistake::new(format!("`{}` is not an id", text.escape_debug()))
            .hint("write a host's name, e.g. `id: m1`, or leave it out")),
    }
}

/// A member of etcd. A password typed into it is not repeated.
pub(super) fn endpoint(text: &str) -> Checked<Endpoint> {
    if text.contains('@') {
        return Err(
            Mistake::new("an endpoint with a user in it").hint("write `https://HOST:2379` and certFile, keyFile")
        );
    }
    let mistake = |why: &str| Mistake::new(format!("`{}` is not an endpoint: {why}", text.escape_debug()));
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(mistake("it has no scheme").hint(format!("write e.g. `https://{}`", meant_host(text))));
    };
    let tls = match scheme {
        "https" => true,
        "http" => false,
        other => {
            let near = nearest(other, ["https", "http"]).unwrap_or("https");
            return Err(mistake(&format!("its scheme is `{other}`")).hint(format!("write `{near}://{rest}`")));
        }
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if let Some((host, _)) = authority.split_once(['/', '?', '#']) {
        return Err(mistake("it has a path").hint(format!("write `{scheme}://{host}`")));
    }
    let (host, port) = host_port(authority, Some(ETCD_PORT))?;
    Ok(Endpoint { tls, host, port })
}

/// `host:port` of a service; the host without brackets.
pub(super) fn host_port(text: &str, default: Option<u16>) -> Checked<(String, u16)> {
    let mistake = |why: &str| Mistake::new(format!("`{}` has {why}", text.escape_debug()));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, after)) = rest.split_once(']') else {
                return Err(mistake("no `]`").hint("write e.g. `[::1]:2379`"));
            };
            (host, after.strip_prefix(':').or((!after.is_empty()).then_some(after)))
        }
        None if text.matches(':').count() > 1 => {
            return Err(mistake("more than one colon").hint("write an IPv6 address as `[::1]:2379`"));
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let host = Address::parse(host)?.to_string();
    let port = match (port, default) {
        (Some(port), _) => number::<u16>(port, |n| *n > 0, "a port", "from 1 to 65535")?,
        (None, Some(port)) => port,
        (None, None) => return Err(mistake("no port").hint(format!("write e.g. `{text}:6443`"))),
    };
    Ok((host, port))
}

fn meant_host(text: &str) -> String {
    let bare = text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric() && c != '[');
    let bare = bare.strip_prefix("https").or_else(|| bare.strip_prefix("http")).unwrap_or(bare);
    let bare = bare.trim_start_matches([':', '/']);
    if bare.contains(':') { bare.to_owned() } else { format!("{bare}:{ETCD_PORT}") }
}

/// Where something of ours listens, or a payload did: an address and a port.
pub(super) fn socket(text: &str) -> Checked<SocketAddr> {
    text.parse().ok().filter(|a: &SocketAddr| a.port() > 0).ok_or_else(|| {
        Mistake::new(format!("`{}` is not an address and a port", text.escape_debug()))
            .hint("write e.g. `127.0.0.1:7480`")
    })
}

/// An absolute path in the one form that compares.
pub(super) fn absolute(text: &str) -> Checked<PathBuf> {
    let path = crate::spec::checks::path(text)?;
    let mistake = Mistake::new(format!("`{text}` is not an absolute path"));
    if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
        return Err(mistake.hint("write it from the root, without `..`: what is removed must not hang on a directory"));
    }
    Ok(path.components().collect())
}

/// As [`absolute`], the path of a file.
pub(super) fn file(text: &str) -> Checked<PathBuf> {
    let path = absolute(text)?;
    match text.ends_with('/') || path.file_name().is_none() {
        true => Err(Mistake::new(format!("`{text}` is a directory")).hint("write the path of the file in it")),
        false => Ok(path),
    }
}

/// A runtime's socket, as the kubelet is told of it.
pub(super) fn cri_socket(text: &str) -> Checked<PathBuf> {
    file(text.strip_prefix("unix://").unwrap_or(text))
        .map_err(|m| m.hint("write e.g. `unix:///run/containerd/containerd.sock`"))
}

/// A URL a health check asks.
pub(super) fn url(text: &str) -> Checked<http::Uri> {
    let mistake = Mistake::new(format!("`{}` is not a URL", text.escape_debug()))
        .hint("write e.g. `https://127.0.0.1:6443/readyz`");
    match text.parse::<http::Uri>() {
        Ok(url) if matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|h| !h.is_empty()) => {
            Ok(url)
        }
        _ => Err(mistake),
    }
}

/// One word of a command line.
pub(super) fn word(text: &str) -> Checked<String> {
    crate::spec::checks::text(text)
}

/// A unit of systemd.
pub(super) fn unit(text: &str) -> Checked<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let stem = ["service", "target", "timer", "mount", "socket", "path", "scope"]
        .iter()
        .find_map(|suffix| text.strip_suffix(suffix)?.strip_suffix('.'));
    match stem {
        Some(stem) if !stem.is_empty() && text.chars().all(plain) => Ok(text.to_owned()),
        _ => Err(Mistake::new(format!("`{}` is not a unit of systemd", text.escape_debug()))
            .hint("write it with its suffix, e.g. `keepalived.service`")),
    }
}

pub(super) fn priority(text: &str) -> Checked<u8> {
    number(text, |n| *n <= 99, "a priority", "from 0 to 99")
}

pub(super) fn rounds(text: &str) -> Checked<u32> {
    number(text, |n| (1..=1000).contains(n), "a number of rounds", "from 1 to 1000")
}

/// A duration that is not zero.
pub(super) fn interval(text: &str) -> Checked<Duration> {
    match units::duration(text)? {
        d if d.is_zero() => Err(Mistake::new(format!("`{text}` is no time at all")).hint("write e.g. `2s`")),
        d => Ok(d),
    }
}

pub(super) fn kind(text: &str) -> Checked<FileKind> {
    one_of(text, &[("pod", FileKind::Pod), ("file", FileKind::File)])
}

pub(super) fn update(text: &str) -> Checked<Update> {
    one_of(text, &[("restart", Update::Restart), ("replace", Update::Replace)])
}

pub(super) fn unfenceable(text: &str) -> Checked<Unfenceable> {
    one_of(text, &[("alarm", Unfenceable::Alarm), ("reboot", Unfenceable::Reboot)])
}

/// The written forms of `confirm` that are one word; `exec:` is a mapping.
pub(super) fn confirm(text: &str) -> Checked<Confirm> {
    match text.strip_prefix("port:") {
        Some(at) => socket(at).map(Confirm::Port).map_err(|m| m.hint("write e.g. `port:127.0.0.1:10259`")),
        None => one_of(text, &[("cri", Confirm::Cri), ("none", Confirm::None)])
            .map_err(|m| m.hint("write `cri`, `none`, `port:ADDRESS:PORT` or `{exec: [PROGRAM, …]}`")),
    }
}

fn one_of<T: Clone>(text: &str, known: &[(&'static str, T)]) -> Checked<T> {
    let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
    known.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone()).ok_or_else(|| {
        let near = nearest(text, words.iter().copied()).or(words.first().copied()).unwrap_or_default();
        Mistake::new(format!("`{}` is not one of {}", text.escape_debug(), words.join(", ")))
            .hint(format!("write `{near}`"))
    })
}
