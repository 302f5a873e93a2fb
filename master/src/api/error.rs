//! Errors of the API: stable codes, listed in `docs/errors.md`.

use crate::{
    access::AccessError, fleet::FleetError, jobs::JobError, rules::RuleError, schedules::ScheduleError,
    secrets::VaultError, store::StoreError, targets::TargetError,
};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use windlass_types::{IdError, api::ApiError};

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $status:ident;)*) => {
        /// A stable code, with its HTTP status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($(#[doc = $doc])* $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &[Code] = &[$(Code::$name),*];
            /// As it stands in replies.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }
            /// The status that goes with it.
            pub fn status(self) -> StatusCode {
                match self { $(Code::$name => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    /// No token, or one that is not known or has expired.
    Unauthenticated = "unauthenticated", UNAUTHORIZED;
    /// The role does not allow it.
    Forbidden = "forbidden", FORBIDDEN;
    /// Too many requests that were not authorised.
    TooManyAttempts = "too_many_attempts", TOO_MANY_REQUESTS;
    /// There is no such route.
    NotFound = "not_found", NOT_FOUND;
    /// The route is there, but not for this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED;
    /// A path, query or header that can't be right.
    BadRequest = "bad_request", BAD_REQUEST;
    /// The body is not the JSON that is asked for.
    BadJson = "bad_json", BAD_REQUEST;
    /// The body is larger than 1 MiB.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE;
    /// The body did not come in time, or the reply took too long.
    Timeout = "timeout", REQUEST_TIMEOUT;
    UnknownNode = "unknown_node", NOT_FOUND;
    AmbiguousNode = "ambiguous_node", CONFLICT;
    /// The node is not in a state for that.
    WrongState = "wrong_state", CONFLICT;
    WrongFingerprint = "wrong_fingerprint", CONFLICT;
    NameTaken = "name_taken", CONFLICT;
    /// A label, flag or time that is no good.
    BadChange = "bad_change", BAD_REQUEST;
    UnknownJoinToken = "unknown_join_token", NOT_FOUND;
    UnknownToken = "unknown_token", NOT_FOUND;
    UnknownUser = "unknown_user", NOT_FOUND;
    UnknownRole = "unknown_role", NOT_FOUND;
    /// Rules that can't be right, or a role that stays as it is.
    BadRole = "bad_role", BAD_REQUEST;
    /// Users or tokens have the role.
    RoleInUse = "role_in_use", CONFLICT;
    UnknownSecret = "unknown_secret", NOT_FOUND;
    /// A value that can't be kept as a secret, or secrets where none may be.
    BadSecret = "bad_secret", BAD_REQUEST;
    /// This master has not the key that the stored secrets are encrypted with.
    SecretsLocked = "secrets_locked", CONFLICT;
    UnknownOperation = "unknown_operation", NOT_FOUND;
    PlannedOperation = "planned_operation", BAD_REQUEST;
    /// The arguments do not fit the operation; `pointer` says where.
    BadArguments = "bad_arguments", BAD_REQUEST;
    BadDeadline = "bad_deadline", BAD_REQUEST;
    /// `pick`, `batch` or `max_failures` can't be right.
    BadBatch = "bad_batch", BAD_REQUEST;
    /// `retries` for an operation that must not run twice.
    NotIdempotent = "not_idempotent", BAD_REQUEST;
    /// A part of the target can't be right.
    BadTarget = "bad_target", BAD_REQUEST;
    /// The expression of the target can't be right.
    BadWhere = "bad_where", BAD_REQUEST;
    /// The target fits no node.
    EmptyTarget = "empty_target", BAD_REQUEST;
    UnknownJob = "unknown_job", NOT_FOUND;
    JobFinished = "job_finished", CONFLICT;
    TooManyJobs = "too_many_jobs", TOO_MANY_REQUESTS;
    UnknownSchedule = "unknown_schedule", NOT_FOUND;
    /// No rule of that name.
    UnknownRule = "unknown_rule", NOT_FOUND;
    /// A rule whose condition, action or numbers can't be right.
    BadRule = "bad_rule", BAD_REQUEST;
    /// Times or numbers of a schedule that can't be right.
    BadSchedule = "bad_schedule", BAD_REQUEST;
    /// As many jobs of the schedule run as may.
    ScheduleRunning = "schedule_running", CONFLICT;
    UnknownPlan = "unknown_plan", NOT_FOUND;
    /// A plan that can't be right; `pointer` says where.
    BadPlan = "bad_plan", BAD_REQUEST;
    /// The operation runs on nodes and makes no plan.
    NotPlanned = "not_planned", BAD_REQUEST;
    /// The operation says why it makes no plan, or broke.
    NoPlan = "no_plan", UNPROCESSABLE_ENTITY;
    /// Only nodes have the bundle of the operation.
    BundleNotStored = "bundle_not_stored", CONFLICT;
    /// The bundle of the operation can't be run on this master.
    PlannerFailed = "planner_failed", INTERNAL_SERVER_ERROR;
    /// A plan is applied once at most.
    PlanApplied = "plan_applied", CONFLICT;
    /// A plan is good for a day.
    PlanExpired = "plan_expired", CONFLICT;
    /// What the plan rests on is not so any more.
    FleetMoved = "fleet_moved", CONFLICT;
    /// Another run needs the same for itself.
    PlanLocked = "plan_locked", CONFLICT;
    TooManyRuns = "too_many_runs", TOO_MANY_REQUESTS;
    UnknownRun = "unknown_run", NOT_FOUND;
    UnknownStep = "unknown_step", NOT_FOUND;
    /// Nothing can be done to a run that is over.
    RunOver = "run_over", CONFLICT;
    /// The step does not stand so that this could be done.
    WrongStepState = "wrong_step_state", CONFLICT;
    UnknownBundle = "unknown_bundle", NOT_FOUND;
    UnknownPlugin = "unknown_plugin", NOT_FOUND;
    UnknownDeployment = "unknown_deployment", NOT_FOUND;
    /// The body is no package, or the bundle in it is no good.
    BadPackage = "bad_package", BAD_REQUEST;
    /// Another bundle has this name and version.
    VersionTaken = "version_taken", CONFLICT;
    TooManySignatures = "too_many_signatures", CONFLICT;
    BundleInUse = "bundle_in_use", CONFLICT;
    /// The bundle is one of another plugin.
    OtherPlugin = "other_plugin", BAD_REQUEST;
    /// The bundle asks for more than was approved.
    NotApproved = "not_approved", CONFLICT;
    /// Another deployment of the plugin is under way.
    DeploymentRunning = "deployment_running", CONFLICT;
    /// The deployment is not in a state for that.
    WrongDeploymentState = "wrong_deployment_state", CONFLICT;
    /// There is nothing to pin, or to go back to.
    NothingToDo = "nothing_to_do", CONFLICT;
    /// A value of the strategy that can't work.
    BadStrategy = "bad_strategy", BAD_REQUEST;
    /// A part of a bundle is missing or damaged in the blob store.
    BlobLost = "blob_lost", INTERNAL_SERVER_ERROR;
    /// The blob store failed.
    BlobsUnavailable = "blobs_unavailable", SERVICE_UNAVAILABLE;
    /// No master leads, or the one that does can't be reached.
    NoLeader = "no_leader", SERVICE_UNAVAILABLE;
    /// The leading master was lost after it had got a request that changes something.
    LeaderLost = "leader_lost", BAD_GATEWAY;
    /// The audit log is not what was written.
    AuditBroken = "audit_broken", CONFLICT;
    /// The database failed.
    StoreUnavailable = "store_unavailable", SERVICE_UNAVAILABLE;
}

/// An error on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    pub pointer: Option<String>,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), hint: None, pointer: None }
    }
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Error { hint: Some(hint.into()), ..self }
    }
    pub fn nearest(self, nearest: &[String]) -> Self {
        if nearest.is_empty() {
            return self;
        }
        let names: Vec<String> = nearest.iter().map(|name| format!("`{name}`")).collect();
        self.hint(format!("did you mean {}?", names.join(" or ")))
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = ApiError {
            code: self.code.as_str().to_owned(),
            message: self.message,
            hint: self.hint,
            pointer: self.pointer,
        };
        (status, Json(body)).into_response()
    }
}

