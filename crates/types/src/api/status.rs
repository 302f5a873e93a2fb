//! What the watches of nodes have found.
//!
//! | method and path | reply |
//! |---|---|
//! | `GET /status?watch=&state=&after=&limit=` | [`Page`](super::Page)`<`[`WatchStatus`]`>`, by node |
//! | `GET /nodes/{node}/status` | [`NodeStatus`], with the outcomes |

use crate::{Digest, NodeId, NodeName, OperationName, Outcome, OutcomeKind, PluginName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a watch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchState {
    /// Its latest run succeeded.
    Ok,
    /// Its latest run did not.
    Failing,
    /// What is known is old: the node is offline, or the watch was not heard of for three of its periods.
    Stale,
    /// It has not run yet.
    NotYet,
}

impl WatchState {
    /// All of them, in the order they are shown.
    pub const ALL: [WatchState; 4] =
        [WatchState::Ok, WatchState::Failing, WatchState::Stale, WatchState::NotYet];

    /// The word used in JSON and in queries.
    pub fn as_str(self) -> &'static str {
        match self {
            WatchState::Ok => "ok",
            WatchState::Failing => "failing",
            WatchState::Stale => "stale",
            WatchState::NotYet => "not_yet",
        }
    }
}

/// A watch of a node, and what it found last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WatchStatus {
    pub node: NodeId,
    pub node_name: NodeName,
    pub plugin: PluginName,
    /// As the manifest of the plugin names it.
    pub watch: String,
    pub operation: OperationName,
    pub every_ms: u64,
    pub state: WatchState,
    /// Why it is failing or stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How the latest run that is known ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<OutcomeKind>,
    /// When it was last found so, by the clock of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collected_ms: Option<i64>,
    /// How long ago that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// When the result became what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_ms: Option<i64>,
    /// When the master got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_ms: Option<i64>,
    /// The version that gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin_version: Option<String>,
    /// The bundle that gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin_digest: Option<Digest>,
    /// The result itself; not in lists of many nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// All watches of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    pub node: NodeId,
    pub node_name: NodeName,
    pub online: bool,
    /// By plugin and name.
    pub watches: Vec<WatchStatus>,
}
