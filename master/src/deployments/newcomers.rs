//! Nodes that come and go outside of any deployment.
//!
//! A deployment that succeeds leaves a rule behind: who fits its target and is wanted to run nothing
//! else of the plugin gets its bundle. The newest rule that a node fits counts, so a deployment to
//! one rack does not hide the one before it from the other racks.

use crate::{
    bundles::{Assignment, BundlesError, Change, Draft, Fallback, Inner, Model, Wanted},
    fleet::NodeRecord,
    store::StoreError,
    targets,
};
use std::{collections::BTreeSet, sync::Arc};
use windlass_types::{
    DeploymentId, Digest, NodeId, PluginName,
    api::{NodeState, Target},
};

/// Rules kept for each plugin.
const FALLBACKS: usize = 16;

impl Inner {
    /// Give new nodes what they are to have, and forget those that are gone. The caller holds `changing`.
    pub(super) async fn newcomers(
        &self,
        nodes: &BTreeSet<NodeId>,
        gone: &BTreeSet<NodeId>,
        all: bool,
    ) -> Result<(), BundlesError> {
        let records: Vec<Arc<NodeRecord>> = if all {
            self.fleet.nodes().to_vec()
        } else {
            nodes.iter().filter_map(|node| self.fleet.node(*node)).collect()
        };
        let mut wanting = Vec::new();
        let changes = {
            let model = self.model();
            let mut draft = Draft::new(&model);
            let known = |node: NodeId| self.fleet.node(node).is_some_and(|n| n.state == NodeState::Accepted);
            let lost: Vec<NodeId> = if all {
                model.sets.keys().copied().filter(|node| !known(*node)).collect()
            } else {
                let left =
                    records.iter().filter(|node| node.state != NodeState::Accepted).map(|node| node.id);
                left.chain(gone.iter().copied()).filter(|node| model.sets.contains_key(node)).collect()
            };
            draft.changes.extend(lost.into_iter().map(Change::ForgetNode));
            for node in records.iter().filter(|node| node.state == NodeState::Accepted) {
                for (plugin, fallbacks) in &model.fallbacks {
                    if free(&model, node, plugin) {
                        wanting.push((node.clone(), plugin.clone(), fallbacks.clone()));
                    }
                }
            }
            draft.changes
        };
        self.commit(changes).await?;
        for node in records.iter().filter(|node| node.online()) {
            // Perhaps the flag is gone that kept its set from it.
            self.send_set(node.id);
        }
        self.serve(wanting).await?;
        Ok(())
    }

    async fn serve(
        &self,
        wanting: Vec<(Arc<NodeRecord>, PluginName, Vec<Arc<Fallback>>)>,
    ) -> Result<(), StoreError> {
        if wanting.is_empty() {
            return Ok(());
        }
        let by_expression = |target: &Target| target.r#where.is_some();
        let choose = move || {
            let fitting = wanting.into_iter().filter_map(|(node, plugin, fallbacks)| {
                let fallback =
                    fallbacks.iter().rev().find(|fallback| targets::fits(&fallback.target, &node))?;
                Some((node, plugin, fallback.clone()))
            });
            fitting.collect::<Vec<_>>()
        };
        let slow = self.model().fallbacks.values().flatten().any(|fallback| by_expression(&fallback.target));
        let chosen =
            if slow { tokio::task::spawn_blocking(choose).await.unwrap_or_default() } else { choose() };
        let changes = {
            let model = self.model();
            let mut draft = Draft::new(&model);
            for (node, plugin, fallback) in chosen {
                let Fallback { digest, deployment, allow_downgrade, .. } = *fallback;
                self.give_newcomer(&mut draft, &node, &plugin, digest, deployment, allow_downgrade);
            }
            draft.changes
        };
        self.commit(changes).await
    }

    /// Give a node what it is to have, if nobody else decides about it.
    pub(super) fn give_newcomer(
        &self,
        draft: &mut Draft<'_>,
        node: &NodeRecord,
        plugin: &PluginName,
        digest: Digest,
        deployment: DeploymentId,
        allow_downgrade: bool,
    ) {
        let model = draft.model;
        let pinned = model.assignment(node.id, plugin).is_some_and(|assignment| assignment.pinned);
        let local = node.inventory.plugin(plugin).is_some_and(|plugin| plugin.local);
        let approved = model.bundles.get(&digest).is_some_and(|stored| model.is_approved(stored));
        if pinned || local || !approved || node.state != NodeState::Accepted {
            return;
        }
        let wanted =
            Wanted { digest: Some(digest), deployment, allow_downgrade, pinned: false, remember: true };
        draft.assign(node.id, plugin, wanted);
    }

    /// Leave a rule behind.
    pub(super) fn put_fallback(&self, draft: &mut Draft<'_>, plugin: &PluginName, fallback: Fallback) {
        let known = draft.model.fallbacks.get(plugin).map(Vec::as_slice).unwrap_or_default();
        let excess = (known.len() + 1).saturating_sub(FALLBACKS);
        for (at, old) in known.iter().enumerate() {
            // Nobody can fall through to what a rule for the same nodes has taken the place of.
            if at < excess || old.target == fallback.target {
                draft.changes.push(Change::DropFallback(plugin.clone(), old.deployment));
            }
        }
        draft.changes.push(Change::Fallback(plugin.clone(), Arc::new(fallback)));
    }
}

/// Whether nobody has decided about this plugin of this node.
fn free(model: &Model, node: &NodeRecord, plugin: &PluginName) -> bool {
    let none: Option<&Assignment> = model.assignment(node.id, plugin);
    let local = node.inventory.plugin(plugin).is_some_and(|plugin| plugin.local);
    let deploying = || {
        model.live_of(plugin).is_some_and(|live| live.rollout.parts.iter().any(|part| part.node == node.id))
    };
    none.is_none() && !local && !deploying()
}
