//! `hamaster token`: who may join.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::apply::issue::{Wanted, issue};
use crate::apply::perform::etcd_client;
use crate::cli::{offline, resolve};
use crate::error::{Error, Problem, Result};
use crate::etcd::client::{Client, Found};
use crate::host::{Host, NoUnits, clock};
use crate::spec::{ThisNode, address, units};
use crate::token::{Role, Stored, TTL, Token, TokenId};
use crate::ui::{Format, Ui, table};

/// Not shorter: the new host must be reached and the command typed.
const SHORTEST: Duration = Duration::from_secs(60);
/// Not longer: a token that nobody remembers is a key under the mat.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// At most so many hosts with one.
const MOST_USES: u32 = 100;

/// Subcommands of `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make one, shown this once: whoever has it can join
    Create(CreateArgs),
    /// Those that have not ended
    List(MasterArgs),
    /// Take one back; hosts that joined with it stay
    Revoke {
        /// Its id, the second part of the token
        id: String,
        /// Where
        #[command(flatten)]
        master: MasterArgs,
    },
}

/// `hamaster token create`
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// For workers: it is never worth a CA key
    #[arg(long)]
    worker: bool,
    /// How long it lives, from 1m to 7d [default: 24h]
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// How many hosts may use it, from 1 to 100
    #[arg(long, value_name = "N", default_value = "1")]
    uses: String,
    /// Only for the host of this node name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// No token: seal what it would be worth into this new file, for a host that cannot reach a master yet
    #[arg(long, value_name = "FILE", conflicts_with_all = ["worker", "uses"])]
    offline: Option<PathBuf>,
    #[command(flatten)]
    master: MasterArgs,
}

/// Which master it is asked on.
#[derive(Debug, Args)]
pub struct MasterArgs {
    /// The directory everything of this master is below: a lab's
    #[arg(long, value_name = "DIR", hide = true)]
    prefix: Option<PathBuf>,
}

/// Runs one of them.
///
/// # Errors
/// Every mistake in the flags at once; when this host is no master, or its member does not answer.
pub fn run(command: &TokenCommand, ui: &Ui) -> Result<()> {
    match command {
        TokenCommand::Create(args) => create(args, ui),
        TokenCommand::List(master) => list(master, ui),
        TokenCommand::Revoke { id, master } => revoke(id, master, ui),
    }
}

impl CreateArgs {
    /// Every flag judged, all mistakes in one report.
    fn wanted(&self) -> Result<Wanted> {
        let mut problems = vec![];
        let mut wrong = |at: &str, message: String, hint: Option<String>| {
            problems.push(Problem { at: at.to_owned(), message, hint });
        };
        let life = self.ttl.as_deref().map_or(Ok(TTL), units::duration).unwrap_or_else(|m| {
            wrong("--ttl", m.message, m.hint);
            TTL
        });
        if !(SHORTEST..=LONGEST).contains(&life) {
            let (shortest, longest) = (units::show_duration(SHORTEST), units::show_duration(LONGEST));
            let message = format!("a token lives from {shortest} to {longest}, not {}", units::show_duration(life));
            wrong("--ttl", message, Some("--ttl 24h".to_owned()));
        }
        let uses = self.uses.parse().ok().filter(|n| (1..=MOST_USES).contains(n)).unwrap_or_else(|| {
            let given = self.uses.escape_debug();
            wrong("--uses", format!("`{given}` is not a number from 1 to {MOST_USES}"), Some("--uses 1".to_owned()));
            1
        });
        let node = self.node.as_deref().map(address::node_name).transpose().unwrap_or_else(|m| {
            wrong("--node", m.message, m.hint);
            None
        });
        if uses > 1 && node.is_some() {
            wrong(
                "--uses",
                "a token for one node has one use".to_owned(),
                Some("leave out --uses or --node".to_owned()),
            );
        }
        if !problems.is_empty() {
            return Err(Error::usage("no such token can be made").problems(problems));
        }
        let role = if self.worker { Role::Worker } else { Role::Master };
        Ok(Wanted { role, life, uses, node })
    }
}

fn create(args: &CreateArgs, ui: &Ui) -> Result<()> {
    let wanted = args.wanted()?;
    let (this, host, etcd) = master(&args.master)?;
    if let Some(file) = &args.offline {
        return offline::create(file, (&host, &this, &etcd), (wanted.node, wanted.life), ui);
    }
    let (token, expires) = issue(&host, &this, &etcd, &wanted)?;
    shown(&token, &wanted, &this, expires, ui)
}

