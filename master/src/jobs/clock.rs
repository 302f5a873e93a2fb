//! What time brings: deadlines, and the end of what is kept.

use super::Engine;
use std::{cmp::Reverse, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often to look for what need not be kept any more.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// One task for the deadlines of all jobs.
pub(super) async fn run(engine: Arc<Engine>, shutdown: CancellationToken) {
    let timer = engine.live().timer.clone();
    loop {
        let next = engine.live().timers.peek().map(|Reverse((when, _))| *when);
        let due = async {
            match next {
                Some(when) => tokio::time::sleep_until(when).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = timer.notified() => continue,
            () = due => {}
        }
        engine.live().tick(Instant::now());
    }
}

/// Forget old jobs.
pub(super) async fn sweep(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = every.tick() => {}
        }
        if let Err(error) = engine.sweep_now(&shutdown).await {
            tracing::warn!(%error, "cannot forget old jobs");
        }
    }
}
