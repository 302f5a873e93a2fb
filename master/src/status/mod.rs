//! What the watches of all nodes found last.
//!
//! The results are in the store, one row for each watch of each node, and written when they change. What
//! names them, and when they were last confirmed, is in memory: a node confirms all of its results once a
//! minute, which writes nothing. So a grid where nothing happens costs the store nothing, and after a restart
//! of the master every node confirms anew as its session begins.
//!
//! A report is acknowledged after the commit. The node keeps what was not, and a report that comes twice does
//! no harm: it says the same.
//!
//! * [`report`]: what comes from a host, parsed and bounded.
//! * [`known`]: what is known of one node, and what a report changes of it.

mod known;
mod report;
#[cfg(test)]
mod tests;

pub(crate) use known::means;
pub(crate) use report::{Report, parse};

use crate::{
    fleet::{ChangeKind, Fleet, NodeRecord},
    store::{self, Store, StoreError},
};
use known::{Change, Known, Lists};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use windlass_proto::v1;
use windlass_types::{
    NodeId,
    api::status::{NodeStatus, WatchStatus},
};

/// Nodes whose reports are taken in at once, at most.
const LOCKS: usize = 256;
/// What is left of nodes that are gone is looked for so often.
const SWEEP: Duration = Duration::from_secs(600);

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Statuses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    fleet: Fleet,
    memory: Mutex<Memory>,
    /// Two reports of one node are never taken in at the same time.
    locks: Vec<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Memory {
    lists: Lists,
    nodes: HashMap<NodeId, Known>,
}

impl Statuses {
    /// Load what names the results.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn open(store: Store, fleet: Fleet) -> Result<Self, StoreError> {
        let mut memory = Memory::default();
        for (node, rows) in store::status::load(&store).await? {
            let known = Known::stored(rows, &mut memory.lists);
            memory.nodes.insert(node, known);
        }
        let locks = std::iter::repeat_with(Default::default).take(LOCKS).collect();
        Ok(Statuses(Arc::new(Inner { store, fleet, memory: Mutex::new(memory), locks })))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Every critical section leaves it whole.
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take a report in. Gives back the watches whose results are missing here.
    ///
    /// # Errors
    /// If it can't be stored; then nothing has changed.
    pub(crate) async fn report(
        &self,
        node: &NodeRecord,
        report: Report,
    ) -> Result<Vec<v1::WatchName>, StoreError> {
        let sum = |sum: usize, byte: u8| sum.wrapping_mul(31).wrapping_add(usize::from(byte));
        let lock = node.id.to_string().bytes().fold(0, sum) % LOCKS;
        let _guard = self.0.locks[lock].lock().await;
        let now_ms = crate::now_ms();
        let Change { known, unknown, rows, altered, gone, events } = {
            let mut memory = self.memory();
            let before = memory.nodes.get(&node.id).cloned().unwrap_or_default();
            before.take(report, (node.id, &node.name), &mut memory.lists, now_ms)
        };
        if !(rows.is_empty() && altered.is_empty() && gone.is_empty() && events.is_empty()) {
            let id = node.id;
            let writing = self.0.store.write::<(), StoreError, _>(move |c| {
                Box::pin(async move {
                    for (plugin, watch) in &gone {
                        store::status::delete(c, id, plugin, watch).await?;
                    }
                    for spec in &altered {
                        let key = (&spec.plugin, spec.watch.as_str());
                        store::status::alter(c, id, key, &spec.operation, spec.every_ms).await?;
                    }
                    store::status::put(c, id, &rows).await?;
                    store::events::append(c, &events).await
                })
            });
            writing.await?;
        }
        self.memory().nodes.insert(node.id, known);
        Ok(unknown)
    }

    /// All watches of a node with their results.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn of(&self, node: &NodeRecord) -> Result<NodeStatus, StoreError> {
        let mut outcomes = store::status::outcomes(&self.0.store, node.id).await?;
        let mut watches = self.brief(node);
        for watch in &mut watches {
            let key = (watch.plugin.to_string(), watch.watch.clone());
            watch.outcome = outcomes.remove(&key).map(|(_, outcome)| outcome);
        }
        Ok(NodeStatus { node: node.id, node_name: node.name.clone(), online: node.online(), watches })
    }

    /// All watches of a node, without their results.
    pub fn brief(&self, node: &NodeRecord) -> Vec<WatchStatus> {
        let now_ms = crate::now_ms();
        let memory = self.memory();
        memory.nodes.get(&node.id).map(|known| known.show(node, now_ms)).unwrap_or_default()
    }

    /// Forget nodes that are gone, until `shutdown`. Their rows go with the rows of the nodes.
    pub async fn tend(self, shutdown: CancellationToken) {
        let mut changes = self.0.fleet.subscribe();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                change = changes.recv() => match change {
                    Ok(change) if change.kind == ChangeKind::Deleted => {
                        self.memory().nodes.remove(&change.node);
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => sweep.reset_immediately(),
                    Err(RecvError::Closed) => return,
                },
                _ = sweep.tick() => {
                    let fleet = &self.0.fleet;
                    let mut memory = self.memory();
                    memory.nodes.retain(|id, _| fleet.node(*id).is_some());
                    memory.lists.sweep();
                }
            }
        }
    }
}