impl From<IdError> for Error {
    fn from(error: IdError) -> Self {
        Error::new(Code::BadRequest, error.to_string())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::NotLeading) {
            return Error::new(Code::NoLeader, "this master does not lead any more").hint("try again");
        }
        // What went wrong with the database is for whoever runs the master.
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        Error::new(Code::StoreUnavailable, "the master's database failed; its log says why")
    }
}

impl From<FleetError> for Error {
    fn from(error: FleetError) -> Self {
        let code = match error {
            FleetError::UnknownNode { .. } => Code::UnknownNode,
            FleetError::AmbiguousName { .. } => Code::AmbiguousNode,
            FleetError::WrongState { .. } => Code::WrongState,
            FleetError::WrongFingerprint { .. } => Code::WrongFingerprint,
            FleetError::NameTaken { .. } => Code::NameTaken,
            FleetError::BadChange(_) => Code::BadChange,
            FleetError::UnknownJoinToken { .. } => Code::UnknownJoinToken,
            FleetError::Store(error) => return error.into(),
        };
        let hint = match code {
            Code::WrongFingerprint => Some("compare with what `windlass-host` prints on that machine"),
            Code::NameTaken => Some("give it another `name`"),
            _ => None,
        };
        Error { hint: hint.map(str::to_owned), ..Error::new(code, error.to_string()) }
    }
}

