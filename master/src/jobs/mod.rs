//! Jobs.

use crate::{
    catalog::Catalog,
    config::Config,
    fleet::Fleet,
    store::{Store, StoreError},
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use windlass_types::{
    Digest, NodeId, Outcome, RequestId,
    trace::{CallStats, TraceEntry},
};

/// A result from the wire, parsed.
#[derive(Debug, Clone)]
pub struct ResultRecord {
    pub outcome: Outcome,
    pub trace: Vec<TraceEntry>,
    pub stats: CallStats,
    /// Of the bundle that ran.
    pub plugin_digest: Option<Digest>,
}

/// What sessions tell the jobs: for each node in the order in which the node said it, one call at
/// a time. Implementations check that the request belongs to that node; one that does not is logged
/// and dropped (and `Ok`, so that the host forgets it).
#[tonic::async_trait]
pub trait NodeEvents: Send + Sync + 'static {
    /// A node has a new session; its fleet record is already online, and messages can be sent to it.
    /// `running` and `finished` are the requests in its journal without and with a result.
    async fn connected(&self, node: NodeId, running: Vec<RequestId>, finished: Vec<RequestId>);
    /// The request is in the journal of the node.
    async fn accepted(&self, node: NodeId, request: RequestId);
    /// It runs.
    async fn started(&self, node: NodeId, request: RequestId);
    /// Progress; not kept.
    async fn progress(&self, node: NodeId, request: RequestId, message: String, percent: Option<u8>);
    /// The result. After `Ok` the session acknowledges, and the host forgets it: return only when it
    /// is committed. After an error the host keeps it and sends it again with its next session.
    async fn result(&self, node: NodeId, request: RequestId, result: ResultRecord) -> Result<(), StoreError>;
    /// The session is over, and no other one has taken its place.
    async fn disconnected(&self, node: NodeId);
}

/// The jobs. Clones share them.
#[derive(Debug, Clone)]
pub struct Jobs {}

impl Jobs {
    /// Load what is running from the store and start.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn start(
        _config: Arc<Config>,
        _store: Store,
        _fleet: Fleet,
        _catalog: Catalog,
        _shutdown: CancellationToken,
    ) -> Result<Self, StoreError> {
        Ok(Jobs {})
    }
}

#[tonic::async_trait]
impl NodeEvents for Jobs {
    async fn connected(&self, _node: NodeId, _running: Vec<RequestId>, _finished: Vec<RequestId>) {}
    async fn accepted(&self, _node: NodeId, _request: RequestId) {}
    async fn started(&self, _node: NodeId, _request: RequestId) {}
    async fn progress(&self, _node: NodeId, _request: RequestId, _message: String, _percent: Option<u8>) {}
    async fn result(
        &self,
        _node: NodeId,
        _request: RequestId,
        _result: ResultRecord,
    ) -> Result<(), StoreError> {
        Ok(())
    }
    async fn disconnected(&self, _node: NodeId) {}
}
