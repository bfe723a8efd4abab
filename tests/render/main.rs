//! What `render` makes, held against the programs that will read it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests run the real readers")]

mod balancer;
mod cis;
mod flags;
mod golden;
mod hostile;
mod pods;
mod samples;
mod templates;
mod units;
