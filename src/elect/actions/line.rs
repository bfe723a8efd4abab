//! Between the daemon and a payload's worker: orders one way, signs of life the other.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bell::Bell;
use super::hook::Term;
use super::ladder::Bounds;
use crate::elect::instant::Instant;
use crate::error::Result;
use crate::state::Digest;

/// What the worker is to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Start(Term),
    Stop(Bounds),
    /// Leave everything as it is and end.
    Quit,
}

/// Why a start or an update came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// Another order came; nothing is to be told.
    Preempted,
    Why(String),
}

/// Shared by both sides.
#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<State>,
    bell: Arc<Bell>,
    progress: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// The newest order; an older one that was not begun is void.
    order: Option<Order>,
    /// Nothing becomes visible after this.
    until: Instant,
    /// Of what is installed.
    digest: Option<Digest>,
}

impl Line {
    pub(super) fn new() -> Result<Self> {
        let state = State { order: None, until: Instant::BOOT, digest: None };
        Ok(Self { state: Mutex::new(state), bell: Arc::new(Bell::new()?), progress: AtomicU64::new(0) })
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    pub(super) fn start(&self, term: Term, until: Instant) {
        let mut state = self.state();
        state.until = until;
        state.order = Some(Order::Start(term));
        self.bell.ring();
    }

    pub(super) fn extend(&self, until: Instant) {
        self.state().until = until;
    }

    pub(super) fn stop(&self, bounds: Bounds) {
        let mut state = self.state();
        // Whatever is about to become visible must not.
        state.until = Instant::BOOT;
        state.order = Some(Order::Stop(bounds));
        self.bell.ring();
    }

    pub(super) fn quit(&self) {
        let mut state = self.state();
        state.until = Instant::BOOT;
        state.order = Some(Order::Quit);
        drop(state);
        self.bell.ring();
    }

    pub(super) fn until(&self) -> Instant {
        self.state().until
    }

    /// The bounds of a stop that was ordered and not begun.
    pub(super) fn bounds(&self) -> Option<Bounds> {
        match self.state().order {
            Some(Order::Stop(bounds)) => Some(bounds),
            _ => None,
        }
    }

    pub(super) fn take(&self) -> Option<Order> {
        self.state().order.take()
    }

    pub(super) fn quits(&self) -> bool {
        matches!(self.state().order, Some(Order::Quit))
    }

    /// Forgets an order to stop: what is being done amounts to it.
    pub(super) fn take_stop(&self) -> bool {
        self.state().order.take_if(|order| matches!(order, Order::Stop(_))).is_some()
    }

    /// Waits a while in the middle of something.
    ///
    /// # Errors
    /// When an order came meanwhile, which goes first.
    pub(super) fn pause(&self, duration: Duration) -> Result<(), Failed> {
        self.alive();
        if self.state().order.is_none() {
            self.bell.wait(None, duration);
        }
        if self.state().order.is_some() { Err(Failed::Preempted) } else { Ok(()) }
    }

    /// Waits for an order, a readable `also`, or `duration`.
    pub(super) fn idle(&self, also: Option<BorrowedFd<'_>>, duration: Duration) {
        self.bell.wait(also, duration);
    }

    pub(super) fn installed(&self, digest: Option<Digest>) {
        self.state().digest = digest;
    }

    pub(super) fn digest(&self) -> Option<Digest> {
        self.state().digest
    }

    pub(super) fn alive(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
