//! The words every part of Windlass shares.
//!
//! * [`ids`]: validated names and identifiers. Everything from the wire is parsed into one of these first.
//! * [`outcome`]: how an operation ended on one node, a closed type.
//! * [`shape`]: the type model of operations, [`json`]: the one walk over it, [`schema`]: JSON Schema from it.
//! * [`plans`]: steps on several nodes, with what undoes them.
//! * [`secret`]: which stored secrets arguments name.
//! * [`trace`]: what a plugin asked of its host during one call.
//! * [`api`]: requests and replies of the operator API, used by master and command line alike.

pub mod api;
pub mod ids;
pub mod json;
pub mod outcome;
pub mod plans;
pub mod schema;
pub mod secret;
pub mod shape;
pub mod trace;

pub use ids::{
    DeploymentId, Digest, Fingerprint, IdError, JobId, MasterId, NodeId, NodeName, OperationName, PlanId,
    PluginName, RequestId, RoleName, RuleName, ScheduleName, SecretName, StepId, UserName,
};
pub use outcome::{Denial, Effect, Outcome, OutcomeKind, Refusal, TrapReason};
