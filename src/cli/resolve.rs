//! Flags, file and host → the master that is meant. Defaults found on the host are named, never silent.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::apply::assembly::assemble;
use crate::apply::{self, Master, perform};
use crate::cli::{Global, SpecArgs};
use crate::error::{Error, Problem, Result};
use crate::etcd::bootstrap;
use crate::etcd::client::Over;
use crate::etcd::keys;
use crate::host::systemd::{Image, Systemd};
use crate::host::{Host, NoUnits, facts, observe, operator};
use crate::spec::file::Overrides;
use crate::spec::layout::Layout;
use crate::spec::{ClusterSpec, EtcdBootstrap, Node, ThisNode, address, file};
use crate::state::facts::HostFacts;
use crate::state::observed::{Founders, Record};
use crate::state::{Digest, Owner};
use crate::token::Role;

/// Everything a command needs that changes this host.
pub(super) struct Resolved {
    /// The host.
    pub host: Host,
    /// The master it should be.
    pub master: Master,
    /// What the host is like.
    pub facts: HostFacts,
    /// Where defaults came from, for the operator to see.
    pub origins: Vec<String>,
    /// The registered spec does not read: a newer hamaster's.
    newer: Option<Box<Error>>,
}

/// The host a command works on: this one, or an image below `--root`.
///
/// # Errors
/// When the root cannot be opened.
pub(super) fn host(root: Option<&Path>) -> Result<Host> {
    match root {
        Some(root) => {
            let root = absolute(root)?;
            let units = Image::new(&root);
            Host::new(root, Box::new(units))
        }
        None => Host::new("/", Box::new(Systemd)),
    }
}

/// Resolves flags and file against the host.
///
/// # Errors
/// Every mistake in file and flags in one report.
pub(super) fn master(args: &SpecArgs, global: &Global) -> Result<Resolved> {
    master_at(args, global.root.as_deref())
}

/// As [`master`], for a command that registers what it resolved.
///
/// # Errors
/// As [`master`]; when the registered spec is one that only a newer hamaster reads: what is here knows neither what it
/// says nor who joined since.
pub(super) fn master_to_change(args: &SpecArgs, global: &Global) -> Result<Resolved> {
    let mut resolved = master(args, global)?;
    match resolved.newer.take() {
        None => Ok(resolved),
        Some(why) => Err(Error::conflict("the cluster's spec, as etcd has it, does not read here: a newer hamaster's")
            .cause(why.message())
            .problems(why.all_problems().to_vec())
            .hint("hamaster --version    # here and on the other masters: install the newest on this one")),
    }
}

/// As [`master`], for the host below `root`.
///
/// # Errors
/// As [`master`].
pub(super) fn master_at(args: &SpecArgs, root: Option<&Path>) -> Result<Resolved> {
    let host = host(root)?;
    let mut spec = cluster(args, &host)?;
    let layout = Layout::host();
    let record = observe::record(&host, &layout.record())?;
    let facts = facts::gather(root.unwrap_or(Path::new("/")), &spec, &layout);
    let mut origins = vec![];
    let known = record.worker.as_ref().map(|worker| worker.ip.to_string());
    let args = &SpecArgs { advertise_ip: args.advertise_ip.clone().or(known), ..args.clone() };
    let node = node(args, &spec, record.node.as_deref(), &facts, &mut origins)?;
    founders(&mut spec, &node, &record)?;
    if record.worker.is_none() && !spec.masters.iter().any(|m| m.name == node.name) {
        spec.masters.push(node.clone());
    }
    let this = this_node(node.clone());
    let registered = match root.is_none() && record.etcd.is_some() {
        true => registered(&host, &this),
        false => None,
    };
    let mut newer = None;
    if let Some(text) = &registered {
        match file::load(Some((keys::SPEC, text)), &Overrides::default()) {
            Ok(known) => spec = current(args, &host, &record, spec, (text, known))?,
            Err(why) => newer = Some(why),
        }
    }
    let mut master = assemble(spec, node, &facts)?;
    master.over = registered.filter(|_| newer.is_none()).map_or(Over::Nothing, Over::This);
    if record.worker.is_some() {
        master.role = Role::Worker;
    }
    Ok(Resolved { host, master, facts, origins, newer })
}

