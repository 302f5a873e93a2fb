//! What is known about bundles, and what each node is wanted to run: in memory as in the database.
//!
//! Every change is a list of [`Change`]s. They are written in one transaction and then applied here,
//! one and the same list, so the two never say different things.

use crate::{
    deployments::Live,
    store::{audit::NewEntry, nodes::SourceRow},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use windlass_bundle::{
    Version,
    approval::Approval,
    capability::{Capability, beyond},
    oci::Image,
    signature::Signature,
};
use windlass_types::{
    DeploymentId, Digest, NodeId, PluginName,
    api::{
        Target,
        bundles::{Bundle, BundleOperation, BundleSignature, CapabilityInfo, PluginVersion},
    },
};

/// A bundle in the store.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub digest: Digest,
    pub plugin: PluginName,
    pub version: Version,
    pub description: String,
    pub image: Image,
    pub size_bytes: u64,
    pub operations: Vec<BundleOperation>,
    pub capabilities: Vec<Capability>,
    /// One by each key.
    pub signatures: Vec<Signature>,
    pub created_by: String,
    pub created_ms: i64,
}

impl Stored {
    pub fn name(&self) -> PluginVersion {
        PluginVersion { version: self.version.to_string(), digest: self.digest }
    }

    /// The blobs it is made of.
    pub fn blobs(&self) -> [Digest; 4] {
        use windlass_bundle::Part::{Component, Manifest, Wit};
        let layer = |part| self.image.layer(part).digest;
        [self.digest, layer(Component), layer(Manifest), layer(Wit)]
    }

    pub fn to_api(&self) -> Bundle {
        Bundle {
            plugin: self.plugin.clone(),
            version: self.version.to_string(),
            digest: self.digest,
            description: self.description.clone(),
            size_bytes: self.size_bytes,
            signatures: self.signatures.iter().map(signature_info).collect(),
            created_ms: self.created_ms,
            created_by: self.created_by.clone(),
        }
    }
}

fn signature_info(signature: &Signature) -> BundleSignature {
    BundleSignature {
        key: signature.key(),
        public_key: signature.public_key.to_string(),
        signed_ms: signature.statement.signed_ms,
        expires_ms: signature.statement.expires_ms,
    }
}

/// What an operator approved.
#[derive(Debug, Clone)]
pub(crate) struct Approved {
    pub approval: Approval,
    /// The same as it goes to hosts.
    pub json: bytes::Bytes,
    pub approved_by: String,
    pub approved_ms: i64,
}

/// What a node is wanted to run of one plugin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Assignment {
    /// None: it is kept without the plugin.
    pub digest: Option<Digest>,
    /// Who wants it.
    pub deployment: DeploymentId,
    pub allow_downgrade: bool,
    pub pinned: bool,
    /// What was wanted before.
    pub previous: Option<Digest>,
    /// Of the set when this last changed.
    pub revision: u64,
}

/// What a node is wanted to run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NodeSet {
    pub revision: u64,
    pub plugins: BTreeMap<PluginName, Assignment>,
}

/// What nodes get that have nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Fallback {
    pub deployment: DeploymentId,
    pub digest: Digest,
    pub target: Target,
    pub allow_downgrade: bool,
    pub created_ms: i64,
}

/// One thing that changes.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A new bundle, with what the catalog needs of it.
    Bundle(Arc<Stored>, Arc<SourceRow>),
    Signature(Digest, Arc<Signature>),
    DropBundle(Digest),
    Approval(PluginName, Arc<Approved>),
    /// None: the node is nobody's business for this plugin any more.
    Assign(NodeId, PluginName, Option<Assignment>),
    Set(NodeId, u64),
    ForgetNode(NodeId),
    Fallback(PluginName, Arc<Fallback>),
    DropFallback(PluginName, DeploymentId),
    /// A deployment as it is now. `parts` are the positions that are not as they were.
    Deployment {
        live: Arc<Live>,
        new: bool,
        parts: Vec<usize>,
    },
    Audit(NewEntry),
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub bundles: HashMap<Digest, Arc<Stored>>,
    /// By name; a version names one bundle.
    pub versions: BTreeMap<PluginName, BTreeMap<Version, Digest>>,
    /// How many bundles have this blob.
    blobs: HashMap<Digest, usize>,
    pub approvals: BTreeMap<PluginName, Arc<Approved>>,
    pub sets: HashMap<NodeId, NodeSet>,
    /// The newest last.
    pub fallbacks: BTreeMap<PluginName, Vec<Arc<Fallback>>>,
    /// Deployments that have not ended.
    pub live: BTreeMap<DeploymentId, Arc<Live>>,
}

