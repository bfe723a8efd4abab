//! `hamaster etcd status`.

use std::process::ExitCode;

use crate::apply::Master;
use crate::apply::perform::member_client;
use crate::cli::resolve::{self, Resolved};
use crate::cli::{Global, SpecArgs};
use crate::error::{Error, Kind, Result};
use crate::etcd::membership::Member;
use crate::etcd::overview::{self, Overview, Row};
use crate::host::Host;
use crate::spec::units;
use crate::ui::{Format, Tone, Ui, table};

/// Asks every member and shows them.
///
/// # Errors
/// When no member answers.
pub fn status(global: &Global, ui: &Ui) -> Result<ExitCode> {
    let Resolved { host, master, .. } = resolve::master(&SpecArgs::default(), global)?;
    let overview = ask(&host, &master)?;
    if ui.format == Format::Json {
        ui.json("etcd-status", &overview);
    } else {
        ui.out(&text(ui, &overview));
    }
    Ok(if overview.is_well() { ExitCode::SUCCESS } else { ExitCode::from(Kind::Conflict.exit_code()) })
}

fn ask(host: &Host, master: &Master) -> Result<Overview> {
    let this = &master.this;
    let own = std::iter::once(this.node.ip);
    let others = master.spec.masters.iter().map(|m| m.ip).filter(|ip| *ip != this.node.ip);
    let mut why = None;
    for ip in own.chain(others) {
        let client = member_client(host, this, ip)?;
        let members: Vec<Member> = match client.remembered_members() {
            Ok(members) => members,
            Err(e) => {
                why = why.or(Some(e));
                continue;
            }
        };
        let mut answers = vec![];
        for member in members {
            let lag = match member.address() {
                Some(ip) if member.has_started() => member_client(host, this, ip)?.lag().ok(),
                _ => None,
            };
            answers.push((member, lag));
        }
        // Without a majority nobody can say which alarms are on.
        let alarms = client.alarms().unwrap_or_default();
        return Ok(overview::overview(&answers, alarms));
    }
    let e = Error::apply("no etcd member answers").hint("systemctl status etcd").hint("hamaster etcd recover");
    Err(match why {
        Some(why) => e.cause(why),
        None => e,
    })
}

fn text(ui: &Ui, all: &Overview) -> String {
    let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
    let size = |n: i64| units::show_bytes(u64::try_from(n).unwrap_or(0) >> 20 << 20);
    let row = |r: &Row| {
        let state = match (r.answers, r.started) {
            (true, _) => "yes".to_owned(),
            (false, true) => ui.paint(Tone::Bad, "silent"),
            (false, false) => ui.paint(Tone::Warn, "no"),
        };
        vec![
            r.id.clone(),
            if r.name.is_empty() { "-".to_owned() } else { r.name.clone() },
            state,
            yes(r.learner),
            yes(r.leader),
            r.lag.map_or("-".to_owned(), |n| n.to_string()),
            r.db_size.map_or("-".to_owned(), size),
            if r.alarms.is_empty() { "none".to_owned() } else { r.alarms.join(", ") },
        ]
    };
    let header = ["ID", "NAME", "STARTED", "LEARNER", "LEADER", "LAG", "DB SIZE", "ALARMS"];
    let table = table::render(&header, all.members.iter().map(row));
    let verdict = match all.can_lose {
        None => ui.paint(Tone::Bad, "no quorum: nothing can be written"),
        Some(k) => {
            let tone = if all.is_well() { Tone::Good } else { Tone::Warn };
            ui.paint(tone, &format!("can lose {k} more"))
        }
    };
    format!("{table}{} of {} voters are well; {verdict}\n", all.healthy, all.voters)
}
