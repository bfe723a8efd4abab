//! Looks: the election at a glance, whether this host leads, the configuration with what follows from it.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::{NOT_LEADER, notes, seconds};
use crate::elect::config::{self, Config, Group};
use crate::elect::operator::{self, Operator};
use crate::elect::status::Status;
use crate::elect::view::View;
use crate::error::{Error, Result};
use crate::host::runtime_dir::RuntimeDir;
use crate::host::{clock, identity};
use crate::ui::{Format, Tone, Ui, table};

/// One group: as etcd has it, and as the daemon of this host sees it.
struct Seen<'c> {
    group: &'c Group,
    view: Option<View>,
    token: Option<String>,
    here: Option<Status>,
    /// How long this host may still lead.
    left: Duration,
}

/// Who leads, who waits, and how this host stands. Without etcd only the latter; exit code 4 or 5 then.
pub(super) fn status(config: &Config, name: Option<&str>, ui: &Ui) -> Result<ExitCode> {
    let groups: Vec<&Group> = match name {
        Some(name) => vec![operator::group(config, name)?],
        None => config.groups.iter().collect(),
    };
    let boot_id = identity::boot_id()?;
    let asked = Operator::new(config);
    let mut trouble: Option<Box<Error>> = None;
    let mut seen = vec![];
    for group in groups {
        let here = RuntimeDir::at(&config.runtime_dir).read(&group.name);
        let left = here.as_ref().map_or(Duration::ZERO, |s| s.left(&boot_id, clock::boottime()));
        // One that does not answer for one group does not for the next.
        let view = match (&asked, &trouble) {
            (Ok(asked), None) => asked.view(&group.name).map_err(|e| trouble = Some(e)).ok(),
            _ => None,
        };
        let token = asked.as_ref().ok().zip(view.as_ref()).and_then(|(a, v)| a.token(v)).map(|t| t.to_string());
        seen.push(Seen { group, view, token, here, left });
    }
    let trouble = asked.err().or(trouble);
    match ui.format {
        Format::Json => {
            let groups: Vec<_> = seen.iter().map(Seen::json).collect();
            let etcd = trouble.as_ref().map(|e| e.to_string());
            ui.json("elect-status", &json!({ "groups": groups, "etcdProblem": etcd }));
        }
        Format::Text => {
            let rows = seen.iter().map(|s| s.row(ui));
            let header = ["GROUP", "LEADER", "TOKEN", "TERM", "WAITING", "HERE", "LEFT", ""];
            ui.out(&table::render(&header, rows));
            if let Some(error) = &trouble {
                ui.error(error);
            }
        }
    }
    Ok(ExitCode::from(trouble.map_or(0, |e| e.exit_code())))
}

