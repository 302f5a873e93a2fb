//! Plans, and their runs. What a plan is, is said in [`plans`](crate::plans).
//!
//! | method and path | body → reply |
//! |---|---|
//! | `GET /plans?after=&limit=` | → [`Page`](super::Page)`<`[`PlanInfo`]`>`, newest first |
//! | `POST /plans` | [`NewPlan`] → [`PlanRecord`] (201) |
//! | `POST /plans/check` | [`NewPlan`] → [`PlanReview`]; nothing is kept |
//! | `GET /plans/{id}` | → [`PlanRecord`] |
//! | `POST /plans/{id}/apply` | [`ApplyPlan`] → [`Run`] (201) |
//! | `GET /runs?after=&limit=` | → [`Page`](super::Page)`<`[`RunInfo`]`>`, newest first |
//! | `GET /runs/{id}` | → [`Run`] |
//! | `GET /runs/{id}/events?after=&limit=` | → [`Page`](super::Page)`<`[`RunEvent`]`>`, oldest first, or SSE of them |
//! | `POST /runs/{id}/pause`, `/resume`, `/cancel`, `/abandon` | → [`Run`] |
//! | `POST /runs/{id}/steps/{step}/approve`, `/retry`, `/skip` | → [`Run`] |

use crate::{
    ids::{Digest, JobId, NodeName, OperationName, PlanId, StepId},
    outcome::{Effect, OutcomeKind},
    plans::Plan,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Make a plan: one that is written out, or the one that an operation makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlan {
    /// One that is written out. Either this or `operation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// An operation that makes the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<PlannedCall>,
}

impl From<Plan> for NewPlan {
    fn from(plan: Plan) -> Self {
        NewPlan { plan: Some(plan), operation: None }
    }
}

impl From<PlannedCall> for NewPlan {
    fn from(call: PlannedCall) -> Self {
        NewPlan { plan: None, operation: Some(call) }
    }
}

/// What a plan is made by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedCall {
    /// A planned operation.
    pub name: OperationName,
    /// Arguments object, without the fleet; `{}` unless told.
    #[serde(default = "no_args")]
    pub args: Value,
}

fn no_args() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Where a plan comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanSource {
    /// Somebody wrote it.
    Written,
    /// A planned operation made it.
    Operation { operation: OperationName, args: Value },
}

/// An operation of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanOperation {
    pub name: OperationName,
    pub effect: Effect,
    /// How many of the actions, looks and undos are it.
    pub uses: u32,
}

/// What a look at a plan shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanReview {
    /// The worst that any of its operations may do, undos among them.
    pub effect: Effect,
    /// By name.
    pub nodes: Vec<NodeName>,
    pub operations: Vec<PlanOperation>,
    /// What may be as it should be, and is worth a look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// A digest over what the master knows of these nodes, as far as the plan rests on it: which node
    /// it is, whether it is accepted, its flags and labels.
    pub fleet_version: Digest,
}

/// A plan that is stored, without its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanInfo {
    pub id: PlanId,
    pub title: String,
    pub source: PlanSource,
    /// How many.
    pub steps: u32,
    /// Name of the user or token that made it.
    pub created_by: String,
    pub created_ms: i64,
    /// It can't be applied any more after that.
    pub expires_ms: i64,
    /// How its run stands, once it is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunState>,
}

/// A plan that is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanRecord {
    #[serde(flatten)]
    pub info: PlanInfo,
    pub plan: Plan,
    pub review: PlanReview,
}

/// Apply a plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyPlan {
    /// That of the plan which was looked at. Whatever is given here, the plan is not applied where the
    /// fleet has moved since it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet_version: Option<Digest>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes forward.
    Running,
    /// What was done is being undone.
    RollingBack,
    /// All steps are done.
    Done,
    /// What could be undone is, but for what somebody has left.
    RolledBack,
    /// Somebody ended it as it was.
    Abandoned,
}

impl RunState {
    /// Nothing more happens.
    pub fn is_over(self) -> bool {
        matches!(self, RunState::Done | RunState::RolledBack | RunState::Abandoned)
    }

    /// The word used in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::RollingBack => "rolling_back",
            RunState::Done => "done",
            RunState::RolledBack => "rolled_back",
            RunState::Abandoned => "abandoned",
        }
    }
}

/// A part of the life of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Act,
    Verify,
    Undo,
}

