//! The metrics, read by a checker as strict as the OpenMetrics text format.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hamaster::elect::board::Board;
use hamaster::elect::event::Count;
use hamaster::elect::instant::Instant;

use crate::{leader, waiting};

/// `name{labels}` → value, after checking the form of everything.
pub(crate) fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let body = text.strip_suffix("# EOF\n").expect("ends with # EOF");
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            assert!(help.ends_with('.') && help.len() > family.len() + 10, "no help: {line}");
            assert!(seen.insert(family.clone()), "{family} comes twice");
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, is) = of.split_once(' ').unwrap();
            assert_eq!(name, family, "TYPE of another family: {line}");
            kind = is.to_owned();
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            assert!(unit.starts_with(&family), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let bare = name.split('{').next().unwrap();
            let suffix = bare.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
            let allowed: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("a {other}: {line}"),
            };
            assert!(allowed.contains(&suffix), "{kind} {line}");
            assert!(bare.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()), "{line}");
            if let Some(labels) = name.strip_prefix(bare).filter(|l| !l.is_empty()) {
                let inner = labels.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
                let names: Vec<_> = inner.split("\",").map(|l| l.split_once("=\"").expect("a label").0).collect();
                assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a label twice: {line}");
            }
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            assert!(series.insert(name.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    series
}

#[test]
fn every_metric_of_the_specification_is_there_and_the_text_is_strict_open_metrics() {
    let board = board();
    let text = board.exposition(Instant::from_nanos(4_000_000_000));
    let series = parse(&text);
    let names: BTreeSet<_> = series.keys().map(|k| k.split('{').next().unwrap()).collect();
    let expected = [
        "state",
        "is_leader",
        "token",
        "transitions_total",
        "lease_remaining_seconds",
        "keepalive_seconds_bucket",
        "keepalive_failures_total",
        "fence_total",
        "fence_seconds_count",
        "payload_stop_seconds_sum",
        "takeover_delay_seconds_count",
        "takeover_suspicious_total",
        "overlap_risk_seconds_total",
        "queue_position",
        "candidates",
        "eligible",
        "standby_ready",
        "manifest_sync_total",
        "manifest_hash_info",
        "source_invalid",
        "clock_anomaly_total",
        "store_requests_total",
        "etcd_lease_safe",
        "cert_expiry_seconds",
        "unfenced",
        "flapping",
    ];
    for name in expected {
        assert!(names.contains(format!("hamaster_elect_{name}").as_str()), "{name} is missing:\n{text}");
    }
    assert!(names.iter().all(|n| n.starts_with("hamaster_elect_")), "{names:?}");
}

#[test]
fn the_numbers_are_those_that_happened() {
    let series = parse(&board().exposition(Instant::from_nanos(4_000_000_000)));
    let value = |name: &str| series.get(&format!("hamaster_elect_{name}")).copied();
    for (name, expected) in [
        (r#"is_leader{group="scheduler"}"#, 1.0),
        (r#"is_leader{group="vip"}"#, 0.0),
        (r#"token{group="scheduler"}"#, 42.0),
        (r#"lease_remaining_seconds{group="scheduler"}"#, 6.0),
        (r#"state{group="scheduler",state="leading"}"#, 1.0),
        (r#"state{group="scheduler",state="queued"}"#, 0.0),
        (r#"queue_position{group="vip"}"#, 2.0),
        (r#"candidates{group="vip"}"#, 3.0),
        (r#"transitions_total{group="scheduler",cause="silence"}"#, 2.0),
        (r#"fence_total{group="scheduler",trigger="deadline",by="main"}"#, 1.0),
        (r#"keepalive_failures_total{group="vip"}"#, 0.0),
        (r#"keepalive_failures_total{group="scheduler"}"#, 1.0),
        (r#"keepalive_seconds_bucket{le="0.0025",group="scheduler"}"#, 0.0),
        (r#"keepalive_seconds_bucket{le="0.005",group="scheduler"}"#, 1.0),
        (r#"keepalive_seconds_bucket{le="+Inf",group="scheduler"}"#, 2.0),
        (r#"keepalive_seconds_count{group="scheduler"}"#, 2.0),
        (r#"overlap_risk_seconds_total{group="scheduler"}"#, 1.5),
        (r#"fence_seconds_count{group="scheduler"}"#, 1.0),
        (r#"payload_stop_seconds_count{group="scheduler"}"#, 2.0),
        (r#"store_requests_total{op="txn",code="OK"}"#, 12.0),
        (r#"manifest_hash_info{group="scheduler",sha256="bb"}"#, 1.0),
        (r#"manifest_sync_total{group="scheduler"}"#, 1.0),
        ("cert_expiry_seconds", -3.0),
    ] {
        assert_eq!(value(name), Some(expected), "{name} in {series:#?}");
    }
    assert_eq!(value(r#"manifest_hash_info{group="scheduler",sha256="aa"}"#), None, "what is not installed any more");
}

#[test]
fn a_leader_past_its_deadline_is_none() {
    let series = parse(&board().exposition(Instant::from_nanos(10_000_000_000)));
    for name in ["is_leader", "token", "lease_remaining_seconds"] {
        assert_eq!(series[&format!(r#"hamaster_elect_{name}{{group="scheduler"}}"#)], 0.0, "{name}");
    }
}

fn board() -> Board {
    let mut board = Board::new(["scheduler", "vip"]);
    board.groups.insert("scheduler".into(), leader("scheduler", 10));
    board.groups.insert("vip".into(), waiting("vip"));
    let m = &board.metrics;
    for count in [
        Count::Transition("silence"),
        Count::Transition("silence"),
        Count::Fence("deadline"),
        Count::RenewalFailed,
        Count::Renewed(Duration::from_millis(4)),
        Count::Renewed(Duration::from_secs(3)),
        Count::Suspicious,
        Count::Anomaly,
        Count::OverlapRisk(Duration::from_millis(1500)),
        Count::TakeoverDelay(Duration::from_secs(14)),
    ] {
        m.count("scheduler", &count);
    }
    m.stopped("scheduler", Duration::from_millis(40), true);
    m.stopped("scheduler", Duration::from_millis(40), false);
    m.manifest("scheduler", None, Some("aa"));
    m.manifest("scheduler", Some("aa"), Some("bb"));
    m.synced("scheduler");
    m.store_requests("txn", "OK", 11);
    m.store_requests("txn", "OK", 12);
    m.cert_expiry(-3.0);
    m.lease_safe(false);
    board
}
