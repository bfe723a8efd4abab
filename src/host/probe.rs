//! Health checks of this node: does it answer, does it take a connection, does the command succeed.
#![allow(clippy::disallowed_methods)] // floor 3: files, processes and the network

use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use crate::elect::config::Check;
use crate::host::http;

/// Whether something takes connections at `address`; whoever polls waits for it at most this long more.
pub fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok()
}

/// Bytes that the process has read and written so far. `None` when it is gone, or another user's.
pub fn traffic(pid: u32) -> Option<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let number = |name: &str| io.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(number("rchar:")?.saturating_add(number("wchar:")?))
}

/// Runs all of `checks`, each within `timeout`.
///
/// # Errors
/// The first that failed, in words.
pub async fn round(checks: &[Check], timeout: Duration) -> Result<(), String> {
    for check in checks {
        let asked = tokio::time::timeout(timeout, ask(check, timeout)).await;
        let what = name(check);
        match asked {
            Ok(answer) => answer.map_err(|why| format!("{what}: {why}"))?,
            Err(_) => return Err(format!("{what}: no answer within {timeout:?}")),
        }
    }
    Ok(())
}

fn name(check: &Check) -> String {
    match check {
        Check::Http { url, .. } => url.to_string(),
        Check::Tcp(address) => address.clone(),
        Check::Exec(argv) => argv.join(" "),
    }
}

async fn ask(check: &Check, timeout: Duration) -> Result<(), String> {
    match check {
        Check::Http { url, ca } => {
            let ca = match ca {
                Some(path) => std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?,
                None => vec![],
            };
            http::answers(&url.to_string(), &ca, timeout).await
        }
        Check::Tcp(address) => tokio::net::TcpStream::connect(address).await.map(drop).map_err(|e| e.to_string()),
        Check::Exec(argv) => exec(argv).await,
    }
}

async fn exec(argv: &[String]) -> Result<(), String> {
    let (program, args) = argv.split_first().ok_or("no command")?;
    let mut command = tokio::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let status = command.status().await.map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}
