//! What operators let a plugin do.
//!
//! An approval is for a plugin, not for a version: it lists what any version may ask for. Approving a
//! bundle approves what it asks for; what was approved before stays only as far as a bundle in use
//! asks for it, so that approvals shrink with the plugin instead of piling up.

use super::{Approved, Bundles, BundlesError, Change, Draft, Inner, Model, Stored};
use crate::{deployments::Live, store::StoreError};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use windlass_bundle::{Approval, Capability};
use windlass_types::{
    Digest, PluginName,
    api::bundles::{ApprovePlugin, DeploymentState, PluginApproval},
};

impl Bundles {
    /// Approve what a bundle asks for, all of it or less. Deployments that waited for that go on.
    ///
    /// # Errors
    /// If there is no such bundle, or no such operation in it.
    pub async fn approve(
        &self,
        plugin: &PluginName,
        how: ApprovePlugin,
        actor: &str,
    ) -> Result<PluginApproval, BundlesError> {
        let (this, actor, plugin) = (self.clone(), actor.to_owned(), plugin.clone());
        crate::uncut::uncut(async move {
            let inner = &this.inner;
            let _changing = inner.changing.lock().await;
            let changes = {
                let model = inner.model();
                let stored = inner.of_plugin(&model, &plugin, &how.bundle)?;
                let known = |name: &String| stored.operations.iter().any(|operation| operation.name == *name);
                if let Some(unknown) = how.deny_operations.iter().find(|name| !known(name)) {
                    let bundle = format!("{plugin}@{}", stored.version);
                    return Err(BundlesError::UnknownOperation { bundle, operation: unknown.clone() });
                }
                let mut draft = Draft::new(&model);
                let approval = inner.approval_of(&model, &stored, Some(&how));
                inner.put_approval(&mut draft, &model, &plugin, approval, &actor)?;
                inner.go_on(&mut draft, &plugin);
                draft.changes
            };
            inner.commit(changes).await?;
            let approved = inner.model().approvals.get(&plugin).cloned();
            approved
                .map(|approved| approved.to_api(&plugin))
                .ok_or_else(|| StoreError::corrupt("approval", "it is not there").into())
        })
        .await
    }
}

impl Approved {
    pub fn to_api(&self, plugin: &PluginName) -> PluginApproval {
        PluginApproval {
            plugin: plugin.clone(),
            capabilities: self.approval.capabilities.iter().map(Capability::info).collect(),
            max_effect: self.approval.max_effect,
            deny_operations: self.approval.deny_operations.clone(),
            approved_ms: self.approved_ms,
            approved_by: self.approved_by.clone(),
        }
    }
}

impl Inner {
    /// The approval of a plugin once this bundle is approved. Without `how`, what was denied before
    /// stays denied.
    pub fn approval_of(&self, model: &Model, stored: &Stored, how: Option<&ApprovePlugin>) -> Approval {
        let old = model.approvals.get(&stored.plugin).map(|approved| &approved.approval);
        let needed: BTreeSet<&str> = used(model, &stored.plugin)
            .iter()
            .filter_map(|digest| model.bundles.get(digest))
            .flat_map(|stored| &stored.capabilities)
            .map(|capability| capability.key.as_str())
            .collect();
        let kept = old.into_iter().flat_map(|old| &old.capabilities);
        let kept = kept.filter(|capability| needed.contains(capability.key.as_str()));
        let mut levels: BTreeMap<&str, u64> = BTreeMap::new();
        for capability in kept.chain(&stored.capabilities) {
            let level = levels.entry(&capability.key).or_default();
            *level = capability.level.max(*level);
        }
        let capabilities =
            levels.into_iter().map(|(key, level)| Capability { key: key.to_owned(), level }).collect();
        let mut approval = Approval::all_of(capabilities);
        match (how, old) {
            (Some(how), _) => {
                approval.max_effect = how.max_effect.unwrap_or(approval.max_effect);
                approval.deny_operations = how.deny_operations.clone();
            }
            (None, Some(old)) => {
                approval.max_effect = old.max_effect;
                approval.deny_operations = old.deny_operations.clone();
            }
            (None, None) => {}
        }
        approval
    }

    /// Put an approval in place, also on every node that runs the plugin.
    pub fn put_approval(
        &self,
        draft: &mut Draft<'_>,
        model: &Model,
        plugin: &PluginName,
        approval: Approval,
        actor: &str,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_vec(&approval).map_err(|error| StoreError::corrupt("approval", error))?;
        let detail = json!({
            "capabilities": approval.capabilities.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "max_effect": approval.max_effect, "deny_operations": approval.deny_operations,
        });
        draft.audit(actor, "plugin.approve", plugin, detail);
        let approved = Approved {
            approval,
            json: json.into(),
            approved_by: actor.to_owned(),
            approved_ms: crate::now_ms(),
        };
        draft.changes.push(Change::Approval(plugin.clone(), Arc::new(approved)));
        let having = model.sets.iter().filter(|(_, set)| set.plugins.contains_key(plugin));
        for node in having.map(|(node, _)| *node) {
            draft.bump(node);
        }
        Ok(())
    }

    /// Let a deployment that waits for the approval in the draft go on.
    fn go_on(&self, draft: &mut Draft<'_>, plugin: &PluginName) {
        let model = draft.model;
        let approval = draft.changes.iter().rev().find_map(|change| match change {
            Change::Approval(of, approved) if of == plugin => Some(approved.clone()),
            _ => None,
        });
        let Some(live) =
            model.live_of(plugin).filter(|live| live.rollout.state == DeploymentState::WaitingApproval)
        else {
            return;
        };
        let stored = live.to.as_ref().and_then(|to| model.bundles.get(&to.digest));
        let (Some(stored), Some(approved)) = (stored, approval) else { return };
        if !approved.approval.missing(&stored.capabilities).is_empty() {
            return;
        }
        let mut going = Live::clone(live);
        going.rollout.state = DeploymentState::Running;
        going.rollout.reason.clear();
        going.revision += 1;
        draft.changes.push(Change::Deployment { live: Arc::new(going), new: false, parts: Vec::new() });
    }
}

/// Bundles of a plugin that some node runs, is wanted to run, or may go back to.
fn used(model: &Model, plugin: &PluginName) -> BTreeSet<Digest> {
    let mut used = BTreeSet::new();
    for assignment in model.sets.values().filter_map(|set| set.plugins.get(plugin)) {
        used.extend(assignment.digest);
        used.extend(assignment.previous);
    }
    for live in model.live.values().filter(|live| live.rollout.plugin == *plugin) {
        used.extend(live.rollout.parts.iter().filter_map(|part| Some(part.from.as_ref()?.digest)));
    }
    used.extend(model.fallbacks.get(plugin).into_iter().flatten().map(|fallback| fallback.digest));
    used
}