impl Model {
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Bundle(stored, _) => self.put(stored),
            Change::Signature(digest, signature) => {
                if let Some(stored) = self.bundles.get_mut(&digest) {
                    let signatures = &mut Arc::make_mut(stored).signatures;
                    signatures.retain(|other| other.key() != signature.key());
                    signatures.push((*signature).clone());
                }
            }
            Change::DropBundle(digest) => self.drop_bundle(digest),
            Change::Approval(plugin, approved) => drop(self.approvals.insert(plugin, approved)),
            Change::Assign(node, plugin, Some(assignment)) => {
                self.sets.entry(node).or_default().plugins.insert(plugin, assignment);
            }
            Change::Assign(node, plugin, None) => {
                if let Some(set) = self.sets.get_mut(&node) {
                    set.plugins.remove(&plugin);
                }
            }
            Change::Set(node, revision) => self.sets.entry(node).or_default().revision = revision,
            Change::ForgetNode(node) => drop(self.sets.remove(&node)),
            Change::Fallback(plugin, fallback) => self.fallbacks.entry(plugin).or_default().push(fallback),
            Change::DropFallback(plugin, deployment) => {
                if let Some(all) = self.fallbacks.get_mut(&plugin) {
                    all.retain(|fallback| fallback.deployment != deployment);
                    if all.is_empty() {
                        self.fallbacks.remove(&plugin);
                    }
                }
            }
            Change::Deployment { live, .. } => {
                if live.rollout.state.ended() {
                    self.live.remove(&live.rollout.id);
                } else {
                    self.live.insert(live.rollout.id, live);
                }
            }
            Change::Audit(_) => {}
        }
    }

    pub fn put(&mut self, stored: Arc<Stored>) {
        for blob in stored.blobs() {
            *self.blobs.entry(blob).or_default() += 1;
        }
        self.versions.entry(stored.plugin.clone()).or_default().insert(stored.version, stored.digest);
        self.bundles.insert(stored.digest, stored);
    }

    fn drop_bundle(&mut self, digest: Digest) {
        let Some(stored) = self.bundles.remove(&digest) else { return };
        for blob in stored.blobs() {
            if let Some(count) = self.blobs.get_mut(&blob) {
                *count -= 1;
                if *count == 0 {
                    self.blobs.remove(&blob);
                }
            }
        }
        if let Some(versions) = self.versions.get_mut(&stored.plugin) {
            versions.remove(&stored.version);
            if versions.is_empty() {
                self.versions.remove(&stored.plugin);
            }
        }
    }

    /// Whether a bundle of the store has this blob.
    pub fn has_blob(&self, digest: Digest) -> bool {
        self.blobs.contains_key(&digest)
    }

    pub fn version(&self, digest: Digest) -> Option<PluginVersion> {
        self.bundles.get(&digest).map(|stored| stored.name())
    }

    pub fn assignment(&self, node: NodeId, plugin: &PluginName) -> Option<&Assignment> {
        self.sets.get(&node)?.plugins.get(plugin)
    }

    /// The deployment of a plugin that has not ended. There is one at most.
    pub fn live_of(&self, plugin: &PluginName) -> Option<&Arc<Live>> {
        self.live.values().find(|live| live.rollout.plugin == *plugin)
    }

    /// What a bundle asks for beyond what was approved.
    pub fn unapproved(&self, stored: &Stored) -> Vec<CapabilityInfo> {
        let approved = self.approvals.get(&stored.plugin);
        let missing = match approved {
            Some(approved) => approved.approval.missing(&stored.capabilities),
            None => beyond(&stored.capabilities, &[]),
        };
        missing.into_iter().map(Capability::info).collect()
    }

    /// Whether a bundle may be given to nodes.
    pub fn is_approved(&self, stored: &Stored) -> bool {
        self.approvals
            .get(&stored.plugin)
            .is_some_and(|a| a.approval.missing(&stored.capabilities).is_empty())
    }

    /// Who needs this bundle; none if nobody does.
    pub fn in_use(&self, digest: Digest) -> Option<String> {
        let stored = self.bundles.get(&digest)?;
        for live in self.live.values() {
            let parts = &live.rollout.parts;
            let from = |from: &Option<PluginVersion>| from.as_ref().map(|from| from.digest);
            if live.to.as_ref().is_some_and(|to| to.digest == digest)
                || parts.iter().any(|part| part.to == Some(digest) || from(&part.from) == Some(digest))
            {
                return Some(format!("deployment {} needs it", live.rollout.id));
            }
        }
        if self.fallbacks.get(&stored.plugin).is_some_and(|all| all.iter().any(|f| f.digest == digest)) {
            return Some("new nodes get it".into());
        }
        let wanted = |set: &&NodeSet| {
            set.plugins.get(&stored.plugin).is_some_and(|assignment| assignment.digest == Some(digest))
        };
        match self.sets.values().filter(wanted).count() {
            0 => None,
            count => Some(format!("{count} nodes are wanted to run it")),
        }
    }
}
