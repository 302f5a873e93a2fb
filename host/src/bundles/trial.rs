//! Counting the operations of a new version, without a lock.

use std::sync::atomic::{AtomicU32, Ordering};
use tokio::time::Instant;
use windlass_types::Digest;

/// The operations of a version while it is new. Failures are counted in the ledger, which lasts.
#[derive(Debug)]
pub struct Trial {
    digest: Digest,
    until: Instant,
    operations: AtomicU32,
}

impl Trial {
    /// Of a bundle, until then; `operations` have ended before.
    pub fn new(digest: Digest, until: Instant, operations: u32) -> Trial {
        Trial { digest, until, operations: AtomicU32::new(operations) }
    }

    /// The bundle.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// An operation has ended; how many have by now. None once the version is no longer new.
    pub fn count(&self, now: Instant) -> Option<u32> {
        (now < self.until).then(|| self.operations.fetch_add(1, Ordering::Relaxed).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_counts_until_its_time_is_over() {
        let now = Instant::now();
        let trial = Trial::new(Digest::of(b"x"), now + Duration::from_secs(60), 2);
        assert_eq!((trial.count(now), trial.count(now)), (Some(3), Some(4)));
        assert_eq!(trial.count(now + Duration::from_secs(60)), None);
    }
}
