//! A configuration written out with every key: what is not written follows from it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Check, Config, Confirm, FileKind, FilePayload, Group, Payload, Unfenceable, Update};
use crate::spec::units::show_duration;

/// The resolved form. [`load`](super::load) reads it back to the same configuration.
pub fn to_yaml(config: &Config) -> String {
    let wire = to_json(config);
    let options = serde_yaml::ser_options! { prefer_block_scalars: false };
    // JSON is YAML: should the writer ever refuse a value, what is written still reads back.
    serde_yaml::to_string_with_options(&wire, options).unwrap_or_else(|_| wire.to_string())
}

/// As [`to_yaml`], for `-o json`.
pub fn to_json(c: &Config) -> Value {
    let h = &c.health;
    // All groups share these; without groups there is no configuration.
    let times = c.groups.first().map(|g| g.timing);
    let time = |of: fn(&super::Timing) -> Duration| times.as_ref().map(|t| show_duration(of(t)));
    let tls = c.tls.as_ref();
    present(json!({
        "apiVersion": "hamaster/v1",
        "kind": "Elect",
        "id": c.id,
        "etcd": present(json!({
            "endpoints": c.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "caFile": tls.map(|t| &t.ca),
            "certFile": tls.map(|t| &t.cert),
            "keyFile": tls.map(|t| &t.key),
        })),
        "leaseDuration": time(super::Timing::lease),
        "renewInterval": time(super::Timing::renew),
        "attemptTimeout": time(super::Timing::attempt),
        "watchdog": time(super::Timing::watchdog),
        "removal": time(super::Timing::removal),
        "priority": c.priority,
        "preemptAfter": c.preempt_after.map(show_duration),
        "minTerm": show_duration(c.min_term),
        "runtimeDir": c.runtime_dir,
        "listen": c.listen,
        "storeTimeout": c.store_timeout.map(show_duration),
        "once": c.once,
        "health": {
            "checks": h.checks.iter().map(check).collect::<Vec<_>>(),
            "every": show_duration(h.every),
            "timeout": show_duration(h.timeout),
            "fall": h.fall,
            "rise": h.rise,
            "healthyFor": show_duration(h.healthy_for),
        },
        "onUnfenceable": match c.on_unfenceable {
            Unfenceable::Alarm => "alarm",
            Unfenceable::Reboot => "reboot",
        },
        "groups": c.groups.iter().map(group).collect::<Vec<_>>(),
    }))
}

fn group(g: &Group) -> Value {
    let payload = match &g.payload {
        Payload::File(f) => file(f),
        Payload::Exec { argv } => json!({ "exec": argv }),
        Payload::Unit { name } => json!({ "unit": name }),
    };
    let rest = json!({
        "stopTimeout": show_duration(g.timing.stop()),
        "onStart": g.on_start,
        "onStop": g.on_stop,
        "spread": (!g.spread.is_empty()).then_some(&g.spread),
        "together": (!g.together.is_empty()).then_some(&g.together),
    });
    let mut wire = json!({ "name": g.name });
    for part in [payload, rest] {
        if let (Some(wire), Value::Object(part)) = (wire.as_object_mut(), part) {
            wire.extend(part);
        }
    }
    present(wire)
}

fn file(f: &FilePayload) -> Value {
    json!({
        "sourceFile": f.source,
        "destFile": f.dest,
        "kind": match f.kind {
            FileKind::Pod => "pod",
            FileKind::File => "file",
        },
        "confirm": match &f.confirm {
            Confirm::Auto => Value::Null,
            Confirm::Cri => "cri".into(),
            Confirm::None => "none".into(),
            Confirm::Port(at) => format!("port:{at}").into(),
            Confirm::Exec(argv) => json!({ "exec": argv }),
        },
        "criSocket": f.cri_socket.as_deref().map(Path::display).map(|p| format!("unix://{p}")),
        "annotateToken": f.annotate_token,
        "update": match f.update {
            Update::Restart => "restart",
            Update::Replace => "replace",
        },
    })
}

fn check(c: &Check) -> Value {
    match c {
        Check::Http { url, ca } => present(json!({ "http": url.to_string(), "caFile": ca })),
        Check::Tcp(at) => json!({ "tcp": at }),
        Check::Exec(argv) => json!({ "exec": argv }),
    }
}

/// Without the keys that say nothing.
fn present(mut wire: Value) -> Value {
    if let Some(object) = wire.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    wire
}
