//! Addresses of masters as an operator types them.
#![allow(clippy::disallowed_methods)] // floor 3: asks the resolver

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::{Error, Result};

/// Every address of `HOST`, `HOST:PORT`, `[IPV6]:PORT` or `IPV6`.
///
/// # Errors
/// When it is not an address and no name that resolves.
pub fn addresses(text: &str, default_port: u16) -> Result<Vec<SocketAddr>> {
    let ip = text.trim_start_matches('[').trim_end_matches(']').parse().ok();
    if let Some(ip) = ip {
        return Ok(vec![SocketAddr::new(ip, default_port)]);
    }
    let with_port = if text.contains(':') { text.to_owned() } else { format!("{text}:{default_port}") };
    let wrong = || Error::usage(format!("`{text}` is not the address of a master")).hint("hamaster join 10.0.0.1:7443");
    let found: Vec<_> = with_port.to_socket_addrs().map_err(|e| wrong().cause(e))?.collect();
    if found.is_empty() { Err(wrong()) } else { Ok(found) }
}