impl Seen<'_> {
    fn leader(&self) -> Option<String> {
        let leader = self.view.as_ref()?.leader.as_ref()?;
        Some(leader.value.as_ref().map_or_else(|| "(its record does not read)".to_owned(), |l| l.who.id.clone()))
    }

    fn term(&self) -> Option<u64> {
        Some(self.view.as_ref()?.term.as_ref()?.value.as_ref()?.number)
    }

    /// The ids of those who wait, the next one first.
    fn queue(&self) -> Vec<String> {
        let name = |c: &crate::elect::record::Candidate| c.who.id.clone();
        let queue = self.view.as_ref().map(View::queue).unwrap_or_default();
        queue.iter().map(|(_, c)| c.value.as_ref().map_or_else(|| "?".to_owned(), name)).collect()
    }

    fn paused(&self) -> Option<String> {
        let pause = self.view.as_ref()?.pause.as_ref()?;
        Some(pause.value.as_ref().map(|p| p.by.clone()).unwrap_or_default())
    }

    fn json(&self) -> Value {
        json!({
            "group": self.group.name,
            "leader": self.leader(),
            "token": self.token,
            "term": self.term(),
            "queue": self.queue(),
            "pausedBy": self.paused(),
            "here": self.here,
            "leftMs": u64::try_from(self.left.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn row(&self, ui: &Ui) -> Vec<String> {
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let queue = self.queue();
        let here = self.here.as_ref();
        let mut remarks = vec![];
        remarks.extend(self.paused().map(|by| format!("paused by {by}")));
        remarks.extend(here.filter(|h| h.unfenced).map(|_| ui.paint(Tone::Bad, "NOT FENCED")));
        remarks.extend(here.and_then(|h| h.reason.clone()));
        vec![
            self.group.name.clone(),
            dash(self.leader()),
            dash(self.token.clone()),
            dash(self.term().map(|t| t.to_string())),
            if queue.is_empty() { "-".to_owned() } else { queue.join(" ") },
            dash(here.map(|h| h.state.clone())),
            if self.left.is_zero() { "-".to_owned() } else { seconds(self.left) },
            remarks.join("; "),
        ]
    }
}

/// Whether this host leads now. The file says for ever what a dead daemon said last, so the deadline in it is held
/// against this boot's clock.
pub(super) fn check(config: &Config, name: &str, ui: &Ui) -> Result<ExitCode> {
    operator::group(config, name)?;
    let status = RuntimeDir::at(&config.runtime_dir).read(name);
    let boot_id = identity::boot_id()?;
    let left = status.as_ref().map_or(Duration::ZERO, |s| s.left(&boot_id, clock::boottime()));
    let leads = !left.is_zero();
    let (token, why) = match &status {
        Some(s) if leads => (s.token.map(|t| t.to_string()), None),
        Some(s) if s.is_leader && s.boot_id != boot_id => {
            (None, Some("it led before this host was started".to_owned()))
        }
        Some(s) if s.is_leader => (None, Some("its time is over, and its daemon is silent".to_owned())),
        Some(s) => (None, Some(s.leader.as_ref().map_or_else(|| s.state.clone(), |l| format!("{l} leads")))),
        None => (None, Some("no daemon of this host takes part".to_owned())),
    };
    match (ui.format, &why) {
        (Format::Json, _) => {
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            let value = json!({ "group": name, "isLeader": leads, "leftMs": left, "token": token, "reason": why });
            ui.json("elect-check", &value);
        }
        (Format::Text, _) if ui.quiet => {}
        (Format::Text, Some(why)) => ui.out(&format!("this host does not lead {name}: {why}\n")),
        (Format::Text, None) => {
            let token = token.unwrap_or_default();
            ui.out(&format!("this host leads {name}, token {token}, for {} at least\n", seconds(left)));
        }
    }
    Ok(if leads { ExitCode::SUCCESS } else { ExitCode::from(NOT_LEADER) })
}

/// The configuration with every default, and what follows from its times.
pub(super) fn config(config: &Config, ui: &Ui) -> ExitCode {
    let notes: Vec<String> = config.notes.iter().cloned().chain(notes(config)).collect();
    match ui.format {
        Format::Json => {
            let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
            let timing = config.groups.iter().map(|g| {
                let t = config.timing(g);
                let numbers = json!({
                    "leaseMs": ms(t.lease()),
                    "renewMs": ms(t.renew()),
                    "fenceMs": ms(t.fence()),
                    "stopMs": ms(t.stop()),
                    "boundMs": ms(t.bound()),
                    "outageMs": ms(t.outage()),
                    "consequences": t.consequences(),
                    "warning": t.warning(),
                });
                (g.name.clone(), numbers)
            });
            let timing: serde_json::Map<String, Value> = timing.collect();
            ui.json("elect-config", &json!({ "config": config::to_json(config), "timing": timing, "notes": notes }));
        }
        Format::Text => {
            let mut text = config::to_yaml(config);
            for group in &config.groups {
                text.push_str(&format!("# {}: {}\n", group.name, config.timing(group).consequences()));
            }
            ui.out(&text);
            let warnings =
                config.groups.iter().filter_map(|g| config.timing(g).warning().map(|w| format!("{}: {w}", g.name)));
            warnings.chain(notes).for_each(|line| ui.warn(&line));
        }
    }
    ExitCode::SUCCESS
}
