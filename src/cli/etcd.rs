//! `hamaster etcd`: the members at a glance, snapshots, and what is left when the majority is lost.

pub mod key;
pub mod recover;
pub mod snapshot;
pub mod status;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::Global;
use crate::error::Result;
use crate::ui::Ui;

/// Subcommands of `etcd`.
#[derive(Debug, Subcommand)]
pub enum EtcdCommand {
    /// Every member: leader, lag, size, alarms, and how many more may fail; exit code 4 when not all is well
    Status,
    /// Save, verify and restore all that brings a control plane back, in one encrypted file
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// The majority is lost for good: go on with this master alone
    Recover(recover::RecoverArgs),
}

/// Runs one of them.
///
/// # Errors
/// Those of each.
pub fn run(command: &EtcdCommand, global: &Global, ui: &Ui) -> Result<ExitCode> {
    match command {
        EtcdCommand::Status => status::status(global, ui),
        EtcdCommand::Snapshot(command) => snapshot::run(command, global, ui).map(|()| ExitCode::SUCCESS),
        EtcdCommand::Recover(args) => recover::run(args, global, ui).map(|()| ExitCode::SUCCESS),
    }
}
