//! Liveness, as something a state either has or not: from here on without faults, does one lead soon?
//!
//! stateright's `eventually` overlooks a path that runs in a circle, and an election's paths do. So the rest of the
//! run is walked from every state instead, in one fair order: whatever can happen happens before time goes on.

use crate::model::{Action, Election, LONGEST_WAIT, State};
use crate::node::{Manifest, Process, Role};

/// Within this many ticks one leads: a silent leader is waited out, and that of an acquisition that came late.
const SOON: u8 = 2 * LONGEST_WAIT;
/// More than this at one moment is a loop that never waits.
const BUSY: usize = 60;

impl Election {
    /// Whether exactly one leads, with its manifest in place, at most [`SOON`] after the last fault.
    pub(crate) fn recovers(&self, from: &State) -> bool {
        let mut state = *from;
        for _ in 0..=SOON {
            for _ in 0..BUSY {
                let mut steps = vec![];
                self.steps(&state, &mut steps);
                let Some(step) = steps.into_iter().find(|s| *s != Action::Tick) else { break };
                state = self.after(&state, step);
            }
            let leads = |role| matches!(role, Role::Leading(_));
            let up = state.nodes.iter().filter(|n| n.process == Process::Up && leads(n.role));
            if up.filter(|n| n.manifest == Manifest::Visible).count() == 1 {
                return true;
            }
            if !state.may_tick(&self.times) {
                return false;
            }
            state = self.after(&state, Action::Tick);
        }
        false
    }
}
