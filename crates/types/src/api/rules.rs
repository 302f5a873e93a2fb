//! Rules: when something happens, do something.
//!
//! | method and path | body → reply |
//! |---|---|
//! | `GET /rules?after=&limit=` | → [`Page`](super::Page)`<`[`Rule`]`>`, by name |
//! | `POST /rules` | [`NewRule`] → [`Rule`] (201) |
//! | `GET /rules/{name}`, `DELETE /rules/{name}` | → [`Rule`], 204 |
//! | `POST /rules/{name}/pause`, `POST /rules/{name}/resume` | → [`Rule`] |
//! | `GET /rules/{name}/firings?after=&limit=` | → [`Page`](super::Page)`<`[`Firing`]`>`, newest first |
//! | `POST /rules/try` | [`TryRule`] → [`Tried`] |

use super::NewJob;
use crate::ids::{JobId, RuleName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When an event fits, do something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRule {
    pub name: RuleName,
    /// Kind of event; `*` stands for any text, as in `node.*`.
    pub kind: String,
    /// CEL over `event` (`seq`, `time_ms`, `kind`, `node`, `node_name`, `subject`, `data`), such as
    /// `has(event.data.outcomes.failed)`. All events of the kind unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    pub then: Then,
    /// At most so many times within `per_ms`; what fits beyond that is left out.
    #[serde(default = "ten")]
    pub most: u32,
    /// A minute unless told.
    #[serde(default = "minute")]
    pub per_ms: u64,
    /// Begin paused.
    #[serde(default)]
    pub paused: bool,
}

fn ten() -> u32 {
    10
}

fn minute() -> u64 {
    60_000
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Make this job. Its events fire no rule.
    Run(Box<NewJob>),
    /// Make this job on the node of the event; its own target is left out. An event without a node fires
    /// nothing.
    RunThere(Box<NewJob>),
    /// Send the event as JSON by `POST` to this URL, `https://` or `http://` on loopback. Tried again for a
    /// while if nobody takes it.
    Webhook(String),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rule {
    pub name: RuleName,
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    pub then: Then,
    pub most: u32,
    pub per_ms: u64,
    pub paused: bool,
    /// Name of the user or token that made it. Its jobs are made by `rule:NAME`.
    pub created_by: String,
    pub created_ms: i64,
}

/// An event that fitted a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Firing {
    /// The number of the event.
    pub seq: i64,
    pub state: FiringState,
    /// The job that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Why nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    pub time_ms: i64,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FiringState {
    /// It is being done.
    Begun,
    /// The job was made, or the webhook took it.
    Done,
    /// There were too many.
    LeftOut,
    /// It could not be done.
    Failed,
}

/// Try a condition on events of the past; nothing is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TryRule {
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// How many of the newest events of the kind are looked at; 1,000 unless told, and at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
}

/// What would have fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tried {
    /// Events that were looked at.
    pub looked_at: u32,
    /// Those that fit, oldest first.
    pub fits: Vec<super::events::Event>,
    /// On how many the expression failed, most often because they have no such field; they do not fit.
    pub failed: u32,
    /// How it failed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}