impl Phase {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Act => "act",
            Phase::Verify => "verify",
            Phase::Undo => "undo",
        }
    }
}

/// How an action, a look or an undo ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Done,
    /// It ran, and did not succeed: some of it may have been done.
    Failed,
    /// Nothing of it was done, and nothing will be.
    NotRun,
    /// Nobody knows, and it may still run.
    Unanswered,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It has not begun.
    Waiting,
    /// Its action runs.
    Running,
    /// It is looked at whether it is done.
    Verifying,
    /// Nobody answered, and it may still run. Nothing is undone before that is known.
    Unanswered,
    /// It ended without success, and is tried again.
    Retrying,
    Done,
    Failed,
    /// It failed, and somebody said to go on as if it were done.
    Skipped,
    /// It is being undone.
    Undoing,
    /// It has to be undone, and will be once its node is there.
    Owed,
    /// It has to be undone, and could not be: somebody has to look.
    Stuck,
    Undone,
    /// It should have been undone, and somebody said to leave it.
    Left,
}

impl StepState {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Waiting => "waiting",
            StepState::Running => "running",
            StepState::Verifying => "verifying",
            StepState::Unanswered => "unanswered",
            StepState::Retrying => "retrying",
            StepState::Done => "done",
            StepState::Failed => "failed",
            StepState::Skipped => "skipped",
            StepState::Undoing => "undoing",
            StepState::Owed => "owed",
            StepState::Stuck => "stuck",
            StepState::Undone => "undone",
            StepState::Left => "left",
        }
    }
}

/// What a run waits for that it can't bring about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Somebody has to agree to the step: `approve`.
    Approval,
    /// The step failed or can't be undone, and somebody has to say how to go on: `retry`, `skip`.
    Person,
    /// The node has to come back, or to say what became of the step.
    Node,
}

/// A step that holds a run up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunWait {
    pub step: StepId,
    pub node: NodeName,
    pub r#for: WaitsFor,
    /// In words.
    pub why: String,
}

/// A run, without its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunInfo {
    /// That of its plan.
    pub id: PlanId,
    pub title: String,
    pub state: RunState,
    /// Nothing new begins until it is resumed.
    pub paused: bool,
    /// Steps by state.
    pub steps: BTreeMap<StepState, u32>,
    /// Name of the user or token that applied the plan.
    pub started_by: String,
    pub started_ms: i64,
    pub finished_ms: Option<i64>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    #[serde(flatten)]
    pub info: RunInfo,
    pub plan: Plan,
    /// Where each step of the plan stands, in its order.
    pub progress: Vec<RunStep>,
    /// Steps that hold it up. Those of a run that is over are not told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<RunWait>,
    /// The number of the newest event that this is up to date with.
    pub seq: u64,
}

/// Where a step of a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunStep {
    pub id: StepId,
    pub state: StepState,
    /// Some of what its action does may be there.
    pub touched: bool,
    /// How often its action has begun.
    pub attempts: u32,
    /// How often its undo has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undos: Option<u32>,
    /// The newest job of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// What its action came to at last, where it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What its undo came to at last, where it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_problem: Option<String>,
    pub started_ms: Option<i64>,
    pub finished_ms: Option<i64>,
}

/// Something that happened to a run. A run is what its events tell, in their order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunEvent {
    /// Position in the events of the run, from 1, without gaps.
    pub seq: u64,
    pub time_ms: i64,
    /// Who wanted it, where it was somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(flatten)]
    pub kind: RunEventKind,
}

/// What happened to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEventKind {
    /// Written before its job is made.
    Began {
        step: StepId,
        phase: Phase,
        attempt: u32,
        job: JobId,
    },
    Ended {
        step: StepId,
        phase: Phase,
        attempt: u32,
        how: How,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<OutcomeKind>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// What was not answered does not run any more.
    Settled {
        step: StepId,
    },
    /// It has to be undone, and its node is not there.
    Owed {
        step: StepId,
    },
    Approved {
        step: StepId,
    },
    Paused,
    Resumed,
    /// What was done is to be undone.
    Cancelled,
    /// A step is to be tried once more, or its undo.
    Retried {
        step: StepId,
    },
    /// A step is to be taken for done, or left as it is.
    Skipped {
        step: StepId,
    },
    /// Nothing more is to be done.
    Abandoned,
    /// The last event.
    Finished {
        state: RunState,
    },
}
