//! Exactly one: an etcd key decides which host holds a payload, and the others hold back.
//!
//! What the rest builds on: [`Timing`](timing::Timing), which refuses unsafe numbers; [`record`], the values in etcd;
//! [`view`], what a candidate knows of them; [`txn`], the transactions; [`event`], what happens and what is to be done.

pub mod event;
pub mod instant;
pub mod record;
pub mod store;
pub mod timing;
pub mod txn;
pub mod view;
