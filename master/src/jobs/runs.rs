//! What the runs of plans ask of the jobs.
//!
//! Before something is undone that nobody answered for, it has to be known that nothing of it runs any
//! more. A node tells so: by the result of its request, or by not naming it when its next session begins.
//! Requests that got their outcome without that are kept in [`Unsettled`].

use super::{Jobs, create::rendered};
use crate::{
    fleet::NodeRecord,
    store::{StoreError, jobs as rows},
};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::watch;
use windlass_types::{
    JobId, NodeId, OperationName, Outcome, RequestId,
    api::{Job, OperationInfo},
};

/// Requests that may still run on a node although they have their outcome.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// Nodes that have said what runs there, since this master leads.
    heard: HashMap<NodeId, HashSet<RequestId>>,
    changes: watch::Sender<u64>,
}

impl Unsettled {
    pub fn new() -> Self {
        Unsettled { heard: HashMap::new(), changes: watch::Sender::new(0) }
    }

    /// A node has begun a session. These it still runs, and nobody waits for them.
    pub fn connected(&mut self, node: NodeId, astray: HashSet<RequestId>) {
        self.heard.insert(node, astray);
        self.changed();
    }

    /// It has its outcome, and the node has not told what became of it.
    pub fn stray(&mut self, node: NodeId, request: RequestId) {
        if let Some(unsettled) = self.heard.get_mut(&node) {
            unsettled.insert(request);
        }
    }

    /// The node has told what became of it.
    pub fn told(&mut self, node: NodeId, request: RequestId) {
        if self.heard.get_mut(&node).is_some_and(|unsettled| unsettled.remove(&request)) {
            self.changed();
        }
    }

    /// Nothing of it runs, as far as the node has said.
    fn settled(&self, node: NodeId, request: RequestId) -> bool {
        self.heard.get(&node).is_some_and(|unsettled| !unsettled.contains(&request))
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}

impl Jobs {
    /// Counts what may have settled something, or brought a node back.
    pub(crate) fn stirred(&self) -> watch::Receiver<u64> {
        self.engine.live().unsettled.changes.subscribe()
    }

    /// Whether nothing of a job runs any more: it has its outcomes, and its nodes have told so.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn settled(&self, id: JobId) -> Result<bool, StoreError> {
        if self.engine.live().jobs.contains_key(&id) {
            return Ok(false);
        }
        let requests = rows::requests(&self.engine.store, id).await?;
        let live = self.engine.live();
        Ok(requests.iter().all(|(node, request)| live.unsettled.settled(*node, *request)))
    }

    /// Holds the job once it is finished; none if it does not run.
    pub(crate) fn finishing(&self, id: JobId) -> Option<watch::Receiver<Option<Job>>> {
        self.engine.live().jobs.get(&id).map(|job| job.finished.subscribe())
    }

    /// What the first node of a finished job came to.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn outcome(&self, id: JobId) -> Result<Option<Outcome>, StoreError> {
        let (nodes, _) = rows::nodes(&self.engine.store, id, -1, 1, usize::MAX).await?;
        Ok(nodes.into_iter().next().and_then(|(_, node)| node.outcome))
    }

    /// All nodes, by name.
    pub(crate) fn all_records(&self) -> Arc<Vec<Arc<NodeRecord>>> {
        self.engine.nodes.all()
    }

    /// Whether a node has a live session.
    pub(crate) fn online(&self, node: NodeId) -> bool {
        self.engine.nodes.online(node)
    }

    /// An operation, as the nodes offer it now.
    pub(crate) fn info(&self, name: &OperationName) -> Option<Arc<OperationInfo>> {
        self.engine.operations.operation(name)
    }

    /// An operation that some node offers.
    ///
    /// # Errors
    /// If there is none of that name; says the nearest.
    pub(crate) fn known(&self, name: &OperationName) -> Result<Arc<OperationInfo>, super::JobError> {
        self.engine.operation(name)
    }

    /// All operations that nodes offer.
    pub(crate) fn operation_names(&self) -> Vec<OperationName> {
        self.engine.operations.names()
    }
}

/// What an operation with these arguments needs for itself on its node.
pub(crate) fn locks(operation: &OperationInfo, args: &Value) -> Vec<String> {
    operation.locks.iter().map(|lock| rendered(lock, args)).collect()
}
