//! What watches found.

use super::{Client, ClientError};
use windlass_types::api::status::{NodeStatus, WatchState, WatchStatus};

impl Client {
    /// Watches of all nodes, without their results.
    pub async fn status(
        &self,
        watch: Option<&str>,
        state: Option<WatchState>,
    ) -> Result<Vec<WatchStatus>, ClientError> {
        let watch = watch.map(|watch| ("watch", watch));
        let state = state.map(|state| ("state", state.as_str()));
        let query: Vec<_> = watch.into_iter().chain(state).collect();
        self.pages(&["status"], &query, usize::MAX).await
    }

    /// Watches of a node, with their results.
    pub async fn node_status(&self, node: &str) -> Result<NodeStatus, ClientError> {
        self.get(&["nodes", node, "status"]).await
    }
}
