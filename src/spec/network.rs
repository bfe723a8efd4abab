//! Address ranges: parsing, the addresses hamaster takes from them, and the overlaps that break a cluster.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::mistake::Mistake;
use super::{Address, ClusterSpec, FlannelBackend, NetworkPath, Runtime};
use crate::error::Problem;
use crate::state::observed::HostNetwork;

/// An IP range in canonical form (no host bits set).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    /// The network address.
    pub base: IpAddr,
    /// Prefix length.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Cidr {
    /// Reads `10.96.0.0/12` or `fd00::/108`.
    ///
    /// # Errors
    /// Not an address and a prefix length, or host bits are set; then the hint is the canonical form.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let wrong = || Mistake::new(format!("`{}` is not an address range", text.escape_debug()));
        let Some((ip, prefix)) = text.split_once('/') else {
            return Err(wrong().hint("write an address and a prefix length, e.g. `10.244.0.0/16`"));
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong().hint(format!("`{}` is not an IP", ip.escape_debug())))?;
        let width = width(&ip);
        let plain = prefix.bytes().all(|b| b.is_ascii_digit());
        let Some(prefix) = prefix.parse::<u8>().ok().filter(|p| plain && *p <= width) else {
            return Err(wrong().hint(format!("the prefix length is a number from 0 to {width}")));
        };
        let cidr = Self::around(ip, prefix);
        if cidr.base != ip {
            return Err(Mistake::new(format!("`{text}` has host bits set")).hint(format!("write `{cidr}`")));
        }
        Ok(cidr)
    }

    /// The range of this prefix length that `ip` is in.
    pub fn around(ip: IpAddr, prefix: u8) -> Self {
        let prefix = prefix.min(width(&ip));
        let kept = bits(&ip) & !host_mask(width(&ip) - prefix);
        Self { base: address(kept, &ip), prefix }
    }

    /// Whether `ip` is in the range; never for an address of the other family.
    pub fn contains(&self, ip: &IpAddr) -> bool {
        ip.is_ipv4() == self.is_ipv4() && Self::around(*ip, self.prefix) == *self
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(&other.base) || other.contains(&self.base)
    }

    /// The address `n` after the base, if it is in the range.
    pub fn nth(&self, n: u32) -> Option<IpAddr> {
        let ip = bits(&self.base).checked_add(u128::from(n)).map(|b| address(b, &self.base))?;
        self.contains(&ip).then_some(ip)
    }

    /// How many bits number the addresses in it.
    pub fn host_bits(&self) -> u8 {
        width(&self.base) - self.prefix
    }

    /// IPv4 or not.
    pub fn is_ipv4(&self) -> bool {
        self.base.is_ipv4()
    }
}

fn width(ip: &IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn bits(ip: &IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(*v4)),
        IpAddr::V6(v6) => u128::from(*v6),
    }
}

/// The address with these bits, in the family of `like`. Bits beyond IPv4 wrap: callers check with `contains`.
fn address(bits: u128, like: &IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(bits as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(bits).into(),
    }
}

fn host_mask(host_bits: u8) -> u128 {
    1u128.checked_shl(u32::from(host_bits)).map_or(u128::MAX, |b| b - 1)
}

/// Where docker puts `docker0` when nothing else is said.
const DOCKER0: Cidr = Cidr { base: IpAddr::V4(Ipv4Addr::new(172, 17, 0, 0)), prefix: 16 };

/// Ranges to propose, in this order.
const PROPOSALS: [&str; 8] = [
    "10.244.0.0/16",
    "10.96.0.0/16",
    "10.200.0.0/16",
    "172.29.0.0/16",
    "100.64.0.0/16",
    "192.168.0.0/16",
    "172.20.0.0/16",
    "198.18.0.0/16",
];

