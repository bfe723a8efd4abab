//! `hamaster join`: makes this host one more master, or a worker.

mod worker;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::admission::{self, Pem};
use crate::apply::assembly;
use crate::apply::join::{self, Choice, Cluster, Marker};
use crate::cli::change::{checks, go, head, lock};
use crate::cli::offline::BundleArgs;
use crate::cli::{Global, SpecArgs, resolve};
use crate::error::{Error, Result};
use crate::etcd::membership::{Member, quorum, tolerated};
use crate::host::{Host, clock, doorbell, facts, names, observe, operator};
use crate::pki::inspect;
use crate::preflight::{self, Scope};
use crate::spec::file::{self, Overrides};
use crate::spec::layout::Layout;
use crate::spec::{Node, address};
use crate::state::observed::Record;
use crate::token::{Role, Token};
use crate::ui::{Format, Tone, Ui, plan_view, table};

/// `hamaster join`
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Masters to ask, HOST or HOST:PORT; one that answers is enough
    #[arg(value_name = "MASTER")]
    masters: Vec<String>,
    /// The join token; others on this host can see it here
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the token, `-` for standard input [default: ask]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    bundle: BundleArgs,
    /// Node name [default: the host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Address the other masters reach this one at [default: source address of the default route]
    #[arg(long, value_name = "IP")]
    advertise_ip: Option<String>,
    /// Make this host a worker, with a token for workers; also below --root
    #[arg(long, conflicts_with_all = ["replace", "offline"])]
    worker: bool,
    /// This node is a voter whose disk was lost: remove it, and join anew
    #[arg(long)]
    replace: bool,
    /// Show the plan with its diffs and do nothing; the token is used for this attempt all the same
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
}

/// Makes this host one more master of a cluster, or a worker.
///
/// # Errors
/// By kind: configuration, preflight or a refusal by the cluster, conflict, or a failure while applying.
pub fn join(args: &JoinArgs, global: &Global, ui: &Ui) -> Result<()> {
    if args.worker {
        return worker::join(args, global, ui);
    }
    if global.root.is_some() {
        return Err(
            Error::usage("an image cannot join a cluster: it does not run").hint("hamaster join    # on the host")
        );
    }
    let mut host = resolve::host(None)?;
    clock::watch_interrupts()?;
    let _lock = lock(&host, ui)?;
    let layout = Layout::host();
    let record = observe::record(&host, &layout.record())?;
    let found = Marker::find(&host, &layout)?;
    if record.worker.is_some() || found.as_ref().is_some_and(|marker| marker.role == Role::Worker) {
        let hint = "hamaster join --worker    # to go on with that; or hamaster reset";
        return Err(Error::conflict("this host is a worker, or about to be one").hint(hint));
    }
    if let (None, Some(member), false) = (&found, &record.etcd, args.replace) {
        let message = format!("this host is a master of the cluster {} already", member.cluster_id);
        return Err(Error::conflict(message)
            .hint("hamaster status")
            .hint("hamaster join --replace    # where its disk was lost")
            .hint("hamaster leave    # to make it another's"));
    }
    let done = attempt(args, &mut host, &layout, &record, found, ui);
    // A master that goes on as the one it was is in the middle of nothing.
    if record.etcd.is_some() && Marker::find(&host, &layout)?.is_some_and(|marker| marker.cluster.is_none()) {
        Marker::clear(&mut host, &layout)?;
    }
    done
}

