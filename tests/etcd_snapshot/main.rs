//! Snapshots and recovery, with a real etcd on loopback and mutual TLS.
#![allow(clippy::disallowed_methods, reason = "tests are effects")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archive;
mod cluster;
mod decisions;
mod recover;
mod restore;
mod save;
