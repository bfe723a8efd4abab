//! The one road for commands that change a host: resolve, check, plan, show, ask, apply.

use clap::Args;

use crate::apply::discover::Search;
use crate::apply::event::Event;
use crate::apply::join::Marker;
use crate::apply::turn::Line;
use crate::apply::{self, Options, Outcome, Preview, perform, reset};
use crate::cli::member::Own;
use crate::cli::resolve::{self, Resolved};
use crate::cli::{Global, SpecArgs};
use crate::error::{Error, Result};
use crate::etcd::client::Over;
use crate::host::{Host, Lock, clock, observe};
use crate::preflight;
use crate::state::PhaseId;
use crate::token::Role;
use crate::ui::progress::Progress;
use crate::ui::{Format, Tone, Ui, plan_view};

/// `hamaster init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Only this phase (repeatable): pki, kubeconfig, etcd, network, runtime, kubelet, control-plane, election, register
    #[arg(long, value_name = "PHASE")]
    only: Vec<String>,
    /// Show the plan with its diffs and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Take over files that exist and are not ours; each is backed up first
    #[arg(long)]
    adopt: bool,
    /// Go ahead in spite of this preflight finding (repeatable, comma-separated, or `all`)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    ignore_preflight: Vec<String>,
    #[command(flatten)]
    spec: SpecArgs,
}

/// `hamaster reset`
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Delete etcd's data, the CA keys and the backups too, instead of moving them aside
    #[arg(long)]
    purge: bool,
    /// Although other masters count on this one
    #[arg(long)]
    force: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Makes this host the first master.
///
/// # Errors
/// By kind: configuration, preflight, conflict, or a failure while applying.
pub fn init(args: &InitArgs, global: &Global, ui: &Ui) -> Result<()> {
    let only = phases(&args.only)?;
    let Resolved { mut host, mut master, facts, mut origins, .. } = resolve::master_to_change(&args.spec, global)?;
    clock::watch_interrupts()?;
    let _lock = lock(&host, ui)?;
    if master.role == Role::Worker {
        let message =
            format!("this host is the worker {}: it must not make a cluster of its own", master.this.node.name);
        return Err(Error::conflict(message).hint("hamaster join --worker").hint("hamaster reset"));
    }
    if Marker::find(&host, &master.this.layout)?.is_some() {
        let message = "this host is in the middle of joining a cluster: it must not make one of its own";
        return Err(Error::conflict(message)
            .hint("hamaster join    # again: it goes on where it is")
            .hint("hamaster reset"));
    }
    let options = Options { only, adopt: args.adopt };
    let seen = apply::preview(&host, &master, &options)?;
    let scope = if global.root.is_some() { preflight::Scope::Image } else { preflight::Scope::Host };
    // Who asks for the bundle alone makes the one that the other founders get.
    let bundle_only = options.only == [PhaseId::Pki];
    let but: &[&str] = if bundle_only { &[preflight::FOUNDERS] } else { &[] };
    checks(&host, &master, &facts, scope, (&args.ignore_preflight, but), ui)?;
    let search = Search::of(&master, &seen, &options)?;
    let seen = match &search {
        Some(search) => {
            let found = search.look()?;
            found.warnings.iter().for_each(|warning| ui.warn(warning));
            origins.push(found.note);
            master.spec.masters = found.masters;
            apply::preview(&host, &master, &options)?
        }
        None => seen,
    };
    let title = format!(
        "master {} at {}, Kubernetes {}, etcd {}",
        master.this.node.name, master.this.node.ip, master.spec.kubernetes.version, master.tools.etcd_version
    );
    if seen.is_empty() {
        return finish(ui, &Outcome { notes: seen.notes, ..Outcome::default() }, &title);
    }
    if args.dry_run {
        dry_run(ui, &title, &origins, &seen);
        return Ok(());
    }
    announce(ui, &title, &origins, &seen, args.yes);
    ui.confirm(&format!("Make this host {title}?"), args.yes)?;
    let outcome = go(ui, |sink| {
        let seen = match search {
            Some(search) => {
                master.spec.masters = search.find(&mut host, &master, sink)?;
                apply::preview(&host, &master, &options)?
            }
            None => seen,
        };
        match turn(&host, &master, sink)? {
            Some(mut line) => line.during(sink, |sink| {
                unchanged(&host, &master)?;
                apply::init(&mut host, &master, &options, seen, sink)
            }),
            None => apply::init(&mut host, &master, &options, seen, sink),
        }
    })?;
    finish(ui, &outcome, &title)?;
    if ui.format == Format::Text && host.starts_units() && !ui.quiet {
        ui.say(&format!(
            "next: export KUBECONFIG={}; hamaster status",
            master.this.layout.kubeconfig("admin").display()
        ));
    }
    Ok(())
}