/// The spec that is meant where one is registered: that one, unless somebody changed it here. Who joined and who left is
/// known there alone.
///
/// # Errors
/// When what was changed here was an older one: it would undo what others have changed since.
fn current(
    args: &SpecArgs,
    host: &Host,
    record: &Record,
    given: ClusterSpec,
    (registered, known): (&str, ClusterSpec),
) -> Result<ClusterSpec> {
    let path = Layout::host().cluster_yaml();
    // A run that was killed had changed the file and not yet what is registered: that change is still to be made.
    let followed = match &record.proposed {
        Some(proposal) => Some(proposal.over),
        None => record.files.get(&path).and_then(|f| f.digest),
    };
    let found = host.read(&path)?.map(|bytes| Digest::of(&bytes));
    let changed = args.config.is_some() || args.overrides() != Overrides::default();
    if !changed && (found.is_none() || found == followed) {
        return Ok(known);
    }
    let meant = ClusterSpec { masters: known.masters.clone(), ..given };
    let is_new = |spec: &ClusterSpec| file::to_yaml(spec) != registered;
    match followed {
        Some(followed) if followed != Digest::of(registered.as_bytes()) && is_new(&meant) => {
            let message = "the cluster's spec was changed at another master since this one followed it: \
                           what is asked for here would undo that";
            let hint = match changed {
                true => "hamaster init    # with nothing else: this master follows; then ask for it again".to_owned(),
                false => format!("mv {0} {0}.mine; hamaster init    # then change it anew", path.display()),
            };
            Err(Error::conflict(message).hint(hint))
        }
        _ => Ok(meant),
    }
}

/// The registered spec; nothing when etcd does not run or does not answer.
fn registered(host: &Host, this: &ThisNode) -> Option<String> {
    if !host.units().state(apply::ETCD_UNIT).ok()?.active {
        return None;
    }
    Some(perform::etcd_client(host, this).ok()?.spec().ok()??.spec)
}

/// A host's own node.
fn this_node(node: Node) -> ThisNode {
    ThisNode { node, loopback: IpAddr::from([127, 0, 0, 1]), layout: Layout::host() }
}

/// The masters that form etcd's first cluster, where that is not this one alone: as named, or as they were found. A
/// cluster that exists has other ways to change.
///
/// # Errors
/// As [`bootstrap::founders`]; a member that was started with others.
pub(super) fn founders(spec: &mut ClusterSpec, node: &Node, record: &Record) -> Result<()> {
    let exists = record.etcd.is_some();
    let of_place = |f: &&Founders| spec.etcd.discovery.as_ref().is_some_and(|d| f.is_of(&d.place));
    let found = record.founders.as_ref().filter(of_place);
    // A member keeps the list of its first start, whatever its unit says later.
    if let (Some(before), None, false, true) = (&record.founders, found, exists, record.data_dir.is_some()) {
        let message = format!("etcd was started here with the masters found at {}", before.place);
        return Err(Error::conflict(message)
            .hint(format!("hamaster init --etcd-bootstrap discovery --discovery-url {}", before.place))
            .hint("hamaster reset    # to form another cluster"));
    }
    match (spec.etcd.bootstrap, found) {
        (EtcdBootstrap::Static, _) if !exists => spec.masters = bootstrap::founders(&spec.masters, node)?,
        (EtcdBootstrap::Discovery, Some(found)) if !exists => spec.masters = bootstrap::founders(&found.nodes(), node)?,
        (EtcdBootstrap::Discovery, Some(found)) if spec.masters.iter().all(|m| m == node) => {
            spec.masters = found.nodes();
        }
        _ => {}
    }
    Ok(())
}

/// The spec from `-c`, else from `/etc/hamaster/cluster.yaml`, else from flags alone.
///
/// # Errors
/// Every mistake in file and flags in one report.
pub(super) fn cluster(args: &SpecArgs, host: &Host) -> Result<ClusterSpec> {
    let read = match &args.config {
        Some(path) => {
            let bytes = operator::read(path)?;
            Some((path.display().to_string(), bytes))
        }
        None => {
            let path = Layout::host().cluster_yaml();
            host.read(&path)?.map(|bytes| (path.display().to_string(), bytes))
        }
    };
    match &read {
        Some((name, bytes)) => file::load(Some((name, file::decode(name, bytes)?)), &args.overrides()),
        None => file::load(None, &args.overrides()),
    }
}

