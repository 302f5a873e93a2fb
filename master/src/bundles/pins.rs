//! Single nodes that stay where they are, and plugins that go.

use super::{Bundles, BundlesError, Change, Draft, Inner, Model, Wanted};
use serde_json::json;
use windlass_types::{
    DeploymentId, PluginName,
    api::bundles::{PinPlugin, PluginDetail, UnpinPlugin},
};

impl Bundles {
    /// Keep nodes at one bundle, whatever is deployed.
    ///
    /// # Errors
    /// If target or bundle are no good, the bundle asks for more than was approved, or a node has
    /// nothing that could be pinned.
    pub async fn pin(
        &self,
        plugin: &PluginName,
        how: PinPlugin,
        actor: &str,
    ) -> Result<PluginDetail, BundlesError> {
        let nodes = self.inner.resolve(&how.target).await?;
        let (this, actor, plugin) = (self.clone(), actor.to_owned(), plugin.clone());
        crate::uncut::uncut(async move {
            let inner = &this.inner;
            let _changing = inner.changing.lock().await;
            let changes = {
                let model = inner.model();
                inner.known_plugin(&model, &plugin)?;
                let bundle =
                    how.bundle.as_deref().map(|text| inner.of_plugin(&model, &plugin, text)).transpose()?;
                if let Some(stored) = bundle.as_ref().filter(|stored| !model.is_approved(stored)) {
                    let missing = model.unapproved(stored);
                    let bundle = format!("{plugin}@{}", stored.version);
                    return Err(BundlesError::NotApproved { bundle, missing });
                }
                let mut draft = Draft::new(&model);
                let id = DeploymentId::new();
                for node in &nodes {
                    let old = model.assignment(node.id, &plugin);
                    let digest = match &bundle {
                        Some(stored) => Some(stored.digest),
                        None => old.map(|old| old.digest).ok_or_else(|| {
                            BundlesError::Nothing(format!(
                                "node `{}` is not wanted to run any version of `{plugin}`: name one",
                                node.name
                            ))
                        })?,
                    };
                    let same = old.filter(|old| old.digest == digest);
                    let wanted = Wanted {
                        digest,
                        deployment: same.map_or(id, |old| old.deployment),
                        allow_downgrade: same.is_none_or(|old| old.allow_downgrade),
                        pinned: true,
                        remember: true,
                    };
                    draft.assign(node.id, &plugin, wanted);
                }
                let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).take(100).collect();
                let detail = json!({ "bundle": how.bundle, "nodes": nodes.len(), "names": names });
                draft.audit(&actor, "plugin.pin", &plugin, detail);
                draft.changes
            };
            inner.commit(changes).await?;
            inner.wake.notify_one();
            this.plugin(&plugin)
        })
        .await
    }

    /// Let nodes follow deployments again. They get what new nodes get, if anything.
    ///
    /// # Errors
    /// If the target is no good.
    pub async fn unpin(
        &self,
        plugin: &PluginName,
        how: UnpinPlugin,
        actor: &str,
    ) -> Result<PluginDetail, BundlesError> {
        let nodes = self.inner.resolve(&how.target).await?;
        let (this, actor, plugin) = (self.clone(), actor.to_owned(), plugin.clone());
        crate::uncut::uncut(async move {
            let inner = &this.inner;
            let _changing = inner.changing.lock().await;
            let changes = {
                let model = inner.model();
                inner.known_plugin(&model, &plugin)?;
                let fallbacks = model.fallbacks.get(&plugin).cloned().unwrap_or_default();
                let mut draft = Draft::new(&model);
                for node in &nodes {
                    let Some(old) = model.assignment(node.id, &plugin).filter(|old| old.pinned) else {
                        continue;
                    };
                    let fallback = fallbacks.iter().rev().find(|f| crate::targets::fits(&f.target, node));
                    match fallback {
                        Some(fallback) if old.digest != Some(fallback.digest) => {
                            let wanted = Wanted {
                                digest: Some(fallback.digest),
                                deployment: fallback.deployment,
                                allow_downgrade: true,
                                pinned: false,
                                remember: true,
                            };
                            draft.assign(node.id, &plugin, wanted);
                        }
                        // Kept without it, and nothing says that it is to have it.
                        None if old.digest.is_none() => draft.unassign(node.id, &plugin),
                        _ => {
                            let wanted = Wanted {
                                digest: old.digest,
                                deployment: old.deployment,
                                allow_downgrade: old.allow_downgrade,
                                pinned: false,
                                remember: true,
                            };
                            draft.assign(node.id, &plugin, wanted);
                        }
                    }
                }
                draft.audit(&actor, "plugin.unpin", &plugin, json!({ "nodes": nodes.len() }));
                draft.changes
            };
            inner.commit(changes).await?;
            this.plugin(&plugin)
        })
        .await
    }

    /// Take a plugin off one node, which is then kept without it, or off all of them.
    ///
    /// # Errors
    /// If there is no such plugin or node, or a deployment of it is under way.
    pub async fn remove(
        &self,
        plugin: &PluginName,
        node: Option<&str>,
        actor: &str,
    ) -> Result<(), BundlesError> {
        let (this, actor, plugin) = (self.clone(), actor.to_owned(), plugin.clone());
        let node = match node {
            None => None,
            Some(node) => {
                let target = windlass_types::api::Target { on: vec![node.to_owned()], ..Default::default() };
                Some(self.inner.resolve(&target).await?)
            }
        };
        crate::uncut::uncut(async move {
            let inner = &this.inner;
            let _changing = inner.changing.lock().await;
            let changes = {
                let model = inner.model();
                inner.known_plugin(&model, &plugin)?;
                let mut draft = Draft::new(&model);
                match &node {
                    Some(nodes) => {
                        for node in nodes {
                            let wanted = Wanted {
                                digest: None,
                                deployment: DeploymentId::new(),
                                allow_downgrade: false,
                                pinned: true,
                                remember: true,
                            };
                            draft.assign(node.id, &plugin, wanted);
                        }
                        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
                        draft.audit(&actor, "plugin.remove", &plugin, json!({ "nodes": names }));
                    }
                    None => inner.remove_everywhere(&mut draft, &model, &plugin, &actor)?,
                }
                draft.changes
            };
            Ok(inner.commit(changes).await?)
        })
        .await
    }
}

impl Inner {
    fn remove_everywhere(
        &self,
        draft: &mut Draft<'_>,
        model: &Model,
        plugin: &PluginName,
        actor: &str,
    ) -> Result<(), BundlesError> {
        if let Some(live) = model.live_of(plugin) {
            return Err(BundlesError::Running { id: live.rollout.id, plugin: plugin.clone() });
        }
        for fallback in model.fallbacks.get(plugin).into_iter().flatten() {
            draft.changes.push(Change::DropFallback(plugin.clone(), fallback.deployment));
        }
        let having = model.sets.iter().filter(|(_, set)| set.plugins.contains_key(plugin));
        let having: Vec<_> = having.map(|(node, _)| *node).collect();
        for node in &having {
            draft.unassign(*node, plugin);
        }
        draft.audit(actor, "plugin.remove", plugin, json!({ "nodes": having.len() }));
        Ok(())
    }
}
