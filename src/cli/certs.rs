//! `hamaster certs`: make, check and verify a bundle.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::apply::{self, Options};
use crate::cli::resolve::{self, Resolved};
use crate::cli::{Global, SpecArgs, change};
use crate::error::{Error, Kind, Result};
use crate::host::{Host, clock, observe};
use crate::pki::bundle::Bundle;
use crate::pki::{catalog, check, judge};
use crate::spec::layout::Layout;
use crate::state::PhaseId;
use crate::state::desired::{CertSpec, Desired};
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
    /// Where to; taken onto a host with `tar -C DIR --owner=0 --group=0 -c etc var | ssh HOST tar -C / --no-overwrite-dir -x`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    spec: SpecArgs,
}

/// `hamaster certs check` and `verify`
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// A bundle of ours or of kubeadm, or a root that holds one [default: this host]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    spec: SpecArgs,
}

/// Runs one of them.
///
/// # Errors
/// A configuration mistake or an unreadable bundle.
pub fn run(command: &CertsCommand, global: &Global, ui: &Ui) -> Result<ExitCode> {
    match command {
        CertsCommand::Generate(args) => {
            resolve::in_out_dir(&args.out, |out| generate(args, out, ui)).map(|()| ExitCode::SUCCESS)
        }
        CertsCommand::Check(args) => look(args, global, ui, false),
        CertsCommand::Verify(args) => look(args, global, ui, true),
    }
}

fn generate(args: &GenerateArgs, out: &Path, ui: &Ui) -> Result<()> {
    let Resolved { mut host, master, origins, .. } = resolve::master_at(&args.spec, Some(out))?;
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
    let dir = args.dir.as_deref().or(global.root.as_deref()).unwrap_or(Path::new("/"));
    let host = resolve::host(Some(dir))?;
    let mut files = judge::Paths::new();
    for path in Bundle::candidates() {
        if let Some(fact) = observe::path_fact(&host, &Path::new("/").join(&path))? {
            files.insert(path, fact);
        }
    }
    let wanted = wanted(args, &host, dir)?;
    let Some(report) = check::report(&files, &wanted, clock::now()) else {
        return Err(Error::usage(format!("there is no certificate bundle in {}", dir.display()))
            .hint("hamaster certs generate --out DIR --name NAME --advertise-ip IP"));
    };
    let wrong = |row: &check::Row| {
        row.state != check::State::Ok || verify && row.findings.iter().any(|f| f.severity == check::Severity::Error)
    };
    if ui.format == Format::Json {
        ui.json("certs", &report);
    } else {
        ui.out(&text(ui, &report, verify));
    }
    let bad = report.rows.iter().filter(|r| wrong(r)).count();
    if bad > 0 && ui.format == Format::Text {
        ui.say(&format!("{bad} of {} need attention", report.rows.len()));
    }
    Ok(if bad > 0 { ExitCode::from(Kind::Conflict.exit_code()) } else { ExitCode::SUCCESS })
}

/// The catalogue of this master where the spec is known: from flags, or from the `cluster.yaml` beside the bundle.
fn wanted(args: &BundleArgs, host: &Host, dir: &Path) -> Result<Vec<CertSpec>> {
    let known = args.spec.config.is_some() || args.spec.name.is_some();
    if !known && host.stat(&Layout::host().cluster_yaml())?.is_none() {
        return Ok(vec![]);
    }
    let master = resolve::master_at(&args.spec, Some(dir))?.master;
    Ok(catalog::certs(&master.spec, &master.this))
}

fn text(ui: &Ui, report: &check::Report, verify: bool) -> String {
    let days = |row: &check::Row| row.days_left.map(|d| d.to_string()).unwrap_or_default();
    let state = |row: &check::Row| {
        let word = serde_json::to_value(row.state).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        let tone = if row.state == check::State::Ok { Tone::Good } else { Tone::Bad };
        ui.paint(tone, &word)
    };
    let rows = report.rows.iter().map(|r| vec![r.id.to_owned(), days(r), state(r), r.path.display().to_string()]);
    let mut text = table::render(&["CERTIFICATE", "DAYS LEFT", "STATE", "FILE"], rows);
    let shown = |f: &check::Finding| verify || f.severity == check::Severity::Error;
    for (row, finding) in
        report.rows.iter().flat_map(|r| r.findings.iter().map(move |f| (r, f))).filter(|(_, f)| shown(f))
    {
        let (tone, word) = match finding.severity {
            check::Severity::Error => (Tone::Bad, "error:"),
            check::Severity::Warning => (Tone::Warn, "warning:"),
        };
        text.push_str(&format!("{} {}: {}\n", ui.paint(tone, word), row.path.display(), finding.message));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("  {} {hint}\n", ui.paint(Tone::Dim, "hint:")));
        }
    }
    text
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
