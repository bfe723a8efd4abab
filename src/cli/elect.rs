//! `hamaster elect`: the daemon, its fence, and what an operator asks of an election.

mod fence;
pub(super) mod podmaster;
mod report;
mod request;
mod stop;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::elect::config::{self, Config, Payload};
use crate::elect::daemon::{self, Ended};
use crate::error::{Error, Kind, Result};
use crate::host::operator;
use crate::spec::file::decode;
use crate::ui::Ui;

/// Read where neither a file nor podmaster's flags are given.
const DEFAULT: &str = "/etc/hamaster/elect.yaml";

/// What the daemon last ran with, in the default runtime directory.
const ACCEPTED: &str = "/run/hamaster/elect/accepted.yaml";

const EXIT_CODES: &str = "Exit codes: 0 done, released; 1 failed; 2 usage; 3 refused: unsafe or wrong configuration, \
    another process has this group or identity, not possible now; 4 etcd cannot be reached; 5 etcd refuses this host's \
    certificate or role; 6 leadership was lost (--once); 7 the payload could not be stopped; 8 this host does not lead \
    (check). With --once a command that ends by itself passes its own code on.";

/// How a check ends where another host leads.
const NOT_LEADER: u8 = 8;
/// How anything ends that was refused: nothing was touched.
const REFUSED: u8 = 3;

/// `hamaster elect`
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ElectArgs {
    /// What to elect [default: /etc/hamaster/elect.yaml]
    #[arg(short = 'c', long = "config", global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// End once leadership was held and lost
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    podmaster: podmaster::Flags,
    #[command(subcommand)]
    command: Option<ElectCommand>,
}

/// Without any of them the daemon runs in the foreground.
#[derive(Debug, Clone, Subcommand)]
enum ElectCommand {
    /// Who leads, who waits, and how this host stands
    Status {
        /// This group only
        group: Option<String>,
    },
    /// Whether this host leads at this moment: exit code 0, or 8
    Check {
        /// The group
        group: String,
    },
    /// Let another candidate lead and wait until it does
    Transfer {
        /// The group
        group: String,
        /// The heir
        #[arg(long, value_name = "ID")]
        to: String,
    },
    /// Let whoever is next lead and wait until it does
    Resign {
        /// The group
        group: String,
        /// Though nobody waits: the first one to come takes over
        #[arg(long)]
        force: bool,
    },
    /// Let nobody become leader; who leads goes on
    Pause {
        /// The group
        group: String,
        /// End by itself after this long
        #[arg(long = "for", value_name = "DURATION")]
        time: Option<String>,
    },
    /// End a pause
    Resume {
        /// The group
        group: String,
    },
    /// Free the lead of a host that is dead for certain, without waiting for its time to pass
    Break {
        /// The group
        group: String,
        /// The holder's fencing token, as `status` shows it
        #[arg(long, value_name = "TOKEN")]
        token: String,
    },
    /// The configuration with every default, and what follows from its times
    Config,
    /// End the daemon with this process id, by force once its lead is over
    Stop {
        /// As systemd's MAINPID
        #[arg(value_name = "PID")]
        pid: i32,
    },
    /// Remove what this host led: at boot, and after a daemon that died
    Fence {
        /// Keep what a daemon started now will go on with
        #[arg(long)]
        unless_adoptable: bool,
        /// Keep nothing while this unit is being stopped: no daemon is started then
        #[arg(long, value_name = "NAME", requires = "unless_adoptable")]
        unit: Option<String>,
    },
}

/// Runs it.
///
/// # Errors
/// With exit codes of its own: see `hamaster elect --help`.
pub fn run(args: &ElectArgs, ui: &Ui) -> Result<ExitCode> {
    let config = match (&args.command, args.resolve()) {
        // A file that was edited since must not keep what it led alive: it is fenced by what the daemon ran with.
        (Some(ElectCommand::Fence { .. } | ElectCommand::Stop { .. }), Err(error)) => {
            let accepted = read(Some(Path::new(ACCEPTED)));
            accepted.inspect(|_| ui.error(&error)).map_err(|_| error)?
        }
        (_, config) => config?,
    };
    match &args.command {
        None => args.daemon(config, ui),
        Some(ElectCommand::Status { group }) => report::status(&config, group.as_deref(), ui),
        Some(ElectCommand::Check { group }) => report::check(&config, group, ui),
        Some(ElectCommand::Config) => Ok(report::config(&config, ui)),
        Some(ElectCommand::Transfer { group, to }) => request::transfer(&config, group, Some(to), ui),
        Some(ElectCommand::Resign { group, force }) => request::resign(&config, group, *force, ui),
        Some(ElectCommand::Pause { group, time }) => request::pause(&config, group, time.as_deref(), ui),
        Some(ElectCommand::Resume { group }) => request::resume(&config, group, ui),
        Some(ElectCommand::Break { group, token }) => request::break_lead(&config, group, token, ui),
        Some(ElectCommand::Stop { pid }) => stop::run(&config, *pid),
        Some(ElectCommand::Fence { unless_adoptable, unit }) => {
            fence::run(&config, *unless_adoptable, unit.as_deref(), ui)
        }
    }
}

impl ElectArgs {
    /// The configuration that is meant: a file's or that of podmaster's flags.
    fn resolve(&self) -> Result<Config> {
        let mut config = match self.podmaster.meant()? {
            Some(flags) => Config::from_podmaster(&flags).map_err(|e| e.exits(REFUSED))?,
            None => read(self.config.as_deref())?,
        };
        config.once |= self.once;
        Ok(config)
    }

    /// Runs until it is told to end. SIGHUP begins anew with what the file says then; the payload is adopted.
    fn daemon(&self, mut config: Config, ui: &Ui) -> Result<ExitCode> {
        loop {
            config.notes.extend(notes(&config));
            let again = self.clone();
            let ended = daemon::run(config.clone(), Box::new(move || again.resolve()));
            let ended = ended.map_err(|e| match e.kind() {
                Kind::Apply => e,
                // What it was given is wrong, or taken: nothing was installed.
                _ => e.exits(REFUSED),
            })?;
            if ended != Ended::Reload {
                return Ok(ExitCode::from(ended.code()));
            }
            match self.resolve() {
                Ok(anew) => config = anew,
                // It was good a moment ago, when the daemon looked.
                Err(error) => ui.error(&error),
            }
        }
    }
}

fn read(path: Option<&Path>) -> Result<Config> {
    let (path, given) = (path.unwrap_or(Path::new(DEFAULT)), path.is_some());
    let bytes = operator::read(path).map_err(|e| match given {
        true => e,
        false => e.hint("hamaster elect -c FILE, or podmaster's flags: hamaster elect --help"),
    })?;
    let name = path.display().to_string();
    decode(&name, &bytes).and_then(|text| config::load(&name, text)).map_err(|e| e.exits(REFUSED))
}

/// What the sources say that the operator should know.
fn notes(config: &Config) -> Vec<String> {
    let files = config.groups.iter().filter_map(|group| match &group.payload {
        Payload::File(file) => Some((group, operator::read(&file.source).ok()?)),
        _ => None,
    });
    files.filter_map(|(group, source)| config::source_note(group, &source)).collect()
}

/// How long, for people: `6.2s`.
fn seconds(d: std::time::Duration) -> String {
    format!("{}.{}s", d.as_secs(), d.subsec_millis() / 100)
}

/// An error of this command alone.
fn usage(message: impl Into<String>) -> Box<Error> {
    Error::usage(message)
}
