//! `hamaster lab`: masters on loopback under supervisors of plain processes.

mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::apply::Outcome;
use crate::cli::change;
use crate::error::{Error, Result};
use crate::host::clock;
use crate::host::supervisor::socket::ProcessReport;
use crate::lab::{self, Fault, MasterStatus, Status, WorkerStatus};
use crate::token::Role;
use crate::ui::{Format, Tone, Ui, table};

/// Subcommands of `lab`.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Bring masters up: real files, a real etcd, and the control plane where its programs are found
    Up {
        /// How many [default: as many as there are, at first 1]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(lab::MOST_MASTERS)))]
        masters: Option<u8>,
        /// Which
        #[command(flatten)]
        at: At,
    },
    /// One more master, which joins the others by a token at their doors
    Add {
        /// A worker: its files and its registration; its kubelet is not run
        #[arg(long)]
        worker: bool,
        /// Which
        #[command(flatten)]
        at: At,
    },
    /// A master leaves, or a worker is forgotten, and its host is thrown away
    Remove(Victim),
    /// What runs, how it fares, and commands to try
    Status(At),
    /// Stop everything
    Down {
        /// Remove its directory too
        #[arg(long)]
        purge: bool,
        /// Which
        #[command(flatten)]
        at: At,
    },
    /// Cut a master's power: all its processes are gone at once
    Kill(Victim),
    /// Start a master that was killed
    Start(Victim),
    /// Stop all processes of a master where they are (SIGSTOP)
    Pause(Victim),
    /// Let a paused master go on
    Resume(Victim),
    /// Cut a master off from all others: what goes between them is swallowed, both ways
    Partition(Victim),
    /// End a partition
    Heal(Victim),
    /// Who leads each group, with which token, since when, and how long the last handover took
    Watch(At),
    /// The supervisor itself, started by `up`
    #[command(hide = true)]
    Supervise {
        /// The lab
        dir: PathBuf,
        /// The master
        #[arg(default_value = "m1")]
        master: String,
    },
    /// Whether a master runs nothing of a pod, asked by its election
    #[command(hide = true)]
    Gone {
        /// The lab
        dir: PathBuf,
        /// The master
        master: String,
        /// The pod
        pod: String,
    },
}

