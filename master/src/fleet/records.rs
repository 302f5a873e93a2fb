//! The nodes in memory, found by id, key and name.

use super::record::NodeRecord;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use windlass_types::{Fingerprint, NodeId, NodeName, api::NodeState};

#[derive(Debug, Default)]
pub(super) struct Records {
    by_id: HashMap<NodeId, Arc<NodeRecord>>,
    by_key: HashMap<Fingerprint, NodeId>,
    by_name: BTreeMap<NodeName, BTreeSet<NodeId>>,
    pending: usize,
    /// All nodes by name and id; made when asked for, dropped by each change.
    sorted: Option<Arc<Vec<Arc<NodeRecord>>>>,
}

impl Records {
    pub fn get(&self, id: NodeId) -> Option<&Arc<NodeRecord>> {
        self.by_id.get(&id)
    }
    pub fn by_key(&self, key: Fingerprint) -> Option<&Arc<NodeRecord>> {
        self.by_id.get(self.by_key.get(&key)?)
    }
    pub fn by_name(&self, name: &NodeName) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.by_name.get(name).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }
    pub fn accepted_by_name(&self, name: &NodeName) -> Option<&Arc<NodeRecord>> {
        self.by_name(name).find(|node| node.state == NodeState::Accepted)
    }
    pub fn all(&self) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.by_id.values()
    }
    /// Nodes that wait for a decision.
    pub fn pending(&self) -> usize {
        self.pending
    }
    pub fn sorted(&self) -> Option<Arc<Vec<Arc<NodeRecord>>>> {
        self.sorted.clone()
    }
    pub fn sort(&mut self) -> Arc<Vec<Arc<NodeRecord>>> {
        if self.sorted.is_none() {
            let ids = self.by_name.values().flatten();
            self.sorted = Some(Arc::new(ids.filter_map(|id| self.by_id.get(id)).cloned().collect()));
        }
        self.sorted.clone().unwrap_or_default()
    }

    pub fn put(&mut self, record: NodeRecord) -> Arc<NodeRecord> {
        self.remove(record.id);
        // Also for one that was not there before.
        self.sorted = None;
        let record = Arc::new(record);
        self.by_key.insert(record.fingerprint, record.id);
        self.by_name.entry(record.name.clone()).or_default().insert(record.id);
        self.pending += usize::from(record.state == NodeState::Pending);
        self.by_id.insert(record.id, record.clone());
        record
    }

    pub fn remove(&mut self, id: NodeId) -> Option<Arc<NodeRecord>> {
        let record = self.by_id.remove(&id)?;
        self.sorted = None;
        self.by_key.remove(&record.fingerprint);
        if let Some(ids) = self.by_name.get_mut(&record.name) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_name.remove(&record.name);
            }
        }
        self.pending -= usize::from(record.state == NodeState::Pending);
        Some(record)
    }
}
