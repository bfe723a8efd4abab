//! What each value of `cluster.yaml` must be, alone and together with others.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::mistake::Mistake;
use super::network::{self, Cidr};
use super::report::Report;
use super::version::EtcdVersion;
use super::{ClusterSpec, EtcdBootstrap, FlannelLeases, NetworkPath, NetworkPlugin, Profile, Runtime, address, units};

pub(crate) type Checked<T> = Result<T, Mistake>;

pub(super) const YEAR: Duration = Duration::from_secs(365 * 86_400);
pub(super) const SERVICES: Cidr = Cidr { base: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), prefix: 12 };
pub(super) const PODS: Cidr = Cidr { base: IpAddr::V4(Ipv4Addr::new(10, 244, 0, 0)), prefix: 16 };

/// Only this word.
pub(crate) fn exactly(word: &'static str) -> impl Fn(&str) -> Checked<()> {
    move |text| match text {
        _ if text == word => Ok(()),
        _ => Err(Mistake::new(format!("`{}` is not known here", text.escape_debug())).hint(format!("write `{word}`"))),
    }
}

pub(crate) fn boolean(text: &str) -> Checked<bool> {
    text.parse().map_err(|_| Mistake::new(format!("`{text}` is not a boolean")).hint("write `true` or `false`"))
}

pub(crate) fn number<T: FromStr>(text: &str, ok: impl Fn(&T) -> bool, what: &str, range: &str) -> Checked<T> {
    text.parse().ok().filter(ok).ok_or_else(|| {
        Mistake::new(format!("`{}` is not {what}", text.escape_debug())).hint(format!("write a number {range}"))
    })
}

pub(super) fn port(text: &str) -> Checked<u16> {
    number(text, |n| *n > 0, "a port", "from 1 to 65535")
}

pub(super) fn router_id(text: &str) -> Checked<u8> {
    number(text, |n| *n > 0, "a virtual router id", "from 1 to 255")
}

pub(super) fn fraction(text: &str) -> Checked<f64> {
    number(text, |f: &f64| (0.1..=0.95).contains(f), "a fraction", "between 0.1 and 0.95, e.g. 0.66")
}

/// Any text that can stand in an argument: no control characters.
pub(crate) fn text(text: &str) -> Checked<String> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => {
            Err(Mistake::new(format!("`{}` has the control character `{}`", text.escape_debug(), c.escape_debug())))
        }
        None => Ok(text.to_owned()),
    }
}

/// A flag's name as it stands in `apiserverExtraArgs` and the like.
pub(super) fn flag_name(name: &str) -> Checked<()> {
    let mistake = Mistake::new(format!("`{}` is not a flag's name", name.escape_debug()));
    let bare = name.trim_start_matches('-');
    let plain = bare.starts_with(|c: char| c.is_ascii_alphanumeric())
        && bare.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    match plain {
        true if bare == name => Ok(()),
        true => Err(mistake.hint(format!("write `{bare}`, without dashes before it"))),
        false => {
            Err(mistake.hint("write it as in `kube-apiserver --help`, without the dashes, e.g. `audit-log-maxage`"))
        }
    }
}

pub(super) fn domain(text: &str) -> Checked<String> {
    match text.contains('*') {
        true => {
            Err(Mistake::new(format!("`{text}` is not a domain: it has a wildcard")).hint("write e.g. `cluster.local`"))
        }
        false => address::dns_name(text),
    }
}

pub(super) fn repository(text: &str) -> Checked<String> {
    let mistake = || Mistake::new(format!("`{}` is not an image repository", text.escape_debug()));
    if let Some((_, bare)) = text.split_once("://") {
        return Err(mistake().hint(format!("write `{}`", bare.trim_end_matches('/'))));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_:/".contains(c);
    match !text.is_empty() && text.chars().all(plain) && text.split('/').all(|part| !part.is_empty()) {
        true => Ok(text.to_owned()),
        false => Err(mistake().hint("write host and path, e.g. `registry.example.com:5000/kubernetes`")),
    }
}

pub(super) fn image(text: &str) -> Checked<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:/@".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => {
            Err(Mistake::new(format!("`{}` is not an image", text.escape_debug())).hint("write e.g. `hamaster:0.1.0`"))
        }
    }
}

