//! One payload's thread: takes orders, keeps the payload as ordered, says how it went.

use std::sync::Arc;
use std::time::Duration;

use super::hook::{Environment, Hook, Term};
use super::ladder::{Bounds, Climb};
use super::line::{Failed, Line, Order};
use super::{Action, LOOK, PayloadEvent, Setting};
use crate::elect::timing::Timing;
use crate::host::clock::boottime;

/// A start hook gets K, and at least this long: a stop ends it early, so nothing waits for it.
const START_HOOK: Duration = Duration::from_secs(5);

/// Everything one thread needs.
pub(super) struct Worker {
    pub(super) action: Box<dyn Action>,
    pub(super) line: Arc<Line>,
    pub(super) tell: Box<dyn Fn(PayloadEvent) + Send>,
    pub(super) setting: Setting,
    pub(super) environment: Environment,
    pub(super) on_start: Option<Vec<String>>,
    pub(super) on_stop: Option<Vec<String>>,
    pub(super) timing: Timing,
    pub(super) fitness: Option<Result<(), String>>,
}

impl Worker {
    pub(super) fn run(mut self) {
        self.action.tidy();
        loop {
            self.line.alive();
            match self.line.take() {
                Some(Order::Start(term)) => self.start(term),
                Some(Order::Stop(bounds)) => self.stop(bounds),
                Some(Order::Quit) => return,
                None => {
                    for event in self.action.tend(&self.line) {
                        self.tell(event);
                    }
                    let next = self.action.next().since(boottime());
                    self.line.idle(self.action.fd(), next);
                }
            }
        }
    }

    fn tell(&mut self, event: PayloadEvent) {
        if let PayloadEvent::Fitness(now) = &event {
            if self.fitness.as_ref() == Some(now) {
                return;
            }
            self.fitness = Some(now.clone());
        }
        self.line.installed(self.action.digest());
        (self.tell)(event);
    }

    fn start(&mut self, term: Term) {
        self.environment.term = Some(term);
        let started = self.action.start(&term, &self.line).and_then(|()| self.run_start_hook());
        match started {
            Ok(()) => self.tell(PayloadEvent::Started(Ok(()))),
            Err(Failed::Preempted) => {}
            Err(Failed::Why(why)) => {
                // Whatever became of it, nothing of it may be left when this is told.
                let bounds = Bounds::from_now(self.timing.removal(), self.timing.stop());
                // Only who ordered a stop hears that it takes its time.
                let stopped = self.wind_down(bounds, false);
                match self.line.take_stop() {
                    true if stopped => self.tell(PayloadEvent::Stopped(Ok(()))),
                    false if stopped => self.tell(PayloadEvent::Started(Err(why))),
                    _ => {}
                }
            }
        }
    }

    fn run_start_hook(&self) -> Result<(), Failed> {
        let Some(argv) = &self.on_start else { return Ok(()) };
        let within = self.timing.stop().max(START_HOOK);
        let hook = Hook::start(argv, &self.environment, "start", within, self.line.bell());
        let mut hook = hook.map_err(Failed::Why)?;
        loop {
            if let Some(outcome) = hook.outcome() {
                return outcome.map_err(Failed::Why);
            }
            self.line.pause(LOOK)?;
        }
    }

    fn stop(&mut self, bounds: Bounds) {
        if self.wind_down(bounds, true) {
            self.line.take_stop();
            self.tell(PayloadEvent::Stopped(Ok(())));
        }
    }

    /// False when the worker is to end before it is done.
    fn wind_down(&mut self, bounds: Bounds, ordered: bool) -> bool {
        let (line, tell) = (&self.line, &self.tell);
        let climb = Climb {
            setting: &self.setting,
            environment: &self.environment,
            on_stop: self.on_stop.as_deref(),
            bell: line.bell(),
        };
        let newest = || {
            line.alive();
            line.bounds().unwrap_or(bounds)
        };
        let missed = |why| {
            if ordered || line.bounds().is_some() {
                tell(PayloadEvent::Stopped(Err(why)));
            }
        };
        let done = climb.up(self.action.as_mut(), newest, missed, || line.quits()).is_ok();
        if done {
            self.environment.term = None;
        }
        done
    }
}
