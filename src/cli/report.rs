//! Commands that only look: render, status, doctor, man.

mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::apply::{self, Options, assembly};
use crate::cli::resolve::{self, Resolved};
use crate::cli::{Global, SpecArgs, masters};
use crate::error::{Error, Kind, Result};
use crate::host::{Host, NoUnits, clock};
use crate::plan::compose::{self, Given};
use crate::plan::master as planner;
use crate::preflight::{self, Severity};
use crate::spec::layout::Layout;
use crate::spec::{EtcdBootstrap, Node, ThisNode, address};
use crate::state::Owner;
use crate::state::observed::{Observed, Record};
use crate::token::Role;
use crate::ui::{Format, Tone, Ui, plan_view, table};

/// `hamaster render`
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// Where to; files of an earlier render are replaced, nothing else is touched
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    spec: SpecArgs,
}

/// `hamaster doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Writes everything for one node into a directory. No secrets are made; the host is not asked.
///
/// # Errors
/// A configuration mistake, or a directory that cannot be written.
pub fn render(args: &RenderArgs, ui: &Ui) -> Result<()> {
    let nowhere = Host::new("/", Box::new(NoUnits))?;
    let mut spec = resolve::cluster(&args.spec, &nowhere)?;
    let node = render_node(&args.spec, &spec.masters)?;
    if spec.etcd.bootstrap == EtcdBootstrap::Discovery && spec.masters.len() < 2 {
        return Err(Error::usage("the masters that will be found are not known here")
            .hint("--initial-master NAME=IP    # for each of them"));
    }
    resolve::founders(&mut spec, &node, &Record::default())?;
    if !spec.masters.contains(&node) {
        spec.masters.retain(|m| m.name != node.name);
        spec.masters.push(node.clone());
    }
    let templates = assembly::templates(spec.templates.as_deref())?;
    let tools = crate::render::assumed_tools(&spec);
    let this = ThisNode { node, loopback: std::net::Ipv4Addr::LOCALHOST.into(), layout: Layout::host() };
    let given = Given {
        sealed: false,
        token: "known-once-the-etcd-ca-exists".to_owned(),
        initial_cluster: None,
        external_ca: false,
    };
    let desired = compose::desired(&spec, &this, &tools, &templates, &given)?;
    let mut written = vec![];
    for file in &desired.files {
        let bytes = planner::final_bytes(file, &desired, &Observed::default());
        written.push((file.path.clone(), bytes, file.mode));
    }
    resolve::in_out_dir(&args.out, |out| {
        let mut host = Host::new(out, Box::new(NoUnits))?;
        for (path, bytes, mode) in &written {
            if let Some(parent) = path.parent() {
                host.ensure_dir(parent, 0o755, Owner::Root)?;
            }
            host.write(path, bytes, *mode, Owner::Root)?;
        }
        Ok(())
    })?;
    if ui.format == Format::Json {
        let files: Vec<String> = written.iter().map(|(p, ..)| p.display().to_string()).collect();
        ui.json("render", &json!({ "node": this.node.name, "out": args.out, "files": files }));
    } else {
        for (path, ..) in &written {
            ui.out(&format!("{}{}\n", args.out.display(), path.display()));
        }
    }
    Ok(())
}

fn render_node(args: &SpecArgs, masters: &[Node]) -> Result<Node> {
    let mistake = |at: &str, m: crate::spec::mistake::Mistake| {
        Error::usage(format!("{at}: {}", m.message)).hint(m.hint.unwrap_or_else(|| format!("{at} VALUE")))
    };
    let name = args
        .name
        .clone()
        .ok_or_else(|| Error::usage("which node is to be rendered?").hint("--node NAME --advertise-ip IP"))?;
    let name = address::node_name(&name).map_err(|m| mistake("--node", m))?;
    let known = masters.iter().find(|m| m.name == name);
    match (&args.advertise_ip, known) {
        (Some(ip), _) => Ok(Node { name, ip: address::ip(ip).map_err(|m| mistake("--advertise-ip", m))? }),
        (None, Some(node)) => Ok(node.clone()),
        (None, None) => Err(Error::usage(format!("the address of {name} is not known"))
            .hint(format!("--advertise-ip IP, or list it in cluster.yaml: masters: [{{name: {name}, ip: IP}}]"))),
    }
}

