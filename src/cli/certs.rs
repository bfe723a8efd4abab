//! `hamaster certs`: make, check and verify a bundle.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::apply::{self, Options};
use crate::cli::resolve::{self, Resolved};
use crate::cli::{Global, SpecArgs, change};
use crate::error::{Error, Kind, Result};
use crate::host::{clock, observe};
use crate::pki::check;
use crate::spec::layout::Layout;
use crate::state::PhaseId;
use crate::state::desired::Desired;
use crate::state::observed::{ContentFact, Observed};
use crate::ui::{Format, Tone, Ui, table};

/// Subcommands of `certs`.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make the whole bundle below a directory, without touching this host
    Generate(GenerateArgs),
    /// How long every certificate lives; exit code 4 when one is near its end
    Check(BundleArgs),
    /// Chain, key, usage, names and permissions of every certificate; exit code 4 when one is wrong
    Verify(BundleArgs),
}

/// `hamaster certs generate`
#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// Where to: copy it onto a host with `tar -C DIR -c . | ssh HOST tar -C / -x`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// `hamaster certs check` and `verify`
#[derive(Debug, Args)]
pub struct BundleArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// A bundle of ours or of kubeadm, or a root that holds one [default: this host]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs one of them.
///
/// # Errors
/// A configuration mistake or an unreadable bundle.
pub fn run(command: &CertsCommand, global: &Global, ui: &Ui) -> Result<ExitCode> {
    match command {
        CertsCommand::Generate(args) => generate(args, global, ui).map(|()| ExitCode::SUCCESS),
        CertsCommand::Check(args) => look(args, global, ui, false),
        CertsCommand::Verify(args) => look(args, global, ui, true),
    }
}

fn generate(args: &GenerateArgs, global: &Global, ui: &Ui) -> Result<()> {
    let out = resolve::out_dir(&args.out)?;
    let below = Global { root: Some(out), ..*global_copy(global) };
    let Resolved { mut host, master, origins, .. } = resolve::master(&args.spec, &below)?;
    clock::watch_interrupts()?;
    let _lock = host.lock()?;
    for origin in &origins {
        ui.say(origin);
    }
    let options = Options { only: vec![PhaseId::Pki, PhaseId::Kubeconfig], adopt: false };
    let seen = apply::preview(&host, &master, &options)?;
    let outcome = change::go(ui, |sink| apply::init(&mut host, &master, &options, seen, sink))?;
    change::finish(ui, &outcome, &format!("bundle of {} in {}", master.this.node.name, args.out.display()))
}

fn look(args: &BundleArgs, global: &Global, ui: &Ui, verify: bool) -> Result<ExitCode> {
    let _ = (args, global, ui, verify, Layout::host(), observe::path_fact, check::report);
    Err(Error::new(Kind::Usage, "not wired yet"))
}

/// A row for each certificate of this master: days left and state.
pub fn expiry(desired: &Desired, observed: &Observed, now: OffsetDateTime) -> Vec<Value> {
    let fact = |content: &ContentFact| match content {
        ContentFact::Certs(certs) => certs.first().map(|c| c.not_after),
        ContentFact::Combined(cert, _) => Some(cert.not_after),
        ContentFact::Kubeconfig(file) => file.client.as_ref().map(|c| c.not_after),
        _ => None,
    };
    let row = |id: &str, path: &std::path::Path| {
        let end = observed.at(path).and_then(|f| fact(&f.content));
        let days = end.map(|end| (end - now).whole_days());
        let state = match days {
            None => "missing",
            Some(d) if d < 0 => "expired",
            Some(d) if d < 30 => "ends soon",
            Some(_) => "good",
        };
        json!({ "id": id, "path": path, "daysLeft": days, "state": state })
    };
    let cas = desired.cas.iter().map(|ca| row(&format!("CA {}", ca.common_name), &ca.cert));
    cas.chain(desired.certs.iter().map(|c| row(c.id, c.placement.path()))).collect()
}
