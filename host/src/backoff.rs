//! How long to wait before the next attempt.
//!
//! Full jitter: a uniformly random time between nothing and a ceiling that doubles with each
//! failure. After a restart of the master thousands of hosts come back at once; with full jitter
//! they spread evenly over the ceiling instead of coming in waves
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).

use std::time::Duration;

/// Ceiling of the first wait.
pub const BASE: Duration = Duration::from_millis(250);
/// No wait is longer, unless the master said no.
pub const CAP: Duration = Duration::from_secs(30);
/// Ceiling while the master refuses this node: only a person can change that, so asking often
/// helps nobody, yet the node should come back by itself soon after the person acted.
pub const REFUSED_CAP: Duration = Duration::from_secs(60);
/// Least wait after a refusal.
pub const REFUSED_FLOOR: Duration = Duration::from_secs(5);

/// Counts failures and says how long to wait.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One that has counted so many failures.
    pub fn after(failures: u32) -> Self {
        Backoff { failures }
    }

    /// A connection worked: begin anew.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The attempt failed; how long to wait. `alternatives` is the number of addresses that are
    /// tried in turn: the ceiling grows once a round, so that a second master is reached fast.
    pub fn failed(&mut self, alternatives: usize) -> Duration {
        let rounds = self.failures / u32::try_from(alternatives.max(1)).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        jittered(ceiling(rounds), rand::random())
    }

    /// The master refused this node; how long to wait.
    pub fn refused(&mut self) -> Duration {
        REFUSED_FLOOR + jittered(REFUSED_CAP - REFUSED_FLOOR, rand::random())
    }
}

/// The ceiling after `rounds` failed rounds.
pub fn ceiling(rounds: u32) -> Duration {
    BASE.saturating_mul(1_u32.checked_shl(rounds).unwrap_or(u32::MAX)).min(CAP)
}

/// A part of `ceiling`; `random` is uniform in 0..=`u32::MAX`.
pub fn jittered(ceiling: Duration, random: u32) -> Duration {
    ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX)).min(ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_is_within_its_ceiling(rounds in any::<u32>(), random in any::<u32>()) {
            let top = ceiling(rounds);
            prop_assert!(top >= BASE && top <= CAP);
            prop_assert!(jittered(top, random) <= top);
            prop_assert!(ceiling(rounds.saturating_add(1)) >= top);
        }

        #[test]
        fn the_whole_range_is_used(rounds in 0_u32..40) {
            prop_assert_eq!(jittered(ceiling(rounds), 0), Duration::ZERO);
            prop_assert_eq!(jittered(ceiling(rounds), u32::MAX), ceiling(rounds));
        }

        #[test]
        fn waits_of_a_backoff_keep_the_bounds(steps in 1_usize..60, alternatives in 0_usize..5) {
            let mut backoff = Backoff::default();
            for step in 0..steps {
                let rounds = u32::try_from(step / alternatives.max(1)).unwrap();
                prop_assert!(backoff.failed(alternatives) <= ceiling(rounds));
            }
            backoff.reset();
            prop_assert!(backoff.failed(alternatives) <= BASE);
            let refused = backoff.refused();
            prop_assert!(refused >= REFUSED_FLOOR && refused <= REFUSED_CAP);
        }
    }

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let ceilings: Vec<u128> = (0..9).map(|rounds| ceiling(rounds).as_millis()).collect();
        assert_eq!(ceilings, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }
}
