//! When a node is fit: not at the first good answer, and not unfit at the first bad one.

use std::time::Duration;

use super::instant::Instant;

/// Counts the rounds of health checks.
#[derive(Debug, Clone)]
pub struct Health {
    fall: u32,
    rise: u32,
    healthy_for: Duration,
    verdict: Option<Result<(), String>>,
    passed: u32,
    failed: u32,
    /// Since when every round passed.
    good_since: Option<Instant>,
}

impl Health {
    /// Unfit after `fall` failed rounds in a row; fit after `rise` passed ones, over at least `healthy_for`.
    pub fn new(fall: u32, rise: u32, healthy_for: Duration) -> Self {
        Self { fall, rise, healthy_for, verdict: None, passed: 0, failed: 0, good_since: None }
    }

    /// Takes in one round; returns the verdict when it changed.
    pub fn round(&mut self, now: Instant, result: Result<(), String>) -> Option<Result<(), String>> {
        let verdict = match result {
            Ok(()) => {
                (self.failed, self.passed) = (0, self.passed.saturating_add(1));
                let since = *self.good_since.get_or_insert(now);
                let enough = self.passed >= self.rise && now.since(since) >= self.healthy_for;
                (enough && self.verdict != Some(Ok(()))).then_some(Ok(()))
            }
            Err(why) => {
                (self.passed, self.failed, self.good_since) = (0, self.failed.saturating_add(1), None);
                let fit = self.verdict == Some(Ok(()));
                // Never fit yet: the first reason is worth telling.
                (self.verdict.is_none() || fit && self.failed >= self.fall).then_some(Err(why))
            }
        }?;
        self.verdict = Some(verdict.clone());
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn fall_and_rise_are_counted_and_a_single_answer_moves_nothing() {
        let mut health = Health::new(3, 2, Duration::from_secs(4));
        let bad = || Err("503".to_owned());
        assert_eq!(health.round(at(0), Ok(())), None);
        assert_eq!(health.round(at(2), Ok(())), None, "risen, but not for long enough");
        assert_eq!(health.round(at(4), Ok(())), Some(Ok(())));
        assert_eq!(health.round(at(6), bad()), None);
        assert_eq!(health.round(at(8), bad()), None);
        assert_eq!(health.round(at(10), Ok(())), None, "two failures are forgotten");
        assert_eq!(health.round(at(12), bad()), None);
        assert_eq!(health.round(at(14), bad()), None);
        assert_eq!(health.round(at(16), bad()), Some(bad()));
        assert_eq!(health.round(at(18), bad()), None, "said once");
    }
}
