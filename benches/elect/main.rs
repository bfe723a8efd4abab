//! What an election costs and how fast it is: a real etcd of three members with mutual TLS, three real daemons, each on a
//! host (a network namespace) of its own, and one inotify descriptor that sees every manifest. As root:
//!
//! ```text
//! cargo bench --bench elect                       # all, about twelve minutes
//! cargo bench --bench elect -- handoff crash      # some: handoff crash kill idle outage thousand
//! ```
//!
//! The naive elector and the script around `etcdctl elect` that the fault harness ships are measured in the same run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout)] // its result
#![allow(clippy::disallowed_methods)] // acts on files, processes and time

#[path = "../../tests/elect/certs.rs"]
mod certs;
mod cost;
#[allow(dead_code)]
#[path = "../../tests/elect/elector.rs"]
mod elector;
#[allow(dead_code)]
#[path = "../../tests/elect/etcd.rs"]
mod etcd;
#[allow(dead_code)]
#[path = "../../tests/elect/group.rs"]
mod group;
#[allow(dead_code)]
#[path = "../../tests/elect/network.rs"]
mod network;
#[allow(dead_code)]
#[path = "../../tests/elect/node.rs"]
mod node;
#[allow(dead_code)]
#[path = "../../tests/elect/oracle.rs"]
mod oracle;
mod takeover;

use std::time::Duration;

use elector::{Elector, Profile};
use group::Cluster;

/// Measures and says what it found.
type Part = fn(&Cluster);

const PARTS: [(&str, Part); 6] = [
    ("handoff", takeover::handoff),
    ("crash", takeover::crash),
    ("kill", takeover::kill),
    ("idle", cost::idle),
    ("outage", cost::outage),
    ("thousand", cost::thousand),
];

fn main() {
    // `cargo test --all-targets` runs benches too, without this word.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for name in &wanted {
        assert!(PARTS.iter().any(|(n, _)| n == name), "no part {name}");
    }
    let cluster = Cluster::new(Duration::from_secs(1));
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            println!("{name}");
            part(&cluster);
        }
    }
}

/// One line of the result.
fn say(elector: Elector, profile: Profile, what: &str) {
    let who = match elector {
        Elector::Hamaster => format!("hamaster ({})", profile.name),
        Elector::Naive => "naive compare-and-swap".to_owned(),
        Elector::Etcdctl => "etcdctl elect".to_owned(),
    };
    println!("  {who:<24} {what}");
}

/// `p50 3.1 ms, p99 …` of what took so long each time.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1000.0;
    match times.is_empty() {
        true => "never".to_owned(),
        false => format!(
            "p50 {:.1} ms, p99 {:.1} ms, least {:.1} ms, most {:.1} ms, {} times",
            at(50),
            at(99),
            at(0),
            at(100),
            times.len()
        ),
    }
}
