//! The nodes, in memory and in the store.

mod live;
mod record;

pub use live::Presence;
pub use record::{Inventory, InventoryOperation, InventoryPlugin, NodeRecord};

use crate::store::{Store, StoreError};
use std::sync::Arc;
use tokio::sync::broadcast;
use windlass_proto::v1::master_message::Kind;
use windlass_types::{
    Fingerprint, NodeId, NodeName,
    api::{AcceptNode, ChangeNode, JoinToken, NewJoinToken, NodeState},
};

/// Why the fleet did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("there is no node `{node}`")]
    UnknownNode { node: String },
    /// Several pending nodes ask for that name.
    #[error("`{name}` is asked for by several nodes: use an id ({})", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    AmbiguousName { name: String, ids: Vec<NodeId> },
    #[error("node `{name}` is {}, not {expected}", state_word(*state))]
    WrongState { name: NodeName, state: NodeState, expected: &'static str },
    #[error("the fingerprint of node `{name}` is {actual}, not {given}")]
    WrongFingerprint { name: NodeName, actual: Fingerprint, given: Fingerprint },
    #[error("the name `{name}` is taken by node {by}")]
    NameTaken { name: NodeName, by: NodeId },
    /// A label or flag that is no good; says why.
    #[error("{0}")]
    BadChange(String),
    #[error("there is no join token `{id}`")]
    UnknownJoinToken { id: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn state_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Pending => "pending",
        NodeState::Accepted => "accepted",
        NodeState::Rejected => "rejected",
        NodeState::Revoked => "revoked",
    }
}

/// The node has no live session, or one that takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is offline")]
pub struct Offline;

/// Something changed; look the node up to see what it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetChange {
    pub node: NodeId,
    pub kind: ChangeKind,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// A new node asks to join.
    Pending,
    /// Its state is another one now.
    State,
    /// It is gone.
    Deleted,
    Online,
    Offline,
    /// Labels, flags, facts, plugins or name.
    Data,
}

/// The nodes. Clones share them.
#[derive(Debug, Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    changes: broadcast::Sender<FleetChange>,
}

impl Fleet {
    /// All nodes, sorted by name then id. Cheap while nothing changes.
    pub fn nodes(&self) -> Arc<Vec<Arc<NodeRecord>>> {
        Arc::default()
    }
    /// The node of this id.
    pub fn node(&self, _id: NodeId) -> Option<Arc<NodeRecord>> {
        None
    }
    /// The node of this id or name. An accepted node goes before others of its name.
    ///
    /// # Errors
    /// If there is none, or several that are not accepted.
    pub fn find(&self, node: &str) -> Result<Arc<NodeRecord>, FleetError> {
        Err(FleetError::UnknownNode { node: node.to_owned() })
    }
    /// Send a message to a node. Never waits.
    ///
    /// # Errors
    /// If the node has no session, or does not read: its queue is full, and the session is ended.
    pub fn send(&self, _node: NodeId, _message: Kind) -> Result<(), Offline> {
        Err(Offline)
    }
    /// Changes from now on. Who falls behind by more than 4,096 gets `Lagged` and has to look at all nodes.
    pub fn subscribe(&self) -> broadcast::Receiver<FleetChange> {
        self.inner.changes.subscribe()
    }
    /// Let a pending (or rejected) node in.
    ///
    /// # Errors
    /// If it is neither, the fingerprint is another one, or the name is taken.
    pub async fn accept(&self, node: NodeId, _how: &AcceptNode) -> Result<Arc<NodeRecord>, FleetError> {
        Err(FleetError::UnknownNode { node: node.to_string() })
    }
    /// Turn a pending node away.
    ///
    /// # Errors
    /// If it is not pending.
    pub async fn reject(&self, node: NodeId) -> Result<Arc<NodeRecord>, FleetError> {
        Err(FleetError::UnknownNode { node: node.to_string() })
    }
    /// Take an accepted node out: its certificate no longer counts, its session ends at once.
    ///
    /// # Errors
    /// If it is not accepted.
    pub async fn revoke(&self, node: NodeId) -> Result<Arc<NodeRecord>, FleetError> {
        Err(FleetError::UnknownNode { node: node.to_string() })
    }
    /// Forget a node. Its session ends at once, its certificate no longer counts, its id is never used again.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete(&self, node: NodeId) -> Result<(), FleetError> {
        Err(FleetError::UnknownNode { node: node.to_string() })
    }
    /// Set and remove labels and flags.
    ///
    /// # Errors
    /// If a label or flag is no good.
    pub async fn change(&self, node: NodeId, _change: &ChangeNode) -> Result<Arc<NodeRecord>, FleetError> {
        Err(FleetError::UnknownNode { node: node.to_string() })
    }
    /// Make a join token. The secret is in the reply and nowhere else.
    ///
    /// # Errors
    /// If its time is out of bounds.
    pub async fn create_join_token(&self, _new: &NewJoinToken) -> Result<JoinToken, FleetError> {
        Err(FleetError::Store(StoreError::Closed))
    }
    /// All join tokens, newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn join_tokens(&self) -> Result<Vec<JoinToken>, FleetError> {
        Ok(Vec::new())
    }
    /// Forget a join token.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete_join_token(&self, id: &str) -> Result<(), FleetError> {
        Err(FleetError::UnknownJoinToken { id: id.to_owned() })
    }
    /// Load the nodes from the store.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn open(_store: Store) -> Result<Self, StoreError> {
        Ok(Fleet { inner: Arc::new(Inner { changes: broadcast::Sender::new(4096) }) })
    }
}