pub(super) fn interface(text: &str) -> Checked<String> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
    match (1..=15).contains(&text.len()) && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(Mistake::new(format!("`{}` is not an interface name", text.escape_debug()))
            .hint("write one of `ip -br link`, at most 15 characters")),
    }
}

pub(crate) fn path(text: &str) -> Checked<PathBuf> {
    match self::text(text)?.is_empty() {
        true => Err(Mistake::new("an empty path")),
        false => Ok(PathBuf::from(text)),
    }
}

/// An absolute directory of its own, in the one form that compares.
pub(super) fn directory(text: &str) -> Checked<PathBuf> {
    let path = path(text)?;
    let mistake = Mistake::new(format!("`{text}` is not an absolute directory"));
    if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) || path.parent().is_none() {
        return Err(mistake.hint("write e.g. `/var/lib/etcd`"));
    }
    // Its mode and owner become etcd's: nothing else may live in it.
    const SHARED: [&str; 15] = [
        "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp",
        "/var", "/var/lib",
    ];
    const OTHERS: [&str; 6] =
        ["/etc/kubernetes", "/etc/etcd", "/etc/hamaster", "/var/lib/hamaster", "/var/lib/kubelet", "/usr"];
    if SHARED.iter().any(|s| path == Path::new(s)) || OTHERS.iter().any(|o| path.starts_with(o)) {
        return Err(
            Mistake::new(format!("`{text}` is not a directory of etcd's own")).hint("write e.g. `/var/lib/etcd`")
        );
    }
    Ok(path.components().collect())
}

pub(super) fn quota(text: &str) -> Checked<u64> {
    const LEAST: u64 = 64 << 20;
    const MOST: u64 = 1 << 40;
    match units::bytes(text)? {
        n if n < LEAST => Err(Mistake::new(format!("a quota of {} soon makes etcd read-only", units::show_bytes(n)))
            .hint("write `8GiB`, the advised size, or at least `64MiB`")),
        n if n > MOST => Err(Mistake::new(format!("a quota of {} is no size etcd works at", units::show_bytes(n)))
            .hint("write `8GiB`, the advised size")),
        n => Ok(n),
    }
}

/// Each snapshot reads the whole database.
pub(super) fn snapshot_interval(text: &str) -> Checked<Duration> {
    match units::duration(text)? {
        d if d < Duration::from_secs(60) => {
            Err(Mistake::new(format!("a snapshot every {text} keeps etcd busy")).hint("write `6h`, or at least `1m`"))
        }
        d => Ok(d),
    }
}

pub(super) fn snapshot_count(text: &str) -> Checked<usize> {
    number(text, |n| (1..=10_000).contains(n), "a number of snapshots", "from 1 to 10000, or `snapshots: off`")
}

/// An absolute path that a unit can name.
pub(super) fn absolute(text: &str) -> Checked<PathBuf> {
    let path = path(text)?;
    match path.is_absolute() && path.parent().is_some() && !path.components().any(|c| c == Component::ParentDir) {
        true => Ok(path),
        false => Err(Mistake::new(format!("`{text}` is not an absolute directory"))
            .hint("write e.g. `/var/lib/hamaster/snapshots`")),
    }
}

pub(super) fn etcd_version(text: &str) -> Checked<EtcdVersion> {
    let mistake = Mistake::new(format!("`{}` is not an etcd version", text.escape_debug()));
    match EtcdVersion::parse(text) {
        Some(v) if v.to_string() != text.strip_prefix('v').unwrap_or(text) => Err(mistake.hint(format!("write `{v}`"))),
        Some(v) if !v.supported() => Err(Mistake::new(format!("etcd {v} is not one hamaster can run"))
            .hint("write one from 3.4 to 3.7, e.g. `3.5.24`")),
        Some(v) => Ok(v),
        None => Err(mistake.hint("write major, minor and patch, e.g. `3.5.24`")),
    }
}

