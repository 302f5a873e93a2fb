//! The nodes, in memory and in the store.
//!
//! Every change that matters is committed first and published after: state, names, labels, flags,
//! generations. What a host says about itself (facts, plugins, address) and when it was last heard
//! of is published at once and written behind, in batches: after a crash the host says it again.
//!
//! Two changes of one node never run at the same time: each takes one of a fixed set of locks,
//! picked by the node's key, so that thousands of different nodes do not wait for each other.
//!
//! * [`NodeRecord`] is what readers see, never half changed; [`Presence`] is the part that moves.
//! * `told`: what the event log hears of them.
//! * `decide`: what operators do. `admit`: what strangers ask for. `attach`: live sessions.

mod admit;
mod attach;
mod decide;
mod join;
mod live;
mod record;
mod records;
mod told;

pub(crate) use admit::{Admission, Ask, EnrollRefused};
pub(crate) use attach::{Announced, RenewRefused, Session, SessionRefused};
#[cfg(test)]
pub(crate) use live::OUTGOING;
pub use live::Presence;
pub use record::{Install, Inventory, InventoryOperation, InventoryPlugin, NodeRecord, Progress};

use crate::store::{self, Store, StoreError};
use records::Records;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::broadcast;
use windlass_proto::v1::master_message::Kind;
use windlass_types::{Digest, Fingerprint, NodeId, NodeName, api::NodeState};

/// Set by the system when an old certificate of the node was seen again; keeps it out until an
/// operator removes the flag.
pub const FLAG_CLONED: &str = "cloned_key";
/// Set by the system when another host with the same certificate wanted in.
pub const FLAG_DUPLICATE: &str = "duplicate_identity";

/// Why the fleet did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// No node has this id or name.
    #[error("there is no node `{node}`")]
    UnknownNode { node: String },
    /// Several nodes that are not accepted have that name.
    #[error(
        "`{name}` is the name of several nodes: use an id ({})",
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    AmbiguousName { name: String, ids: Vec<NodeId> },
    /// The node is not in a state for that.
    #[error("node `{name}` is {}, not {expected}", state_word(*state))]
    WrongState { name: NodeName, state: NodeState, expected: &'static str },
    /// The operator compared another key.
    #[error("the fingerprint of node `{name}` is {actual}, not {given}")]
    WrongFingerprint { name: NodeName, actual: Fingerprint, given: Fingerprint },
    /// An accepted node has the name.
    #[error("the name `{name}` is taken by node {by}")]
    NameTaken { name: NodeName, by: NodeId },
    /// A label, flag or time that is no good; says why.
    #[error("{0}")]
    BadChange(String),
    /// No join token has this id.
    #[error("there is no join token `{id}`")]
    UnknownJoinToken { id: String },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The word for a state, in the store and for people.
pub(crate) fn state_word(state: NodeState) -> &'static str {
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

/// Changes that a slow subscriber may be behind.
const CHANGES: usize = 4096;
/// How many changes of different nodes may be under way at once.
const LOCKS: usize = 256;
/// Rows written behind in one go: short enough that results of jobs hardly wait.
const BATCH: usize = 64;

/// The nodes. Clones share them.
#[derive(Debug, Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    records: RwLock<Records>,
    locks: Vec<tokio::sync::Mutex<()>>,
    changes: broadcast::Sender<FleetChange>,
    /// Grows with each change of states or inventories, on which the catalog rests.
    offers: AtomicU64,
    inventories: Mutex<HashMap<Digest, Weak<Inventory>>>,
    behind: Mutex<Behind>,
}

