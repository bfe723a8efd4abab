//! `hamaster worker`: whose names and addresses are taken, and which are free again.

use clap::Subcommand;
use serde_json::json;
use time::OffsetDateTime;

use crate::admission::Worker;
use crate::cli::token::{MasterArgs, master};
use crate::error::{Error, Result};
use crate::etcd::keys;
use crate::ui::{Format, Ui, table};

/// Subcommands of `worker`.
#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// Every worker that was admitted
    List(MasterArgs),
    /// A worker that is gone: another host may have its name or its address
    Remove {
        /// Its node name
        #[arg(value_name = "NAME")]
        name: String,
        /// Where
        #[command(flatten)]
        master: MasterArgs,
    },
}

/// Runs one of them.
///
/// # Errors
/// When this host is no master, or its member does not answer.
pub fn run(command: &WorkerCommand, ui: &Ui) -> Result<()> {
    match command {
        WorkerCommand::List(master) => list(master, ui),
        WorkerCommand::Remove { name, master } => remove(name, master, ui),
    }
}

fn list(args: &MasterArgs, ui: &Ui) -> Result<()> {
    let (_, _, etcd) = master(args)?;
    let mut rows = vec![];
    for record in etcd.records(keys::WORKERS)? {
        let worker: Worker = serde_json::from_slice(&record.value)
            .map_err(|e| Error::conflict(format!("etcd key {} does not read", record.key)).cause(e))?;
        rows.push((record.key.strip_prefix(keys::WORKERS).unwrap_or_default().to_owned(), worker));
    }
    if ui.format == Format::Json {
        let row = |(name, w): &(String, Worker)| json!({ "name": name, "ip": w.ip, "admitted": w.admitted });
        let all: Vec<_> = rows.iter().map(row).collect();
        ui.json("workers", &json!({ "workers": all }));
    } else if rows.is_empty() {
        ui.say("no workers; hamaster token create --worker");
    } else {
        let day = |at: i64| OffsetDateTime::from_unix_timestamp(at).map_or(String::new(), |at| at.date().to_string());
        let row = |(name, w): &(String, Worker)| vec![name.clone(), w.ip.to_string(), day(w.admitted)];
        ui.out(&table::render(&["WORKER", "ADDRESS", "ADMITTED"], rows.iter().map(row)));
    }
    Ok(())
}

fn remove(name: &str, args: &MasterArgs, ui: &Ui) -> Result<()> {
    let (_, _, etcd) = master(args)?;
    if !etcd.delete(&format!("{}{name}", keys::WORKERS))? {
        let none = format!("there is no worker {}", name.escape_debug());
        return Err(Error::usage(none).hint("hamaster worker list"));
    }
    match ui.format {
        Format::Json => ui.json("worker-removed", &json!({ "name": name })),
        Format::Text => {
            ui.out(&format!("{name} is free\n"));
            ui.say("what it was given stays good until it ends: be sure that the host is gone");
            ui.say(&format!("next: kubectl delete node {name}"));
        }
    }
    Ok(())
}
