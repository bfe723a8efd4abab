//! How masters form etcd's first cluster together: who may, from what, and that the cluster is one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod discovered;
mod formed;
mod founders;
mod image;
mod registered;
mod servers;
mod srv;
