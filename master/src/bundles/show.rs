//! What the API shows of plugins: what is wanted, and what is.

use super::{Bundles, BundlesError, Inner, Model};
use crate::{fleet::NodeRecord, store, targets::nearest_names};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use windlass_types::{
    Digest, PluginName,
    api::{
        NodeState,
        bundles::{PluginDetail, PluginEvent, PluginNode, PluginSummary, PluginVersion},
    },
};

impl Bundles {
    /// Plugins by name, after a name: those in the store, and those that nodes have of their own.
    pub fn plugins(&self, after: Option<&PluginName>, limit: usize) -> Vec<PluginSummary> {
        let inner = &self.inner;
        let nodes = inner.accepted();
        let model = inner.model();
        let names = inner.names(&model, &nodes);
        let names = names.into_iter().filter(|name| after.is_none_or(|after| name > after)).take(limit);
        names.map(|name| inner.summary(&model, &nodes, &name)).collect()
    }

    /// One plugin.
    ///
    /// # Errors
    /// If there is none.
    pub fn plugin(&self, name: &PluginName) -> Result<PluginDetail, BundlesError> {
        let inner = &self.inner;
        let nodes = inner.accepted();
        let model = inner.model();
        inner.known_plugin(&model, name)?;
        let versions = model.versions.get(name).into_iter().flatten().rev();
        Ok(PluginDetail {
            summary: inner.summary(&model, &nodes, name),
            bundles: versions
                .filter_map(|(_, digest)| model.bundles.get(digest))
                .map(|stored| stored.to_api())
                .collect(),
            approval: model.approvals.get(name).map(|approved| approved.to_api(name)),
            nodes: nodes.iter().filter_map(|node| inner.on_node(&model, node, name)).collect(),
        })
    }

    /// A page of what happened to a plugin, newest first.
    ///
    /// # Errors
    /// If there is no such plugin, or the store fails.
    pub async fn plugin_events(
        &self,
        name: &PluginName,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<PluginEvent>, BundlesError> {
        let found = store::bundles::events(&self.inner.store, name, before, limit).await?;
        if found.is_empty() {
            self.inner.known_plugin(&self.inner.model(), name)?;
        }
        Ok(found)
    }
}

impl Inner {
    fn accepted(&self) -> Vec<Arc<NodeRecord>> {
        let nodes = self.fleet.nodes();
        nodes.iter().filter(|node| node.state == NodeState::Accepted).cloned().collect()
    }

    fn names(&self, model: &Model, nodes: &[Arc<NodeRecord>]) -> BTreeSet<PluginName> {
        let mut names: BTreeSet<PluginName> = model.versions.keys().cloned().collect();
        for node in nodes {
            for plugin in &node.inventory.plugins {
                if !names.contains(&plugin.name) {
                    names.insert(plugin.name.clone());
                }
            }
        }
        names
    }

    /// Check that a plugin is known.
    pub fn known_plugin(&self, model: &Model, name: &PluginName) -> Result<(), BundlesError> {
        if model.versions.contains_key(name) {
            return Ok(());
        }
        let names = self.names(model, &self.accepted());
        if names.contains(name) {
            return Ok(());
        }
        let nearest = nearest_names(name.as_str(), names.iter().map(PluginName::as_str));
        Err(BundlesError::UnknownPlugin { plugin: name.to_string(), nearest })
    }

    fn summary(&self, model: &Model, nodes: &[Arc<NodeRecord>], name: &PluginName) -> PluginSummary {
        let mut running: BTreeMap<String, u32> = BTreeMap::new();
        let mut behind = 0;
        for node in nodes {
            let has = node.inventory.plugin(name);
            if let Some(plugin) = has.filter(|plugin| plugin.problem.is_none()) {
                *running
                    .entry(self.version_of(model, plugin.digest, &plugin.version).version)
                    .or_default() += 1;
            }
            if let Some(assignment) = model.assignment(node.id, name) {
                let active = has.filter(|plugin| !plugin.local).map(|plugin| plugin.digest);
                behind += u32::from(active != assignment.digest);
            }
        }
        let versions = model.versions.get(name).into_iter().flatten().rev();
        let fallback = model.fallbacks.get(name).and_then(|all| all.last());
        PluginSummary {
            name: name.clone(),
            versions: versions.map(|(version, _)| version.to_string()).collect(),
            default: fallback.and_then(|fallback| model.version(fallback.digest)),
            running,
            behind,
            deployment: model.live_of(name).map(|live| live.to_api()),
        }
    }

    /// The version of a bundle as it was uploaded; what the node says of one that never was.
    fn version_of(&self, model: &Model, digest: Digest, said: &str) -> PluginVersion {
        model.version(digest).unwrap_or_else(|| PluginVersion {
            version: self.catalog.version(digest).unwrap_or_else(|| said.to_owned()),
            digest,
        })
    }

    fn on_node(&self, model: &Model, node: &NodeRecord, name: &PluginName) -> Option<PluginNode> {
        let has = node.inventory.plugin(name);
        let wanted = model.assignment(node.id, name);
        let install = node.progress.of(name);
        if has.is_none() && wanted.is_none() && install.is_none() {
            return None;
        }
        let desired = wanted.and_then(|wanted| wanted.digest);
        // What a node says about something that is not wanted any more would only mislead.
        let install = install.filter(|install| Some(install.digest) == desired);
        let previous = wanted.and_then(|wanted| wanted.previous);
        Some(PluginNode {
            node: node.id,
            name: node.name.clone(),
            online: node.online(),
            active: has.map(|plugin| self.version_of(model, plugin.digest, &plugin.version)),
            previous: previous.and_then(|digest| model.version(digest)),
            desired: desired.and_then(|digest| model.version(digest)),
            pinned: wanted.is_some_and(|wanted| wanted.pinned),
            local: has.is_some_and(|plugin| plugin.local),
            stage: install.map(|install| install.stage),
            problem: has
                .and_then(|plugin| plugin.problem.clone())
                .or_else(|| install.and_then(|install| install.problem.clone())),
            received_bytes: install.map_or(0, |install| install.received_bytes),
            total_bytes: install.map_or(0, |install| install.total_bytes),
        })
    }
}