/// What this host is now.
///
/// # Errors
/// When the host cannot be read. Exit code 4 when hamaster set it up and something is unhealthy.
pub fn status(global: &Global, ui: &Ui) -> Result<ExitCode> {
    let Resolved { host, master, .. } = resolve::master(&SpecArgs::default(), global)?;
    if master.role == Role::Worker {
        return worker::status(&host, &master, ui);
    }
    let observed = master.observe(&host)?;
    let desired = master.desired(&observed)?;
    let owned = observed.record.node.is_some();
    let member = (host.starts_units() && observed.units.get(apply::ETCD_UNIT).is_some_and(|u| u.active))
        .then(|| apply::perform::etcd_client(&host, &master.this).and_then(|c| Ok((c.status()?, c.reports()?))));
    let (member, reports) = match member {
        Some(Ok((status, reports))) => (Some(Ok(status)), Some(reports)),
        Some(Err(e)) => (Some(Err(e)), None),
        None => (None, None),
    };
    let mut healthy = true;
    let mut units = vec![];
    for unit in &desired.units {
        let fact = observed.units.get(&unit.name).cloned().unwrap_or_default();
        let wanted = host.starts_units() && unit.run && observed.record.units.contains_key(&unit.name);
        healthy &= !wanted || fact.active;
        let state = if fact.active {
            "active"
        } else if fact.failed {
            "failed"
        } else {
            "inactive"
        };
        units.push(
            json!({ "unit": unit.name, "state": state, "enabled": fact.enabled, "pid": fact.pid, "wanted": wanted }),
        );
    }
    let certificates = super::certs::expiry(&desired, &observed, clock::now());
    let etcd = match &member {
        Some(Ok(status)) => json!({ "healthy": true, "member": status }),
        Some(Err(e)) => {
            healthy = false;
            json!({ "healthy": false, "error": e.to_string() })
        }
        None if host.starts_units() => json!({ "healthy": false, "error": "etcd.service is not active" }),
        None => json!({ "healthy": false, "error": "below --root nothing runs" }),
    };
    let masters = reports.as_ref().map(|reports| {
        let now = clock::now();
        healthy &= masters::unwell(&master.this.node.name, &master.spec.masters, reports, now) == 0;
        masters::rows(&master.spec.masters, reports, now)
    });
    let report = json!({
        "node": master.this.node.name, "ip": master.this.node.ip.to_string(), "master": owned,
        "kubernetes": master.spec.kubernetes.version.to_string(), "etcd": etcd, "units": units,
        "masters": masters, "certificates": certificates, "healthy": owned && healthy,
    });
    if ui.format == Format::Json {
        ui.json("status", &report);
    } else {
        ui.out(&status_text(ui, &report, owned));
    }
    Ok(if owned && !healthy { ExitCode::from(Kind::Conflict.exit_code()) } else { ExitCode::SUCCESS })
}