impl From<TargetError> for Error {
    fn from(error: TargetError) -> Self {
        let message = error.to_string();
        match error {
            TargetError::Blank => Error::new(Code::BadTarget, message).hint(
                "give at least one of `on`, `labels`, `flags`, `facts`, `where`; all nodes are `on: [\"*\"]`",
            ),
            TargetError::Bad(_) => Error::new(Code::BadTarget, message),
            TargetError::Unknown { nearest, .. } => Error::new(Code::UnknownNode, message).nearest(&nearest),
            TargetError::Where { .. } => Error::new(Code::BadWhere, message),
            TargetError::Empty { hint } => Error { hint, ..Error::new(Code::EmptyTarget, message) },
        }
    }
}

/// An operation that no node offers.
pub fn unknown_operation(message: String, nearest: &[String]) -> Error {
    let error = Error::new(Code::UnknownOperation, message).nearest(nearest);
    if error.hint.is_none() { error.hint("`GET /operations` lists what the nodes offer") } else { error }
}

impl From<ScheduleError> for Error {
    fn from(error: ScheduleError) -> Self {
        let message = error.to_string();
        match error {
            ScheduleError::Unknown(_) => Error::new(Code::UnknownSchedule, message),
            ScheduleError::Taken(_) => Error::new(Code::NameTaken, message)
                .hint("give it another name, or delete the one that is there"),
            ScheduleError::Bad(_) => Error::new(Code::BadSchedule, message),
            ScheduleError::Full { .. } => {
                Error::new(Code::ScheduleRunning, message).hint("wait for the job, or cancel it")
            }
            ScheduleError::Job(error) => error.into(),
            ScheduleError::Store(error) => error.into(),
        }
    }
}

