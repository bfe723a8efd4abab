//! Exactly one: an etcd key decides which host holds a payload, and the others hold back.
//!
//! What the rest builds on: [`Timing`](timing::Timing), which refuses unsafe numbers; [`record`], the values in etcd;
//! [`view`], what a candidate knows of them; [`txn`], the transactions; [`event`], what happens and
//! what is to be done. [`machine`] is the election itself, pure. [`store`] and [`actions`] are its hands, [`daemon`]
//! carries between them.

pub mod actions;
pub mod board;
pub mod config;
pub mod daemon;
pub mod event;
pub mod health;
pub mod instant;
pub mod machine;
pub mod metrics;
pub mod operator;
pub mod predecessor;
pub mod record;
pub mod status;
pub mod store;
pub mod timing;
pub mod txn;
pub mod view;
