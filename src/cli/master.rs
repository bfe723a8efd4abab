//! `hamaster master list|remove` and `hamaster leave`: who is a master, and who is one no longer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use clap::{Args, Subcommand};

use crate::apply::leave::{self, Departure};
use crate::apply::peers::Peers;
use crate::apply::turn::Line;
use crate::apply::{perform, reset};
use crate::cli::change::{finish, go, lock};
use crate::cli::member::{Own, Stage};
use crate::cli::{Global, resolve};
use crate::error::{Error, Result};
use crate::etcd::client::Client;
use crate::etcd::membership::{Member, quorum, tolerated};
use crate::etcd::{Lag, keys};
use crate::host::{Host, clock, observe};
use crate::spec::layout::Layout;
use crate::spec::{Node, ThisNode};
use crate::ui::{Format, Tone, Ui, plan_view, table};

/// `hamaster master`
#[derive(Debug, Subcommand)]
pub enum MasterCommand {
    /// Every master, as etcd knows it: who votes, who leads, how far each is, how many may fail
    List,
    /// Remove a master that is dead; one that lives leaves by itself: `hamaster leave`
    Remove(RemoveArgs),
}

/// `hamaster master remove`
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Its name, or its member id as `list` shows it
    #[arg(value_name = "NAME")]
    name: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// `hamaster leave`
#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// Delete etcd's data, the CA keys and the backups too, instead of moving them aside
    #[arg(long)]
    purge: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs one of them.
///
/// # Errors
/// When etcd does not answer, or a removal would cost the majority.
pub fn run(command: &MasterCommand, global: &Global, ui: &Ui) -> Result<()> {
    match command {
        MasterCommand::List => list(global, ui),
        MasterCommand::Remove(args) => remove(args, global, ui),
    }
}

/// This host, its own member and all members.
struct Here {
    host: Host,
    this: ThisNode,
    masters: Vec<Node>,
    tls: rustls::ClientConfig,
    own: Own,
}

impl Here {
    fn find(global: &Global) -> Result<Self> {
        let host = resolve::host(global.root.as_deref())?;
        match Own::find(&host)? {
            Some(own) if own.stage == Stage::Sealed => Self::of(host, own),
            _ => Err(Error::conflict("this host is no master").hint("hamaster status").hint("hamaster join")),
        }
    }

    fn of(host: Host, own: Own) -> Result<Self> {
        let layout = Layout::host();
        let masters = own.masters(&host)?;
        let node = masters.iter().find(|m| m.name == own.name).cloned();
        let node = node.ok_or_else(|| {
            let yaml = layout.cluster_yaml();
            Error::conflict(format!("{} does not name this host, {}", yaml.display(), own.name)).hint("hamaster doctor")
        })?;
        let this = ThisNode { node, loopback: IpAddr::from([127, 0, 0, 1]), layout };
        let tls = perform::etcd_tls(&host, &this)?;
        Ok(Self { host, this, masters, tls, own })
    }

    fn client(&self) -> Result<Client> {
        perform::etcd_client(&self.host, &self.this)
    }

    /// The other masters as `cluster.yaml` names them.
    fn others(&self) -> Result<Peers> {
        let others = self.masters.iter().filter(|m| m.name != self.this.node.name);
        Peers::new(others.map(|m| m.ip), &self.tls, &self.own.cluster_id)
    }

    /// All members but `but`.
    fn peers(&self, members: &[Member], but: u64) -> Result<Peers> {
        let ips = members.iter().filter(|m| m.id != but).filter_map(Member::address);
        Peers::new(ips, &self.tls, &self.own.cluster_id)
    }

    fn is(&self, member: &Member) -> bool {
        self.own.among(std::slice::from_ref(member), self.this.node.ip).is_some()
    }
}

