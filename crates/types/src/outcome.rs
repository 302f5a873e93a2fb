//! How an operation ended on one node.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What an operation may do to a node. Ordered: each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Only looks.
    Read,
    /// Changes something that can be changed back.
    Change,
    /// May lose data. What declares no effect counts as this.
    Destroy,
}

impl Effect {
    /// The word used in manifests and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Read => "read",
            Effect::Change => "change",
            Effect::Destroy => "destroy",
        }
    }
}

impl std::fmt::Display for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How an operation ended on one node. A closed type: every node of a job gets exactly one,
/// and only `succeeded` is success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// The operation returned a value.
    Succeeded {
        /// What it returned, in the JSON form of its WIT type; null where it returns nothing.
        value: Value,
    },
    /// The operation returned its own typed error.
    Failed {
        /// The error, in the JSON form of its WIT type.
        error: Value,
    },
    /// The plugin broke, or passed a limit.
    Trapped {
        /// Which limit, or how it broke.
        reason: TrapReason,
        /// Words for the operator.
        message: String,
    },
    /// The wall time of the operation, or the deadline of the job, passed while it ran.
    TimedOut {
        /// How long it had run, in milliseconds.
        after_ms: u64,
    },
    /// The operation needed something that is not granted, and ended without success.
    Denied {
        /// What was asked for, and the rule that was missing.
        denial: Denial,
        /// The error that the operation returned after the denial, if it returned one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Value>,
    },
    /// The host did not start the operation.
    Refused {
        /// Why.
        reason: Refusal,
        /// Words for the operator.
        message: String,
    },
    /// Cancelled on request of an operator.
    Cancelled {
        /// False when it had not begun.
        started: bool,
    },
    /// The node did not say before the deadline that it has the request: it was not there, or went
    /// silent as it was sent. Should it have it after all, it is told to cancel.
    NoAnswer {
        /// When the node was last heard of, in milliseconds since 1970-01-01 UTC.
        last_seen_ms: Option<i64>,
    },
    /// The operation had started, and what became of it is not known.
    Indeterminate {
        /// What happened, such as a crash of the host.
        message: String,
    },
}

/// The kind of an [`Outcome`], for counting and filtering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    Succeeded,
    Failed,
    Trapped,
    TimedOut,
    Denied,
    Refused,
    Cancelled,
    NoAnswer,
    Indeterminate,
}

impl OutcomeKind {
    /// All kinds, in the order they are shown.
    pub const ALL: [OutcomeKind; 9] = [
        OutcomeKind::Succeeded,
        OutcomeKind::Failed,
        OutcomeKind::Trapped,
        OutcomeKind::TimedOut,
        OutcomeKind::Denied,
        OutcomeKind::Refused,
        OutcomeKind::Cancelled,
        OutcomeKind::NoAnswer,
        OutcomeKind::Indeterminate,
    ];

    /// The word used in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            OutcomeKind::Succeeded => "succeeded",
            OutcomeKind::Failed => "failed",
            OutcomeKind::Trapped => "trapped",
            OutcomeKind::TimedOut => "timed_out",
            OutcomeKind::Denied => "denied",
            OutcomeKind::Refused => "refused",
            OutcomeKind::Cancelled => "cancelled",
            OutcomeKind::NoAnswer => "no_answer",
            OutcomeKind::Indeterminate => "indeterminate",
        }
    }
}

impl std::fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Outcome {
    /// The kind of this outcome.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Outcome::Succeeded { .. } => OutcomeKind::Succeeded,
            Outcome::Failed { .. } => OutcomeKind::Failed,
            Outcome::Trapped { .. } => OutcomeKind::Trapped,
            Outcome::TimedOut { .. } => OutcomeKind::TimedOut,
            Outcome::Denied { .. } => OutcomeKind::Denied,
            Outcome::Refused { .. } => OutcomeKind::Refused,
            Outcome::Cancelled { .. } => OutcomeKind::Cancelled,
            Outcome::NoAnswer { .. } => OutcomeKind::NoAnswer,
            Outcome::Indeterminate { .. } => OutcomeKind::Indeterminate,
        }
    }
    /// True only for `succeeded`.
    pub fn is_success(&self) -> bool {
        self.kind() == OutcomeKind::Succeeded
    }
}

/// How a plugin broke, or which limit it passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrapReason {
    /// More processor time than its limit.
    Cpu,
    /// More memory than its limit.
    Memory,
    /// Its stack ran over.
    Stack,
    /// Its result, or what it passed to the host, is larger than the limit.
    Output,
    /// It panicked, aborted or did something undefined.
    Crash,
    /// It broke the contract with its host.
    Contract,
}

/// What was asked for and not granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Denial {
    /// The capability, such as `commands.run` or `operation`.
    pub capability: String,
    /// What was asked, such as `zpool destroy tank`.
    pub request: String,
    /// The rule that was missing, in words that name the manifest key to look at.
    pub missing: String,
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}`: {}", self.capability, self.request, self.missing)
    }
}

/// Why a host did not start an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// All workers and the queue are full.
    Busy,
    /// The node has no such plugin or operation.
    UnknownOperation,
    /// The operation has another type on this node than the one the job was made for.
    TypeChanged,
    /// The arguments do not fit the operation's type.
    BadArguments,
    /// The deadline had passed when the job arrived.
    TooLate,
    /// The host is shutting down.
    Draining,
    /// The plugin is on this node but could not be loaded.
    PluginUnusable,
    /// Too many other nodes of the job had failed before it was this one's turn.
    Stopped,
    /// Something else had what it needs for itself until the deadline.
    Locked,
    /// A secret it needs was changed or removed after the job was made, or can't be had on this node.
    Secret,
}
