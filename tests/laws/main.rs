//! The laws of plan and apply, on the real program: converge, crash anywhere, undo, never fight a human, no secrets,
//! render first, stale plan, take back exactly what is ours.
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
