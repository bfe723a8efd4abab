//! The fencing ladder: a payload is stopped by asking, then by killing, then by whatever is left, and never given up.

use std::sync::Arc;
use std::time::Duration;

use super::bell::Bell;
use super::hook::{Environment, Hook};
use super::{Action, Setting};
use crate::elect::config::Unfenceable;
use crate::elect::instant::Instant;
use crate::host::clock::boottime;

/// Between two looks whether the payload is dead: quick at first, a handoff waits for it.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(250);
/// Before a stop hook that failed is run again.
const HOOK_AGAIN: Duration = Duration::from_secs(1);
/// A stop hook gets at least this long, whatever K is.
const HOOK_LEAST: Duration = Duration::from_millis(500);

/// How hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rung {
    /// Who runs the payload gets the time to end it: the first half of K.
    Ask,
    /// It is killed.
    Kill,
    /// K is over.
    Last,
}

/// When what must have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The manifest must be gone by then.
    pub(super) gone: Instant,
    /// And the payload dead by then.
    pub(super) dead: Instant,
}

impl Bounds {
    /// A stop that begins now, with `removal` for the file and `stop` for what runs.
    pub(super) fn from_now(removal: Duration, stop: Duration) -> Self {
        let gone = boottime() + removal;
        Self { gone, dead: gone + stop }
    }

    pub(super) fn rung(self, now: Instant) -> Rung {
        match now {
            _ if now < self.dead.before(self.dead.since(self.gone) / 2) => Rung::Ask,
            _ if now < self.dead => Rung::Kill,
            _ => Rung::Last,
        }
    }
}

/// What a climb needs besides the payload.
pub(super) struct Climb<'a> {
    pub(super) setting: &'a Setting,
    pub(super) environment: &'a Environment,
    pub(super) on_stop: Option<&'a [String]>,
    pub(super) bell: &'a Arc<Bell>,
}

impl Climb<'_> {
    /// Stops `action` and runs the stop hook, until both are confirmed; `bounds` is asked at every step, as they may
    /// move. Each rung that did not do is told once. `give_up` is for those who cannot try for ever.
    ///
    /// # Errors
    /// What stood in the way when it gave up.
    pub(super) fn up(
        &self,
        action: &mut dyn Action,
        bounds: impl Fn() -> Bounds,
        mut missed: impl FnMut(String),
        give_up: impl Fn() -> bool,
    ) -> Result<(), String> {
        let mut hook = StopHook::new(self);
        let mut pause = FIRST_LOOK;
        let mut told = Rung::Ask;
        loop {
            let limits = bounds();
            let rung = limits.rung(boottime());
            let stopped = action.stop(rung, boottime() >= limits.gone);
            let Err(why) = stopped.and(hook.step(limits)) else { return Ok(()) };
            if rung > told {
                told = rung;
                missed(why.clone());
            }
            if rung == Rung::Last && self.setting.on_unfenceable == Unfenceable::Reboot {
                self.setting.reboot();
            }
            if give_up() {
                return Err(why);
            }
            self.bell.wait(None, pause);
            pause = (pause * 2).min(LOOK);
        }
    }
}

/// The stop hook: run beside the payload's death, and again as long as it fails.
struct StopHook<'a> {
    climb: &'a Climb<'a>,
    state: Progress,
}

enum Progress {
    Due(Instant, String),
    Runs(Hook),
    Done,
}

impl<'a> StopHook<'a> {
    fn new(climb: &'a Climb<'a>) -> Self {
        let state = match climb.on_stop {
            Some(_) => Progress::Due(Instant::BOOT, String::new()),
            None => Progress::Done,
        };
        Self { climb, state }
    }

    fn step(&mut self, bounds: Bounds) -> Result<(), String> {
        let now = boottime();
        if let (Progress::Due(at, _), Some(argv)) = (&self.state, self.climb.on_stop)
            && *at <= now
        {
            let within = bounds.dead.since(now).max(HOOK_LEAST);
            let started = Hook::start(argv, self.climb.environment, "stop", within, self.climb.bell);
            self.state = started.map_or_else(|why| Progress::Due(now + HOOK_AGAIN, why), Progress::Runs);
        }
        if let Progress::Runs(hook) = &mut self.state {
            match hook.outcome() {
                Some(Ok(())) => self.state = Progress::Done,
                Some(Err(why)) => self.state = Progress::Due(now + HOOK_AGAIN, why),
                None => {}
            }
        }
        match &self.state {
            Progress::Done => Ok(()),
            Progress::Runs(_) => Err("the stop hook runs".to_owned()),
            Progress::Due(_, why) => Err(why.clone()),
        }
    }
}
