//! All masters at a glance: what each one's keeper last said in etcd.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::spec::Node;
use crate::state::report::{Report, Standing};
use crate::ui::table;

/// A row for each master of the spec: what its keeper says, or that it says nothing.
pub(super) fn rows(masters: &[Node], reports: &BTreeMap<String, Report>, now: OffsetDateTime) -> Vec<Value> {
    let why = |name: &str, report: &Report| {
        let stuck = report.is_stuck(now) || report.standing == Standing::Failed;
        let hint = format!("the others wait for it; if it is gone for good: hamaster master remove {name}");
        report.why.iter().cloned().chain(stuck.then_some(hint)).collect::<Vec<_>>()
    };
    let row = |m: &Node| {
        let report = reports.get(&m.name);
        json!({
            "name": m.name, "ip": m.ip.to_string(),
            "generation": report.map(|r| r.generation), "standing": report.map_or("silent", |r| r.standing.as_str()),
            "why": report.map(|r| why(&m.name, r)).unwrap_or_default(), "since": report.map(|r| r.since.clone()),
            "hamaster": report.map(|r| r.hamaster.clone()),
        })
    };
    masters.iter().map(row).collect()
}

/// Masters but `this` one that are not well: silent, or in need of a person.
pub(super) fn unwell(this: &str, masters: &[Node], reports: &BTreeMap<String, Report>, now: OffsetDateTime) -> usize {
    let well = |m: &&Node| reports.get(&m.name).is_some_and(|r| r.is_well(now));
    // This one was looked at itself; its keeper may be about to begin.
    masters.iter().filter(|m| m.name != this).filter(|m| !well(m)).count()
}

/// The rows as a table, with what each has to say below it.
pub(super) fn text(rows: &[Value]) -> String {
    let word = |v: &Value| match v {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let row = |r: &Value| ["name", "ip", "generation", "standing", "since"].map(|key| word(&r[key])).to_vec();
    let mut text = table::render(&["MASTER", "ADDRESS", "SPEC", "KEEPER", "SINCE"], rows.iter().map(row));
    for (name, why) in rows.iter().flat_map(|r| {
        let why = r["why"].as_array().cloned().unwrap_or_default();
        why.into_iter().map(|line| (word(&r["name"]), word(&line)))
    }) {
        text.push_str(&format!("{name}: {why}\n"));
    }
    text
}
