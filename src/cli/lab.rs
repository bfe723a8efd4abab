//! `hamaster lab`: a master on loopback under a supervisor of plain processes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::apply::{self, Master, Options};
use crate::cli::change;
use crate::error::{Error, Result};
use crate::host::supervisor::socket::ProcessReport;
use crate::host::{Host, clock, facts};
use crate::lab::{self, Lab, Status};
use crate::preflight;
use crate::render::Templates;
use crate::ui::{Format, Tone, Ui, table};

/// Subcommands of `lab`.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Bring a master up: real files, a real etcd, and the control plane where its programs are found
    Up {
        /// Where everything is kept [default: ~/.local/state/hamaster/lab]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// What runs, how it fares, and commands to try
    Status {
        /// The lab
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Stop everything
    Down {
        /// The lab
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Remove its directory too
        #[arg(long)]
        purge: bool,
    },
    /// The supervisor itself, started by `up`
    #[command(hide = true)]
    Supervise {
        /// The lab
        dir: PathBuf,
    },
}

/// Runs one of them.
///
/// # Errors
/// What failed in the lab.
pub fn run(command: &LabCommand, ui: &Ui) -> Result<ExitCode> {
    match command {
        LabCommand::Up { dir } => up(&directory(dir.as_ref())?, ui)?,
        LabCommand::Status { dir } => {
            let status = lab::status(&directory(dir.as_ref())?)?;
            show(ui, &status);
            if !status.etcd_healthy {
                return Ok(ExitCode::from(crate::error::Kind::Conflict.exit_code()));
            }
        }
        LabCommand::Down { dir, purge } => {
            let down = lab::down(&directory(dir.as_ref())?, *purge)?;
            if ui.format == Format::Json {
                ui.json("lab-down", &serde_json::json!({ "stopped": down.stopped, "purged": down.purged }));
            } else {
                ui.out(if down.stopped { "the lab is down\n" } else { "no lab was running\n" });
            }
        }
        LabCommand::Supervise { dir } => lab::supervise(dir, &program()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(dir: &std::path::Path, ui: &Ui) -> Result<()> {
    clock::watch_interrupts()?;
    let (outcome, status) = lab::up(dir, &program()?, |lab| change::go(ui, |sink| drive(lab, sink)))?;
    if ui.format == Format::Json {
        ui.json("lab", &status);
        return Ok(());
    }
    for note in &outcome.notes {
        ui.say(&format!("{} {note}", ui.paint(Tone::Warn, "note:")));
    }
    match outcome.changed.len() {
        0 => ui.say("nothing to do"),
        n => ui.say(&format!("{n} changes")),
    }
    show(ui, &status);
    Ok(())
}

/// The same road as `init`: preview, apply, prove.
fn drive(lab: &Lab, sink: apply::event::Sink<'_>) -> Result<apply::Outcome> {
    let facts = facts::gather(std::path::Path::new("/"), &lab.spec, &lab.this.layout);
    let master = Master {
        tools: preflight::tools(&facts, &lab.spec),
        spec: lab.spec.clone(),
        this: lab.this.clone(),
        templates: Templates::embedded()?,
        adapt: Box::new(lab::adapt),
    };
    let mut host = Host::new("/", Box::new(lab.units.clone()))?;
    let observed = master.observe(&host)?;
    let findings = preflight::run(preflight::Scope::Lab, &master.spec, &master.this, &facts, &observed, clock::now());
    preflight::refuse(&findings, &[])?;
    let options = Options { only: lab::PHASES.to_vec(), adopt: false };
    let seen = apply::preview(&host, &master, &options)?;
    apply::init(&mut host, &master, &options, seen, sink)
}

fn show(ui: &Ui, status: &Status) {
    if ui.format == Format::Json {
        return ui.json("lab", status);
    }
    let health = match &status.etcd_problem {
        None => ui.paint(Tone::Good, "healthy"),
        Some(why) => format!("{} {why}", ui.paint(Tone::Bad, "not healthy:")),
    };
    let mut text = format!("lab   {}\nm1    {}\netcd  {health}\n", status.dir.display(), status.address);
    match &status.supervisor {
        None => text.push_str("the supervisor does not run: hamaster lab up\n"),
        Some(report) => {
            let pods = report.pods.iter().flat_map(|pod| {
                let problem = pod
                    .problem
                    .iter()
                    .map(|why| vec![pod.name.clone(), "cannot run".into(), String::new(), String::new(), why.clone()]);
                problem.chain(pod.containers.iter().map(|c| row(&pod.name, c))).collect::<Vec<_>>()
            });
            let rows = report.units.iter().map(|u| row(&u.name, u)).chain(pods);
            text.push_str(&format!("\n{}", table::render(&["PROCESS", "STATE", "PID", "RESTARTS", ""], rows)));
        }
    }
    text.push_str("\ntry:\n");
    for command in &status.commands {
        text.push_str(&format!("  {command}\n"));
    }
    ui.out(&text);
}

fn row(name: &str, process: &ProcessReport) -> Vec<String> {
    let phase = serde_json::to_value(process.phase).ok().and_then(|v| v.as_str().map(str::to_owned));
    let pid = process.pid.map(|p| p.to_string()).unwrap_or_default();
    let problem = process.problem.clone().unwrap_or_default();
    vec![name.to_owned(), phase.unwrap_or_default(), pid, process.restarts.to_string(), problem]
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|e| Error::apply("cannot find the path of this program").cause(e))
}

fn directory(given: Option<&PathBuf>) -> Result<PathBuf> {
    if let Some(dir) = given {
        return std::path::absolute(dir).map_err(|e| Error::usage(format!("{} is no path", dir.display())).cause(e));
    }
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = var("XDG_STATE_HOME").or_else(|| var("HOME").map(|h| h.join(".local/state")));
    state
        .map(|s| s.join("hamaster/lab"))
        .ok_or_else(|| Error::usage("neither XDG_STATE_HOME nor HOME is set").hint("hamaster lab up --dir DIR"))
}
