//! What nodes say has happened to their plugins.
//!
//! A host sends its newest changes with every inventory, so each comes many times and is stored once.
//! What is stored is bounded: a host that makes changes up fills its own share and no more.

use super::{Bundles, lock};
use crate::store::{self, StoreError, bundles::EventRow};
use tokio::time::Instant;
use windlass_types::{
    Digest, NodeId, NodeName, PluginName,
    api::bundles::{PluginEvent, PluginEventKind},
};

/// Events of one node that are stored at once, and then one each [`REFILL_MS`].
const BURST: u32 = 256;
const REFILL_MS: u128 = 10_000;

/// A change of a plugin as a node tells of it, parsed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeChange {
    /// Counts up on the node.
    pub number: u64,
    pub time_ms: i64,
    pub plugin: PluginName,
    pub kind: PluginEventKind,
    pub version: String,
    pub digest: Option<Digest>,
    pub from_version: Option<String>,
    pub message: String,
}

/// What is stored of a node.
#[derive(Debug)]
pub(super) struct Newest {
    number: u64,
    time_ms: i64,
    left: u32,
    filled: Instant,
}

impl Newest {
    pub fn at((number, time_ms): (u64, i64)) -> Self {
        Newest { number, time_ms, left: BURST, filled: Instant::now() }
    }

    /// Whether this one is not stored yet. A host that has lost its disk counts from 1 again, but
    /// its time goes on.
    fn is_new(&self, change: &NodeChange) -> bool {
        change.number > self.number || change.time_ms > self.time_ms
    }

    fn take(&mut self, wanted: usize) -> usize {
        let refill = u32::try_from(self.filled.elapsed().as_millis() / REFILL_MS).unwrap_or(BURST);
        if refill > 0 {
            self.left = self.left.saturating_add(refill).min(BURST);
            self.filled = Instant::now();
        }
        let taken = u32::try_from(wanted).unwrap_or(u32::MAX).min(self.left);
        self.left -= taken;
        taken as usize
    }
}

impl Bundles {
    /// Store what is new of the changes of a node.
    pub(crate) async fn changes(&self, node: NodeId, name: &NodeName, changes: Vec<NodeChange>) {
        let mut fresh: Vec<NodeChange> = {
            let mut events = lock(&self.inner.events);
            let newest = events.entry(node).or_insert_with(|| Newest::at((0, i64::MIN)));
            let mut fresh: Vec<_> = changes.into_iter().filter(|change| newest.is_new(change)).collect();
            // The newest are worth the most.
            fresh.sort_by_key(|change| change.number);
            let room = newest.take(fresh.len());
            if room < fresh.len() {
                tracing::warn!(%node, dropped = fresh.len() - room, "a node tells of too many changes");
                fresh.drain(..fresh.len() - room);
            }
            fresh
        };
        let Some(last) = fresh.last().map(|change| (change.number, change.time_ms)) else { return };
        let rows: Vec<EventRow> = fresh
            .drain(..)
            .map(|change| EventRow {
                number: change.number,
                event: PluginEvent {
                    seq: 0,
                    time_ms: change.time_ms,
                    node,
                    name: name.clone(),
                    plugin: change.plugin,
                    kind: change.kind,
                    version: change.version,
                    digest: change.digest,
                    from_version: change.from_version,
                    message: change.message,
                },
            })
            .collect();
        let stored: Result<u64, StoreError> = self
            .inner
            .store
            .write(move |c| Box::pin(async move { store::bundles::insert_events(c, &rows).await }))
            .await;
        match stored {
            Ok(_) => {
                let mut events = lock(&self.inner.events);
                let newest = events.entry(node).or_insert_with(|| Newest::at(last));
                (newest.number, newest.time_ms) = last;
            }
            // The host sends them again.
            Err(error) => tracing::error!(%node, %error, "cannot store what happened to plugins"),
        }
    }
}
