//! `hamaster join --worker`

use std::path::Path;

use super::{JoinArgs, Visit};
use crate::apply::assembly;
use crate::apply::join::{self, Choice, Cluster, Marker, worker};
use crate::apply::{Master, Outcome};
use crate::cli::change::{checks, finish, go, head, lock};
use crate::cli::{Global, SpecArgs, resolve};
use crate::error::{Error, Result};
use crate::host::{clock, facts, observe};
use crate::pki::catalog;
use crate::preflight::Scope;
use crate::spec::ClusterSpec;
use crate::spec::file::{self, Overrides};
use crate::spec::layout::Layout;
use crate::state::observed::Record;
use crate::token::Role;
use crate::ui::{Format, Ui, plan_view};

/// Makes this host, or the image below `--root`, a worker.
///
/// # Errors
/// By kind: configuration, preflight or a refusal by the cluster, conflict, or a failure while applying.
pub(super) fn join(args: &JoinArgs, global: &Global, ui: &Ui) -> Result<()> {
    let root = global.root.as_deref();
    let mut host = resolve::host(root)?;
    clock::watch_interrupts()?;
    let _lock = lock(&host, ui)?;
    let layout = Layout::host();
    let record = observe::record(&host, &layout.record())?;
    let found = Marker::find(&host, &layout)?;
    may_be_a_worker(&record, found.as_ref(), &layout)?;
    let at = root.unwrap_or(Path::new("/"));
    let blank = file::load(None, &Overrides::default())?;
    let mut origins = vec![];
    // Where it was reached before it is reached again.
    let known = record.worker.as_ref().map(|w| w.ip.to_string());
    let advertise_ip = args.advertise_ip.clone().or(known);
    let named = SpecArgs { name: args.name.clone(), advertise_ip, ..SpecArgs::default() };
    let seen = facts::gather(at, &blank, &layout);
    let node = resolve::node(&named, &blank, record.node.as_deref(), &seen, &mut origins)?;

    let mut visit = None;
    let (marker, welcome, spec) = match (found, &record.worker) {
        // The host is a worker: what it holds is judged by the spec it has.
        (None, Some(_)) => (None, None, resolve::cluster(&SpecArgs::default(), &host)?),
        (Some(marker), _) if marker.cluster.is_some() => {
            super::same_cluster(args, &host, &layout)?;
            let spec = marker.cluster.as_ref().map(|c| read(&c.spec)).transpose()?.unwrap_or(blank);
            (Some(marker), None, spec)
        }
        (found, _) => {
            let there = visit.insert(Visit::new(args, &node, ui)?);
            let marker = found.map_or_else(|| Marker::begin(&mut host, &layout, &node, Role::Worker, None), Ok)?;
            let welcome = there.ask(&marker, &node, vec![])?;
            let spec = read(&welcome.spec)?;
            (Some(marker), Some(welcome), spec)
        }
    };
    let facts = facts::gather(at, &spec, &layout);
    let mut master = assembly::assemble(spec, node, &facts)?;
    master.role = Role::Worker;
    let choice = Choice { adopt: args.adopt, ..Choice::default() };
    let files = welcome.as_ref().map_or(&[][..], |w| &w.files);
    let plan = join::preview(&host, &master, files, &choice)?;
    let server = catalog::worker_server(&master.spec, &master.this);
    let title = format!("worker {} at {} of {}", master.this.node.name, master.this.node.ip, master.spec.name);
    if plan.is_empty() && marker.is_none() {
        return finish(ui, &Outcome::default(), &title);
    }
    let scope = if root.is_some() { Scope::WorkerImage } else { Scope::Worker };
    checks(&host, &master, &facts, scope, (&args.ignore_preflight, &[]), ui)?;
    if args.dry_run {
        super::planned(&plan, &title, &origins, &layout, ui);
        return Ok(());
    }
    if ui.format == Format::Text {
        let steps = match !args.yes && ui.is_interactive() || ui.verbose {
            true => plan_view::text(ui, &plan.phases, false),
            false => String::new(),
        };
        let notes: String = plan.notes.iter().map(|n| format!("  {n}\n")).collect();
        let api = format!("  its API is {server}\n");
        ui.say(&format!("{}{notes}{api}{steps}{}", head(ui, &title, &origins), plan_view::summary(&plan.phases)));
    }
    ui.confirm(&format!("Make this host {title}?"), args.yes)?;
    let node = master.this.node.clone();
    let marker = match (marker, &welcome) {
        (Some(begun), Some(welcome)) => join::import(&mut host, &master, begun, welcome)?,
        (Some(begun), None) => begun,
        // A certificate may be due: a new attempt, which a master will ask a token for.
        (None, _) => {
            let known = Some(cluster_of(&master, &record));
            Marker::begin(&mut host, &layout, &node, Role::Worker, known)?
        }
    };
    let mut sign = |requests| {
        let there = match &visit {
            Some(there) => there,
            None => visit.insert(Visit::new(args, &node, ui)?),
        };
        Ok(there.ask(&marker, &node, requests)?.certificates)
    };
    let outcome = go(ui, |sink| worker::join(&mut host, &master, &choice, plan, &mut sign, sink))?;
    finish(ui, &outcome, &title)?;
    if ui.format == Format::Text && !ui.quiet {
        ui.say(&format!("next, on a master: kubectl get node {}", master.this.node.name));
    }
    Ok(())
}

/// A host is one thing. What was begun is finished or taken back first.
fn may_be_a_worker(record: &Record, found: Option<&Marker>, layout: &Layout) -> Result<()> {
    let why = match (found, record) {
        (Some(marker), _) if marker.role == Role::Master => "this host is in the middle of joining as a master",
        (_, Record { etcd: Some(_), .. }) => "this host is a master",
        // All that a join has before its marker is the place for it.
        (None, Record { worker: None, files, .. }) if files.keys().any(|file| *file != Marker::path(layout)) => {
            "`hamaster init` has begun to make this host a master"
        }
        _ => return Ok(()),
    };
    Err(Error::conflict(why).hint("hamaster reset    # to make it a worker instead"))
}

fn read(spec: &str) -> Result<ClusterSpec> {
    file::load(Some(("the cluster's spec", spec)), &Overrides::default())
}

/// The cluster as this worker knows it.
fn cluster_of(master: &Master, record: &Record) -> Cluster {
    let masters = master.spec.masters.iter();
    Cluster {
        id: record.worker.as_ref().map(|w| w.cluster_id.clone()).unwrap_or_default(),
        masters: masters.map(|m| crate::admission::Host { name: m.name.clone(), ip: m.ip }).collect(),
        spec: file::to_yaml(&master.spec),
    }
}
