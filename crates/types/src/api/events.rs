//! What happened on the grid: one log, kept for a while.
//!
//! | method and path | body → reply |
//! |---|---|
//! | `GET /events?after=&last=&since_ms=&kind=&node=&limit=` | → [`Page`](super::Page)`<`[`Event`]`>`, oldest first |
//! | the same with `Accept: text/event-stream` | → SSE of [`Event`]; `id:` is its `seq`, resumes by `Last-Event-ID`; has no end |

use crate::ids::{NodeId, NodeName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows by one with each event: whoever sees all of them and misses a number came too late for it.
    pub seq: i64,
    pub time_ms: i64,
    /// Dotted, such as `node.connected`: see `docs/schedules-events.md`.
    pub kind: String,
    /// The node it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The name the node had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<NodeName>,
    /// What else it is about, such as the id of a job.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// More, by kind: an object.
    pub data: Value,
}

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only those after this number, which a page gives as `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Only the newest so many, of those that fit; 1,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// Only those that happened at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Only those of this kind; `*` stands for any text, as in `node.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only those of this node, by id or by the name it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Items of a page at most; 100 unless told, 1,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
