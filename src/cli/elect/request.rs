//! Requests of an operator, and what came of them.

use std::process::ExitCode;

use serde_json::json;

use super::usage;
use crate::elect::config::Config;
use crate::elect::operator::{self, Handover, Operator};
use crate::error::Result;
use crate::host::identity;
use crate::spec::units;
use crate::ui::{Format, Ui};

pub(super) fn transfer(config: &Config, group: &str, to: Option<&str>, ui: &Ui) -> Result<ExitCode> {
    operator::group(config, group)?;
    let handover = Operator::new(config)?.transfer(group, to, &mut |line| ui.say(&format!("{group}: {line}")))?;
    match (&handover, ui.format) {
        (None, Format::Json) => ui.json("elect-transfer", &json!({ "group": group, "to": to, "changed": false })),
        (None, Format::Text) => ui.out(&format!("{} leads {group} already\n", to.unwrap_or_default())),
        (Some(Handover { from, to, token, took }), Format::Json) => {
            let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            let token = token.to_string();
            let value =
                json!({ "group": group, "from": from, "to": to, "token": token, "tookMs": took, "changed": true });
            ui.json("elect-transfer", &value);
        }
        (Some(Handover { from, to, token, took }), Format::Text) => {
            ui.out(&format!("{to} leads {group} in place of {from}, token {token}, after {} ms\n", took.as_millis()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn resign(config: &Config, group: &str, force: bool, ui: &Ui) -> Result<ExitCode> {
    operator::group(config, group)?;
    let asked = Operator::new(config)?;
    if !force || !asked.view(group)?.candidates.is_empty() {
        return transfer(config, group, None, ui);
    }
    asked.resign_to_anyone(group)?;
    done(ui, group, "resigning", &format!("the next candidate of {group} takes over"));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn pause(config: &Config, group: &str, time: Option<&str>, ui: &Ui) -> Result<ExitCode> {
    operator::group(config, group)?;
    let time = time.map(units::duration).transpose();
    let time = time.map_err(|m| m.hint.into_iter().fold(usage(m.message), |e, hint| e.hint(hint)))?;
    let by = config.id.clone().unwrap_or_else(identity::hostname);
    Operator::new(config)?.pause(group, &by, time)?;
    let end = match time {
        Some(time) => format!("for {}", units::show_duration(time)),
        None => format!("until `hamaster elect resume {group}`"),
    };
    done(ui, group, "paused", &format!("{group} is paused {end}: nobody becomes leader, who leads goes on"));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn resume(config: &Config, group: &str, ui: &Ui) -> Result<ExitCode> {
    operator::group(config, group)?;
    let was = Operator::new(config)?.resume(group)?;
    let line = if was { format!("{group} goes on") } else { format!("{group} was not paused") };
    done(ui, group, "resumed", &line);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn break_lead(config: &Config, group: &str, token: &str, ui: &Ui) -> Result<ExitCode> {
    operator::group(config, group)?;
    ui.say(&format!("{group}: two renewals long, to see that the holder is silent"));
    let holder = Operator::new(config)?.break_lead(group, token)?;
    done(ui, group, "broken", &format!("{group} is free: {holder} does not hold it any more"));
    Ok(ExitCode::SUCCESS)
}

fn done(ui: &Ui, group: &str, what: &str, line: &str) {
    match ui.format {
        Format::Json => ui.json("elect-request", &json!({ "group": group, "done": what })),
        Format::Text => ui.out(&format!("{line}\n")),
    }
}
