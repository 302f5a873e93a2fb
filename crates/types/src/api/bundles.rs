//! Bundles, the plugins they are versions of, and how those are rolled out over the grid.
//!
//! | method and path | body → reply |
//! |---|---|
//! | `POST /bundles` | the package, `application/x-tar` → [`Bundle`] (201; 200 if it was there) |
//! | `GET /bundles?plugin=&after=&limit=` | → [`Page`](super::Page)`<`[`Bundle`]`>` |
//! | `GET /bundles/{ref}` (digest or `name@version`) | → [`BundleDetail`] |
//! | `GET /bundles/{ref}/package` | → the package, with all signatures |
//! | `DELETE /bundles/{ref}` | → 204 |
//! | `GET /bundles/difference?from=&to=` | → [`BundleDifference`] |
//! | `GET /plugins`, `GET /plugins/{name}` | → [`Page`](super::Page)`<`[`PluginSummary`]`>`, [`PluginDetail`] |
//! | `GET /plugins/{name}/events?after=&limit=` | → [`Page`](super::Page)`<`[`PluginEvent`]`>`, the newest first |
//! | `POST /plugins/{name}/approve` | [`ApprovePlugin`] → [`PluginApproval`] |
//! | `POST /plugins/{name}/pin`, `POST /plugins/{name}/unpin` | [`PinPlugin`], [`UnpinPlugin`] → [`PluginDetail`] |
//! | `POST /plugins/{name}/rollback` | [`RollbackPlugin`] → [`Deployment`] (201) |
//! | `DELETE /plugins/{name}?node=` | → 204 |
//! | `POST /deployments` | [`NewDeployment`] → [`Deployment`] (201) |
//! | `GET /deployments?plugin=&after=&limit=` | → [`Page`](super::Page)`<`[`Deployment`]`>`, the newest first |
//! | `GET /deployments/{id}?revision=&wait_ms=` | → [`DeploymentDetail`] |
//! | `POST /deployments/{id}/pause`, `…/resume`, `…/abort`, `…/rollback` | → [`Deployment`] |

use super::Target;
use crate::ids::{DeploymentId, Digest, NodeId, NodeName, PluginName};
use crate::outcome::Effect;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// A bundle in the store of the master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Bundle {
    pub plugin: PluginName,
    pub version: String,
    /// Of its OCI image manifest.
    pub digest: Digest,
    pub description: String,
    /// Of all its parts.
    pub size_bytes: u64,
    pub signatures: Vec<BundleSignature>,
    pub created_ms: i64,
    /// Name of the token that uploaded it.
    pub created_by: String,
}

/// A signature as it stands. The master keeps it for the hosts, which check it against their own
/// trust files; that it is listed means that it is well formed, and nothing about its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BundleSignature {
    /// SHA-256 of the public key.
    pub key: Digest,
    /// The key, `ed25519:` and base64.
    pub public_key: String,
    pub signed_ms: i64,
    pub expires_ms: Option<i64>,
}

/// A bundle and what it may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BundleDetail {
    #[serde(flatten)]
    pub bundle: Bundle,
    pub operations: Vec<BundleOperation>,
    /// All that it asks for.
    pub capabilities: Vec<CapabilityInfo>,
    /// What it asks for beyond what was approved.
    pub unapproved: Vec<CapabilityInfo>,
}

/// An operation of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BundleOperation {
    /// `interface.function`.
    pub name: String,
    pub effect: Effect,
    pub timeout_ms: u64,
    /// Its type, in WIT's words.
    pub signature: String,
    pub type_digest: Digest,
    /// First line of its documentation.
    pub summary: String,
}

/// One thing a plugin may touch or use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct CapabilityInfo {
    /// `command`, `file`, `probe`, `state`, `operation`, `watch` or `limit`.
    pub kind: String,
    /// What, in words of the manifest.
    pub text: String,
}

