//! Requests and replies of the operator API, version 1 (`/api/v1`).
//!
//! Times are milliseconds since 1970-01-01 UTC and end in `_ms`; so do durations.
//! Lists come in pages: `limit` (at most 1,000) and `after` (the `next` of the page before).
//!
//! | method and path | body → reply |
//! |---|---|
//! | `GET /whoami` | → [`WhoAmI`] |
//! | `GET /nodes?state=&after=&limit=` | → [`Page`]`<`[`Node`]`>` |
//! | `GET /nodes/{node}` (id or name) | → [`Node`] |
//! | `POST /nodes/{node}/accept` | [`AcceptNode`] → [`Node`] |
//! | `POST /nodes/{node}/reject`, `POST /nodes/{node}/revoke` | → [`Node`] |
//! | `DELETE /nodes/{node}` | → 204 |
//! | `PATCH /nodes/{node}` | [`ChangeNode`] → [`Node`] |
//! | `GET/POST /join-tokens`, `DELETE /join-tokens/{id}` | [`NewJoinToken`] → [`JoinToken`] |
//! | `GET /operations`, `GET /operations/{name}` | → [`Page`]`<`[`OperationInfo`]`>`, [`OperationInfo`] |
//! | `POST /targets/resolve` | [`Target`] → [`Resolved`] |
//! | `POST /jobs?wait_ms=` | [`NewJob`] → [`Job`] (201; after the end or `wait_ms`) |
//! | `GET /jobs?after=&limit=`, `GET /jobs/{id}` | → [`Page`]`<`[`Job`]`>`, [`Job`] |
//! | `GET /jobs/{id}/nodes?after=&limit=` | → [`Page`]`<`[`JobNode`]`>` |
//! | `GET /jobs/{id}/events` | → SSE of [`JobEvent`]; `id:` is its `seq`, resumes by `Last-Event-ID`; ends after `finished` |
//! | `POST /jobs/{id}/cancel` | → [`Job`] |
//! | `GET /jobs/{id}/nodes/{node}/trace` | → [`JobTrace`] |
//! | `GET/POST /tokens`, `DELETE /tokens/{id}` | [`NewToken`] → [`Token`] |
//! | `GET /audit?after=&limit=` | → [`Page`]`<`[`AuditEntry`]`>` |
//! | `GET /audit/verify` | → [`AuditHead`]; `audit_broken` if the chain is not whole |
//! | `GET /openapi.json` | the OpenAPI description |
//!
//! Bundles and deployments: see [`bundles`]. What happened on the grid: see [`events`]. Operations by
//! the clock: see [`schedules`]. Plans and their runs: see [`plans`]. Users and roles: see [`access`]. What watches found: see [`status`].
//! Passwords and keys for operations: see [`secrets`].
//!
//! Beside `/api/v1`: `/healthz`, `/readyz` (no token) and `/metrics` (role viewer).
//! Calls carry `Authorization: Bearer TOKEN`. Every error is an [`ApiError`].

pub mod access;
pub mod bundles;
pub mod events;
pub mod plans;
pub mod rules;
pub mod schedules;
pub mod secrets;
pub mod status;

use crate::ids::{
    Digest, Fingerprint, JobId, NodeId, NodeName, OperationName, PluginName, RoleName, UserName,
};
use crate::outcome::{Effect, Outcome, OutcomeKind};
use crate::shape::Operation;
use crate::trace::{CallStats, TraceEntry};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::{IntoParams, ToSchema};

/// An error of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// Stable code, such as `unknown_operation`: see `docs/errors.md`.
    pub code: String,
    /// What is wrong, and where.
    pub message: String,
    /// What may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// JSON pointer into the request, for arguments that do not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give this as `after` to get the next page; none on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which page.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Items at most; 100 unless told, 1,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The roles that are always there. Ordered: each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at everything but audit and tokens; run nothing.
    Viewer,
    /// Run operations.
    Operator,
    /// Accept and remove nodes, make tokens, read the audit log.
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// All of them.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// The one of this name, if it is one of them.
    pub fn named(name: &RoleName) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name.as_str())
    }
}

impl From<Role> for RoleName {
    fn from(role: Role) -> RoleName {
        role.as_str().parse().expect("names of roles are one word")
    }
}

/// Who a token stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// Name of the user, or of a token that belongs to nobody.
    pub name: String,
    pub role: RoleName,
    pub master_version: String,
}