/// Which lab.
#[derive(Debug, Args)]
pub struct At {
    /// Where everything is kept [default: ~/.local/state/hamaster/lab]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Which host.
#[derive(Debug, Args)]
pub struct Victim {
    /// Its name: m1 is the first master, w1 the first worker
    #[arg(value_name = "NAME")]
    master: String,
    #[command(flatten)]
    at: At,
}

/// Runs one of them.
///
/// # Errors
/// What failed in the lab.
pub fn run(command: &LabCommand, ui: &Ui) -> Result<ExitCode> {
    match command {
        LabCommand::Up { masters, at } => up(&at.directory()?, *masters, ui)?,
        LabCommand::Add { worker, at } => {
            clock::watch_interrupts()?;
            let dir = at.directory()?;
            let role = if *worker { Role::Worker } else { Role::Master };
            let (outcome, status) = change::go(ui, |sink| lab::add(&dir, role, &program()?, sink))?;
            changed(ui, &outcome, &status);
        }
        LabCommand::Remove(victim) => {
            clock::watch_interrupts()?;
            let dir = victim.at.directory()?;
            let (outcome, status) = change::go(ui, |sink| lab::remove(&dir, &victim.master, &program()?, sink))?;
            changed(ui, &outcome, &status);
        }
        LabCommand::Status(at) => {
            let status = lab::status(&at.directory()?)?;
            show(ui, &status);
            if !status.is_healthy() {
                return Ok(ExitCode::from(crate::error::Kind::Conflict.exit_code()));
            }
        }
        LabCommand::Down { at, purge } => {
            let down = lab::down(&at.directory()?, *purge)?;
            if ui.format == Format::Json {
                ui.json("lab-down", &serde_json::json!({ "stopped": down.stopped, "purged": down.purged }));
            } else {
                ui.out(if down.stopped { "the lab is down\n" } else { "no lab was running\n" });
            }
        }
        LabCommand::Kill(victim) => inflict(victim, Fault::Kill, "down", ui)?,
        LabCommand::Start(victim) => inflict(victim, Fault::Start, "up", ui)?,
        LabCommand::Pause(victim) => inflict(victim, Fault::Pause, "paused", ui)?,
        LabCommand::Resume(victim) => inflict(victim, Fault::Resume, "running", ui)?,
        LabCommand::Partition(victim) => inflict(victim, Fault::Partition, "cut off", ui)?,
        LabCommand::Heal(victim) => inflict(victim, Fault::Heal, "connected", ui)?,
        LabCommand::Watch(at) => watch::watch(&at.directory()?, ui)?,
        LabCommand::Gone { dir, master, pod } => {
            if !lab::is_gone(dir, master, pod)? {
                return Err(Error::conflict(format!("{pod} still runs on {master}")));
            }
        }
        LabCommand::Supervise { dir, master } => lab::supervise(dir, master, &program()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(dir: &std::path::Path, masters: Option<u8>, ui: &Ui) -> Result<()> {
    clock::watch_interrupts()?;
    let drive = |lab: &lab::Lab| change::go(ui, |sink| lab::drive(lab, sink));
    let (outcome, status) = lab::up(dir, masters, &program()?, drive)?;
    changed(ui, &outcome, &status);
    Ok(())
}

/// What was done, and what there is now.
fn changed(ui: &Ui, outcome: &Outcome, status: &Status) {
    if ui.format == Format::Json {
        return ui.json("lab", status);
    }
    for note in &outcome.notes {
        ui.say(&format!("{} {note}", ui.paint(Tone::Warn, "note:")));
    }
    match outcome.changed.len() {
        0 => ui.say("nothing to do"),
        n => ui.say(&format!("{n} changes")),
    }
    show(ui, status);
}

fn inflict(victim: &Victim, fault: Fault, state: &str, ui: &Ui) -> Result<()> {
    let name = &victim.master;
    let changed = lab::inflict(&victim.at.directory()?, name, fault, &program()?)?;
    if ui.format == Format::Json {
        ui.json("lab-fault", &serde_json::json!({ "master": name, "state": state, "changed": changed }));
    } else {
        ui.out(&format!("{name} is {state}{}\n", if changed { "" } else { " already" }));
    }
    Ok(())
}

fn show(ui: &Ui, status: &Status) {
    if ui.format == Format::Json {
        return ui.json("lab", status);
    }
    let mut text = format!("lab   {}\n", status.dir.display());
    for master in &status.masters {
        text.push_str(&show_master(ui, master));
    }
    let row = |w: &WorkerStatus| {
        let state = if w.joined { "joined" } else { "in the middle of its join: hamaster lab add --worker" };
        vec![w.name.clone(), w.address.to_string(), state.to_owned(), w.kubeconfig.display().to_string()]
    };
    if !status.workers.is_empty() {
        let head = &["WORKER", "ADDRESS", "STATE", "KUBECONFIG"];
        text.push_str(&format!("\n{}", table::render(head, status.workers.iter().map(row))));
    }
    if !status.leaders.is_empty() {
        text.push_str(&format!("\n{}", watch::table(&status.leaders)));
    }
    text.push_str("\ntry:\n");
    for command in &status.commands {
        text.push_str(&format!("  {command}\n"));
    }
    ui.out(&text);
}

fn show_master(ui: &Ui, master: &MasterStatus) -> String {
    let health = match &master.etcd_problem {
        None => ui.paint(Tone::Good, "healthy"),
        Some(why) => format!("{} {why}", ui.paint(Tone::Bad, "not healthy:")),
    };
    let cut = if master.partitioned { ui.paint(Tone::Warn, "  cut off") } else { String::new() };
    let mut text = format!("{:<6}{}{cut}\netcd  {health}\n", master.name, master.address);
    let Some(report) = &master.supervisor else {
        return text + &format!("{} does not run: hamaster lab start {0}, or hamaster lab up\n", master.name);
    };
    let pods = report.pods.iter().flat_map(|pod| {
        let problem = pod
            .problem
            .iter()
            .map(|why| vec![pod.name.clone(), "cannot run".into(), String::new(), String::new(), why.clone()]);
        problem.chain(pod.containers.iter().map(|c| row(&pod.name, c))).collect::<Vec<_>>()
    });
    let rows = report.units.iter().map(|u| row(&u.name, u)).chain(pods);
    text.push_str(&format!("\n{}", table::render(&["PROCESS", "STATE", "PID", "RESTARTS", ""], rows)));
    text
}

fn row(name: &str, process: &ProcessReport) -> Vec<String> {
    let phase = serde_json::to_value(process.phase).ok().and_then(|v| v.as_str().map(str::to_owned));
    let pid = process.pid.map(|p| p.to_string()).unwrap_or_default();
    let problem = process.problem.clone().or_else(|| process.status.clone()).unwrap_or_default();
    vec![name.to_owned(), phase.unwrap_or_default(), pid, process.restarts.to_string(), problem]
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|e| Error::apply("cannot find the path of this program").cause(e))
}

impl At {
    fn directory(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.dir {
            return std::path::absolute(dir)
                .map_err(|e| Error::usage(format!("{} is no path", dir.display())).cause(e));
        }
        let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let state = var("XDG_STATE_HOME").or_else(|| var("HOME").map(|h| h.join(".local/state")));
        state
            .map(|s| s.join("hamaster/lab"))
            .ok_or_else(|| Error::usage("neither XDG_STATE_HOME nor HOME is set").hint("hamaster lab up --dir DIR"))
    }
}
