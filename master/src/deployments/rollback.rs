//! Back to the version before, outside of any deployment.

use super::{
    Live, Rollout,
    create::{everybody, part, runs},
};
use crate::{
    bundles::{Bundles, BundlesError, Change, Draft, Inner},
    fleet::NodeRecord,
};
use serde_json::json;
use std::{collections::BTreeSet, sync::Arc};
use windlass_types::{
    DeploymentId, Digest, PluginName,
    api::bundles::{Deployment, DeploymentState, OnFailure, RollbackPlugin, Strategy},
};

impl Bundles {
    /// Take every node of the target back to the version it was wanted to run before.
    ///
    /// Without a target, a deployment of the plugin that is under way is rolled back instead.
    ///
    /// # Errors
    /// If there is nothing to go back to, or a deployment is under way.
    pub async fn rollback(
        &self,
        plugin: &PluginName,
        how: RollbackPlugin,
        actor: &str,
    ) -> Result<Deployment, BundlesError> {
        let under_way = self.inner.model().live_of(plugin).map(|live| live.rollout.id);
        if let (None, Some(id)) = (&how.target, under_way) {
            return self.control(id, super::Action::Rollback, actor).await;
        }
        let target = how.target.clone().unwrap_or_else(everybody);
        let nodes = self.inner.resolve(&target).await?;
        let (this, actor, plugin) = (self.clone(), actor.to_owned(), plugin.clone());
        crate::uncut::uncut(async move { this.inner.roll_back(&plugin, how, nodes, &actor).await }).await
    }
}

impl Inner {
    async fn roll_back(
        &self,
        plugin: &PluginName,
        how: RollbackPlugin,
        nodes: Vec<Arc<NodeRecord>>,
        actor: &str,
    ) -> Result<Deployment, BundlesError> {
        let _changing = self.changing.lock().await;
        let id = DeploymentId::new();
        let changes = {
            let model = self.model();
            self.known_plugin(&model, plugin)?;
            let mut draft = Draft::new(&model);
            self.make_way(&mut draft, &model, plugin, id, false)?;
            let mut left = BTreeSet::<Digest>::new();
            let mut parts = Vec::new();
            for node in &nodes {
                let Some(wanted) = model.assignment(node.id, plugin).filter(|wanted| !wanted.pinned) else {
                    continue;
                };
                // A bundle that was deleted since can't be gone back to.
                let Some(to) = wanted.previous.filter(|digest| model.bundles.contains_key(digest)) else {
                    continue;
                };
                left.extend(wanted.digest);
                parts.push(super::Part { from: runs(&model, node, plugin), ..part(node, Some(to)) });
            }
            if parts.is_empty() {
                return Err(BundlesError::Nothing(format!(
                    "no node of the target has a version of `{plugin}` before the one it is wanted to run"
                )));
            }
            let strategy = Strategy {
                canary: 0,
                batch: 0,
                soak_ms: 0,
                max_failures: u32::MAX,
                on_failure: OnFailure::Pause,
                ..Strategy::default()
            };
            super::engine::project(&strategy, &mut parts);
            if how.target.is_none() {
                // Else every new node would get what the others have just been taken off.
                for fallback in model.fallbacks.get(plugin).into_iter().flatten() {
                    if left.contains(&fallback.digest) {
                        draft.changes.push(Change::DropFallback(plugin.clone(), fallback.deployment));
                    }
                }
            }
            let reason = how.reason.unwrap_or_default();
            draft.audit(
                actor,
                "plugin.rollback",
                plugin,
                json!({ "deployment": id, "nodes": parts.len(), "reason": reason }),
            );
            let positions = (0..parts.len()).collect();
            let live = Live {
                rollout: Rollout {
                    id,
                    plugin: plugin.clone(),
                    state: DeploymentState::Running,
                    reason,
                    strategy,
                    begun: 0,
                    soak_since_ms: None,
                    forgiven: 0,
                    parts,
                },
                to: None,
                target: how.target.unwrap_or_else(everybody),
                allow_downgrade: true,
                revision: 1,
                created_by: actor.to_owned(),
                created_ms: crate::now_ms(),
                finished_ms: None,
            };
            draft.changes.push(Change::Deployment { live: Arc::new(live), new: true, parts: positions });
            draft.changes
        };
        self.commit(changes).await?;
        self.advance(id).await?;
        self.shown(id).await
    }
}
