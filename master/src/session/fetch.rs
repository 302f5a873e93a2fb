//! Blobs on their way to hosts.
//!
//! Any accepted node may have any part of any bundle in the store, and nothing else. What it gets is
//! checked on the way ([`crate::bundles::blobs`]), and checked again by the host. A node that is
//! revoked, deleted or locked in the middle gets no further chunk, whichever connection it uses.

use super::{Sessions, certificate};
use crate::bundles::blobs::BlobError;
use futures_util::{Stream, StreamExt as _};
use std::{pin::Pin, time::Duration};
use tonic::Status;
use windlass_identity::PeerInfo;
use windlass_proto::v1::{Chunk, FetchRequest};
use windlass_types::Digest;

/// Chunks of one blob.
pub(crate) type Chunks = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

/// A host waits so long for its turn: less than the 30 seconds after which it takes silence for an end.
const TURN: Duration = Duration::from_secs(20);
/// A host that takes no chunk for so long gives its turn to others.
const STALLED: Duration = Duration::from_secs(60);

impl Sessions {
    /// One blob from an offset to its end.
    pub(super) async fn blob(&self, peer: &PeerInfo, request: FetchRequest) -> Result<Chunks, Status> {
        let facts = certificate(peer)?.clone();
        self.fleet.check(&facts).await?;
        let digest: Digest =
            request.digest.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        if !self.bundles.has_blob(digest) {
            return Err(Status::not_found(format!("no bundle of this master has a part {digest}")));
        }
        let inner = self.bundles.inner.clone();
        let (chunks, mut waiting) = tokio::sync::mpsc::channel::<Result<Option<Chunk>, Status>>(1);
        // A task of its own, so that a host that stops reading does not keep its turn.
        let (sessions, fleet) = (self.clone(), self.fleet.clone());
        let turn = tokio::time::timeout(TURN, inner.fetches.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Status::resource_exhausted("too many hosts fetch at once: try again"));
        };
        let (total_bytes, blob) = inner.blobs.stream(digest, request.offset).await.map_err(status)?;
        self.tasks.spawn(async move {
            let _turn = turn;
            let mut blob = std::pin::pin!(blob);
            loop {
                let next = tokio::select! {
                    next = blob.next() => next,
                    () = sessions.shutdown.cancelled() => {
                        let _ = chunks.try_send(Err(Status::unavailable("the master is shutting down")));
                        return;
                    }
                };
                let Some(next) = next else {
                    let _ = chunks.send(Ok(None)).await;
                    return;
                };
                let chunk = if fleet.may_act(&facts) {
                    next.map(|data| Some(Chunk { data, total_bytes })).map_err(status)
                } else {
                    Err(Status::permission_denied("this node may not act any more"))
                };
                let over = chunk.is_err();
                let sent = tokio::time::timeout(STALLED, chunks.send(chunk)).await;
                if over || !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        });
        Ok(Box::pin(async_stream::stream! {
            loop {
                match waiting.recv().await {
                    Some(Ok(Some(chunk))) => yield Ok(chunk),
                    Some(Ok(None)) => return,
                    Some(Err(status)) => {
                        yield Err(status);
                        return;
                    }
                    // Cut short, which must not look like the end of the blob.
                    None => {
                        yield Err(Status::aborted("this host took no chunk for too long"));
                        return;
                    }
                }
            }
        }))
    }
}

fn status(error: BlobError) -> Status {
    let message = error.to_string();
    match error {
        BlobError::Missing(digest) => {
            tracing::error!(%digest, "a part of a bundle is not in the blob store");
            Status::data_loss("the master has lost this part: upload the bundle again")
        }
        BlobError::Damaged(digest) => {
            tracing::error!(%digest, "a part of a bundle is damaged in the blob store");
            Status::data_loss("the master's copy of this part is damaged: upload the bundle again")
        }
        BlobError::OutOfRange { .. } => Status::out_of_range(message),
        BlobError::Open { .. } | BlobError::Store(_) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the blob store failed");
            Status::unavailable("the master cannot read its blob store: try again")
        }
    }
}
