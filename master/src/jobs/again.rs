//! Asking a node again.
//!
//! A node that has no room, or is about to stop, has begun nothing: it is asked again until the deadline,
//! whatever the operation does. One that has answered without success is asked again as often as the job
//! says, each time with all its time, and only where a second run does no harm.
//!
//! A host runs an id once, so each attempt has an id of its own. The new one is committed before the old
//! result is acknowledged: a master that takes over in between asks under the new one, and a host that
//! tells the old result once more is told that nobody waits for it.

use super::{
    Engine,
    live::{Live, Part},
    part::{Input, Stage},
};
use crate::{
    store::{
        StoreError,
        jobs::{self as rows, AgainRow},
    },
    uncut::uncut,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use windlass_types::{JobId, Outcome, Refusal, RequestId, api::JobEventKind};

/// The pause before a node is asked again: it doubles with each time, up to the longest.
fn pause(shortest: Duration, longest: Duration, times: u32) -> Duration {
    let pause = shortest.saturating_mul(1 << times.min(16)).min(longest);
    // Not all at once: what was refused together would be refused together again.
    pause.mul_f64(rand::random_range(0.5..1.0))
}

/// How a node is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Again {
    attempt: u32,
    pause: Duration,
    /// All its time, from now on.
    anew: bool,
}

impl Live {
    /// Whether this result is not to be the last word.
    pub fn again(&self, (id, position): (JobId, u32), outcome: &Outcome) -> Option<Again> {
        let job = self.jobs.get(&id)?;
        let part = job.parts.get(position as usize).filter(|part| !part.done)?;
        if part.stage == Stage::Settling || job.cancel_requested {
            return None;
        }
        let none_left = part.times.is_none_or(|times| Instant::now() >= times.deadline);
        match outcome {
            Outcome::Refused { reason: Refusal::Busy | Refusal::Draining, .. } if !none_left => Some(Again {
                attempt: part.attempt,
                pause: pause(self.pauses.busy, BUSY_LONGEST, part.refused),
                anew: false,
            }),
            // What is the same each time.
            Outcome::Succeeded { .. }
            | Outcome::Denied { .. }
            | Outcome::Refused { .. }
            | Outcome::Cancelled { .. } => None,
            _ if part.attempt <= job.made.retries.unwrap_or_default() => Some(Again {
                attempt: part.attempt.saturating_add(1),
                pause: pause(self.pauses.failed, FAILED_LONGEST, part.attempt - 1),
                anew: true,
            }),
            _ => None,
        }
    }

    /// The new id is committed.
    fn ask_again(&mut self, place: (JobId, u32), new: RequestId, again: Again, last: Outcome) {
        let Some(job) = self.jobs.get_mut(&place.0) else { return };
        let times = job.times();
        let Some(part) = job.parts.get_mut(place.1 as usize) else { return };
        let (old, node) = (std::mem::replace(&mut part.request, new), part.node);
        part.renaming = false;
        part.refused = if again.anew { 0 } else { part.refused.saturating_add(1) };
        part.attempt = again.attempt;
        part.last = Some(last);
        part.started_ms = None;
        part.again = Some(Instant::now() + again.pause);
        if again.anew {
            part.times = Some(times);
        }
        self.rename(old, new, node, place);
        self.locks.release(node, (place, old));
        self.step(place, Input::Again);
        if let Some(part) = self.part(place).map(Part::to_api)
            && let Some(job) = self.jobs.get(&place.0)
        {
            job.events.push(|| JobEventKind::Node { node: part });
        }
        self.unlock(node);
        // It may have been cancelled meanwhile.
        if self.jobs.get(&place.0).is_some_and(|job| job.cancel_requested) {
            self.step(place, Input::Cancel);
        }
        self.schedule(place.0);
    }
}

/// Between two attempts at a node that has no room.
const BUSY_LONGEST: Duration = Duration::from_secs(5);
/// Between two attempts at a node that has answered without success.
const FAILED_LONGEST: Duration = Duration::from_secs(60);

impl Engine {
    /// Ask again instead of keeping a result, which may be acknowledged after `Ok`.
    pub(super) async fn ask_again(
        self: &Arc<Self>,
        place: (JobId, u32),
        old: RequestId,
        again: Again,
        last: Outcome,
    ) -> Result<(), StoreError> {
        let (engine, new) = (self.clone(), RequestId::new());
        let row = AgainRow {
            job: place.0,
            position: place.1,
            old,
            new,
            attempt: again.attempt,
            released_ms: again.anew.then(crate::now_ms),
            last: last.clone(),
        };
        // The session may end meanwhile; what is committed has to reach the memory all the same.
        uncut(async move {
            let written =
                engine.store.write(move |c| Box::pin(async move { rows::again(c, &row).await })).await;
            let mut live = engine.live();
            match &written {
                Ok(()) => live.ask_again(place, new, again, last),
                Err(error) => {
                    tracing::error!(%error, job = %place.0, "cannot note that a node is to be asked again");
                    live.unsettle(place);
                }
            }
            drop(live);
            written
        })
        .await
    }
}
