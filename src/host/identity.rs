//! Who this host and this process are: names that survive a restart of the process, of the host, or neither.
#![allow(clippy::disallowed_methods)] // floor 3: reads /etc and /proc

use std::fs;

use crate::error::{Error, Result};

/// `/etc/machine-id`; empty where there is none. Cloned machines share it: it alone proves nothing.
pub fn machine_id() -> String {
    fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned()
}

/// The kernel's name for the time since it started.
///
/// # Errors
/// When `/proc` is not there: without it nothing can be adopted after a crash, and worse, everything could.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let read = fs::read_to_string(path).map(|id| id.trim().to_owned());
    read.map_err(|e| Error::apply(format!("cannot read {path}")).cause(e).hint("mount -t proc proc /proc"))
}

/// What `hostname` prints.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Random bytes for keys and tokens.
///
/// # Errors
/// When the system has no randomness to give.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::apply("the system has no randomness to give"))?;
    Ok(bytes)
}

/// A name for this process that no other process ever had.
///
/// # Errors
/// When the system has no randomness to give.
pub fn nonce() -> Result<String> {
    Ok(random::<16>()?.iter().map(|b| format!("{b:02x}")).collect())
}