/// The node that is meant: flags, else what this host was set up as, else what the host says.
pub(super) fn node(
    args: &SpecArgs,
    spec: &ClusterSpec,
    recorded: Option<&str>,
    facts: &HostFacts,
    origins: &mut Vec<String>,
) -> Result<Node> {
    let mut problems = vec![];
    let name = match (&args.name, recorded) {
        (Some(name), Some(recorded)) if name != recorded => {
            let message = format!("this host is {recorded} already; it cannot become {name}");
            return Err(Error::conflict(message).hint("hamaster reset, or for a bundle another --out DIR"));
        }
        (Some(name), _) => name.clone(),
        (None, Some(name)) => {
            origins.push(format!("node name {name}: this host was set up as it"));
            name.to_owned()
        }
        (None, None) => {
            if !facts.hostname.is_empty() {
                origins.push(format!("node name {}: the host name; --name NAME to choose", facts.hostname));
            }
            facts.hostname.clone()
        }
    };
    if let Err(mistake) = address::node_name(&name) {
        let hint = mistake.hint.or_else(|| Some("--name NAME".into()));
        problems.push(Problem { at: "--name".into(), message: mistake.message, hint });
    }
    let known = spec.masters.iter().find(|m| m.name == name).map(|m| m.ip);
    let ip = match (&args.advertise_ip, known, facts.default_ip) {
        (Some(text), ..) => address::ip(text).map_err(|m| (m.message, m.hint)),
        (None, Some(ip), _) => Ok(ip),
        (None, None, Some(ip)) => {
            origins.push(format!("address {ip}: source of the default route; --advertise-ip IP to choose"));
            Ok(ip)
        }
        (None, None, None) => Err((
            "no address is known for this node: the host has no default route".to_owned(),
            Some("give one of: ip -brief address".to_owned()),
        )),
    };
    match ip {
        Ok(ip) if problems.is_empty() => Ok(Node { name, ip }),
        Ok(_) => Err(Error::usage("this node is not described well").problems(problems)),
        Err((message, hint)) => {
            problems.push(Problem { at: "--advertise-ip".into(), message, hint });
            Err(Error::usage("this node is not described well").problems(problems))
        }
    }
}

/// What a reset works on: the host, and the node it was set up as.
///
/// # Errors
/// When the record does not read.
pub(super) fn owned(global: &Global) -> Result<(Host, ThisNode)> {
    let host = host(global.root.as_deref())?;
    let layout = Layout::host();
    let record = observe::record(&host, &layout.record())?;
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let node = Node { name: record.node.unwrap_or_else(|| "this host".to_owned()), ip: loopback };
    Ok((host, ThisNode { node, loopback, layout }))
}

/// Runs `work` on a directory results are written to. What was made of its path is gone again if `work` fails and
/// leaves it empty; a directory that is there keeps its mode.
///
/// # Errors
/// When it cannot be made, or those of `work`.
pub(super) fn in_out_dir<T>(path: &Path, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let path = absolute(path)?;
    let mut host = Host::new("/", Box::new(NoUnits))?;
    host.begin_undo();
    if host.stat(&path)?.is_none() {
        host.ensure_dir(&path, 0o755, Owner::Root)?;
    }
    let done = work(&path);
    match done {
        Ok(_) => host.commit(),
        Err(_) => drop(host.rollback()),
    }
    done
}

/// The master that this host is, or the lab's below `prefix`: by the record of its making and its cluster.yaml.
///
/// # Errors
/// When it is none yet, or either file does not read.
pub(super) fn standing(prefix: Option<&Path>) -> Result<(ThisNode, ClusterSpec)> {
    let layout = match prefix {
        Some(prefix) => Layout::below(absolute(prefix)?),
        None => Layout::host(),
    };
    let host = Host::new("/", Box::new(NoUnits))?;
    let none = |why: String| Error::conflict("this host is not a master").cause(why).hint("hamaster init");
    let (record, yaml) = (layout.record(), layout.cluster_yaml());
    let made = observe::record(&host, &record)?.node;
    let name = made.ok_or_else(|| none(format!("{} does not say so", record.display())))?;
    let shown = yaml.display().to_string();
    let bytes = host.read(&yaml)?.ok_or_else(|| none(format!("{shown} is missing")))?;
    let spec = file::load(Some((&shown, file::decode(&shown, &bytes)?)), &Default::default())?;
    let known = spec.masters.iter().find(|m| m.name == name).cloned();
    let node = known.ok_or_else(|| none(format!("{shown} has no master {name}")))?;
    let loopback = IpAddr::from([127, 0, 0, 1]);
    Ok((ThisNode { node, loopback, layout }, spec))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::usage(format!("{} is no path", path.display())).cause(e))
}