fn list(global: &Global, ui: &Ui) -> Result<()> {
    let here = Here::find(global)?;
    let members = here.client()?.members()?;
    let lag = |m: &Member| -> Option<Lag> {
        let client = Client::new(std::net::SocketAddr::new(m.address()?, 2379), here.tls.clone()).ok()?;
        client.lag().ok()
    };
    let lags: Vec<Option<Lag>> = members.iter().map(lag).collect();
    let furthest = lags.iter().flatten().map(|l| l.index).max().unwrap_or(0);
    let voters = members.iter().filter(|m| !m.is_learner).count();
    let well = members.iter().zip(&lags).filter(|(m, l)| !m.is_learner && l.as_ref().is_some_and(|l| l.leader != 0));
    // What may fail yet: those that are down count as failed already.
    let spare = well.count().saturating_sub(quorum(voters));
    if ui.format == Format::Json {
        let row = |(m, l): (&Member, &Option<Lag>)| {
            serde_json::json!({
                "name": m.shown(), "id": format!("{:x}", m.id), "learner": m.is_learner, "peerUrls": m.peer_urls,
                "answers": l.is_some(), "leader": l.as_ref().is_some_and(|l| l.leader == m.id),
                "behind": l.as_ref().map(|l| furthest.saturating_sub(l.applied)),
            })
        };
        let rows: Vec<_> = members.iter().zip(&lags).map(row).collect();
        ui.json("masters", &serde_json::json!({ "masters": rows, "voters": voters, "mayFail": spare }));
        return Ok(());
    }
    let row = |(m, l): (&Member, &Option<Lag>)| {
        let role = match l {
            _ if m.is_learner => "learner",
            Some(l) if l.leader == m.id => "leader",
            _ => "voter",
        };
        let state = match l {
            None if !m.has_started() => "never ran".to_owned(),
            None => "does not answer".to_owned(),
            Some(l) if l.leader == 0 => "knows of no leader".to_owned(),
            Some(l) => format!("{} behind", furthest.saturating_sub(l.applied)),
        };
        vec![m.shown(), format!("{:x}", m.id), role.to_owned(), state, m.peer_urls.join(", ")]
    };
    ui.out(&table::render(&["MASTER", "MEMBER", "ROLE", "STATE", "PEERS"], members.iter().zip(&lags).map(row)));
    ui.out(&format!("\n{voters} voters, {} make a majority: {spare} more may fail\n", quorum(voters)));
    if tolerated(voters) == 0 {
        ui.say("next: a third master makes it survive the loss of one: hamaster token create");
    }
    Ok(())
}

fn remove(args: &RemoveArgs, global: &Global, ui: &Ui) -> Result<()> {
    let here = Here::find(global)?;
    clock::watch_interrupts()?;
    // Or a second one like this would take the first one's turn for its own, from before it was killed.
    let _lock = lock(&here.host, ui)?;
    let client = here.client()?;
    let members = client.members()?;
    let registered = leave::registered(&client)?.map_or_else(Vec::new, |(_, _, spec)| spec.masters);
    // One that never ran has no name of its own; that of its master is in the spec, if it is a founder.
    let named = |m: &Member| match registered.iter().find(|node| m.address() == Some(node.ip)) {
        Some(node) if !m.has_started() => node.name.clone(),
        _ => m.shown(),
    };
    let wanted = |m: &&Member| named(m) == args.name || format!("{:x}", m.id) == args.name;
    let member = members.iter().find(wanted);
    let departure = match member {
        Some(member) => Departure { id: member.id, name: named(member) },
        // Its member was removed, and whoever did so was killed; or etcd was restored from a snapshot.
        None if registered.iter().any(|m| m.name == args.name) => Departure { id: 0, name: args.name.clone() },
        // It was admitted and never came: its place is kept, and nothing else of it is there.
        None if client.record(&format!("{}{}", keys::ADMITTED, args.name))?.is_some() => {
            ui.confirm(&format!("Free the place of {}, which was admitted and never came?", args.name), args.yes)?;
            client.delete(&format!("{}{}", keys::ADMITTED, args.name))?;
            return removed(&args.name, ui);
        }
        None => {
            let names: BTreeSet<String> =
                members.iter().map(named).chain(registered.iter().map(|m| m.name.clone())).collect();
            let names: Vec<String> = names.into_iter().collect();
            return Err(
                Error::usage(format!("there is no master {}", args.name)).hint(format!("one of: {}", names.join(", ")))
            );
        }
    };
    if departure.name == here.own.name || member.is_some_and(|m| here.is(m)) {
        return Err(Error::usage(format!("{} is this host", args.name)).hint("hamaster leave"));
    }
    let peers = here.peers(&members, departure.id)?;
    let own = member
        .and_then(Member::address)
        .and_then(|ip| Client::new(std::net::SocketAddr::new(ip, 2379), here.tls.clone()).ok());
    let own = own.filter(|own| own.lag().is_ok());
    leave::may_go(&departure, &peers, own.as_ref(), &mut |_| {})?;
    if member.is_none() {
        ui.warn(&format!("{} is no member of etcd any more: only the spec names it", departure.name));
    }
    if own.is_some() {
        ui.warn(&format!("{} answers: it would better leave by itself, with `hamaster leave` on it", departure.name));
    }
    let after = members.iter().filter(|m| !m.is_learner && m.id != departure.id).count();
    ui.say(&format!("{} voters will be left, of which {} may fail", after, tolerated(after)));
    ui.confirm(&format!("Remove {} for good?", departure.name), args.yes)?;
    let mut line = Line::new(&here.this, here.masters.clone(), &format!("removes {}", departure.name))?;
    go(ui, |sink| {
        line.dismiss(&departure.name)?;
        line.holding(sink, |turn, sink| leave::depart(&departure, &peers, own.as_ref(), turn, sink))
    })?;
    removed(&departure.name, ui)?;
    ui.say("its disk must not be started on again: if that host comes back, run on it: hamaster reset --force");
    ui.say(&format!("next: kubectl delete node {}", departure.name));
    Ok(())
}

