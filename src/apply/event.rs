//! What happens during a run, as one stream that the terminal and the tests read.

use std::time::Duration;

use crate::plan::Action;

/// Something happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A phase with this many steps begins.
    PhaseStarted {
        /// Its name; a reset is one phase of its own.
        phase: &'static str,
        /// How many steps.
        steps: usize,
    },
    /// A step begins.
    StepStarted {
        /// What.
        action: &'a Action,
    },
    /// A step is done.
    StepDone {
        /// What.
        action: &'a Action,
        /// It changed something; false when it was so already.
        changed: bool,
    },
    /// Still waiting.
    Waiting {
        /// For what, and what it says now.
        condition: &'a str,
        /// Since when.
        since: Duration,
    },
    /// The operator should know.
    Note(&'a str),
    /// The run failed or was interrupted; everything it did is being put back.
    PuttingBack,
    /// The phases are all done.
    Finished,
}

/// Where events go.
pub type Sink<'a> = &'a mut dyn FnMut(Event<'_>);
