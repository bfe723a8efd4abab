//! hamaster turns bare Linux hosts into a highly available Kubernetes control plane and keeps it one.
//!
//! Everything it does to a host goes one road:
//!
//! ```text
//! ClusterSpec (what the operator wrote)            the machine, etcd (what is)
//!         └──────► Desired ──────┐     ┌────── Observed ◄────────┘
//!                                ▼     ▼
//!                       plan(phase, desired, observed, now) ──► Phase { steps }
//!                                     │ shown (diff, --dry-run, json)
//!                                     ▼
//!                       apply ──► host, etcd ──► observe again ──► next phase
//! ```
//!
//! Modules stand on floors and import downwards only (`tests/floors.rs` reads the `use` lines):
//!
//! ```text
//! 5  cli · ui                       words, colours, exit codes
//! 4  apply · serve · lab · elect::daemon · elect::operator · elect::predecessor    drivers
//! 3  host · etcd::client · elect::store · elect::actions    hands and eyes: the only floor that touches files, processes, network, clock
//! 2  plan · preflight · elect       decisions: pure functions over data, time injected
//! 1  spec · state · pki · render · token · admission · archive · etcd   vocabulary and pure makers
//! 0  error
//! ```

pub mod admission;
pub mod apply;
pub mod archive;
pub mod cli;
pub mod elect;
pub mod error;
pub mod etcd;
pub mod host;
pub mod lab;
pub mod pki;
pub mod plan;
pub mod preflight;
pub mod render;
pub mod serve;
pub mod spec;
pub mod state;
pub mod token;
pub mod ui;