/// What is not written yet.
#[derive(Debug, Default)]
struct Behind {
    observed: HashSet<NodeId>,
    seen: HashSet<NodeId>,
    connections: told::Connections,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is whole between statements, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Load the nodes from the store.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn open(store: Store) -> Result<Self, StoreError> {
        let mut records = Records::default();
        let mut inventories = HashMap::new();
        for node in store::nodes::load(&store).await? {
            let inventory = store::nodes::to_json("inventory", &*node.inventory)?;
            inventories.insert(Digest::of(inventory.as_bytes()), Arc::downgrade(&node.inventory));
            records.put(node);
        }
        let inner = Inner {
            store,
            records: RwLock::new(records),
            locks: std::iter::repeat_with(Default::default).take(LOCKS).collect(),
            changes: broadcast::Sender::new(CHANGES),
            offers: AtomicU64::new(1),
            inventories: Mutex::new(inventories),
            behind: Mutex::default(),
        };
        Ok(Fleet { inner: Arc::new(inner) })
    }

    /// All nodes, sorted by name then id. Cheap while nothing changes.
    pub fn nodes(&self) -> Arc<Vec<Arc<NodeRecord>>> {
        let sorted = self.read().sorted();
        sorted.unwrap_or_else(|| self.change_records(Records::sort))
    }

    /// The node of this id.
    pub fn node(&self, id: NodeId) -> Option<Arc<NodeRecord>> {
        self.read().get(id).cloned()
    }

    /// The accepted node of this name.
    pub fn accepted(&self, name: &NodeName) -> Option<Arc<NodeRecord>> {
        self.read().accepted_by_name(name).cloned()
    }

    /// The node of this id or name. An accepted node goes before others of its name.
    ///
    /// # Errors
    /// If there is none, or several that are not accepted.
    pub fn find(&self, node: &str) -> Result<Arc<NodeRecord>, FleetError> {
        let unknown = || FleetError::UnknownNode { node: node.chars().take(80).collect() };
        if let Ok(id) = node.parse::<NodeId>() {
            return self.node(id).ok_or_else(unknown);
        }
        let name: NodeName = node.parse().map_err(|_| unknown())?;
        let records = self.read();
        if let Some(node) = records.accepted_by_name(&name) {
            return Ok(node.clone());
        }
        let mut nodes = records.by_name(&name);
        let first = nodes.next().ok_or_else(unknown)?;
        let mut ids: Vec<NodeId> = nodes.map(|node| node.id).collect();
        if ids.is_empty() {
            return Ok(first.clone());
        }
        ids.insert(0, first.id);
        ids.truncate(10);
        Err(FleetError::AmbiguousName { name: node.to_owned(), ids })
    }

    /// Send a message to a node. Never waits.
    ///
    /// # Errors
    /// If the node has no session, or does not read: its queue is full, and the session is ended.
    pub fn send(&self, node: NodeId, message: Kind) -> Result<(), Offline> {
        let live = self.node(node).and_then(|node| node.presence.live()).ok_or(Offline)?;
        live.outgoing.try_send(Box::new(message)).map_err(|_| {
            live.end(tonic::Status::resource_exhausted(
                "this host does not take the messages that are meant for it: connect again",
            ));
            Offline
        })
    }

    /// Changes from now on. Who falls behind by more than 4,096 gets `Lagged` and has to look at
    /// all nodes.
    pub fn subscribe(&self) -> broadcast::Receiver<FleetChange> {
        self.inner.changes.subscribe()
    }

    /// Another number when states of nodes or their plugins have changed.
    pub(crate) fn offers(&self) -> u64 {
        self.inner.offers.load(Ordering::Acquire)
    }

