//! How the store fares: what fails and since when, counts for the metrics, and the pace of attempts while it is away.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::StoreEvent;
use super::error::{StoreError, StoreErrorKind};
use crate::elect::instant::Instant as BootInstant;

/// At most this many attempts in a second while nothing succeeds, all groups together.
const ATTEMPTS: usize = 5;
/// Between two [`StoreEvent::Trouble`]: at most ten lines a minute.
const QUIET: Duration = Duration::from_secs(6);

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// A compare-and-swap.
    Txn,
    /// A linearizable read.
    Read,
    /// The start of a watch.
    Watch,
    /// A new lease.
    Grant,
    /// A lease kept alive.
    KeepAlive,
    /// A lease given back.
    Revoke,
    /// An operator's write.
    Put,
    /// An operator's delete.
    Delete,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Txn => "txn",
            Op::Read => "read",
            Op::Watch => "watch",
            Op::Grant => "grant",
            Op::KeepAlive => "keepalive",
            Op::Revoke => "revoke",
            Op::Put => "put",
            Op::Delete => "delete",
        })
    }
}

#[derive(Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Default)]
struct State {
    /// What fails, of which kind of request, since when.
    trouble: Option<(Op, StoreError, BootInstant)>,
    /// New TLS files that are not used.
    files: Option<(StoreError, BootInstant)>,
    told: Option<(StoreError, Instant)>,
    listener: Option<UnboundedSender<StoreEvent>>,
    requests: BTreeMap<(Op, &'static str), u64>,
    attempts: VecDeque<Instant>,
}

impl Health {
    /// Hears of trouble from now on.
    pub(super) fn listen(&self, listener: UnboundedSender<StoreEvent>) {
        self.state().listener = Some(listener);
    }

    /// What fails, and since when.
    pub(super) fn trouble(&self) -> Option<(StoreError, BootInstant)> {
        let state = self.state();
        state.trouble.as_ref().map(|(_, e, since)| (e.clone(), *since)).or_else(|| state.files.clone())
    }

    pub(super) fn requests(&self) -> Vec<(Op, &'static str, u64)> {
        self.state().requests.iter().map(|((op, code), n)| (*op, *code, *n)).collect()
    }

    /// Waits until another attempt is in order: at once while the store answers.
    pub(super) async fn pace(&self) {
        loop {
            let slot = self.state().slot();
            let Some(until) = slot else { return };
            tokio::time::sleep_until(until).await;
        }
    }

    pub(super) fn succeeded(&self, op: Op) {
        let mut state = self.state();
        *state.requests.entry((op, "OK")).or_default() += 1;
        // A full database still reads, and so on: only the same request shows that such trouble is over.
        let over = |(of, e, _): &(Op, StoreError, _)| {
            *of == op || !matches!(e.kind, StoreErrorKind::NoSpace | StoreErrorKind::Auth | StoreErrorKind::Other)
        };
        if state.trouble.take_if(|t| over(t)).is_some() {
            state.attempts.clear();
            if state.told.as_ref().is_some_and(|(told, _)| state.files.as_ref().is_none_or(|(f, _)| f != told)) {
                state.tell(StoreEvent::Back);
            }
        }
    }

    pub(super) fn failed(&self, op: Op, error: &StoreError, now: BootInstant) {
        let mut state = self.state();
        *state.requests.entry((op, error.code)).or_default() += 1;
        let news = state.trouble.as_ref().is_none_or(|(_, e, _)| e != error);
        let since = state.trouble.as_ref().map_or(now, |(_, _, since)| *since);
        state.trouble = Some((op, error.clone(), since));
        if news {
            state.complain(error);
        }
    }

    /// New TLS files cannot be used; the old ones are.
    pub(super) fn files_refused(&self, error: StoreError, now: BootInstant) {
        let mut state = self.state();
        if state.files.as_ref().is_none_or(|(e, _)| *e != error) {
            state.complain(&error);
        }
        let since = state.files.as_ref().map_or(now, |(_, since)| *since);
        state.files = Some((error, since));
    }

    pub(super) fn files_taken(&self) {
        let mut state = self.state();
        if state.files.take().is_some() && state.trouble.is_none() {
            state.tell(StoreEvent::Back);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a place for an attempt, or says when there is one.
    fn slot(&mut self) -> Option<Instant> {
        self.trouble.as_ref()?;
        let now = Instant::now();
        self.attempts.retain(|at| at.elapsed() < Duration::from_secs(1));
        match self.attempts.front() {
            Some(first) if self.attempts.len() >= ATTEMPTS => Some(*first + Duration::from_secs(1)),
            _ => {
                self.attempts.push_back(now);
                None
            }
        }
    }

    fn complain(&mut self, error: &StoreError) {
        if self.told.as_ref().is_none_or(|(_, at)| at.elapsed() >= QUIET) {
            self.told = Some((error.clone(), Instant::now()));
            self.tell(StoreEvent::Trouble(error.clone()));
        }
    }

    fn tell(&self, event: StoreEvent) {
        if let Some(listener) = &self.listener {
            // A listener that is gone does not want to know.
            let _ = listener.send(event);
        }
    }
}