/// Where a node stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Asked to join; waits for an operator.
    Pending,
    /// Part of the grid.
    Accepted,
    /// Refused by an operator.
    Rejected,
    /// Was part of the grid; its certificate no longer counts.
    Revoked,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    pub id: NodeId,
    pub name: NodeName,
    pub state: NodeState,
    /// Of its public key.
    pub fingerprint: Fingerprint,
    /// True while it has a live session whose last heartbeat is not late.
    pub online: bool,
    /// When it was last heard of.
    pub last_seen_ms: Option<i64>,
    /// Address of its last session or request.
    pub address: Option<String>,
    pub host_version: Option<String>,
    /// Found on the node.
    pub facts: BTreeMap<String, Value>,
    /// Set by operators.
    pub labels: BTreeMap<String, String>,
    /// Set by operators or the system, such as `maintenance`, `cloned_key`.
    pub flags: BTreeSet<String>,
    pub plugins: Vec<NodePlugin>,
    pub created_ms: i64,
    /// When its certificate ends.
    pub certificate_expires_ms: Option<i64>,
}

/// A plugin on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodePlugin {
    pub name: PluginName,
    pub version: String,
    pub digest: Digest,
    /// Why it can't be used; none when it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Accept a pending node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptNode {
    /// The fingerprint the operator compared; must be the node's.
    pub fingerprint: Option<Fingerprint>,
    /// Another name than the one it asked for.
    pub name: Option<NodeName>,
}

/// Change what operators set on a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeNode {
    /// Labels to set; null removes one.
    #[serde(default)]
    pub labels: BTreeMap<String, Option<String>>,
    /// Flags to set (true) or remove (false).
    #[serde(default)]
    pub flags: BTreeMap<String, bool>,
}

/// Make a join token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// How long it is good for; an hour unless told.
    pub ttl_ms: Option<u64>,
    /// Labels for the node that uses it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A join token. It accepts one node, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    pub id: String,
    /// The secret; only in the reply that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub created_ms: i64,
    pub expires_ms: i64,
    /// The node that used it.
    pub used_by: Option<NodeId>,
}

/// An operation that at least one node offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationInfo {
    pub name: OperationName,
    pub effect: Effect,
    pub timeout_ms: u64,
    pub idempotent: bool,
    /// What it needs for itself on its node, with `{param}` for the value of a parameter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<String>,
    pub plugin_version: String,
    pub plugin_digest: Digest,
    pub type_digest: Digest,
    /// Documentation and types.
    pub operation: Operation,
    /// JSON Schema of the arguments object.
    pub args_schema: Value,
    /// How many accepted nodes offer it in exactly this type.
    pub nodes: u32,
    /// Other types of it that other nodes have, by type digest, with their count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other_types: BTreeMap<Digest, u32>,
}

/// Which nodes. All given conditions must hold; at least one must be given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Ids, names or globs over names (`n*`, `rack[12]-*`); a node that fits any of them.
    /// An id or name without wildcard that fits no node is an error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// Labels that must be set so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Flags that must be set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Facts that must have this value (compared as text).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// CEL over `node` (`id`, `name`, `online`, `facts`, `labels`, `flags`), such as
    /// `node.facts.os == "debian" && !("maintenance" in node.flags)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#where: Option<String>,
}

/// The nodes a target means now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resolved {
    pub nodes: Vec<ResolvedNode>,
}

/// A node of a resolved target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResolvedNode {
    pub id: NodeId,
    pub name: NodeName,
    pub online: bool,
}

/// Run an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    pub operation: OperationName,
    /// Arguments object; `{}` unless told.
    #[serde(default = "empty_object")]
    pub args: Value,
    pub target: Target,
    /// Record what would change instead of changing it.
    #[serde(default)]
    pub dry_run: bool,
    /// When every node must have answered, counted from now, or from its turn where there are batches; the
    /// operation's timeout and ten seconds unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// So many of the nodes only, picked at random; those that are online first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pick: Option<u32>,
    /// So many nodes at a time: the next one has its turn when one has its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// With `batch`: when more nodes than this have ended without success, the others are refused
    /// (`stopped`). 0 unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<u32>,
    /// How often a node is asked again that has answered without success, each time with all its time. Only
    /// for operations that read or are idempotent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// How long nodes that are not online are waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_offline_ms: Option<u64>,
}

/// How many nodes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Batch {
    /// So many.
    Count(u32),
    /// This share of the nodes, from 1 to 100; one node at least.
    Percent(u32),
}