    /// Write what is behind, until `shutdown`, then once more.
    pub(crate) async fn write_behind(self, shutdown: tokio_util::sync::CancellationToken) {
        const SECONDS_BETWEEN_SEEN: u32 = 300;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0;
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            ticks += 1;
            if ticks % SECONDS_BETWEEN_SEEN == 0 {
                let online: Vec<NodeId> =
                    self.read().all().filter(|node| node.online()).map(|node| node.id).collect();
                lock(&self.inner.behind).seen.extend(online);
                self.sweep().await;
            }
            self.flush().await;
        }
        self.flush().await;
    }

    /// Write what is behind.
    pub(crate) async fn flush(&self) {
        let Behind { observed, mut seen, connections } = std::mem::take(&mut *lock(&self.inner.behind));
        self.write_connections(connections).await;
        seen.retain(|id| !observed.contains(id));
        let observed: Vec<NodeId> = observed.into_iter().collect();
        let seen: Vec<NodeId> = seen.into_iter().collect();
        for (ids, whole) in [(observed, true), (seen, false)] {
            for batch in ids.chunks(BATCH) {
                let nodes: Vec<Arc<NodeRecord>> = batch.iter().filter_map(|id| self.node(*id)).collect();
                let written: Result<(), StoreError> = self
                    .inner
                    .store
                    .write(move |c| {
                        Box::pin(async move {
                            for node in &nodes {
                                match whole {
                                    true => store::nodes::observed(c, node).await?,
                                    false => store::nodes::last_seen(c, node).await?,
                                }
                            }
                            Ok(())
                        })
                    })
                    .await;
                if let Err(error) = written {
                    tracing::error!(%error, "cannot write what nodes say about themselves");
                }
            }
        }
    }

    async fn sweep(&self) {
        const KEPT_MS: i64 = 7 * 86_400_000;
        let swept: Result<(), StoreError> = self
            .inner
            .store
            .write(|c| {
                Box::pin(async move {
                    store::nodes::sweep_inventories(c).await?;
                    store::nodes::sweep_join_tokens(c, crate::now_ms() - KEPT_MS).await
                })
            })
            .await;
        if let Err(error) = swept {
            tracing::error!(%error, "cannot tidy up the database");
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Records> {
        self.inner.records.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_records<T>(&self, change: impl FnOnce(&mut Records) -> T) -> T {
        change(&mut self.inner.records.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Change one record in memory. None when the node is gone.
    fn update(&self, id: NodeId, change: impl FnOnce(&mut NodeRecord)) -> Option<Arc<NodeRecord>> {
        self.change_records(|records| {
            let mut record = NodeRecord::clone(records.get(id)?);
            change(&mut record);
            Some(records.put(record))
        })
    }

    /// Changes of this node wait for each other.
    async fn lock_key(&self, key: Fingerprint) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.locks[usize::from(key.as_bytes()[0]) % LOCKS].lock().await
    }

    /// The node with its lock: it does not change until the guard is dropped.
    async fn lock_node(
        &self,
        id: NodeId,
    ) -> Result<(Arc<NodeRecord>, tokio::sync::MutexGuard<'_, ()>), FleetError> {
        let unknown = || FleetError::UnknownNode { node: id.to_string() };
        loop {
            let key = self.node(id).ok_or_else(unknown)?.fingerprint;
            let guard = self.lock_key(key).await;
            let node = self.node(id).ok_or_else(unknown)?;
            // Its key may have been changed by a renewal while we waited.
            if node.fingerprint == key {
                return Ok((node, guard));
            }
        }
    }

    fn publish(&self, node: NodeId, kind: ChangeKind) {
        // An error means that nobody listens.
        let _ = self.inner.changes.send(FleetChange { node, kind });
    }

    fn offers_changed(&self) {
        self.inner.offers.fetch_add(1, Ordering::Release);
    }

    /// The one shared value that equals this inventory.
    fn share(&self, inventory: Inventory) -> Result<Arc<Inventory>, StoreError> {
        let digest = Digest::of(store::nodes::to_json("inventory", &inventory)?.as_bytes());
        let mut shared = lock(&self.inner.inventories);
        if let Some(same) = shared.get(&digest).and_then(Weak::upgrade) {
            return Ok(same);
        }
        let inventory = Arc::new(inventory);
        if shared.len() >= 64 {
            shared.retain(|_, inventory| inventory.strong_count() > 0);
        }
        shared.insert(digest, Arc::downgrade(&inventory));
        Ok(inventory)
    }
}
