//! What reaches the loop, all through one channel: what happened first is dealt with first.

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;

use crate::elect::actions::PayloadEvent;
use crate::elect::event::RequestId;
use crate::elect::store::StoreEvent;
use crate::elect::txn::Answer;

/// The number is the seat's.
pub(super) enum Message {
    Store(usize, StoreEvent),
    Session(StoreEvent),
    Answered(usize, RequestId, Answer),
    Payload(usize, PayloadEvent),
    Health(Result<(), String>),
}

/// A sender of store events that says whose they are.
pub(super) fn forward(
    outbox: &UnboundedSender<Message>,
    wrap: impl Fn(StoreEvent) -> Message + 'static,
) -> UnboundedSender<StoreEvent> {
    let (tell, mut told) = unbounded_channel();
    let outbox = outbox.clone();
    spawn_local(async move {
        while let Some(event) = told.recv().await {
            if outbox.send(wrap(event)).is_err() {
                return;
            }
        }
    });
    tell
}
