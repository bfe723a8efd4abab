//! The laws of plan and apply, on the real program: converge, crash anywhere, undo, never fight a human, no secrets,
//! render first, stale plan, take back exactly what is ours.
//!
//! Some of the points where a run can die are tried, another choice each time; `HAMASTER_ALL_CRASHES=1 cargo test --test
//! laws` tries each of them, which takes half an hour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(unreachable_pub)] // one test program in several files
#![allow(clippy::disallowed_methods)] // looks at the host behind the library's back

mod common;
mod conflict;
mod converge;
mod crash;
mod live;
mod reset;
mod secrets;
mod stale;
mod undo;
