//! The lab on real processes: shell scripts as units and as containers, and a real etcd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // tests act on files, processes and time

mod election;
mod fleet;
mod labs;
mod notify;
mod pods;
mod supervised;
mod survival;
mod unit_files;
mod units;
mod workers;
