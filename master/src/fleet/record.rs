//! What the master knows about one node.

use super::live::Presence;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use windlass_identity::SealingPublic;
use windlass_types::{
    DeploymentId, Digest, Effect, Fingerprint, NodeId, NodeName, OperationName, PluginName,
    api::{Node, NodePlugin, NodeState, bundles::InstallStage},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A node. A record never changes: a change makes a new one. Only its [`Presence`] moves, so that
/// a heartbeat copies nothing.
#[derive(Debug, Clone)]
pub struct NodeRecord {
    pub id: NodeId,
    pub name: NodeName,
    pub state: NodeState,
    /// Of its public key.
    pub fingerprint: Fingerprint,
    /// How often a certificate has been issued to it.
    pub issued_generation: u64,
    /// The newest generation that was seen in a session.
    pub seen_generation: u64,
    pub certificate_serial: Option<String>,
    pub certificate_expires_ms: Option<i64>,
    /// Set by operators.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Set by operators or the system.
    pub flags: Arc<BTreeSet<String>>,
    /// Found on the node.
    pub facts: Arc<BTreeMap<String, Value>>,
    /// Its plugins; nodes with the same plugins share one value.
    pub inventory: Arc<Inventory>,
    /// How far it is with what it is wanted to run, as it last said since this master started.
    pub progress: Arc<Progress>,
    /// What secrets for it are sealed to, as it last said since this master started; none for a host that
    /// takes no secrets.
    pub sealing_key: Option<Arc<SealingPublic>>,
    pub host_version: Option<String>,
    pub address: Option<String>,
    pub created_ms: i64,
    /// Whether and when it was there.
    pub presence: Arc<Presence>,
}

/// The plugins of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    pub plugins: Vec<InventoryPlugin>,
}

/// A plugin of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryPlugin {
    pub name: PluginName,
    pub version: String,
    /// Of the bundle.
    pub digest: Digest,
    /// Why it can't be used; none when it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The version before, which the node keeps for a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// It comes from the node's own folder: no deployment changes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// By name within the plugin: `interface.function`.
    pub operations: BTreeMap<String, InventoryOperation>,
}

/// An operation as a node offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryOperation {
    pub type_digest: Digest,
    /// After the node's own policy. It is the node's word; who may run something is decided by the
    /// manifest of the bundle, in the catalog.
    pub effect: Effect,
    pub timeout_ms: u64,
    pub idempotent: bool,
}

/// How far a node is with what it is wanted to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of the newest set that is on its disk; 0 for none.
    pub revision: u64,
    pub installs: Vec<Install>,
}

/// How far a node is with one bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    pub plugin: PluginName,
    pub digest: Digest,
    /// Who wanted it; none for an id that is none of ours.
    pub deployment: Option<DeploymentId>,
    pub stage: InstallStage,
    pub problem: Option<String>,
    pub received_bytes: u64,
    pub total_bytes: u64,
}

impl Progress {
    /// What the node says about a plugin.
    pub fn of(&self, plugin: &PluginName) -> Option<&Install> {
        self.installs.iter().find(|install| install.plugin == *plugin)
    }
}

impl Inventory {
    /// The plugin of this name.
    pub fn plugin(&self, name: &PluginName) -> Option<&InventoryPlugin> {
        self.plugins.iter().find(|plugin| plugin.name == *name)
    }
    /// The operation of this name, if its plugin can be used.
    pub fn operation(&self, name: &OperationName) -> Option<(&InventoryPlugin, &InventoryOperation)> {
        let plugin = self.plugin(&name.plugin()).filter(|plugin| plugin.problem.is_none())?;
        Some((plugin, plugin.operations.get(name.local())?))
    }
}

impl NodeRecord {
    /// True while it has a live session.
    pub fn online(&self) -> bool {
        self.presence.online()
    }
    /// When it was last heard of.
    pub fn last_seen_ms(&self) -> Option<i64> {
        self.presence.last_seen_ms()
    }
    /// As the API shows it.
    pub fn to_api(&self) -> Node {
        Node {
            id: self.id,
            name: self.name.clone(),
            state: self.state,
            fingerprint: self.fingerprint,
            online: self.online(),
            last_seen_ms: self.last_seen_ms(),
            address: self.address.clone(),
            host_version: self.host_version.clone(),
            facts: (*self.facts).clone(),
            labels: (*self.labels).clone(),
            flags: (*self.flags).clone(),
            plugins: self
                .inventory
                .plugins
                .iter()
                .map(|plugin| NodePlugin {
                    name: plugin.name.clone(),
                    version: plugin.version.clone(),
                    digest: plugin.digest,
                    problem: plugin.problem.clone(),
                })
                .collect(),
            created_ms: self.created_ms,
            certificate_expires_ms: self.certificate_expires_ms,
        }
    }
}
