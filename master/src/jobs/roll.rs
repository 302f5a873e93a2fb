//! Jobs that go over their nodes a few at a time.
//!
//! The window moves on when an outcome is committed: as many nodes have their turn as it has room for,
//! in the order of their names, and when too many have ended without success the others are refused.
//! A turn is committed before its request is sent, so a master that takes over knows whom its
//! predecessor had let go; what it had not is held until the window has room.

use super::{
    Engine,
    live::LiveJob,
    part::{Input, Stage},
};
use crate::store::{StoreError, jobs as rows};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use windlass_types::{JobId, OutcomeKind};

/// After a failure of the store.
const AGAIN: Duration = Duration::from_secs(1);

/// How a job goes over its nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roll {
    /// Nodes at a time.
    pub window: usize,
    /// More nodes without success than this are too many.
    pub max_failures: u32,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Nothing,
    /// Nobody else has a turn.
    Stop,
    /// These have theirs.
    Release(Vec<u32>),
}

/// Go on with what has room, until `shutdown`.
pub(super) async fn run(engine: Arc<Engine>, shutdown: CancellationToken) {
    let turn = engine.live().turn.clone();
    loop {
        let waiting = !engine.live().rolling.is_empty();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = turn.notified() => {}
            () = tokio::time::sleep(AGAIN), if waiting => {}
        }
        let ids = std::mem::take(&mut engine.live().rolling);
        for id in ids {
            if let Err(error) = engine.roll(id).await {
                tracing::error!(%error, job = %id, "cannot note whose turn it is");
                engine.live().rolling.insert(id);
            }
        }
    }
}

impl Engine {
    async fn roll(&self, id: JobId) -> Result<(), StoreError> {
        let turn = self.live().jobs.get(&id).map_or(Turn::Nothing, turn);
        match turn {
            Turn::Nothing => {}
            Turn::Stop => self.live().step_all(id, Input::Stop),
            Turn::Release(positions) => {
                let (rows, now_ms) = (positions.clone(), crate::now_ms());
                self.store
                    .write(move |c| Box::pin(async move { rows::release(c, id, &rows, now_ms).await }))
                    .await?;
                self.live().release(id, &positions);
            }
        }
        Ok(())
    }
}

fn turn(job: &LiveJob) -> Turn {
    let Some(roll) = job.roll else { return Turn::Nothing };
    let held = |position: &usize| {
        let part = &job.parts[*position];
        part.stage == Stage::Held && !part.done
    };
    let mut waiting = (0..job.parts.len()).filter(held).peekable();
    if waiting.peek().is_none() {
        return Turn::Nothing;
    }
    let failures: u32 = job
        .counts
        .iter()
        .filter(|(kind, _)| **kind != OutcomeKind::Succeeded)
        .map(|(_, number)| number)
        .sum();
    if failures > roll.max_failures {
        return Turn::Stop;
    }
    let under_way = job.parts.iter().filter(|part| !part.done && part.stage != Stage::Held).count();
    let room = roll.window.saturating_sub(under_way);
    let positions: Vec<u32> =
        waiting.take(room).map(|position| u32::try_from(position).unwrap_or(u32::MAX)).collect();
    if positions.is_empty() { Turn::Nothing } else { Turn::Release(positions) }
}
