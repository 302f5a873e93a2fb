//! From a request to a deployment: checked, resolved, approved or not, stored.

use super::{
    Live, Part, Rollout,
    engine::{self, not_ours},
};
use crate::{
    bundles::{Bundles, BundlesError, Change, Draft, Inner, Model},
    fleet::NodeRecord,
    targets::{self, TargetError},
};
use serde_json::json;
use std::sync::Arc;
use windlass_types::{
    DeploymentId, PluginName,
    api::{
        Target,
        bundles::{Deployment, DeploymentNodeState, DeploymentState, NewDeployment, PluginVersion, Strategy},
    },
};

/// The longest soak, and the longest time a node may take: a week.
const MAX_TIME_MS: u64 = 7 * 86_400_000;

impl Bundles {
    /// Roll a bundle out.
    ///
    /// # Errors
    /// If bundle or target are no good, or another deployment of the plugin is under way.
    pub async fn deploy(&self, new: NewDeployment, actor: &str) -> Result<Deployment, BundlesError> {
        check(&new.strategy)?;
        let target = new.target.clone().unwrap_or_else(everybody);
        let nodes = self.inner.resolve(&target).await?;
        let (this, actor) = (self.clone(), actor.to_owned());
        crate::uncut::uncut(async move { this.inner.create(new, target, nodes, &actor).await }).await
    }
}

/// All accepted nodes.
pub(super) fn everybody() -> Target {
    Target { on: vec!["*".into()], ..Target::default() }
}

pub(super) fn check(strategy: &Strategy) -> Result<(), BundlesError> {
    let bad = |text: &str| Err(BundlesError::Bad(text.to_owned()));
    if strategy.soak_ms > MAX_TIME_MS {
        return bad("`strategy.soak_ms` is more than a week");
    }
    if strategy.node_timeout_ms == 0 || strategy.node_timeout_ms > MAX_TIME_MS {
        return bad("`strategy.node_timeout_ms` is not within 1 ms to a week");
    }
    Ok(())
}

impl Inner {
    /// The nodes that a target means now.
    pub async fn resolve(&self, target: &Target) -> Result<Vec<Arc<NodeRecord>>, TargetError> {
        let nodes = self.fleet.nodes();
        if target.r#where.is_none() {
            return targets::resolve(target, &nodes);
        }
        // An expression may take a while: not on a thread that serves everybody.
        let target = target.clone();
        let late = TargetError::Where { place: None, message: "takes too long".into() };
        tokio::task::spawn_blocking(move || targets::resolve(&target, &nodes)).await.unwrap_or(Err(late))
    }

    async fn create(
        &self,
        new: NewDeployment,
        target: Target,
        nodes: Vec<Arc<NodeRecord>>,
        actor: &str,
    ) -> Result<Deployment, BundlesError> {
        let _changing = self.changing.lock().await;
        let id = DeploymentId::new();
        let changes = {
            let model = self.model();
            let stored = self.of_plugin(&model, &new.plugin, &new.bundle)?;
            let mut draft = Draft::new(&model);
            self.make_way(&mut draft, &model, &new.plugin, id, new.replace)?;
            let mut approved = model.is_approved(&stored);
            if new.approve && !approved {
                let approval = self.approval_of(&model, &stored, None);
                self.put_approval(&mut draft, &model, &new.plugin, approval, actor)?;
                approved = true;
            }
            let (state, reason) = if approved {
                (DeploymentState::Running, String::new())
            } else {
                let reason = format!("{}@{} asks for more than was approved", new.plugin, stored.version);
                (DeploymentState::WaitingApproval, reason)
            };
            let mut parts: Vec<Part> = nodes
                .iter()
                .map(|node| Part { from: runs(&model, node, &new.plugin), ..part(node, Some(stored.digest)) })
                .collect();
            for part in &mut parts {
                let view = self.view(&model, &new.plugin, id, part.node);
                if let Some(why) = not_ours(&view) {
                    part.state = DeploymentNodeState::Skipped;
                    part.problem = Some(why.into());
                }
            }
            engine::project(&new.strategy, &mut parts);
            let live = Live {
                rollout: Rollout {
                    id,
                    plugin: new.plugin.clone(),
                    state,
                    reason,
                    strategy: new.strategy,
                    begun: 0,
                    soak_since_ms: None,
                    forgiven: 0,
                    parts,
                },
                to: Some(stored.name()),
                target,
                allow_downgrade: new.allow_downgrade,
                revision: 1,
                created_by: actor.to_owned(),
                created_ms: crate::now_ms(),
                finished_ms: None,
            };
            let detail = json!({
                "plugin": new.plugin, "version": stored.version.to_string(), "digest": stored.digest,
                "nodes": live.rollout.parts.len(), "replace": new.replace, "allow_downgrade": new.allow_downgrade,
            });
            draft.audit(actor, "deployment.create", id, detail);
            let parts = (0..live.rollout.parts.len()).collect();
            draft.changes.push(Change::Deployment { live: Arc::new(live), new: true, parts });
            draft.changes
        };
        self.commit(changes).await?;
        self.advance(id).await?;
        self.shown(id).await
    }

    /// Let no other deployment of the plugin be under way.
    pub(super) fn make_way(
        &self,
        draft: &mut Draft<'_>,
        model: &Model,
        plugin: &PluginName,
        by: DeploymentId,
        replace: bool,
    ) -> Result<(), BundlesError> {
        let Some(other) = model.live_of(plugin) else { return Ok(()) };
        if !replace {
            return Err(BundlesError::Running { id: other.rollout.id, plugin: plugin.clone() });
        }
        let mut over = Live::clone(other);
        over.rollout.state = DeploymentState::Superseded;
        over.rollout.reason = format!("deployment {by} took its place");
        over.revision += 1;
        over.finished_ms = Some(crate::now_ms());
        draft.changes.push(Change::Deployment { live: Arc::new(over), new: false, parts: Vec::new() });
        Ok(())
    }
}

/// A node whose turn has not come.
pub(super) fn part(node: &NodeRecord, to: Option<windlass_types::Digest>) -> Part {
    Part {
        node: node.id,
        name: node.name.clone(),
        step: 0,
        state: DeploymentNodeState::Waiting,
        to,
        from: None,
        problem: None,
        given: false,
        sent_ms: 0,
        changed_ms: crate::now_ms(),
    }
}

/// What a node runs of a plugin: what it says, and what it is wanted to where it has said nothing.
pub(super) fn runs(model: &Model, node: &NodeRecord, plugin: &PluginName) -> Option<PluginVersion> {
    let said = node.inventory.plugin(plugin).filter(|plugin| !plugin.local);
    let wanted = || model.assignment(node.id, plugin).and_then(|assignment| assignment.digest);
    said.and_then(|plugin| model.version(plugin.digest)).or_else(|| model.version(wanted()?))
}
