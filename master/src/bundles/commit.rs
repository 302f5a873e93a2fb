//! From decisions to the database, the memory and the nodes, in this order.

use super::{Assignment, Change, Inner, Model};
use crate::store::{self, StoreError, audit::NewEntry};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError},
};
use windlass_types::{DeploymentId, Digest, NodeId, PluginName};

/// Changes that belong together.
#[derive(Debug)]
pub(crate) struct Draft<'m> {
    pub model: &'m Model,
    pub changes: Vec<Change>,
    revisions: HashMap<NodeId, u64>,
    now_ms: i64,
}

/// What a node shall run of a plugin from now on.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub digest: Option<Digest>,
    pub deployment: DeploymentId,
    pub allow_downgrade: bool,
    pub pinned: bool,
    /// What is wanted now becomes what a rollback goes to.
    pub remember: bool,
}

impl<'m> Draft<'m> {
    pub fn new(model: &'m Model) -> Self {
        Draft { model, changes: Vec::new(), revisions: HashMap::new(), now_ms: crate::now_ms() }
    }

    pub fn audit(&mut self, actor: &str, action: &'static str, subject: impl ToString, detail: Value) {
        self.changes.push(Change::Audit(NewEntry::allowed(actor, action, subject, detail)));
    }

    /// The set of this node is another one.
    pub fn bump(&mut self, node: NodeId) -> u64 {
        if let Some(revision) = self.revisions.get(&node) {
            return *revision;
        }
        let old = self.model.sets.get(&node).map_or(0, |set| set.revision);
        let revision = old.saturating_add(1).max(self.now_ms.unsigned_abs());
        self.revisions.insert(node, revision);
        self.changes.push(Change::Set(node, revision));
        revision
    }

    /// Want something of a node.
    pub fn assign(&mut self, node: NodeId, plugin: &PluginName, wanted: Wanted) {
        let revision = self.bump(node);
        let old = self.model.assignment(node, plugin);
        let same = old.is_some_and(|old| old.digest == wanted.digest);
        let previous = match old {
            Some(old) if same => old.previous,
            Some(old) if wanted.remember => old.digest,
            _ => None,
        };
        let assignment = Assignment {
            digest: wanted.digest,
            deployment: wanted.deployment,
            allow_downgrade: wanted.allow_downgrade,
            pinned: wanted.pinned,
            previous,
            revision,
        };
        self.changes.push(Change::Assign(node, plugin.clone(), Some(assignment)));
    }

    /// Want nothing any more, so that the plugin goes.
    pub fn unassign(&mut self, node: NodeId, plugin: &PluginName) {
        self.bump(node);
        self.changes.push(Change::Assign(node, plugin.clone(), None));
    }
}

impl Inner {
    /// Write changes, apply them, and tell the nodes. The caller holds `changing`.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let changes = Arc::new(changes);
        let rows = changes.clone();
        self.store
            .write::<(), StoreError, _>(move |c| {
                Box::pin(async move { store::bundles::write(c, &rows).await })
            })
            .await?;
        let mut nodes = BTreeSet::new();
        let mut deployments = false;
        {
            let mut model = self.model.write().unwrap_or_else(PoisonError::into_inner);
            for change in changes.iter() {
                match change {
                    Change::Set(node, _) => drop(nodes.insert(*node)),
                    Change::Deployment { .. } => deployments = true,
                    _ => {}
                }
                model.apply(change.clone());
            }
        }
        for node in nodes {
            self.send_set(node);
        }
        if deployments {
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
            self.wake.notify_one();
        }
        Ok(())
    }
}
