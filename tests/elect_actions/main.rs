//! Payload actions on real files, mounts, processes and sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests are effects")]

mod cri;
mod files;
mod hostile;
mod oracle;
mod programs;
mod runtime;
mod stage;
mod sync;