/// How two bundles differ.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BundleDifference {
    /// Operations that only the newer one has.
    pub added: Vec<OperationLine>,
    /// Operations that only the older one has.
    pub removed: Vec<OperationLine>,
    /// Operations of another type: jobs made for one are refused by the other.
    pub retyped: Vec<RetypedOperation>,
    /// Capabilities that only the newer one has.
    pub gained: Vec<CapabilityInfo>,
    /// Capabilities that only the older one has.
    pub lost: Vec<CapabilityInfo>,
}

/// An operation in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationLine {
    /// `interface.function`.
    pub name: String,
    pub effect: Effect,
    /// Its type, in WIT's words.
    pub signature: String,
}

/// An operation whose type changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RetypedOperation {
    /// `interface.function`.
    pub name: String,
    pub from: String,
    pub to: String,
}

/// A plugin over all its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginSummary {
    pub name: PluginName,
    /// Versions in the store, the highest first.
    pub versions: Vec<String>,
    /// What nodes get that have nothing else: the version of the last deployment that succeeded.
    pub default: Option<PluginVersion>,
    /// How many nodes run which version, by version.
    pub running: BTreeMap<String, u32>,
    /// Nodes that do not run what is wanted of them.
    pub behind: u32,
    /// The deployment under way.
    pub deployment: Option<Deployment>,
}

/// A version of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginVersion {
    pub version: String,
    pub digest: Digest,
}

/// A plugin, and who runs what of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginDetail {
    #[serde(flatten)]
    pub summary: PluginSummary,
    pub bundles: Vec<Bundle>,
    pub approval: Option<PluginApproval>,
    pub nodes: Vec<PluginNode>,
}

/// A plugin on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginNode {
    pub node: NodeId,
    pub name: NodeName,
    pub online: bool,
    /// What runs there, as the node last said.
    pub active: Option<PluginVersion>,
    /// What would run after a rollback.
    pub previous: Option<PluginVersion>,
    /// What is wanted there.
    pub desired: Option<PluginVersion>,
    /// It stays at what is desired, whatever is deployed.
    pub pinned: bool,
    /// It comes from the node's own folder; no deployment changes it.
    pub local: bool,
    /// How far the node is with what is desired; none where nothing is, or the node has not said.
    pub stage: Option<InstallStage>,
    /// Why it can't be used, or does not go on.
    pub problem: Option<String>,
    /// While it is fetched: bytes there, and bytes in all.
    pub received_bytes: u64,
    pub total_bytes: u64,
}

/// How far a node is with a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstallStage {
    Fetching,
    Verifying,
    Compiling,
    /// It runs.
    Active,
    Failed,
    /// The node went back to the version before by itself.
    RolledBack,
}

/// What an operator lets a plugin do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginApproval {
    pub plugin: PluginName,
    pub capabilities: Vec<CapabilityInfo>,
    /// Operations with a stronger effect are denied.
    pub max_effect: Effect,
    /// Operations that are denied.
    pub deny_operations: BTreeSet<String>,
    pub approved_ms: i64,
    pub approved_by: String,
}

/// Approve what a bundle asks for, all of it or less.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovePlugin {
    /// Its digest, or its version.
    pub bundle: String,
    /// Deny operations with a stronger effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_effect: Option<Effect>,
    /// Deny these operations, by `interface.function`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub deny_operations: BTreeSet<String>,
}

/// Keep nodes at one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinPlugin {
    pub target: Target,
    /// Digest or version; what each node is wanted to run now, unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// Let nodes follow deployments again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnpinPlugin {
    pub target: Target,
}

/// Go back to the version before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackPlugin {
    /// All nodes that have a version before, unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// For the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Roll a bundle out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDeployment {
    pub plugin: PluginName,
    /// Its digest, or its version.
    pub bundle: String,
    /// All accepted nodes unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    #[serde(default)]
    pub strategy: Strategy,
    /// Approve what it asks for as well.
    #[serde(default)]
    pub approve: bool,
    /// Nodes may go to a lower version than they ran.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// Take the place of a deployment of the same plugin that is under way.
    #[serde(default)]
    pub replace: bool,
}