pub(super) fn lease(text: &str) -> Checked<Duration> {
    between(text, Duration::from_secs(5), Duration::from_secs(3600), "a lease")
}

pub(super) fn validity(text: &str) -> Checked<Duration> {
    between(text, Duration::from_secs(3600), YEAR * 100, "a certificate's life")
}

fn between(text: &str, least: Duration, most: Duration, what: &str) -> Checked<Duration> {
    let d = units::duration(text)?;
    match least <= d && d <= most {
        true => Ok(d),
        false => Err(Mistake::new(format!("`{text}` is not right for {what}")).hint(format!(
            "write a duration from `{}` to `{}`",
            units::show_duration(least),
            units::show_duration(most)
        ))),
    }
}

/// kube-apiserver takes at most 20 host bits; the first and the tenth address are taken by `kubernetes` and DNS.
pub(super) fn service_cidr(text: &str) -> Checked<Cidr> {
    let cidr = usable(text)?;
    let (least, most) = if cidr.is_ipv4() { ("/28", "/12") } else { ("/124", "/108") };
    match cidr.host_bits() {
        0..4 => {
            Err(Mistake::new(format!("the service range {cidr} is too small")).hint(format!("use {least} or larger")))
        }
        4..=20 => Ok(cidr),
        _ => Err(Mistake::new(format!("the service range {cidr} is larger than kube-apiserver takes")).hint(format!(
            "use {most} or smaller, e.g. `{}`",
            Cidr::around(cidr.base, if cidr.is_ipv4() { 12 } else { 108 })
        ))),
    }
}

/// Each node takes a /24 (IPv6: /64) of it.
pub(super) fn pod_cidr(text: &str) -> Checked<Cidr> {
    let cidr = usable(text)?;
    let node = if cidr.is_ipv4() { 24 } else { 64 };
    match cidr.prefix <= node {
        true => Ok(cidr),
        false => Err(Mistake::new(format!("the pod range {cidr} is too small: each node takes a /{node}"))
            .hint(format!("use e.g. `{}`", Cidr::around(cidr.base, node - 8)))),
    }
}

fn usable(text: &str) -> Checked<Cidr> {
    let cidr = Cidr::parse(text)?;
    let reserved = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/16", "fe80::/10", "ff00::/8"];
    match reserved.iter().filter_map(|r| Cidr::parse(r).ok()).find(|r| r.overlaps(&cidr)) {
        Some(r) => {
            Err(Mistake::new(format!("{cidr} overlaps {r}, which is reserved")).hint("use e.g. `10.244.0.0/16`"))
        }
        None => Ok(cidr),
    }
}

