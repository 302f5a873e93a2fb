//! Outcomes on their way into the store.
//!
//! All of them go through one task, which takes what has queued up and writes it in one
//! transaction: a fan-out to a thousand nodes is a handful of transactions. Only after the commit
//! the outcome counts: then it is an event, the job may be finished, and its host may forget it.

use super::Engine;
use crate::store::{
    StoreError,
    jobs::{self as rows, OutcomeRow, StageRow},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use windlass_types::{
    Digest, JobId, Outcome,
    api::{JobNode, JobNodeState},
    trace::{CallStats, TraceEntry},
};

/// Outcomes in one transaction at most.
const GROUP: usize = 512;
/// How long the farthest stage of a node may be missing from the store. Only a restart of the
/// master together with the loss of a host's journal needs it.
const STAGES_AFTER: Duration = Duration::from_millis(200);
/// Stages in one transaction at most.
const STAGES: usize = 200;

/// An outcome to store.
#[derive(Debug)]
pub(super) struct Settle {
    pub place: (JobId, u32),
    pub outcome: Outcome,
    pub trace: Vec<TraceEntry>,
    pub stats: Option<CallStats>,
    pub plugin_digest: Option<Digest>,
    pub started_ms: Option<i64>,
    pub output_bytes: u64,
    /// Answered after the commit.
    pub reply: Option<oneshot::Sender<Result<(), StoreError>>>,
}

impl Settle {
    /// An outcome that the master gives.
    pub fn own(place: (JobId, u32), outcome: Outcome, started_ms: Option<i64>) -> Self {
        let (trace, stats, plugin_digest, reply) = (Vec::new(), None, None, None);
        Settle { place, outcome, trace, stats, plugin_digest, started_ms, output_bytes: 0, reply }
    }

    fn row(&self) -> OutcomeRow {
        // These types have no maps with other keys than text and no failing parts.
        let json = |value: serde_json::Result<String>| value.unwrap_or_else(|_| "null".into());
        OutcomeRow {
            job: self.place.0,
            position: self.place.1,
            kind: self.outcome.kind(),
            started_ms: self.started_ms,
            plugin_digest: self.plugin_digest,
            stats_json: self.stats.map(|stats| json(serde_json::to_string(&stats))),
            outcome_json: json(serde_json::to_string(&self.outcome)),
            trace_json: json(serde_json::to_string(&self.trace)),
            output_bytes: self.output_bytes,
        }
    }
}

/// The queue is not bounded by itself but by what fills it: an open part has one outcome of ours at
/// most, and each session waits for the answer to its result before it reads the next message.
pub(super) async fn run(
    engine: Arc<Engine>,
    mut queue: mpsc::UnboundedReceiver<Settle>,
    shutdown: CancellationToken,
) {
    let mut group = Vec::with_capacity(GROUP);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            number = queue.recv_many(&mut group, GROUP) => if number == 0 { return },
        }
        store_group(&engine, std::mem::take(&mut group)).await;
    }
}

async fn store_group(engine: &Engine, group: Vec<Settle>) {
    let rows: Vec<OutcomeRow> = group.iter().map(Settle::row).collect();
    let now_ms = crate::now_ms();
    let written = engine
        .store
        .write(move |c| Box::pin(async move { rows::insert_outcomes(c, &rows, now_ms).await }))
        .await;
    let first = match written {
        Ok(first) => first,
        Err(error) => {
            tracing::error!(%error, outcomes = group.len(), "cannot store outcomes");
            let mut live = engine.live();
            for settle in group {
                live.unsettle(settle.place);
                if let Some(reply) = settle.reply {
                    // Nobody waits: the session is gone.
                    let _ = reply.send(Err(StoreError::Closed));
                }
            }
            return;
        }
    };
    let (mut replies, mut others) = (Vec::with_capacity(group.len()), Vec::new());
    {
        let mut live = engine.live();
        for settle in group {
            let Settle { place, outcome, stats, plugin_digest, started_ms, output_bytes, reply, .. } = settle;
            replies.extend(reply);
            if !first.contains(&place) {
                others.push(place);
                continue;
            }
            let kind = outcome.kind();
            let Some(part) = live.part(place) else { continue };
            let node = JobNode {
                state: JobNodeState::Done,
                outcome: Some(outcome),
                stats,
                plugin_digest,
                plugin_version: plugin_digest.and_then(|digest| engine.operations.version(digest)),
                started_ms,
                finished_ms: Some(now_ms),
                output_bytes: Some(output_bytes).filter(|bytes| *bytes > 0),
                ..part.to_api()
            };
            if live.done(place, node, now_ms) {
                engine.metrics.outcome(kind);
            }
        }
    }
    for place in others {
        adopt(engine, place).await;
    }
    for reply in replies {
        let _ = reply.send(Ok(()));
    }
}

/// The store has another outcome for this part. Mostly the part is done with it; if a commit was
/// reported as failed and was not, memory learns of it here.
async fn adopt(engine: &Engine, place: (JobId, u32)) {
    if engine.live().part(place).is_none_or(|part| part.done) {
        return;
    }
    match rows::nodes(&engine.store, place.0, i64::from(place.1) - 1, 1, usize::MAX).await {
        Ok((nodes, _)) => {
            if let Some((_, node)) = nodes.into_iter().next() {
                let now_ms = node.finished_ms.unwrap_or_else(crate::now_ms);
                engine.live().done(place, node, now_ms);
            }
        }
        Err(error) => {
            tracing::error!(%error, "cannot read an outcome back");
            engine.live().unsettle(place);
        }
    }
}

/// Note now and then how far the nodes are.
pub(super) async fn note_stages(engine: Arc<Engine>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = engine.dirty.notified() => {}
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(STAGES_AFTER) => {}
        }
        let rows: Vec<StageRow> = {
            let mut live = engine.live();
            let dirty = std::mem::take(&mut live.dirty);
            dirty
                .into_iter()
                .filter_map(|place| {
                    let part = live.part(place).filter(|part| !part.done)?;
                    let (job, position) = place;
                    let (request, stage, started_ms) = (part.request, part.state(), part.started_ms);
                    Some(StageRow { job, position, request, stage, started_ms })
                })
                .collect()
        };
        if rows.is_empty() {
            continue;
        }
        // A few at a time: outcomes go first, and wait behind one of these at most.
        for rows in rows.chunks(STAGES) {
            let rows = rows.to_vec();
            let written =
                engine.store.write(move |c| Box::pin(async move { rows::update_stages(c, &rows).await }));
            if let Err(error) = written.await {
                tracing::warn!(%error, "cannot note how far the nodes are");
            }
        }
    }
}