/// How a bundle is rolled out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Strategy {
    /// Nodes that go first, on their own; 0 for none.
    pub canary: u32,
    /// Nodes at a time after that; 0 for all at once.
    pub batch: u32,
    /// How long all nodes of a step must stay healthy before the next one.
    pub soak_ms: u64,
    /// A node that is online and has not finished by then counts as failed.
    pub node_timeout_ms: u64,
    /// Nodes that may fail before `on_failure` is done.
    pub max_failures: u32,
    pub on_failure: OnFailure,
}

impl Default for Strategy {
    fn default() -> Self {
        Strategy {
            canary: 1,
            batch: 0,
            soak_ms: 5_000,
            node_timeout_ms: 300_000,
            max_failures: 0,
            on_failure: OnFailure::Rollback,
        }
    }
}

/// What is done when too many nodes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Every node of the deployment goes back to what it ran before.
    Rollback,
    /// Nothing more happens until an operator decides.
    Pause,
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// The bundle asks for more than was approved.
    WaitingApproval,
    Running,
    Paused,
    RollingBack,
    /// Every node that could be reached runs it; the others get it when they return.
    Succeeded,
    /// It ended, with more nodes failed than allowed.
    Failed,
    /// An operator ended it; nodes stay as they are.
    Aborted,
    /// Every node that could be reached is back at what it ran before.
    RolledBack,
    /// Another deployment took its place.
    Superseded,
}

impl DeploymentState {
    /// Nothing more happens by itself or by an operator.
    pub fn ended(self) -> bool {
        use DeploymentState::*;
        matches!(self, Succeeded | Failed | Aborted | RolledBack | Superseded)
    }
}

/// A roll-out of one bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    pub id: DeploymentId,
    pub plugin: PluginName,
    /// What is rolled out; none for a rollback, where each node has its own.
    pub to: Option<PluginVersion>,
    pub state: DeploymentState,
    /// Why it stands there, in words; may be empty.
    pub reason: String,
    /// What was asked for.
    pub target: Target,
    pub strategy: Strategy,
    /// Counts up with every change.
    pub revision: u64,
    /// Nodes in all, and by state.
    pub nodes: u32,
    pub by_state: BTreeMap<DeploymentNodeState, u32>,
    pub created_by: String,
    pub created_ms: i64,
    pub finished_ms: Option<i64>,
}

/// A deployment with its nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentDetail {
    #[serde(flatten)]
    pub deployment: Deployment,
    /// In the order in which they have their turn.
    pub progress: Vec<DeploymentNode>,
    /// While it waits for approval: what the bundle asks for beyond what was approved.
    pub unapproved: Vec<CapabilityInfo>,
}

/// Where a deployment stands with one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentNodeState {
    /// Not its turn yet.
    Waiting,
    /// Its turn; the node has not said anything yet.
    Sent,
    /// The node fetches, verifies or compiles.
    Installing,
    /// The node runs it.
    Active,
    /// The node can't install it.
    Failed,
    /// The node went back to the version before.
    RolledBack,
    /// Not there; it gets the bundle when it returns.
    Offline,
    /// Pinned, no longer part of the grid, or has the plugin from its own folder.
    Skipped,
}

/// One node of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentNode {
    pub node: NodeId,
    pub name: NodeName,
    /// 0 for canaries, then 1, 2, … for the batches.
    pub step: u32,
    pub state: DeploymentNodeState,
    /// What it ran before.
    pub from: Option<PluginVersion>,
    pub problem: Option<String>,
    pub received_bytes: u64,
    pub total_bytes: u64,
    pub changed_ms: i64,
}

/// Something that happened to a plugin on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginEvent {
    /// Position among all plugin events of the grid.
    pub seq: i64,
    /// When, by the node's clock.
    pub time_ms: i64,
    pub node: NodeId,
    pub name: NodeName,
    pub plugin: PluginName,
    pub kind: PluginEventKind,
    /// What it is about.
    pub version: String,
    pub digest: Option<Digest>,
    /// What ran before.
    pub from_version: Option<String>,
    /// Why, in words.
    pub message: String,
}

/// What happened to a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginEventKind {
    Installed,
    Failed,
    RolledBack,
    Removed,
}
