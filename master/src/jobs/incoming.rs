//! What nodes say about their requests. A node is heard only about its own.

use super::{
    Jobs, NodeEvents, ResultRecord,
    live::Live,
    part::{Input, Journal},
    settle::Settle,
};
use crate::store::StoreError;
use bytes::Bytes;
use std::collections::HashSet;
use tokio::sync::oneshot;
use windlass_types::{JobId, NodeId, RequestId, api::JobEventKind, trace::CallStats};

impl Jobs {
    /// The open part that a request of this node means.
    pub(super) fn part_of(&self, live: &Live, node: NodeId, request: RequestId) -> Option<(JobId, u32)> {
        let place = live.find(request)?;
        if live.part(place)?.node != node {
            tracing::warn!(%node, %request, "a node speaks of a request that is not its own");
            return None;
        }
        Some(place)
    }

    fn step(&self, node: NodeId, request: RequestId, input: Input) {
        let mut live = self.engine.live();
        match self.part_of(&live, node, request) {
            Some(place) => {
                live.step(place, input);
                self.engine.dirty.notify_one();
            }
            // Settled already: nobody waits for it. Another node's request is not this one's to have.
            None if live.find(request).is_none() => live.cancel_stray(node, request),
            None => {}
        }
    }
}

#[tonic::async_trait]
impl NodeEvents for Jobs {
    async fn connected(&self, node: NodeId, running: Vec<RequestId>, finished: Vec<RequestId>) {
        self.engine.metrics.session();
        let (running, finished): (HashSet<_>, HashSet<_>) =
            (running.into_iter().collect(), finished.into_iter().collect());
        let mut live = self.engine.live();
        let journal = |request: &RequestId| {
            if finished.contains(request) {
                Journal::Finished
            } else if running.contains(request) {
                Journal::Unfinished
            } else {
                Journal::Nothing
            }
        };
        let astray: HashSet<RequestId> =
            running.iter().copied().filter(|request| live.find(*request).is_none()).collect();
        for request in &astray {
            tracing::info!(%node, %request, "a node still has a request that is settled: cancelling it");
            live.cancel_stray(node, *request);
        }
        live.locks.astray(node, astray.clone());
        live.unsettled.connected(node, astray);
        // What runs there has its locks, before anybody else asks for them.
        let mut requests = live.requests_of(node);
        requests.sort_by_key(|request| journal(request) == Journal::Nothing);
        for request in requests {
            if let Some(place) = live.find(request) {
                let journal = journal(&request);
                if journal != Journal::Nothing {
                    live.hold(place);
                } else if let Some(part) = live.part_mut(place) {
                    // Its outcome may be on the way into the store as one that may still run: it does not.
                    part.astray = false;
                }
                live.step(place, Input::Connected(journal));
            }
        }
        live.unlock(node);
        drop(live);
        self.engine.dirty.notify_one();
    }

    async fn accepted(&self, node: NodeId, request: RequestId) {
        self.step(node, request, Input::Accepted);
    }

    async fn started(&self, node: NodeId, request: RequestId) {
        self.step(node, request, Input::Started);
    }

    async fn progress(&self, node: NodeId, request: RequestId, message: String, percent: Option<u8>) {
        let live = self.engine.live();
        let Some(place) = self.part_of(&live, node, request) else { return };
        if let (Some(job), Some(part)) = (live.jobs.get(&place.0), live.part(place)) {
            job.events.push(|| JobEventKind::Progress { node, name: part.name.clone(), message, percent });
        }
    }

    async fn output(
        &self,
        node: NodeId,
        request: RequestId,
        offset: u64,
        data: Bytes,
    ) -> Result<u64, StoreError> {
        self.keep_output(node, request, offset, data).await
    }

    async fn result(&self, node: NodeId, request: RequestId, result: ResultRecord) -> Result<(), StoreError> {
        let (reply, committed) = oneshot::channel();
        let again = {
            let mut live = self.engine.live();
            let Some(place) = self.part_of(&live, node, request) else {
                // Settled before, by this result or without it. An outcome never changes.
                tracing::info!(%node, %request, outcome = %result.outcome.kind(), "a result came late or twice");
                self.engine.metrics.late_result();
                if live.find(request).is_none() {
                    if live.locks.found(node, request) {
                        live.unlock(node);
                    }
                    live.unsettled.told(node, request);
                }
                return Ok(());
            };
            if live.part(place).is_some_and(|part| part.renaming) {
                // Told twice: the first one decides. The host keeps it and tells it again.
                return Err(StoreError::Closed);
            }
            let again = live.again(place, &result.outcome);
            live.step(place, Input::Result);
            // Of what was over in a moment nobody said that it had begun.
            let began = || (result.stats.wall_us > 0).then(|| began_ms(&result.stats));
            let started_ms = live.part(place).and_then(|part| part.started_ms).or_else(began);
            let ResultRecord { outcome, trace, stats, plugin_digest, output_bytes } = result;
            match again {
                Some(again) => {
                    if let Some(part) = live.part_mut(place) {
                        part.renaming = true;
                    }
                    Some((place, again, outcome))
                }
                None => {
                    live.store(Settle {
                        place,
                        outcome,
                        trace,
                        stats: Some(stats),
                        plugin_digest,
                        started_ms,
                        output_bytes,
                        reply: Some(reply),
                    });
                    None
                }
            }
        };
        if let Some((place, again, outcome)) = again {
            return self.engine.ask_again(place, request, again, outcome).await;
        }
        // Gone without an answer: the master is going down.
        let stored = committed.await.unwrap_or(Err(StoreError::Closed));
        // It may have had an outcome of ours by then, as one that may still run.
        let mut live = self.engine.live();
        if live.locks.found(node, request) {
            live.unlock(node);
        }
        live.unsettled.told(node, request);
        stored
    }

    async fn disconnected(&self, _node: NodeId) {
        // What was sent is with the node, or will be said not to be by its next session.
    }
}

/// When an operation began that has just ended.
fn began_ms(stats: &CallStats) -> i64 {
    crate::now_ms().saturating_sub(i64::try_from(stats.wall_us / 1000).unwrap_or(i64::MAX))
}
