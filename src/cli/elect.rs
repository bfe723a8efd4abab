//! `hamaster elect`: the daemon and its fence.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::elect::config::{self, Config};
use crate::elect::{actions, daemon};
use crate::error::{Error, Result};
use crate::host::runtime_dir::RuntimeDir;
use crate::host::{clock, identity};

/// `hamaster elect`
#[derive(Debug, Args)]
pub struct ElectArgs {
    /// The election's file
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<ElectCommand>,
}

#[derive(Debug, Subcommand)]
enum ElectCommand {
    /// Remove what this host led
    Fence {
        /// Unless a daemon started now may go on with it
        #[arg(long)]
        unless_adoptable: bool,
    },
}

/// With less left than this a daemon started anew would come too late.
const ADOPTABLE: Duration = Duration::from_secs(2);

/// Runs it.
///
/// # Errors
/// When the file is wrong, or it cannot begin.
pub fn run(args: &ElectArgs) -> Result<ExitCode> {
    let path = args.config.clone().unwrap_or_else(|| PathBuf::from("/etc/hamaster/elect.yaml"));
    let read = move || {
        let bytes = crate::host::operator::read(&path)?;
        let name = path.display().to_string();
        config::load(&name, crate::spec::file::decode(&name, &bytes)?)
    };
    let config = read()?;
    match &args.command {
        None => Ok(ExitCode::from(daemon::run(config, Box::new(read))?.code())),
        Some(ElectCommand::Fence { unless_adoptable }) => fence(&config, *unless_adoptable),
    }
}

fn fence(config: &Config, unless_adoptable: bool) -> Result<ExitCode> {
    let boot = identity::boot_id()?;
    let mut failed = vec![];
    for group in &config.groups {
        let status = RuntimeDir::open(&config.runtime_dir)?.read(&group.name);
        let left = status.map_or(Duration::ZERO, |s| s.left(&boot, clock::boottime()));
        if unless_adoptable && left >= ADOPTABLE {
            continue;
        }
        let timing = config.timing(group);
        if let Err(e) = actions::fence(group, timing.removal() + timing.stop() + ADOPTABLE) {
            failed.push(e.to_string());
        }
    }
    match failed.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(Error::conflict(failed.join("; "))),
    }
}
