//! The tool as its user meets it: the real binary, its words, its exit codes, and what it leaves on the disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods)] // tests act on files and processes

mod bundle;
mod external_ca;
mod host;
mod input;
mod json;
mod sandbox;
mod terminal;
mod versions;