/// From asking a master to the end.
fn attempt(
    args: &JoinArgs,
    host: &mut Host,
    layout: &Layout,
    record: &Record,
    found: Option<Marker>,
    ui: &Ui,
) -> Result<()> {
    let blank = file::load(None, &Overrides::default())?;
    let seen = facts::gather(Path::new("/"), &blank, layout);
    let mut origins = vec![];
    let named = SpecArgs { name: args.name.clone(), advertise_ip: args.advertise_ip.clone(), ..SpecArgs::default() };
    let node = resolve::node(&named, &blank, record.node.as_deref(), &seen, &mut origins)?;
    let (marker, welcome) = match found {
        Some(marker) if marker.cluster.is_some() => {
            same_cluster(args, host, layout)?;
            (marker, None)
        }
        found => {
            let (marker, welcome) = ask(args, host, layout, &node, found, ui)?;
            (marker, Some(welcome))
        }
    };
    let missing = || Error::conflict("the marker names no cluster").hint("hamaster reset");
    let cluster = marker.cluster.clone().or_else(|| welcome.as_ref().map(Cluster::from)).ok_or_else(missing)?;
    if let (Some(member), Some(_)) = (&record.etcd, &welcome)
        && member.cluster_id != cluster.id
    {
        let message = format!("this host is a master of the cluster {}, and that is {}", member.cluster_id, cluster.id);
        return Err(Error::conflict(message).hint("hamaster leave    # first, to make it another's"));
    }
    let spec = join::spec_with(&cluster.spec, &node)?;
    let mut facts = facts::gather(Path::new("/"), &spec, layout);
    let others = cluster.masters.iter().filter(|m| m.name != node.name);
    let etcd: Vec<_> = others.flat_map(|m| [2379, 2380].map(|port| SocketAddr::new(m.ip, port))).collect();
    facts.unreachable = facts::unreachable(&etcd);
    let mut master = assembly::assemble(spec, node, &facts)?;
    let choice = Choice { only: vec![], adopt: args.adopt, replace: args.replace };
    let files = welcome.as_ref().map_or(&[][..], |w| &w.files);
    let plan = join::preview(host, &master, files, &choice)?;
    checks(host, &master, &facts, Scope::Host, (&args.ignore_preflight, &[preflight::FOUNDERS]), ui)?;
    let title = format!("master {} at {} of {}", master.this.node.name, master.this.node.ip, master.spec.name);
    if args.dry_run {
        planned(&plan, &title, &origins, layout, ui);
        return Ok(());
    }
    if ui.format == Format::Text {
        let steps = match !args.yes && ui.is_interactive() || ui.verbose {
            true => plan_view::text(ui, &plan.phases, false),
            false => String::new(),
        };
        let notes: String = plan.notes.iter().map(|n| format!("  {n}\n")).collect();
        ui.say(&format!("{}{notes}{steps}{}", head(ui, &title, &origins), plan_view::summary(&plan.phases)));
    }
    ui.confirm(&format!("Make this host {title}?"), args.yes)?;
    let (outcome, members) = go(ui, |sink| {
        if let Some(welcome) = &welcome {
            join::import(host, &master, marker, welcome)?;
        }
        join::join(host, &mut master, &cluster, &choice, plan, sink)
    })?;
    finish(ui, &title, outcome.changed.len(), &members);
    Ok(())
}

/// The plan as a result: its diffs, and nothing happens.
fn planned(plan: &join::Preview, title: &str, origins: &[String], layout: &Layout, ui: &Ui) {
    match ui.format {
        Format::Json => {
            let phases = plan_view::json(&plan.phases);
            ui.json("plan", &serde_json::json!({ "master": title, "phases": phases, "notes": plan.notes }));
        }
        Format::Text => {
            let notes: String = plan.notes.iter().map(|n| format!("  {n}\n")).collect();
            let steps = plan_view::text(ui, &plan.phases, true);
            let note = Marker::path(layout);
            let kept = format!("nothing was done; {} keeps this attempt for hamaster join", note.display());
            ui.out(&format!("{}{notes}{steps}{kept}\n", head(ui, title, origins)));
        }
    }
}

/// Asks the masters to be admitted. What this attempt is known by is on disk before they hear of it.
fn ask(
    args: &JoinArgs,
    host: &mut Host,
    layout: &Layout,
    node: &Node,
    found: Option<Marker>,
    ui: &Ui,
) -> Result<(Marker, admission::Welcome)> {
    let mut noted =
        |found: Option<Marker>| found.map_or_else(|| Marker::begin(host, layout, node, Role::Master, None), Ok);
    if let Some(file) = &args.bundle.offline {
        let welcome = args.bundle.open(file, &node.name, ui)?;
        return Ok((noted(found)?, welcome));
    }
    let there = Visit::new(args, node, ui)?;
    let marker = noted(found)?;
    let welcome = there.ask(&marker, node, vec![])?;
    Ok((marker, welcome))
}

