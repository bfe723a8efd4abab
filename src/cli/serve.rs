//! `hamaster serve`: the daemon that admits other hosts.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::admission;
use crate::cli::resolve;
use crate::error::Result;
use crate::serve;

/// `hamaster serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The directory everything of this master is below: a lab's
    #[arg(long, value_name = "DIR", hide = true)]
    prefix: Option<PathBuf>,
    /// Where to listen [default: port 7443 of this master's address]
    #[arg(long, value_name = "IP:PORT", hide = true)]
    listen: Option<SocketAddr>,
}

/// Serves until it is told to end.
///
/// # Errors
/// When this host is no master, or as `serve::run`.
pub fn run(args: &ServeArgs) -> Result<()> {
    let (this, spec) = resolve::standing(args.prefix.as_deref())?;
    let listen = args.listen.unwrap_or(SocketAddr::new(this.node.ip, admission::PORT));
    serve::run(this, &spec, listen)
}
