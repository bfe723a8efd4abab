//! Whole hosts: Debian with systemd as PID 1 in network, cgroup and mount namespaces of the test's own, so that what
//! hamaster does to a host is done to a real one. They need root; without it each test says so and passes, except on
//! CI, where that is a failure.
//!
//! One test runs at a time, in one process or in many: a [`lab::Lab`] holds a lock as long as it lives.
#![allow(clippy::disallowed_methods, reason = "tests are effects")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(unreachable_pub, reason = "modules of a test binary")]

mod election;
mod etcd;
mod founders;
mod harness;
mod init;
mod join;
mod keeper;
mod kubelet;
mod lab;
mod machine;
mod readme;
mod recovery;
mod tree;
mod worker;