/// Refuses where the registered spec became another one while the turn was waited for: this run knows nothing of it.
fn unchanged(host: &Host, master: &apply::Master) -> Result<()> {
    let Over::This(known) = &master.over else { return Ok(()) };
    match perform::etcd_client(host, &master.this)?.spec()? {
        Some(now) if now.spec != *known => {
            let message = "the cluster's spec was changed at another master meanwhile; nothing was touched";
            Err(Error::conflict(message).hint("run the same command again and look at the new plan"))
        }
        _ => Ok(()),
    }
}

/// Where a master of a living cluster waits for its turn: two that restart their etcd at once could cost the majority.
/// None where there is no etcd to give it: what is wrong with that is for this very run to mend.
fn turn(host: &Host, master: &apply::Master, sink: apply::event::Sink<'_>) -> Result<Option<Line>> {
    let layout = &master.this.layout;
    if !host.starts_units() || observe::record(host, &layout.record())?.etcd.is_none() {
        return Ok(None);
    }
    let mut line = Line::new(&master.this, master.spec.masters.clone(), "init")?;
    if line.is_open() {
        return Ok(Some(line));
    }
    sink(Event::Note("etcd does not answer: no other master is asked to wait for this one"));
    Ok(None)
}

/// Runs something that sends events, showing them.
///
/// # Errors
/// Those of `work`.
pub fn go<T>(ui: &Ui, work: impl FnOnce(apply::event::Sink<'_>) -> Result<T>) -> Result<T> {
    let mut progress = Progress::new(*ui);
    work(&mut |event| progress.show(event))
}

/// Takes this host for one command. Where its keeper is at work it is waited for, as everybody can see.
///
/// # Errors
/// As [`Host::lock_after_the_keeper`].
pub(super) fn lock(host: &Host, ui: &Ui) -> Result<Lock> {
    let condition = "the keeper of this master (hamaster-serve) to be done";
    go(ui, |sink| host.lock_after_the_keeper(|since| sink(Event::Waiting { condition, since })))
}

/// Says what speaks against this host, and refuses unless it is `ignored`. Checks in `but` do not apply.
///
/// # Errors
/// As [`preflight::refuse`].
pub(super) fn checks(
    host: &Host,
    master: &apply::Master,
    facts: &crate::state::facts::HostFacts,
    scope: preflight::Scope,
    (ignored, but): (&[String], &[&str]),
    ui: &Ui,
) -> Result<()> {
    let observed = master.observe(host)?;
    let mut findings = preflight::run(scope, &master.spec, &master.this, facts, &observed, clock::now());
    findings.retain(|f| !but.contains(&f.id.as_str()));
    let shown = |f: &&preflight::Finding| f.severity == preflight::Severity::Warning || preflight::accepts(ignored, f);
    for finding in findings.iter().filter(shown) {
        ui.warn(&format!("{}: {finding}", finding.id));
        if ui.verbose {
            ui.say(&format!("  {} {}", ui.paint(Tone::Dim, "hint:"), finding.hint));
        }
    }
    preflight::refuse(&findings, ignored)
}

/// The plan as a result: its diffs, and nothing happens.
fn dry_run(ui: &Ui, title: &str, origins: &[String], seen: &Preview) {
    if ui.format == Format::Json {
        let plan = serde_json::json!({ "master": title, "phases": plan_view::json(&seen.phases), "notes": seen.notes });
        return ui.json("plan", &plan);
    }
    let plan = plan_view::text(ui, &seen.phases, true);
    ui.out(&format!("{}{plan}{} steps; nothing was touched\n", head(ui, title, origins), seen.steps()));
}

/// What is about to happen: every step where somebody is asked, a summary where each is shown as it is done.
fn announce(ui: &Ui, title: &str, origins: &[String], seen: &Preview, yes: bool) {
    if ui.format == Format::Json {
        return;
    }
    let asks = !yes && ui.is_interactive();
    let plan = if asks || ui.verbose { plan_view::text(ui, &seen.phases, false) } else { String::new() };
    ui.say(&format!("{}{plan}{}", head(ui, title, origins), plan_view::summary(&seen.phases)));
}

pub(super) fn head(ui: &Ui, title: &str, origins: &[String]) -> String {
    let origins: String = origins.iter().map(|o| format!("  {}\n", ui.paint(Tone::Dim, o))).collect();
    format!("{}\n{origins}", ui.paint(Tone::Bold, title))
}

/// Says what a run did.
///
/// # Errors
/// None today; a caller ends with it.
pub fn finish(ui: &Ui, outcome: &Outcome, title: &str) -> Result<()> {
    if ui.format == Format::Json {
        ui.json("outcome", outcome);
        return Ok(());
    }
    for note in &outcome.notes {
        ui.say(&format!("{} {note}", ui.paint(Tone::Warn, "note:")));
    }
    match outcome.changed.len() {
        0 => ui.out(&format!("{title}: nothing to do\n")),
        n => ui.out(&format!("{title}: {} ({n} changes)\n", ui.paint(Tone::Good, "done"))),
    }
    Ok(())
}

fn phases(words: &[String]) -> Result<Vec<PhaseId>> {
    let find = |word: &String| {
        PhaseId::ALL.into_iter().find(|p| p.name() == word).ok_or_else(|| {
            let names: Vec<&str> = PhaseId::ALL.iter().map(|p| p.name()).collect();
            Error::usage(format!("there is no phase {word:?}")).hint(format!("one of: {}", names.join(", ")))
        })
    };
    words.iter().map(find).collect()
}

/// Takes back everything hamaster owns.
///
/// # Errors
/// When nothing of ours is here, nobody confirms, or something cannot be removed.
pub fn reset(args: &ResetArgs, global: &Global, ui: &Ui) -> Result<()> {
    let (mut host, this) = resolve::owned(global)?;
    clock::watch_interrupts()?;
    let _lock = lock(&host, ui)?;
    if !args.force
        && let Some(own) = Own::find(&host)?
    {
        own.may_vanish(&host, &this, ui)?;
    }
    let now = clock::now();
    let plan = reset::preview(&host, &this, args.purge, now)?;
    let title = format!("reset of {}", this.node.name);
    if plan.steps.is_empty() {
        return finish(ui, &Outcome { notes: plan.stays, ..Outcome::default() }, &title);
    }
    if ui.format == Format::Json && args.dry_run {
        ui.json("plan", &serde_json::json!({ "steps": plan_view::steps(&plan.steps), "stays": plan.stays }));
        return Ok(());
    }
    let mut text: String = plan.steps.iter().map(|a| plan_view::line(ui, a)).collect();
    text.extend(plan.stays.iter().map(|s| format!("  = stays: {s}\n")));
    if args.dry_run {
        ui.out(&format!("{title}\n{text}{} steps; nothing was touched\n", plan.steps.len()));
        return Ok(());
    }
    if ui.verbose || !args.yes && ui.is_interactive() {
        ui.say(&format!("{title}\n{text}"));
    }
    ui.confirm("Remove all this from the host?", args.yes)?;
    if reset::preview(&host, &this, args.purge, now)? != plan {
        return Err(Error::conflict("the host changed while the plan was shown; nothing was touched")
            .hint("run the same command again and look at the new plan"));
    }
    let outcome = go(ui, |sink| reset::apply(&mut host, &this, &plan, sink))?;
    finish(ui, &outcome, &title)
}
