//! The daemon's parts around the election itself.

pub mod journal;
pub mod listen;
pub mod notify;
