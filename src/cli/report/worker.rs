//! `hamaster status` on a worker: it has no etcd and no API of its own to ask about.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::apply::Master;
use crate::apply::join::Marker;
use crate::cli::certs;
use crate::error::{Kind, Result};
use crate::host::{Host, clock};
use crate::pki::catalog;
use crate::ui::{Format, Tone, Ui, table};

/// What this worker is now.
///
/// # Errors
/// When the host cannot be read. Exit code 4 when a unit is down or its join is not finished.
pub(super) fn status(host: &Host, master: &Master, ui: &Ui) -> Result<ExitCode> {
    let observed = master.observe(host)?;
    let desired = master.desired(&observed)?;
    let joining = Marker::find(host, &master.this.layout)?.is_some();
    let mut healthy = !joining;
    let mut units = vec![];
    for unit in &desired.units {
        let fact = observed.units.get(&unit.name).cloned().unwrap_or_default();
        let wanted = host.starts_units() && unit.run && observed.record.units.contains_key(&unit.name);
        healthy &= !wanted || fact.active;
        let state = match (fact.active, fact.failed) {
            (true, _) => "active",
            (_, true) => "failed",
            _ => "inactive",
        };
        let (name, enabled) = (&unit.name, fact.enabled);
        units.push(json!({ "unit": name, "state": state, "enabled": enabled, "pid": fact.pid, "wanted": wanted }));
    }
    let report = json!({
        "node": master.this.node.name, "ip": master.this.node.ip.to_string(), "role": "worker", "joining": joining,
        "kubernetes": master.spec.kubernetes.version.to_string(),
        "server": catalog::worker_server(&master.spec, &master.this), "units": units,
        "certificates": certs::expiry(&desired, &observed, clock::now()), "healthy": healthy,
    });
    match ui.format {
        Format::Json => ui.json("status", &report),
        Format::Text => ui.out(&text(ui, &report)),
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(Kind::Conflict.exit_code()) })
}

fn text(ui: &Ui, report: &Value) -> String {
    let word = |v: &Value| match v {
        Value::String(text) => text.clone(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let [node, ip, kubernetes, server] = ["node", "ip", "kubernetes", "server"].map(|key| word(&report[key]));
    let mut text = format!("worker  {node} at {ip}, Kubernetes {kubernetes}\napi     {server}\n");
    if report["joining"] == true {
        let unfinished = ui.paint(Tone::Bad, "not finished:");
        text.push_str(&format!("join    {unfinished} hamaster join MASTER --worker --token-file FILE goes on\n"));
    }
    let rows = |key: &str, columns: [&str; 3]| -> Vec<Vec<String>> {
        let items = report[key].as_array().cloned().unwrap_or_default();
        items.iter().map(|i| columns.iter().map(|c| word(&i[*c])).collect()).collect()
    };
    text.push('\n');
    text.push_str(&table::render(&["UNIT", "STATE", "ENABLED"], rows("units", ["unit", "state", "enabled"])));
    text.push('\n');
    let columns = ["id", "daysLeft", "state"];
    text.push_str(&table::render(&["CERTIFICATE", "DAYS LEFT", "STATE"], rows("certificates", columns)));
    text
}
