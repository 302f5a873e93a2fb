//! What operations write on their way: kept as it comes, and read while it grows.

use super::Jobs;
use crate::store::{StoreError, outputs as rows};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;
use windlass_types::{
    JobId, NodeId, RequestId,
    api::{JobEventKind, JobOutput},
};

/// Bytes given at once, but for the last piece.
const READ: usize = 1 << 20;

impl Jobs {
    /// Keep some output of a request of this node. Gives back up to where the node need not send it again.
    pub(super) async fn keep_output(
        &self,
        node: NodeId,
        request: RequestId,
        offset: u64,
        data: Bytes,
    ) -> Result<u64, StoreError> {
        let end = offset.saturating_add(data.len() as u64);
        let place = self.part_of(&self.engine.live(), node, request);
        // Its part has an outcome: nobody waits for more.
        let Some((job, position)) = place else { return Ok(end) };
        let piece = rows::Piece { job, position, request, offset, data };
        let kept =
            self.engine.store.write(move |c| Box::pin(async move { rows::append(c, &piece).await })).await?;
        let live = self.engine.live();
        if let (Some(job), Some(part)) = (live.jobs.get(&job), live.part((job, position))) {
            job.events.push(|| JobEventKind::Output { node, name: part.name.clone(), bytes: kept });
        }
        Ok(kept)
    }

    /// What a node has written from a byte on; waits so long for more than nothing. None when the job has
    /// no such node.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn output(
        &self,
        id: JobId,
        node: &str,
        after: u64,
        wait: Duration,
    ) -> Result<Option<JobOutput>, StoreError> {
        let until = Instant::now() + wait;
        loop {
            // Before the look, so that nothing is missed between it and the wait.
            let events = self.events(id).map(|events| (events.watch(), events));
            let Some(read) = rows::read(&self.engine.store, id, node, after, READ).await? else {
                return Ok(None);
            };
            let done = !read.data.is_empty() || read.ended || Instant::now() >= until;
            let (Some((seen, events)), false) = (events, done) else { return Ok(Some(to_api(id, read))) };
            tokio::select! {
                () = events.changed(seen) => {}
                () = tokio::time::sleep_until(until) => {}
                () = self.shutdown.cancelled() => return Ok(Some(to_api(id, read))),
            }
        }
    }
}

fn to_api(job: JobId, read: rows::Read) -> JobOutput {
    JobOutput {
        job,
        node: read.node,
        name: read.name,
        start: read.start,
        next: read.start + read.data.len() as u64,
        data: BASE64_STANDARD.encode(&read.data),
        bytes: read.bytes,
        written: read.told,
        forgotten: read.forgotten,
        ended: read.ended,
    }
}
