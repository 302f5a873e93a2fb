//! The first minutes of a new version: its failures are counted, and too many of them send it back.
//!
//! A failure is an operation that trapped, or one that ran when the whole process ended. Errors that
//! an operation returns, denials and time limits are none: they tell about the node, not the version.

use super::ledger::optional_version;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use windlass_bundle::Version;

/// Counts of a new version. Pure: whoever holds it says what time it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// Its end, in milliseconds since 1970-01-01 UTC by this machine's clock.
    pub until_ms: i64,
    /// Operations that had ended at the newest failure.
    pub operations: u32,
    pub failures: u32,
    /// The newest failure, in words.
    pub last: String,
    /// The highest version before this one: what counts again if this one goes.
    #[serde(default, with = "optional_version")]
    pub highest_before: Option<Version>,
}

impl Probation {
    /// One that begins now.
    pub fn begin(now_ms: i64, length: Duration, highest_before: Option<Version>) -> Probation {
        Probation {
            until_ms: now_ms.saturating_add(millis(length)),
            operations: 0,
            failures: 0,
            last: String::new(),
            highest_before,
        }
    }

    /// Whether it holds at a time.
    pub fn holds(&self, at_ms: i64) -> bool {
        at_ms < self.until_ms
    }

    /// How much of it is left.
    pub fn left(&self, now_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(self.until_ms.saturating_sub(now_ms)).unwrap_or(0))
    }

    /// After a start: a clock that was set back must not make it longer.
    pub fn clamp(&mut self, now_ms: i64, length: Duration) {
        self.until_ms = self.until_ms.min(now_ms.saturating_add(millis(length)));
    }

    /// Count a failure; `operations` have ended by now, with this one.
    pub fn failed(&mut self, operations: u32, what: &str) {
        self.failures = self.failures.saturating_add(1);
        self.operations = self.operations.max(operations).max(self.failures);
        self.last = what.to_owned();
    }

    /// If the failures are too many: what to say.
    pub fn spent(&self, budget: u32) -> Option<String> {
        (self.failures >= budget).then(|| {
            let Probation { failures, operations, last, .. } = self;
            format!("{failures} of its first {operations} operations failed; the last: {last}")
        })
    }
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_budget_says_how_many_failed_and_what_was_last() {
        let mut probation = Probation::begin(1000, Duration::from_secs(600), None);
        probation.failed(1, "`pool.list` trapped: unreachable");
        probation.failed(4, "the host ended while `pool.list` ran");
        assert_eq!(probation.spent(3), None);
        probation.failed(5, "`pool.list` trapped: unreachable");
        assert_eq!(
            probation.spent(3).unwrap(),
            "3 of its first 5 operations failed; the last: `pool.list` trapped: unreachable"
        );
    }

    #[test]
    fn a_clock_set_back_makes_it_no_longer() {
        let length = Duration::from_secs(600);
        let mut probation = Probation::begin(10_000_000, length, None);
        assert!(probation.holds(10_599_999) && !probation.holds(10_600_000));
        assert_eq!(probation.left(10_600_000), Duration::ZERO);
        probation.clamp(5_000_000, length);
        assert!(!probation.holds(5_600_000));
        // The other way round it is over sooner, never later.
        let mut ahead = Probation::begin(1000, length, None);
        ahead.clamp(500_000, length);
        assert_eq!(ahead.until_ms, 601_000);
    }

    proptest! {
        #[test]
        fn there_are_never_more_failures_than_operations(counts in proptest::collection::vec(0_u32..20, 0..30), budget in 1_u32..10) {
            let mut probation = Probation::begin(0, Duration::from_secs(1), None);
            for (done, operations) in counts.iter().enumerate() {
                probation.failed(*operations, "x");
                prop_assert!(probation.failures <= probation.operations);
                prop_assert_eq!(probation.spent(budget).is_some(), u32::try_from(done + 1).unwrap() >= budget);
            }
        }
    }
}
