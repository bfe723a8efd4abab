//! The bundle against the tools that will read it (openssl, kubectl), and the laws its judge must obey.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // Tests write bundles to disk and start openssl.

mod adopt;
mod auth;
mod check;
mod common;
mod hostile;
mod judge;
mod openssl;