/// The token, the only time; and what to do with it.
fn shown(token: &Token, wanted: &Wanted, this: &ThisNode, expires: i64, ui: &Ui) -> Result<()> {
    let text = token.reveal();
    let worker = if wanted.role == Role::Worker { " --worker" } else { "" };
    let command = format!("hamaster join {} --token-file FILE{worker}", this.node.ip);
    if ui.format == Format::Json {
        let value = json!({
            "id": token.id, "token": *text, "role": wanted.role, "node": wanted.node, "uses": wanted.uses,
            "expires": expires, "command": command,
        });
        ui.json("token", &value);
        return Ok(());
    }
    ui.out(&format!("{}\n", *text));
    let who = match (&wanted.node, wanted.uses) {
        (Some(node), _) => format!("the host {node}"),
        (None, 1) => "one host".to_owned(),
        (None, n) => format!("{n} hosts"),
    };
    let life = units::show_duration(wanted.life);
    ui.say(&format!("for {who}, within {life}. There, with the token in FILE:"));
    ui.say(&format!("  {command}"));
    ui.say(&format!("to take it back: hamaster token revoke {}", token.id));
    Ok(())
}

fn list(args: &MasterArgs, ui: &Ui) -> Result<()> {
    let (_, _, etcd) = master(args)?;
    let mut rows = vec![];
    for token in etcd.tokens()? {
        // One that ended between the two questions is not listed.
        let ends = Duration::from_secs((token.stored.expires - clock::now().unix_timestamp()).try_into().unwrap_or(0));
        if let Some(left) = etcd.token_life(&token)?.map(|left| left.min(ends)).filter(|left| !left.is_zero()) {
            rows.push((token, left));
        }
    }
    if ui.format == Format::Json {
        let all: Vec<Value> = rows.iter().map(|(token, left)| row_json(token, *left)).collect();
        ui.json("tokens", &json!({ "tokens": all }));
    } else if rows.is_empty() {
        ui.say("no tokens; hamaster token create");
    } else {
        let row = |(token, left): &(Found, Duration)| row(token, *left);
        ui.out(&table::render(&["ID", "ROLE", "NODE", "USES LEFT", "USED BY", "ENDS IN"], rows.iter().map(row)));
    }
    Ok(())
}

fn row(Found { id, stored, .. }: &Found, left: Duration) -> Vec<String> {
    let role = if stored.role == Role::Worker { "worker" } else { "master" };
    let node = stored.node.clone().unwrap_or_else(|| "any".to_owned());
    vec![id.to_string(), role.to_owned(), node, stored.uses.to_string(), used_by(stored).join(" "), coarse(left)]
}

fn row_json(Found { id, stored, .. }: &Found, left: Duration) -> Value {
    json!({
        "id": id, "role": stored.role, "node": stored.node, "usesLeft": stored.uses,
        "usedBy": used_by(stored), "endsInSeconds": left.as_secs(),
    })
}

fn used_by(stored: &Stored) -> Vec<&str> {
    stored.bearers.iter().map(|b| b.node.as_str()).collect()
}

/// To the two largest units: `6d 23h`, `59m 12s`.
fn coarse(left: Duration) -> String {
    let s = left.as_secs();
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, ..) => format!("{d}d {h}h"),
    }
}

fn revoke(id: &str, args: &MasterArgs, ui: &Ui) -> Result<()> {
    let id = TokenId::try_from(id.to_owned())?;
    let (_, _, etcd) = master(args)?;
    if !etcd.revoke_token(&id)? {
        let gone = format!("there is no token {id}: never made, ended or revoked");
        return Err(Error::usage(gone).hint("hamaster token list"));
    }
    match ui.format {
        Format::Json => ui.json("token-revoked", &json!({ "id": id })),
        Format::Text => ui.out(&format!("token {id} is revoked\n")),
    }
    Ok(())
}

pub(super) fn master(args: &MasterArgs) -> Result<(ThisNode, Host, Client)> {
    let (this, _) = resolve::standing(args.prefix.as_deref())?;
    let host = Host::new("/", Box::new(NoUnits))?;
    let etcd = etcd_client(&host, &this)?;
    Ok((this, host, etcd))
}