fn removed(name: &str, ui: &Ui) -> Result<()> {
    match ui.format {
        Format::Json => ui.json("master-remove", &serde_json::json!({ "removed": name })),
        Format::Text => ui.out(&format!("{} is {}\n", name.escape_debug(), ui.paint(Tone::Good, "removed"))),
    }
    Ok(())
}

/// This host leaves its cluster.
///
/// # Errors
/// When the others could not do without it, or something cannot be removed.
pub fn leave(args: &LeaveArgs, global: &Global, ui: &Ui) -> Result<()> {
    let (mut host, mut this) = resolve::owned(global)?;
    clock::watch_interrupts()?;
    let _lock = lock(&host, ui)?;
    let record = observe::record(&host, &Layout::host().record())?;
    let departure = match Own::find(&host)? {
        None if record.worker.is_some() => {
            let hint = "hamaster reset    # then, on a master: kubectl delete node";
            return Err(Error::conflict("this host is a worker: it is no member of anything").hint(hint));
        }
        None if record.node.is_none() => return Err(Error::conflict("this host is no master").hint("hamaster status")),
        // It has left the cluster already: what is left is its own.
        None => None,
        // It founds a cluster that does not count on it yet; or it has left one, and was killed before that was all.
        Some(own) if own.stage == Stage::Founds => {
            own.may_vanish(&host, &this, ui)?;
            None
        }
        Some(own) => {
            let here = Here::of(resolve::host(global.root.as_deref())?, own)?;
            this = here.this.clone();
            let own = here.client()?;
            let (members, own) = match own.members() {
                Ok(members) => (members, Some(own)),
                // Its member is down for good: the others know who they are.
                Err(_) => (here.others()?.voter(&mut |_| {})?.1, None),
            };
            match here.own.departs(&members, here.this.node.ip) {
                None => None,
                Some(id) => {
                    let peers = here.peers(&members, id)?;
                    let departure = Departure { id, name: here.this.node.name.clone() };
                    leave::may_go(&departure, &peers, own.as_ref(), &mut |_| {})?;
                    let line = Line::new(&here.this, here.masters, "leaves")?;
                    Some((departure, peers, own, line))
                }
            }
        }
    };
    let plan = reset::preview(&host, &this, args.purge, clock::now())?;
    let title = format!("{} leaves", this.node.name);
    let text: String = plan.steps.iter().map(|a| plan_view::line(ui, a)).collect();
    if args.dry_run {
        ui.out(&format!("{title}\n{text}{} steps; nothing was touched\n", plan.steps.len()));
        return Ok(());
    }
    if ui.verbose || !args.yes && ui.is_interactive() {
        ui.say(&format!("{title}\n{text}"));
    }
    ui.confirm("Leave the cluster and remove all this from the host?", args.yes)?;
    let outcome = go(ui, |sink| leave::leave(&mut host, &this, departure, &plan, sink))?;
    finish(ui, &outcome, &title)?;
    ui.say(&format!("next, on another master: kubectl delete node {}", this.node.name));
    Ok(())
}