/// Every overlap that breaks the cluster: ranges and addresses of the spec among themselves, and, with the networks of
/// a host, those the host already uses. [`Problem::at`] is the key in `cluster.yaml`, e.g. `kubernetes.podCIDR`.
pub fn overlaps(spec: &ClusterSpec, host: &[HostNetwork]) -> Vec<Problem> {
    let ranges = ranges(spec);
    let mut problems = within(spec, &ranges);
    // A default route covers everything and takes nothing.
    let mut taken: Vec<HostNetwork> = host.iter().filter(|n| n.cidr.prefix > 0).cloned().collect();
    if !host.is_empty() && docker_will_bridge(spec, host) {
        taken.push(HostNetwork { name: "docker's default bridge".to_owned(), cidr: DOCKER0 });
    }
    for range in &ranges {
        for network in taken.iter().filter(|n| range.cidr.overlaps(&n.cidr) && !is_ours(spec, range, n)) {
            problems.push(range.clash(format!("{}, {} on this host", network.name, network.cidr), &ranges, &taken));
        }
    }
    problems
}

/// A range of the spec that nothing else may use.
struct Range {
    key: &'static str,
    what: &'static str,
    cidr: Cidr,
}

fn ranges(spec: &ClusterSpec) -> [Range; 2] {
    [
        Range { key: "kubernetes.podCIDR", what: "pod", cidr: spec.kubernetes.pod_cidr },
        Range { key: "kubernetes.serviceCIDR", what: "service", cidr: spec.kubernetes.service_cidr },
    ]
}

impl Range {
    fn clash(&self, with: String, ranges: &[Range], taken: &[HostNetwork]) -> Problem {
        let free = |c: &Cidr| {
            !taken.iter().any(|n| n.cidr.overlaps(c))
                && !ranges.iter().any(|r| r.cidr.overlaps(c))
                && !DOCKER0.overlaps(c)
        };
        let proposal = PROPOSALS.iter().filter_map(|p| Cidr::parse(p).ok()).find(free);
        Problem {
            at: self.key.to_owned(),
            message: format!("the {} range {} overlaps {with}", self.what, self.cidr),
            hint: proposal.map(|p| format!("choose a free range, e.g. `{p}`")),
        }
    }
}

/// Overlaps of the spec with itself.
fn within(spec: &ClusterSpec, ranges: &[Range; 2]) -> Vec<Problem> {
    let mut problems = vec![];
    let [pods, services] = ranges;
    if pods.cidr.overlaps(&services.cidr) {
        problems.push(pods.clash(format!("the service range {}", services.cidr), ranges, &[]));
    }
    let balancers = spec.load_balancer.addresses.iter().enumerate().filter_map(|(i, a)| match a {
        Address::Ip(ip) => {
            Some((format!("loadBalancer.addresses.{i}"), format!("the load balancer's address {ip}"), *ip))
        }
        Address::Dns(_) => None,
    });
    let masters = spec
        .masters
        .iter()
        .enumerate()
        .map(|(i, m)| (format!("masters.{i}.ip"), format!("the address {} of master `{}`", m.ip, m.name), m.ip));
    for (at, what, ip) in balancers.chain(masters) {
        for range in ranges.iter().filter(|r| r.cidr.contains(&ip)) {
            problems.push(Problem {
                at: at.clone(),
                message: format!("{what} is inside the {} range {}", range.what, range.cidr),
                hint: Some(format!("choose another address or another {}", range.key)),
            });
        }
    }
    problems
}

/// docker0 appears with its default range once docker starts, unless it is there already or flannel gives it one.
/// docker's further pools (172.18.0.0/16 and up, 192.168.0.0/16) are not counted: it takes one only for a network
/// somebody makes, and then avoids what the host routes.
fn docker_will_bridge(spec: &ClusterSpec, host: &[HostNetwork]) -> bool {
    let there = host.iter().any(|n| n.name.contains("docker"));
    spec.runtime == Runtime::Docker && spec.network.path == NetworkPath::Cni && !there
}

/// Networks this cluster itself makes on a host: they must not stop a second `init`.
fn is_ours(spec: &ClusterSpec, range: &Range, network: &HostNetwork) -> bool {
    let device = network.name.rsplit(' ').next().unwrap_or(&network.name);
    let inside = range.cidr.contains(&network.cidr.base) && network.cidr.prefix >= range.cidr.prefix;
    let host_gw = spec.network.backend == FlannelBackend::HostGw && network.name.contains("via ");
    let classic = spec.network.path == NetworkPath::Classic && network.name.contains("docker");
    inside && (device.starts_with("flannel") || ["cni0", "kube-ipvs0"].contains(&device) || host_gw || classic)
}
