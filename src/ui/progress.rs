//! A run as it happens: a live line on a terminal, plain lines elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::apply::event::Event;
use crate::ui::{Tone, Ui};

/// How often a wait is repeated where lines cannot be redrawn.
const REPEAT: Duration = Duration::from_secs(10);

/// Shows events.
pub struct Progress {
    ui: Ui,
    bar: Option<ProgressBar>,
    phase: &'static str,
    said: Option<Duration>,
}

impl Progress {
    /// Progress on `ui`.
    pub fn new(ui: Ui) -> Self {
        let bar = (ui.is_interactive() && !ui.quiet).then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:>13} {pos}/{len}  {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { ui, bar, phase: "", said: None }
    }

    /// Shows one event.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::PhaseStarted { phase, steps } => {
                self.phase = phase;
                if let Some(bar) = &self.bar {
                    bar.set_prefix(self.phase);
                    bar.set_length(steps as u64);
                    bar.set_position(0);
                }
            }
            Event::StepStarted { action } => {
                self.said = None;
                if let Some(bar) = &self.bar {
                    bar.set_message(action.to_string());
                }
            }
            Event::StepDone { action, changed } => {
                if changed {
                    let phase = self.ui.paint(Tone::Dim, &format!("{:>13}", self.phase));
                    self.line(&format!("{phase}  {action}"));
                }
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                }
            }
            Event::Waiting { condition, since } => self.waiting(condition, since),
            Event::Note(note) => self.line(&format!("{} {note}", self.ui.paint(Tone::Warn, "note:"))),
            Event::PuttingBack => self.line("putting everything back as it was"),
            Event::Finished => self.clear(),
        }
    }

    fn waiting(&mut self, condition: &str, since: Duration) {
        let text = format!("waiting for {condition}, {} s", since.as_secs());
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => {
                let due = self.said.is_none_or(|said| since >= said + REPEAT || since < said);
                if due && since >= Duration::from_secs(1) {
                    self.said = Some(since);
                    self.line(&format!("{:>13}  {text}", self.phase));
                }
            }
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.ui.say(text)),
            None => self.ui.say(text),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