impl Batch {
    /// So many of `nodes`.
    pub fn of(self, nodes: usize) -> u32 {
        match self {
            Batch::Count(count) => count,
            Batch::Percent(percent) => {
                let share = (nodes as u64 * u64::from(percent)).div_ceil(100);
                u32::try_from(share).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Some nodes have no outcome yet.
    Running,
    /// Every node has its outcome.
    Finished,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    pub id: JobId,
    pub operation: OperationName,
    pub args: Value,
    pub effect: Effect,
    pub dry_run: bool,
    /// What was asked for.
    pub target: Target,
    pub state: JobState,
    /// True once an operator asked to cancel it.
    pub cancel_requested: bool,
    /// Name of the user or token that made it.
    pub created_by: String,
    pub created_ms: i64,
    pub deadline_ms: i64,
    pub finished_ms: Option<i64>,
    /// Nodes in all.
    pub nodes: u32,
    /// How many of them at a time; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// With `batch`: how many may end without success before the others are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<u32>,
    /// How often a node is asked again that has answered without success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// How long nodes that are not online are waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_offline_ms: Option<u64>,
    /// What it needs for itself on each node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<String>,
    /// Nodes with an outcome, by kind.
    pub outcomes: BTreeMap<OutcomeKind, u32>,
    /// With `wait_ms`, when it ended in time and has 1,000 nodes at most: the nodes with their outcomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Vec<JobNode>>,
}

/// Where a job stands on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobNodeState {
    /// Not with the node yet.
    Waiting,
    /// Sent; the node has not said that it has it.
    Sent,
    /// In the node's journal.
    Accepted,
    /// Runs.
    Running,
    /// Has an outcome.
    Done,
}

/// One node of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobNode {
    pub node: NodeId,
    pub name: NodeName,
    pub state: JobNodeState,
    pub outcome: Option<Outcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<CallStats>,
    /// Bundle that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin_digest: Option<Digest>,
    /// Its version, where the master knows the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin_version: Option<String>,
    pub started_ms: Option<i64>,
    pub finished_ms: Option<i64>,
    /// How often it was asked, where that is more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Bytes that it has written on its way, to be had under `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

/// Some of what an operation has written on its way, on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobOutput {
    pub job: JobId,
    pub node: NodeId,
    pub name: NodeName,
    /// Position in the whole at which `data` begins. Beyond `after` only where bytes are lost.
    pub start: u64,
    /// What to ask for next, as `after`.
    pub next: u64,
    /// Base64.
    pub data: String,
    /// There is output up to here.
    pub bytes: u64,
    /// How much the operation has written, once it has ended; more than `bytes` if some is lost.
    pub written: Option<u64>,
    /// It was forgotten to make room.
    pub forgotten: bool,
    /// The node has its outcome: no more comes.
    pub ended: bool,
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobEvent {
    /// Position in the job's events, from 1. A stream begins with a `snapshot` and has no gaps after it.
    pub seq: u64,
    #[serde(flatten)]
    pub kind: JobEventKind,
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JobEventKind {
    /// The job as it is now: the first event of a stream.
    Snapshot { job: Job },
    /// A node went on.
    Node { node: JobNode },
    /// A node told its progress (not kept).
    Progress { node: NodeId, name: NodeName, message: String, percent: Option<u8> },
    /// A node has written output, so much by now.
    Output { node: NodeId, name: NodeName, bytes: u64 },
    /// Every node has its outcome: the last event.
    Finished { job: Job },
}

/// What an operation asked of its host on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobTrace {
    pub job: JobId,
    pub node: NodeId,
    pub name: NodeName,
    pub entries: Vec<TraceEntry>,
}

/// Make a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for. The audit log names the user, or this where there is none.
    pub name: String,
    /// What it may do, where it belongs to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// Whose it is: it may do what the user may, while the user may. Either this or `role` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// How long it is good for; for ever unless told.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    pub id: String,
    /// The secret; only in the reply that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    pub name: String,
    /// Its own, or that of the user.
    pub role: RoleName,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    pub created_ms: i64,
    pub expires_ms: Option<i64>,
    pub last_used_ms: Option<i64>,
}

/// The newest entry of an audit log whose chain is whole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditHead {
    /// Its number, which is the number of entries; 0 for an empty log.
    pub seq: i64,
    /// Its hash. Kept elsewhere, it proves later that nothing up to here was changed.
    pub hash: Digest,
}

/// An entry of the audit log. Each holds the hash of the one before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    pub seq: i64,
    pub time_ms: i64,
    /// Name of the user or of a token of nobody, `schedule:NAME`, or `system`.
    pub actor: String,
    /// What was done, such as `node.accept`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// More, as JSON.
    pub detail: Value,
    /// `allowed` or `denied`.
    pub verdict: String,
    /// SHA-256 over the entry and the hash before it.
    pub hash: Digest,
}
