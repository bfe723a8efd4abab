//! `hamaster elect` under faults: a real etcd cluster with TLS, real daemons on hosts of their own, and an oracle that
//! sees every manifest. The short set is `cargo nextest run --test elect`; the long one is `tests/elect/run.sh --runs 1000`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![allow(clippy::disallowed_methods)] // tests act on files, processes and time

mod certs;
#[allow(dead_code, reason = "the simulation draws more")]
#[path = "../elect_sim/chance.rs"]
mod chance;
mod elector;
mod etcd;
mod fault;
mod group;
mod input;
mod naive;
mod nemesis;
mod network;
mod node;
mod oracle;
mod reconfigured;
mod refusals;
mod report;
#[path = "../elect_actions/runtime.rs"]
#[allow(dead_code, reason = "nothing runs in it here")]
mod runtime;
mod scenarios;