impl From<RuleError> for Error {
    fn from(error: RuleError) -> Self {
        let message = error.to_string();
        match error {
            RuleError::Unknown(_) => Error::new(Code::UnknownRule, message),
            RuleError::Taken(_) => Error::new(Code::NameTaken, message)
                .hint("give it another name, or delete the one that is there"),
            RuleError::Bad(_) => Error::new(Code::BadRule, message),
            RuleError::Job(error) => error.into(),
            RuleError::Store(error) => error.into(),
        }
    }
}

impl From<AccessError> for Error {
    fn from(error: AccessError) -> Self {
        let message = error.to_string();
        match error {
            AccessError::UnknownUser(_) => Error::new(Code::UnknownUser, message),
            AccessError::UnknownRole(_) => {
                Error::new(Code::UnknownRole, message).hint("`GET /roles` lists the roles there are")
            }
            AccessError::UserTaken(_) => Error::new(Code::NameTaken, message),
            AccessError::TokenOfThatName(_) | AccessError::UserOfThatName(_) => {
                Error::new(Code::NameTaken, message).hint("the audit log could not tell the two apart")
            }
            // Only where there is no API: `windlass-master admin-token`.
            AccessError::NoAdministrator { .. } | AccessError::Disabled(_) => {
                Error::new(Code::BadRequest, message)
            }
            AccessError::Reserved(_) => Error::new(Code::BadRequest, message),
            AccessError::BuiltIn(_) => {
                Error::new(Code::BadRole, message).hint("set a role of another name with the rules you want")
            }
            AccessError::BadRole(_) => Error::new(Code::BadRole, message),
            AccessError::RoleInUse { .. } => {
                Error::new(Code::RoleInUse, message).hint("give them another role first")
            }
            AccessError::Store(error) => error.into(),
        }
    }
}

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        let message = error.to_string();
        match error {
            VaultError::Unknown(_) => Error::new(Code::UnknownSecret, message)
                .hint("`windlass secrets list` shows those there are, `windlass secrets set` stores one"),
            VaultError::Size { .. } | VaultError::InLabel | VaultError::TooMany => {
                Error::new(Code::BadSecret, message)
            }
            VaultError::Changed(_) => Error::new(Code::UnknownSecret, message),
            VaultError::OtherKey { .. } => Error::new(Code::SecretsLocked, message)
                .hint("copy that file from the master that the secrets were set on, or from a backup"),
            VaultError::Key(problem) => {
                tracing::error!(error = &problem as &dyn std::error::Error, "the key of the secrets");
                Error::new(
                    Code::SecretsLocked,
                    "the key of the secrets can't be used; the master's log says why",
                )
            }
            VaultError::Store(error) => error.into(),
        }
    }
}

impl From<JobError> for Error {
    fn from(error: JobError) -> Self {
        let message = error.to_string();
        match error {
            JobError::UnknownOperation { nearest, .. } => unknown_operation(message, &nearest),
            JobError::BadArguments(problem) => Error {
                hint: problem.hint,
                pointer: Some(problem.pointer),
                ..Error::new(
                    Code::BadArguments,
                    format!(
                        "the arguments do not fit: expected {}, found {}",
                        problem.expected, problem.found
                    ),
                )
            },
            JobError::Target(error) => error.into(),
            JobError::BadDeadline { .. } => Error::new(Code::BadDeadline, message),
            JobError::BadBatch(_) => Error::new(Code::BadBatch, message),
            JobError::NotIdempotent { .. } => Error::new(Code::NotIdempotent, message),
            JobError::Denied(_) => Error::new(Code::Forbidden, message),
            JobError::Planned { .. } => Error::new(Code::PlannedOperation, message),
            JobError::SecretUnattended => Error::new(Code::BadSecret, message),
            JobError::Secret(error) => error.into(),
            JobError::TooManyJobs { .. } => Error::new(Code::TooManyJobs, message),
            JobError::UnknownJob(_) => Error::new(Code::UnknownJob, message),
            JobError::Finished(_) => Error::new(Code::JobFinished, message),
            JobError::Store(error) => error.into(),
        }
    }
}
