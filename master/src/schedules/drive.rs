//! The one task that sleeps until the next time.

use super::{Inner, Live, Schedules, fire::Looked};
use crate::store::StoreError;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The clock of the machine may be set: it is looked at this often at least.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After a failure of the store.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks of a time that waits for a job to finish, at least and at most.
const WAIT: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

impl Schedules {
    /// Run what is due, until `shutdown`.
    pub async fn drive(self, shutdown: CancellationToken) {
        let inner = &self.inner;
        let mut newest_event = inner.store.newest_event();
        let mut recovered = false;
        loop {
            newest_event.mark_unchanged();
            let looked = inner.look(&mut recovered).await;
            let waits = matches!(looked, Ok(Looked::Waits));
            if let Err(error) = &looked {
                if !shutdown.is_cancelled() {
                    tracing::error!(error = error as &dyn std::error::Error, "cannot go on with schedules");
                }
                recovered = false;
            }
            let sleep = match looked {
                Err(_) => AGAIN,
                Ok(Looked::Done) => inner.until_next(),
                Ok(Looked::Waits) => WAIT[1],
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = inner.wake.notified() => {}
                () = tokio::time::sleep(sleep) => {}
                // An event may be the end of the job that is waited for.
                () = async {
                    let _ = newest_event.changed().await;
                    tokio::time::sleep(WAIT[0]).await;
                }, if waits => {}
            }
        }
    }
}

impl Inner {
    /// Do what is due, and before the first time what an earlier master left half done.
    pub(super) async fn look(&self, recovered: &mut bool) -> Result<Looked, StoreError> {
        let _changing = self.changing.lock().await;
        if !*recovered {
            self.recover().await?;
            *recovered = true;
        }
        let now_ms = self.now_ms();
        let due: Vec<Live> = self
            .live()
            .values()
            .filter(|live| live.next_ms().is_some_and(|next_ms| next_ms <= now_ms))
            .cloned()
            .collect();
        let mut looked = Looked::Done;
        for live in due {
            if self.look_at(&live).await? == Looked::Waits {
                looked = Looked::Waits;
            }
        }
        Ok(looked)
    }

    /// How long there is nothing to do.
    fn until_next(&self) -> Duration {
        let now_ms = self.now_ms();
        let next_ms = self.live().values().filter_map(Live::next_ms).min();
        let until = next_ms.map_or(LOOK_EVERY, |next_ms| {
            Duration::from_millis(u64::try_from(next_ms.saturating_sub(now_ms)).unwrap_or(0))
        });
        until.min(LOOK_EVERY)
    }
}