/// What values must be to each other.
pub(super) fn across(report: &mut Report<'_>, spec: &ClusterSpec) {
    let (beat, election) = (spec.etcd.heartbeat_interval, spec.etcd.election_timeout);
    let keys = ["etcd.electionTimeout", "etcd.heartbeatInterval"];
    if beat.is_zero() {
        let mistake = || Mistake::new("a heartbeat of 0 is no heartbeat").hint("write e.g. `100ms`");
        report.across(&[keys[1]], mistake);
    } else if election < beat.saturating_mul(5) {
        report.across(&keys, || {
            let [e, b, five] = [election, beat, beat.saturating_mul(5)].map(units::show_duration);
            Mistake::new(format!("the election timeout {e} is below five heartbeats of {b}"))
                .hint(format!("write at least `electionTimeout: {five}`, ten heartbeats are usual"))
        });
    }
    if election > Duration::from_secs(50) {
        report.across(&keys[..1], || {
            let shown = units::show_duration(election);
            Mistake::new(format!("the election timeout {shown} is above etcd's limit")).hint("write at most `50s`")
        });
    }

    founders(report, spec);
    if spec.pki.leaf_validity > spec.pki.ca_validity {
        report.across(&["pki.leafValidity", "pki.caValidity"], || {
            let [leaf, ca] = [spec.pki.leaf_validity, spec.pki.ca_validity].map(units::show_duration);
            Mistake::new(format!("leaves of {leaf} outlive their CA of {ca}"))
                .hint(format!("write at most `leafValidity: {ca}`"))
        });
    }

    if spec.network.path == NetworkPath::Classic {
        let why = match () {
            () if spec.runtime != Runtime::Docker => Some("is docker's bridge, but the runtime is containerd"),
            () if spec.kubernetes.version.minor > 23 => Some("needs dockershim, which ended with Kubernetes 1.23"),
            () if spec.network.plugin == NetworkPlugin::None => Some("is flannel's, but the plugin is none"),
            () => None,
        };
        if let Some(why) = why {
            let keys = ["network.path", "runtime", "kubernetes.version", "network.plugin"];
            report.across(&keys, || Mistake::new(format!("network path `classic` {why}")).hint("write `path: cni`"));
        }
        if spec.network.leases == FlannelLeases::Kubernetes {
            // docker would wait for flannel, flannel for the API, and the API for docker.
            report.across(&["network.leases", "network.path"], || {
                Mistake::new("network path `classic` needs its subnet before the API is there")
                    .hint("write `leases: etcd`")
            });
        }
    }

    if spec.profile == Profile::Cis && spec.auth.static_tokens {
        report.across(&["auth.staticTokens", "profile"], || {
            Mistake::new("profile `cis` forbids static tokens (check 1.2.2)")
                .hint("write `staticTokens: false` or `profile: standard`")
        });
    }

    let ranges = ["kubernetes.podCIDR", "kubernetes.serviceCIDR"];
    if spec.kubernetes.pod_cidr.is_ipv4() != spec.kubernetes.service_cidr.is_ipv4() {
        report.across(&ranges, || {
            Mistake::new("the pod range and the service range are of different families")
                .hint("use IPv4 or IPv6 for both")
        });
    }
    for problem in network::overlaps(spec, &[]) {
        let keys = [problem.at.as_str(), ranges[0], ranges[1]];
        report.across(&keys, || Mistake { message: problem.message.clone(), hint: problem.hint.clone() });
    }
}

/// What the way to bootstrap etcd needs to be known beside it.
fn founders(report: &mut Report<'_>, spec: &ClusterSpec) {
    let keys = ["etcd.bootstrap", "masters", "etcd.discovery", "etcd.discovery.url"];
    discovery_tls(report, spec);
    match (spec.etcd.bootstrap, &spec.etcd.discovery) {
        (EtcdBootstrap::Static, _) if spec.masters.len() < 2 => report.across(&keys[..2], || {
            Mistake::new("bootstrap `static` needs at least two masters named")
                .hint("write `masters: [{name: m1, ip: 192.0.2.11}, …]` or --initial-master m1=192.0.2.11 for each")
        }),
        (EtcdBootstrap::Discovery, None) => report.across(&[keys[0], keys[2], keys[3]], || {
            Mistake::new("bootstrap `discovery` needs to know where the masters find each other")
                .hint("write `discovery: https://HOST/TOKEN` or --discovery-url https://HOST/TOKEN")
        }),
        (EtcdBootstrap::New | EtcdBootstrap::Static, Some(_)) => report.across(&[keys[2], keys[3], keys[0]], || {
            Mistake::new(format!("a discovery URL does nothing for bootstrap `{}`", spec.etcd.bootstrap))
                .hint("write `bootstrap: discovery`, or leave the URL out")
        }),
        _ => {}
    }
}

fn discovery_tls(report: &mut Report<'_>, spec: &ClusterSpec) {
    let Some(discovery) = &spec.etcd.discovery else { return };
    let keys = ["etcd.discovery.ca", "etcd.discovery.cert", "etcd.discovery.key"];
    let tls = &discovery.tls;
    if tls.cert.is_some() != tls.key.is_some() {
        report.across(&keys[1..], || {
            Mistake::new("a client certificate and its key belong together").hint("write both `cert:` and `key:`")
        });
    }
    if !tls.is_empty() && !discovery.place.is_tls() {
        report.across(&keys, || {
            Mistake::new(format!("`{}` is not asked with TLS: certificates do nothing", discovery.place))
                .hint("leave `ca`, `cert` and `key` out, or write an https URL")
        });
    }
}