fn status_text(ui: &Ui, report: &serde_json::Value, owned: bool) -> String {
    let word = |v: &serde_json::Value| match v {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    if !owned {
        return format!(
            "{} is not a master yet\nnext: hamaster doctor    # what it lacks\n      hamaster init --dry-run    # what would be done\n",
            word(&report["node"])
        );
    }
    let etcd = &report["etcd"];
    let health = match etcd["member"].as_object() {
        Some(m) => format!(
            "{} {} member {}, {} bytes",
            ui.paint(Tone::Good, "healthy"),
            word(&m["version"]),
            word(&m["memberId"]),
            word(&m["dbSize"])
        ),
        None => format!("{} {}", ui.paint(Tone::Bad, "not healthy:"), word(&etcd["error"])),
    };
    let mut text = format!(
        "master  {} at {}, Kubernetes {}\netcd    {health}\n",
        word(&report["node"]),
        word(&report["ip"]),
        word(&report["kubernetes"])
    );
    if let Some(masters) = report["masters"].as_array() {
        text.push('\n');
        text.push_str(&masters::text(masters));
    }
    let rows = |key: &str, columns: [&str; 3]| -> Vec<Vec<String>> {
        let items = report[key].as_array().cloned().unwrap_or_default();
        items.iter().map(|i| columns.iter().map(|c| word(&i[*c])).collect()).collect()
    };
    text.push('\n');
    text.push_str(&table::render(&["UNIT", "STATE", "ENABLED"], rows("units", ["unit", "state", "enabled"])));
    text.push('\n');
    text.push_str(&table::render(
        &["CERTIFICATE", "DAYS LEFT", "STATE"],
        rows("certificates", ["id", "daysLeft", "state"]),
    ));
    text
}

/// Every check with its hint, and whether the plan is empty.
///
/// # Errors
/// When the host cannot be read. Exit code 4 when something is wrong.
pub fn doctor(args: &DoctorArgs, global: &Global, ui: &Ui) -> Result<ExitCode> {
    let Resolved { host, master, facts, .. } = resolve::master(&args.spec, global)?;
    let observed = master.observe(&host)?;
    let scope = match (master.role, global.root.is_some()) {
        (Role::Master, false) => preflight::Scope::Host,
        (Role::Master, true) => preflight::Scope::Image,
        (Role::Worker, false) => preflight::Scope::Worker,
        (Role::Worker, true) => preflight::Scope::WorkerImage,
    };
    let findings = preflight::run(scope, &master.spec, &master.this, &facts, &observed, clock::now());
    let plan = apply::preview(&host, &master, &Options::default());
    let conflict = plan.as_ref().err().map(|e| e.to_string());
    let drifted = observed.record.node.is_some() && plan.as_ref().is_ok_and(|preview| !preview.is_empty());
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
    if ui.format == Format::Json {
        let phases = plan.as_ref().map(|p| plan_view::json(&p.phases)).unwrap_or_default();
        ui.json("doctor", &json!({ "findings": findings, "plan": phases, "conflict": conflict }));
    } else {
        for f in &findings {
            let (tone, word) = match f.severity {
                Severity::Error => (Tone::Bad, "error  "),
                Severity::Warning => (Tone::Warn, "warning"),
            };
            ui.out(&format!("{} {}: {f}\n        hint: {}\n", ui.paint(tone, word), f.id, f.hint));
        }
        match &plan {
            Err(e) => ui.error(e),
            Ok(preview) if preview.is_empty() => ui.out("plan: empty, this host is what it should be\n"),
            Ok(preview) => {
                let owned = observed.record.node.is_some();
                let steps =
                    if owned || ui.verbose { plan_view::text(ui, &preview.phases, false) } else { String::new() };
                let what = if owned { "left" } else { "what init would do here" };
                let summary = plan_view::summary(&preview.phases);
                ui.out(&format!(
                    "plan: {what}: {summary}\n{steps}      hint: {}\n",
                    match master.role {
                        Role::Master => "hamaster init --dry-run",
                        Role::Worker => "hamaster join --worker",
                    }
                ));
            }
        }
        if findings.is_empty() {
            ui.out(&format!("checks: {}\n", ui.paint(Tone::Good, "all passed")));
        }
    }
    let wrong = errors > 0 || conflict.is_some() || drifted;
    Ok(if wrong { ExitCode::from(Kind::Conflict.exit_code()) } else { ExitCode::SUCCESS })
}

/// Writes a man page for each command.
///
/// # Errors
/// When the directory cannot be written.
pub fn man(command: clap::Command, out: &Path, ui: &Ui) -> Result<()> {
    let mut host = Host::new(out, Box::new(NoUnits))?;
    let (mut todo, mut pages) = (vec![("hamaster".to_owned(), command)], vec![]);
    while let Some((name, command)) = todo.pop() {
        let mut page = vec![];
        let titled = command.clone().name(name.clone().leak() as &'static str);
        clap_mangen::Man::new(titled)
            .render(&mut page)
            .map_err(|e| Error::apply(format!("cannot render the man page of {name}")).cause(e))?;
        let path = PathBuf::from(format!("/{name}.1"));
        host.write(&path, &page, 0o644, Owner::Root)?;
        pages.push(out.join(format!("{name}.1")));
        let children = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
        todo.extend(children.map(|c| (format!("{name}-{}", c.get_name()), c.clone())));
    }
    pages.sort();
    match ui.format {
        Format::Json => ui.json("man", &json!({ "files": pages })),
        Format::Text => pages.iter().for_each(|page| ui.out(&format!("{}\n", page.display()))),
    }
    Ok(())
}
