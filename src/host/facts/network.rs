//! Addresses, routes, listeners and names.
#![allow(clippy::disallowed_methods)] // floor 3: reads /proc, asks the resolver

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use super::{Look, kernel};
use crate::spec::network::Cidr;
use crate::state::facts::{Resolution, Unreachable};
use crate::state::observed::{HostNetwork, Listener};

/// For the resolver, which may retry for much longer.
const LOOKUP: Duration = Duration::from_secs(3);
/// For a connection to another master: one lost packet is sent again after a second.
const CONNECT: Duration = Duration::from_secs(3);

impl Look<'_> {
    pub(super) fn network(&mut self) {
        match if_addrs::get_if_addrs() {
            Ok(interfaces) => {
                for interface in interfaces.iter().filter(|i| !i.is_loopback() && !i.is_link_local()) {
                    let prefix = match &interface.addr {
                        if_addrs::IfAddr::V4(v4) => v4.prefixlen,
                        if_addrs::IfAddr::V6(v6) => v6.prefixlen,
                    };
                    self.facts.addresses.push(interface.ip());
                    self.route(interface.name.clone(), Cidr::around(interface.ip(), prefix));
                }
            }
            Err(e) => self.unknown("addresses", e),
        }
        self.facts.default_ip = default_ip();
        for (name, cidr) in self.read("/proc/net/route").iter().flat_map(|text| text.lines().filter_map(route4)) {
            self.route(name, cidr);
        }
        // A kernel without IPv6 has neither of the two files.
        for (name, cidr) in self.peek("/proc/net/ipv6_route").iter().flat_map(|text| text.lines().filter_map(route6)) {
            self.route(name, cidr);
        }
        let mut sockets: Vec<Socket> = vec![];
        for text in [self.read("/proc/net/tcp"), self.peek("/proc/net/tcp6")].into_iter().flatten() {
            sockets.extend(text.lines().filter_map(listening));
        }
        self.facts.listeners = listeners(sockets);
    }

    /// An interface's own route says nothing new.
    fn route(&mut self, name: String, cidr: Cidr) {
        if !self.facts.networks.iter().any(|known| known.cidr == cidr) {
            self.facts.networks.push(HostNetwork { name, cidr });
        }
    }
}

/// The source address the kernel takes for an address far away. Connecting UDP sends nothing.
fn default_ip() -> Option<IpAddr> {
    let source = |from: &str, to: &str| -> Option<IpAddr> {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
    };
    source("0.0.0.0:0", "203.0.113.1:9").or_else(|| source("[::]:0", "[2001:db8::1]:9"))
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, numbers in hex as they lie in memory.
fn route4(line: &str) -> Option<(String, Cidr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let ip = |n: usize| Some(Ipv4Addr::from(u32::from_str_radix(fields.get(n)?, 16).ok()?.to_ne_bytes()));
    let (destination, gateway, mask) = (ip(1)?, ip(2)?, ip(7)?);
    let prefix = u8::try_from(u32::from(mask).leading_ones()).ok()?;
    named(fields.first()?, prefix, destination.into(), gateway.into())
}

/// `destination length source length gateway metric refcnt use flags device`, in hex.
fn route6(line: &str) -> Option<(String, Cidr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let ip = |n: usize| Some(Ipv6Addr::from(u128::from_str_radix(fields.get(n)?, 16).ok()?));
    let (destination, gateway) = (ip(0)?, ip(4)?);
    if destination.is_unicast_link_local() || destination.is_multicast() || destination.is_loopback() {
        return None;
    }
    let prefix = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    named(fields.get(9)?, prefix, destination.into(), gateway.into())
}

/// The default route covers everything and overlaps nothing.
fn named(device: &str, prefix: u8, destination: IpAddr, gateway: IpAddr) -> Option<(String, Cidr)> {
    let via = if gateway.is_unspecified() { String::new() } else { format!("via {gateway} ") };
    (prefix > 0 && device != "lo").then(|| (format!("route {via}dev {device}"), Cidr::around(destination, prefix)))
}

/// A listening socket.
struct Socket {
    ip: IpAddr,
    port: u16,
    inode: String,
}

/// A line of `/proc/net/tcp` or `tcp6` in state LISTEN: `sl local remote state queues timer retransmits uid timeout inode`.
fn listening(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    if *fields.get(3)? != "0A" {
        return None;
    }
    let word = |n: usize| Some(u32::from_str_radix(address.get(8 * n..8 * n + 8)?, 16).ok()?.to_ne_bytes());
    let ip = if address.len() == 8 {
        IpAddr::from(word(0)?)
    } else {
        let mut bytes = [0; 16];
        for (n, chunk) in bytes.chunks_exact_mut(4).enumerate() {
            chunk.copy_from_slice(&word(n)?);
        }
        IpAddr::from(bytes).to_canonical()
    };
    Some(Socket { ip, port: u16::from_str_radix(port, 16).ok()?, inode: (*fields.get(9)?).to_owned() })
}

fn listeners(sockets: Vec<Socket>) -> Vec<Listener> {
    let wanted: BTreeSet<String> = sockets.iter().map(|s| format!("socket:[{}]", s.inode)).collect();
    let mut holders: BTreeMap<String, String> = BTreeMap::new();
    for (pid, dir) in kernel::processes() {
        for fd in std::fs::read_dir(dir.join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = std::fs::read_link(fd.path()) else { continue };
            let target = target.to_string_lossy().into_owned();
            if wanted.contains(&target) {
                let name = kernel::comm(&dir).unwrap_or_default();
                holders.entry(target).or_insert_with(|| format!("{name}[{pid}]"));
            }
        }
    }
    let named =
        |s: Socket| Listener { ip: s.ip, port: s.port, process: holders.remove(&format!("socket:[{}]", s.inode)) };
    sockets.into_iter().map(named).collect()
}

/// Connects to all of them at once; those where that fails.
pub(super) fn unreachable(places: &[SocketAddr]) -> Vec<Unreachable> {
    let attempt = |&at: &SocketAddr| std::thread::spawn(move || TcpStream::connect_timeout(&at, CONNECT).map(drop));
    let attempts: Vec<_> = places.iter().map(|at| (*at, attempt(at))).collect();
    let failed = |(at, attempt): (SocketAddr, std::thread::JoinHandle<std::io::Result<()>>)| {
        let why = match attempt.join() {
            Ok(Ok(())) => return None,
            Ok(Err(e)) => format!("cannot be reached: {e}"),
            Err(_) => "was not tried".to_owned(),
        };
        Some(Unreachable { at, why })
    };
    attempts.into_iter().filter_map(failed).collect()
}

/// Looks all names up at once. A lookup that hangs is left behind in its thread.
pub(super) fn resolve<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Resolution> {
    let asked: Vec<_> = names
        .map(|name| {
            let (tell, answer) = mpsc::channel();
            let owned = name.to_owned();
            std::thread::spawn(move || tell.send((owned.as_str(), 0).to_socket_addrs().map(Vec::from_iter)));
            (name.to_owned(), answer)
        })
        .collect();
    asked
        .into_iter()
        .map(|(name, answer)| {
            let addresses = match answer.recv_timeout(LOOKUP) {
                Ok(Ok(found)) => Ok(found.iter().map(|a| a.ip()).collect::<BTreeSet<_>>().into_iter().collect()),
                Ok(Err(e)) => Err(e.to_string()),
                Err(_) => Err(format!("no answer within {} s", LOOKUP.as_secs())),
            };
            Resolution { name, addresses }
        })
        .collect()
}
