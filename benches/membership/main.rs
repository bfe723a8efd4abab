//! How fast masters join, how long writers wait meanwhile, and what the door they come through can bear.
//!
//! ```text
//! cargo bench --bench membership                       # all, some minutes
//! cargo bench --bench membership -- masters door       # some: masters gate door
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout)] // its result
#![allow(clippy::disallowed_methods)] // acts on files, processes and time
#![allow(unreachable_pub, dead_code, reason = "modules of tests")]

mod door;
mod growth;
#[path = "../../tests/join/lab.rs"]
mod lab;
#[path = "../../tests/serve/master.rs"]
mod master;
#[path = "../../tests/serve/wire.rs"]
mod wire;
#[path = "../../tests/join/writer.rs"]
mod writer;

use std::time::{Duration, Instant};

/// Of what is borrowed from the tests: who fails fails after this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const PARTS: [(&str, fn()); 3] = [("masters", growth::masters), ("gate", growth::gate), ("door", door::door)];

fn main() {
    // `cargo test --all-targets` runs benches too, without this word.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for name in &wanted {
        assert!(PARTS.iter().any(|(n, _)| n == name), "no part {name}");
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    println!("load of this machine before: {}", load.split(' ').next().unwrap());
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            println!("{name}");
            part();
        }
    }
}
