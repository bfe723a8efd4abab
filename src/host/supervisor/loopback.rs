//! The loopback addresses a lab's masters answer on: their own, so that labs and a real etcd live side by side.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net;
use std::time::Duration;

use super::home::MOST_MASTERS;
use crate::error::{Error, Result};

/// What a master listens on: etcd's clients, peers and metrics, the apiserver, the door for joiners,
/// controller-manager, scheduler.
pub const PORTS: [u16; 7] = [2379, 2380, 2381, 6443, 7443, 10257, 10259];

/// Held by `up` from the choice of an address until its ports are taken, so that two labs never choose the same.
#[derive(Debug)]
pub struct Claim {
    _socket: net::UnixListener,
}

/// Claims `ip`; `None` when another lab is just coming up there.
pub fn claim(ip: IpAddr) -> Option<Claim> {
    // An abstract name lives in the network namespace, as the address does, and dies with its holder.
    let name = net::SocketAddr::from_abstract_name(format!("hamaster-lab-{ip}")).ok()?;
    net::UnixListener::bind_addr(&name).ok().map(|socket| Claim { _socket: socket })
}

/// Ports of a master that somebody listens on at `ip`.
pub fn taken(ip: IpAddr) -> Vec<u16> {
    PORTS.into_iter().filter(|&port| TcpListener::bind((ip, port)).is_err()).collect()
}

/// The address of master `number`, from 1, of a lab whose first has `first`: the next ones.
pub fn of_master(first: IpAddr, number: u8) -> IpAddr {
    moved(first, number.saturating_sub(1))
}

/// The address of worker `number`, from 1, of a lab whose first master has `first`.
pub fn of_worker(first: IpAddr, number: u8) -> IpAddr {
    moved(first, number.saturating_add(49))
}

/// Where a master listens behind a relay that has `ip`.
pub fn behind(ip: IpAddr) -> IpAddr {
    moved(ip, 100)
}

fn moved(ip: IpAddr, by: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits().saturating_add(by.into()))),
        IpAddr::V6(_) => ip,
    }
}

/// The first of `127.0.77.1`, `127.0.78.1`, … that is free together with all that a lab's other masters may take,
/// claimed.
///
/// # Errors
/// When every one is taken.
pub fn free() -> Result<(IpAddr, Claim)> {
    let mut addresses = (77..=254).map(|third| IpAddr::V4(Ipv4Addr::new(127, 0, third, 1)));
    let unused = |ip: IpAddr| (1..=MOST_MASTERS).map(|n| of_master(ip, n)).all(|ip| taken(ip).is_empty());
    addresses.find_map(|ip| claim(ip).filter(|_| unused(ip)).map(|claim| (ip, claim))).ok_or_else(|| {
        Error::refused("every loopback address for a lab, 127.0.77.1 to 127.0.254.1, has its ports taken")
            .hint(format!("ss -ltnp, and look for ports {PORTS:?}"))
    })
}

/// What etcd says on `http://ip:2381/health`; `Err` says why there is no answer.
///
/// # Errors
/// When nobody answers, or not `200`.
pub fn etcd_health(ip: IpAddr) -> Result<(), String> {
    let ask = || -> std::io::Result<String> {
        let patience = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, 2381), patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {ip}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.take(64 << 10).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|e| match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer".to_owned(),
        _ => e.to_string(),
    })?;
    let status = answer.lines().next().unwrap_or_default();
    if status.contains(" 200 ") { Ok(()) } else { Err(status.to_owned()) }
}
