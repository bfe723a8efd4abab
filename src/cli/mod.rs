//! The command line: what was typed → what was meant.

pub mod certs;
pub mod change;
pub mod elect;
pub mod etcd;
pub mod join;
pub mod lab;
pub mod master;
mod masters;
mod member;
mod offline;
pub mod report;
mod resolve;
pub mod serve;
pub mod token;
pub mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::error::Result;
use crate::host::bound;
use crate::spec::file::Overrides;
use crate::ui::{ColorChoice, Format, Ui};

/// Turns bare Linux hosts into a highly available Kubernetes control plane and keeps it one.
#[derive(Debug, Parser)]
#[command(name = "hamaster", version, about, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done or nothing to do; 1 failed or interrupted while applying, safe to run again; \
    2 usage or configuration; 3 refused by preflight, nothing touched; 4 conflict, drift or unhealthy. `hamaster elect` has its own.";

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Read and write below DIR and start nothing: image building
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// How results are written: text, or json with a `schema`
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT", hide_possible_values = true)]
    output: Format,
    /// Print errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print more: every check, every unchanged object
    #[arg(short, long, global = true)]
    verbose: bool,
    /// When to colour: auto, always or never; NO_COLOR is honoured
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", hide_possible_values = true)]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this host the first master
    Init(change::InitArgs),
    /// Make this host one more master of a cluster, or a worker
    Join(join::JoinArgs),
    /// This master leaves its cluster, if the others can do without it
    Leave(master::LeaveArgs),
    /// Who is a master; remove one that is dead
    #[command(subcommand)]
    Master(master::MasterCommand),
    /// Take back everything hamaster owns on this host and list what stays
    Reset(change::ResetArgs),
    /// Make, check and verify the certificate bundle
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Write everything for one node into a directory, without touching a host
    Render(report::RenderArgs),
    /// This master or worker at a glance
    Status,
    /// Every check with its hint, and whether the plan is empty
    Doctor(report::DoctorArgs),
    /// Make, list and revoke the tokens that hosts join with
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Which workers were admitted; free the name of one that is gone
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
    /// Admit hosts that bring a token; systemd runs it on every master
    Serve(serve::ServeArgs),
    /// Exactly one: hold what one host of many may have, and ask about it
    Elect(Box<elect::ElectArgs>),
    /// etcd's members, snapshots, and recovery from a lost majority
    #[command(subcommand)]
    Etcd(etcd::EtcdCommand),
    /// A master on loopback: try it, break it
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// A child of hamaster's before it becomes its program
    #[command(hide = true)]
    RunBound {
        /// Process id of the parent it must not outlive
        #[arg(long)]
        parent: u32,
        /// Directory of the cgroup it enters
        #[arg(long)]
        cgroup: Option<PathBuf>,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        argv: Vec<OsString>,
    },
    /// Shell completions on stdout
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Man pages, one for each command, into a directory
    Man {
        /// Where to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// What describes the cluster and this node: a file and the flags that override it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster and node")]
pub struct SpecArgs {
    /// The cluster file [default: /etc/hamaster/cluster.yaml where it exists]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Node name [default: the host name]
    #[arg(long, visible_alias = "node", value_name = "NAME")]
    pub name: Option<String>,
    /// Address the other masters reach this one at [default: source address of the default route]
    #[arg(long, value_name = "IP")]
    pub advertise_ip: Option<String>,
    /// Load-balancer address, in every serving certificate (repeatable)
    #[arg(long, value_name = "IP")]
    pub lb_ip: Vec<String>,
    /// Load-balancer DNS name, in every serving certificate (repeatable)
    #[arg(long, value_name = "DNS")]
    pub lb_name: Vec<String>,
    /// Cluster name
    #[arg(long, value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// Kubernetes version to render for
    #[arg(long, value_name = "VERSION")]
    pub kubernetes_version: Option<String>,
    /// docker or containerd
    #[arg(long, value_name = "RUNTIME")]
    pub runtime: Option<String>,
    /// standard, or cis: every scored CIS check passes
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// podmaster: one holder of the scheduler and controller-manager; native: both run everywhere
    #[arg(long, value_name = "MODE")]
    pub election: Option<String>,
    /// How the first etcd cluster comes to be: new, static or discovery
    #[arg(long, value_name = "HOW")]
    pub etcd_bootstrap: Option<String>,
    /// A master that etcd's first cluster is formed of, for static: all of them, this one included (repeatable)
    #[arg(long, value_name = "NAME=IP")]
    pub initial_master: Vec<String>,
    /// Where the masters find each other, for discovery: https://HOST/TOKEN, etcd3+https://HOST:2379/TOKEN or srv:DOMAIN
    #[arg(long, value_name = "URL")]
    pub discovery_url: Option<String>,
    /// Templates that replace the built-in ones of the same name
    #[arg(long, value_name = "DIR")]
    pub templates: Option<String>,
}

impl SpecArgs {
    fn overrides(&self) -> Overrides {
        let a = self.clone();
        Overrides {
            cluster_name: a.cluster_name,
            kubernetes_version: a.kubernetes_version,
            lb_ips: a.lb_ip,
            lb_names: a.lb_name,
            runtime: a.runtime,
            profile: a.profile,
            election: a.election,
            etcd_bootstrap: a.etcd_bootstrap,
            initial_masters: a.initial_master,
            discovery_url: a.discovery_url,
            templates: a.templates,
        }
    }
}

/// The program: parses, runs, prints the error, returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(elect::podmaster::as_typed_today(std::env::args_os())) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let g = &cli.global;
    let ui = Ui::new(g.output, g.quiet, g.verbose, g.color);
    match run(cli.command, &cli.global, &ui) {
        Ok(code) => code,
        Err(error) => {
            ui.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command, global: &Global, ui: &Ui) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Init(args) => change::init(&args, global, ui).map(done),
        Command::Join(args) => join::join(&args, global, ui).map(done),
        Command::Leave(args) => master::leave(&args, global, ui).map(done),
        Command::Master(command) => master::run(&command, global, ui).map(done),
        Command::Reset(args) => change::reset(&args, global, ui).map(done),
        Command::Certs(command) => certs::run(&command, global, ui),
        Command::Render(args) => report::render(&args, ui).map(done),
        Command::Status => report::status(global, ui),
        Command::Doctor(args) => report::doctor(&args, global, ui),
        Command::Token(command) => token::run(&command, ui).map(done),
        Command::Worker(command) => worker::run(&command, ui).map(done),
        Command::Serve(args) => serve::run(&args).map(done),
        Command::Elect(args) => elect::run(&args, ui),
        Command::Etcd(command) => etcd::run(&command, global, ui),
        Command::Lab(command) => lab::run(&command, ui),
        Command::RunBound { parent, cgroup, argv } => match bound::run_bound(parent, cgroup.as_deref(), &argv)? {},
        Command::Completions { shell } => {
            let mut text = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "hamaster", &mut text);
            ui.out(&String::from_utf8_lossy(&text));
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { out } => { resolve::in_out_dir(&out, |out| report::man(Cli::command(), out, ui)) }.map(done),
    }
}
