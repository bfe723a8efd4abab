//! A watch that tells everything: read, then follow from the next revision on; read again whenever something may have
//! been missed. A compaction, a broken stream or a frozen member is never taken for a deletion.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use etcd_client::{Client, WatchOptions, WatchStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Op, Store, StoreEvent, wire};
use crate::elect::event::Interest;
use crate::elect::view::{Key, View};

/// A waiter's keys change seldom: silence is normal. It reads this often.
const WAITER: Duration = Duration::from_secs(60);

/// Dropping it ends the watch.
pub struct WatchHandle(JoinHandle<()>);

impl Drop for WatchHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn spawn(
    store: Store,
    prefix: String,
    interest: Interest,
    silence: Duration,
    tell: UnboundedSender<StoreEvent>,
) -> WatchHandle {
    let silence = match interest {
        Interest::Group => silence,
        Interest::Queue { .. } => WAITER,
    };
    let watch = Watch { store, prefix, interest, silence, tell };
    WatchHandle(tokio::spawn(watch.run()))
}

struct Watch {
    store: Store,
    prefix: String,
    interest: Interest,
    silence: Duration,
    tell: UnboundedSender<StoreEvent>,
}

/// A stream, and what it has told of the group since it was read.
struct Open {
    stream: WatchStream,
    member: usize,
    view: View,
    /// It said something since it was last asked to.
    alive: bool,
}

/// Why a stream is left.
enum Next {
    /// Something may have been missed.
    Read,
    /// It was read meanwhile, at this member.
    Seen(usize, View),
    /// Nobody listens.
    End,
}

impl Watch {
    async fn run(self) {
        let mut epoch = self.store.0.epoch.subscribe();
        let mut failures = 0;
        let mut seen = None;
        loop {
            let (member, view) = match seen.take() {
                Some(seen) => seen,
                None => self.read(self.store.preferred()).await,
            };
            let current = *epoch.borrow_and_update();
            if self.store.is_news(&self.prefix, current) && self.tell.send(StoreEvent::Replaced).is_err() {
                return;
            }
            if self.tell.send(StoreEvent::Seen(view.clone())).is_err() {
                return;
            }
            let Some(mut open) = self.open(member, view).await else {
                backoff(failures).await;
                failures += 1;
                continue;
            };
            let since = Instant::now();
            match self.follow(&mut open, &mut epoch).await {
                Next::End => return,
                Next::Seen(member, view) => seen = Some((member, view)),
                Next::Read => {}
            }
            // A stream that ends as soon as it begins must not be begun again at once.
            failures = if since.elapsed() > Duration::from_secs(1) { 0 } else { failures + 1 };
            if failures > 0 {
                backoff(failures - 1).await;
            }
        }
    }

    /// Reads until it succeeds, at `member` and then at the others in turn.
    async fn read(&self, mut member: usize) -> (usize, View) {
        let mut failures = 0;
        loop {
            let within = Duration::from_secs(1 + u64::from(failures.min(4)));
            match self.store.read_at(member, &self.prefix, within).await {
                Ok(view) => return (member, view),
                Err(_) => member = self.store.after(member),
            }
            backoff(failures).await;
            failures += 1;
        }
    }

    async fn open(&self, member: usize, view: View) -> Option<Open> {
        let from = WatchOptions::new().with_start_revision(view.revision + 1);
        let prefix = &self.prefix;
        let keys: Vec<(String, WatchOptions)> = match self.interest {
            Interest::Group => vec![(prefix.clone(), from.with_prefix())],
            Interest::Queue { own, before } => vec![
                (Key::Candidate(own).path(prefix), from.clone()),
                (Key::Candidate(before).path(prefix), from.clone()),
                (format!("{prefix}ctl/"), from.with_prefix()),
            ],
        };
        let call = |mut c: Client| {
            let mut keys = keys.clone().into_iter();
            async move {
                let (first, options) = keys.next().unwrap_or_default();
                let mut stream = c.watch(first, Some(options)).await?;
                for (key, options) in keys {
                    stream.watch(key, Some(options)).await?;
                }
                Ok(stream)
            }
        };
        let stream = self.store.attempt_at(member, Op::Watch, Duration::from_secs(2), call).await.ok()?;
        Some(Open { stream, member, view, alive: true })
    }

    async fn follow(&self, open: &mut Open, epoch: &mut tokio::sync::watch::Receiver<u64>) -> Next {
        loop {
            let quiet = tokio::time::sleep(self.silence + jitter(self.silence / 10));
            tokio::select! {
                () = self.tell.closed() => return Next::End,
                _ = epoch.changed() => return Next::Read,
                told = self.told(open) => if let Some(next) = told { return next },
                () = quiet => if let Some(next) = self.compare(open).await { return next },
            }
        }
    }

    /// Passes events on; returns after the first of them, or with what to do when the stream is no good any more.
    async fn told(&self, open: &mut Open) -> Option<Next> {
        loop {
            let Ok(Some(message)) = open.stream.message().await else { return Some(Next::Read) };
            open.alive = true;
            // Compacted, or no right to read. Not a word about the keys.
            if message.canceled() || message.compact_revision() != 0 {
                return Some(Next::Read);
            }
            let changes: Vec<_> = message.events().iter().filter_map(|e| wire::change(&self.prefix, e)).collect();
            for change in &changes {
                self.store.reached(change.modified);
                open.view.apply(change);
                if self.tell.send(StoreEvent::Changed(change.clone())).is_err() {
                    return Some(Next::End);
                }
            }
            if !changes.is_empty() {
                return None;
            }
        }
    }

    /// Nothing came for a while: reads at another member, while listening on.
    async fn compare(&self, open: &mut Open) -> Option<Next> {
        let (alive, member) = (std::mem::take(&mut open.alive), open.member);
        let asked = open.stream.request_progress();
        if tokio::time::timeout(Duration::from_secs(1), asked).await.is_err() {
            return Some(Next::Read);
        }
        tokio::select! {
            // An event: it is alive, and what is read meanwhile may be older.
            told = self.told(open) => told,
            (member, view) = self.read(self.store.after(member)) => {
                let same = alive && content(&view) == content(&open.view);
                (!same).then_some(Next::Seen(member, view))
            }
        }
    }
}

/// A view without when it was read.
fn content(view: &View) -> View {
    View { revision: 0, leader_at: 0, ..view.clone() }
}

/// Waits after the `failures`-th failure: 100 ms doubling to 1 s, plus up to a half.
pub(super) async fn backoff(failures: u32) {
    let base = Duration::from_millis(100 << failures.min(4)).min(Duration::from_secs(1));
    tokio::time::sleep(base + jitter(base / 2)).await;
}

/// Anything up to `most`, so that a thousand processes do not ask at the same moment.
fn jitter(most: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1024;
    most * u32::try_from(random).unwrap_or(0) / 1024
}