/// Whom to ask, and what to show them.
struct Visit {
    masters: Vec<SocketAddr>,
    token: Token,
}

impl Visit {
    fn new(args: &JoinArgs, node: &Node, ui: &Ui) -> Result<Self> {
        if args.masters.is_empty() {
            let worker = if args.worker { " --worker" } else { "" };
            let hint = format!("hamaster join 10.0.0.1 --token-file FILE{worker}");
            return Err(Error::usage("no master is named").hint(hint));
        }
        if let Err(mistake) = address::node_name(&node.name) {
            return Err(Error::usage(mistake.message).hint("--name NAME"));
        }
        let masters: Vec<SocketAddr> =
            args.masters.iter().map(|m| names::addresses(m, admission::PORT)).collect::<Result<Vec<_>>>()?.concat();
        Ok(Self { masters, token: token(args, ui)? })
    }

    /// Asks to be what `marker` says, and to have `requests` signed.
    fn ask(&self, marker: &Marker, node: &Node, requests: Vec<Pem>) -> Result<admission::Welcome> {
        doorbell::ask(&self.masters, &self.token.ca_pin, &marker.request(&self.token, node, requests))
    }
}

fn token(args: &JoinArgs, ui: &Ui) -> Result<Token> {
    match given_token(args) {
        Some(token) => token,
        None => Token::parse(&ui.ask_secret("Join token").map_err(|e| e.hint("--token-file FILE"))?),
    }
}

/// The token of the command line.
fn given_token(args: &JoinArgs) -> Option<Result<Token>> {
    if let Some(token) = &args.token {
        return Some(Token::parse(token));
    }
    let path = args.token_file.as_deref()?;
    let path = if path == Path::new("-") { Path::new("/dev/stdin") } else { path };
    let read = || {
        let bytes = Zeroizing::new(operator::read(path)?);
        Token::parse(&Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
    };
    Some(read())
}

/// The bundle is here, and no token is needed any more. One of another cluster shows that a person means that one.
fn same_cluster(args: &JoinArgs, host: &Host, layout: &Layout) -> Result<()> {
    let Some(Ok(token)) = given_token(args) else { return Ok(()) };
    let ca = host.read(&layout.pki().join("ca.crt"))?.map(|pem| inspect::certs(&pem)).transpose();
    match ca {
        Ok(Some(ca)) if ca.iter().all(|cert| cert.spki != token.ca_pin) => {
            let message = "this host is in the middle of joining another cluster than the token's";
            Err(Error::conflict(message)
                .hint("hamaster join    # without a token: it goes on with that one")
                .hint("hamaster leave    # then join the other"))
        }
        _ => Ok(()),
    }
}

fn finish(ui: &Ui, title: &str, changes: usize, members: &[Member]) {
    let voters = members.iter().filter(|m| !m.is_learner).count();
    if ui.format == Format::Json {
        let result = serde_json::json!({ "changes": changes, "members": members, "tolerates": tolerated(voters) });
        return ui.json("join", &result);
    }
    ui.out(&format!("{title}: {} ({changes} changes)\n\n", ui.paint(Tone::Good, "done")));
    let row = |m: &Member| {
        let role = if m.is_learner { "learner" } else { "voter" };
        vec![m.shown(), format!("{:x}", m.id), role.to_owned(), m.peer_urls.join(", ")]
    };
    ui.out(&table::render(&["MEMBER", "ID", "ROLE", "PEERS"], members.iter().map(row)));
    let tolerates = match tolerated(voters) {
        0 => "no failure: join a third".to_owned(),
        1 => "1 failure".to_owned(),
        n => format!("{n} failures"),
    };
    ui.out(&format!("\n{voters} voters, {} make a majority: tolerates {tolerates}\n", quorum(voters)));
    ui.say("next: hamaster status");
}
