//! Routes of plans and their runs.
//!
//! Who may make or apply a plan, or take its run in hand, is judged on all its operations and nodes.

use super::{
    Shared,
    auth::Caller,
    error::{Code, Error},
    events::{last_event_id, wants_stream},
    extract::{Ask, Body, Segment, after, limit, page},
};
use crate::{
    access::Permit,
    planner::PlannerError,
    plans::{RunError, Verb, judged},
};
use axum::{
    Json,
    extract::{Path, State},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use std::{convert::Infallible, sync::Arc, time::Duration};
use windlass_types::{
    PlanId,
    api::{
        Page, PageQuery,
        plans::{
            ApplyPlan, NewPlan, PlanInfo, PlanRecord, PlanReview, PlanSource, PlannedCall, Run, RunEvent,
            RunInfo,
        },
    },
    plans::Plan,
};

/// Bytes of a plan at most.
pub const MAX_PLAN: usize = 8 << 20;
/// Watchers get a comment this often, so that both ends notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What to answer; a denial is audited.
async fn answer<T>(result: Result<T, RunError>, caller: &Caller, subject: &str) -> Result<T, Error> {
    match result {
        Err(RunError::Denied(denied)) => Err(caller.refused(denied, subject).await),
        other => Ok(other?),
    }
}

/// The plan that is asked for, and the id that it has: what a planned operation makes can carry it.
async fn given(shared: &Shared, new: NewPlan) -> Result<(PlanId, Plan, PlanSource), Error> {
    let id = PlanId::new();
    match (new.plan, new.operation) {
        (Some(plan), None) => Ok((id, plan, PlanSource::Written)),
        (None, Some(PlannedCall { name, args })) => {
            let info = shared.context.jobs.known(&name)?;
            let plan = shared.context.planner.make(&info, &args, id).await?;
            Ok((id, plan, PlanSource::Operation { operation: name, args }))
        }
        _ => Err(Error::new(Code::BadRequest, "a plan is made of either `plan` or `operation`")),
    }
}

/// Plans, newest first.
#[utoipa::path(get, path = "/api/v1/plans", tag = "plans", params(PageQuery), responses((status = 200, body = Page<PlanInfo>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<PlanInfo>>, Error> {
    let limit = limit(&query)?;
    let items = shared.context.plans.page(after(&query)?, limit + 1).await?;
    Ok(page(items, limit, |plan: &PlanInfo| plan.id.to_string()))
}

/// Check a plan and keep it, so that it can be applied.
#[utoipa::path(post, path = "/api/v1/plans", tag = "plans", request_body = NewPlan, responses((status = 201, body = PlanRecord)))]
pub async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(new): Body<NewPlan>,
) -> Result<(StatusCode, Json<PlanRecord>), Error> {
    let permit = Permit(caller.role.clone());
    let (id, plan, source) = given(&shared, new).await?;
    let made = shared.context.plans.make(id, plan, source, &caller.name, &permit).await;
    Ok((StatusCode::CREATED, Json(answer(made, &caller, "plan").await?)))
}

/// Check a plan, and keep nothing.
#[utoipa::path(post, path = "/api/v1/plans/check", tag = "plans", request_body = NewPlan, responses((status = 200, body = PlanReview)))]
pub async fn check(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(new): Body<NewPlan>,
) -> Result<Json<PlanReview>, Error> {
    let permit = Permit(caller.role.clone());
    let (id, plan, _) = given(&shared, new).await?;
    let checked = shared.context.plans.check(id, plan, &permit).await;
    Ok(Json(answer(checked, &caller, "check of a plan").await?))
}

/// One plan.
#[utoipa::path(get, path = "/api/v1/plans/{id}", tag = "plans", params(("id" = String, Path)), responses((status = 200, body = PlanRecord)))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Segment(id): Segment,
) -> Result<Json<PlanRecord>, Error> {
    Ok(Json(shared.context.plans.get(&id).await?))
}

/// Apply a plan: its run, which has its id, begins. A plan is applied once at most, and only while what it
/// rests on is as it was.
#[utoipa::path(post, path = "/api/v1/plans/{id}/apply", tag = "plans", params(("id" = String, Path)), request_body = ApplyPlan, responses((status = 201, body = Run)))]
pub async fn apply(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
    Body(asked): Body<ApplyPlan>,
) -> Result<(StatusCode, Json<Run>), Error> {
    let permit = Permit(caller.role.clone());
    let applied = shared.context.plans.apply(&id, &asked, &caller.name, &permit).await;
    let run = answer(applied, &caller, &format!("apply plan {id}")).await?;
    Ok((StatusCode::CREATED, Json(run)))
}

/// Runs, newest plan first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "plans", params(PageQuery), responses((status = 200, body = Page<RunInfo>)))]
pub async fn runs(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<RunInfo>>, Error> {
    let limit = limit(&query)?;
    let items = shared.context.plans.runs(after(&query)?, limit + 1).await?;
    Ok(page(items, limit, |run: &RunInfo| run.id.to_string()))
}

/// One run, with where each of its steps stands.
#[utoipa::path(get, path = "/api/v1/runs/{id}", tag = "plans", params(("id" = String, Path)), responses((status = 200, body = Run)))]
pub async fn run(State(shared): State<Arc<Shared>>, Segment(id): Segment) -> Result<Json<Run>, Error> {
    Ok(Json(shared.context.plans.run(&id).await?))
}

/// What happened to a run, oldest first. With `Accept: text/event-stream` a stream of server-sent events:
/// all there were after `Last-Event-ID` or `after`, and then as they come; `id` is the `seq` of the event. It
/// ends after `finished`.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{id}/events",
    tag = "plans",
    params(("id" = String, Path), PageQuery, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was seen, for a stream.")),
    responses((status = 200, content((Page<RunEvent> = "application/json"), (RunEvent = "text/event-stream"))))
)]
pub async fn events(
    State(shared): State<Arc<Shared>>,
    Segment(id): Segment,
    Ask(query): Ask<PageQuery>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let plans = &shared.context.plans;
    let begin = after(&query)?.unwrap_or(0);
    if !wants_stream(&headers) {
        let limit = limit(&query)?;
        let events = plans.run_events(&id, begin, limit + 1).await?;
        return Ok(page(events, limit, |event: &RunEvent| event.seq.to_string()).into_response());
    }
    let begin = last_event_id(&headers)?.unwrap_or(begin);
    let events = plans.watch(&id, begin).await?.map(|event| {
        let data = serde_json::to_string(&event).unwrap_or_else(|_| "null".into());
        Ok::<_, Infallible>(Event::default().id(event.seq.to_string()).data(data))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

async fn do_to(shared: &Shared, caller: &Caller, id: &str, verb: Verb) -> Result<Json<Run>, Error> {
    let permit = Permit(caller.role.clone());
    let done = shared.context.plans.do_to(id, &verb, &caller.name, &permit).await;
    Ok(Json(answer(done, caller, &format!("run {id}")).await?))
}

/// Begin nothing new until it is resumed. What is under way goes on to its end.
#[utoipa::path(post, path = "/api/v1/runs/{id}/pause", tag = "plans", params(("id" = String, Path)), responses((status = 200, body = Run)))]
pub async fn pause(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Run>, Error> {
    do_to(&shared, &caller, &id, Verb::Pause).await
}

/// Go on.
#[utoipa::path(post, path = "/api/v1/runs/{id}/resume", tag = "plans", params(("id" = String, Path)), responses((status = 200, body = Run)))]
pub async fn resume(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Run>, Error> {
    do_to(&shared, &caller, &id, Verb::Resume).await
}

/// Roll back: what is under way comes to its end, and then all that was done is undone.
#[utoipa::path(post, path = "/api/v1/runs/{id}/cancel", tag = "plans", params(("id" = String, Path)), responses((status = 200, body = Run)))]
pub async fn cancel(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Run>, Error> {
    do_to(&shared, &caller, &id, Verb::Cancel).await
}

/// End it as it is: nothing more begins, and nothing is undone.
#[utoipa::path(post, path = "/api/v1/runs/{id}/abandon", tag = "plans", params(("id" = String, Path)), responses((status = 200, body = Run)))]
pub async fn abandon(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Run>, Error> {
    do_to(&shared, &caller, &id, Verb::Abandon).await
}

/// Agree to a step that asks.
#[utoipa::path(post, path = "/api/v1/runs/{id}/steps/{step}/approve", tag = "plans", params(("id" = String, Path), ("step" = String, Path)), responses((status = 200, body = Run)))]
pub async fn approve(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path((id, step)): Path<(String, String)>,
) -> Result<Json<Run>, Error> {
    do_to(&shared, &caller, &id, Verb::Approve(step)).await
}

/// Try a step that failed, or an undo that did, once more.
#[utoipa::path(post, path = "/api/v1/runs/{id}/steps/{step}/retry", tag = "plans", params(("id" = String, Path), ("step" = String, Path)), responses((status = 200, body = Run)))]
pub async fn retry(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path((id, step)): Path<(String, String)>,
) -> Result<Json<Run>, Error> {
    do_to(&shared, &caller, &id, Verb::Retry(step)).await
}

/// Go on as if a step that failed were done; in a run that rolls back, leave what it did as it is.
#[utoipa::path(post, path = "/api/v1/runs/{id}/steps/{step}/skip", tag = "plans", params(("id" = String, Path), ("step" = String, Path)), responses((status = 200, body = Run)))]
pub async fn skip(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path((id, step)): Path<(String, String)>,
) -> Result<Json<Run>, Error> {
    do_to(&shared, &caller, &id, Verb::Skip(step)).await
}

impl From<PlannerError> for Error {
    fn from(error: PlannerError) -> Self {
        let message = error.to_string();
        match error {
            PlannerError::NotPlanned(name) => Error::new(Code::NotPlanned, message)
                .hint(format!("it runs on nodes: `windlass run {name} …`")),
            PlannerError::BadArguments { error, .. } => Error {
                hint: error.hint,
                pointer: Some(error.pointer),
                ..Error::new(Code::BadArguments, message)
            },
            PlannerError::NotStored { .. } => Error::new(Code::BundleNotStored, message)
                .hint("plans are made by bundles in the store: `windlass plugins push FILE`"),
            PlannerError::NoPlan { outcome, .. } => {
                let why = judged(&outcome).1.unwrap_or_default();
                Error::new(Code::NoPlan, format!("{message}: {why}"))
            }
            PlannerError::BadPlan { pointer, .. } => {
                Error { pointer: Some(pointer), ..Error::new(Code::BadPlan, message) }
            }
            PlannerError::Unreadable(_, error) => error.into(),
            PlannerError::Unusable { .. } => {
                tracing::error!("{message}");
                Error::new(Code::PlannerFailed, message)
            }
            PlannerError::Store(error) => error.into(),
        }
    }
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        let message = error.to_string();
        match error {
            RunError::UnknownPlan(_) => Error::new(Code::UnknownPlan, message),
            RunError::UnknownRun(_) => Error::new(Code::UnknownRun, message),
            RunError::UnknownStep { .. } => Error::new(Code::UnknownStep, message),
            RunError::Bad(problems) => {
                let error = Error::new(Code::BadPlan, message);
                let others: Vec<String> = problems.iter().skip(1).map(ToString::to_string).collect();
                let error =
                    Error { pointer: problems.first().map(|problem| problem.pointer.clone()), ..error };
                if others.is_empty() { error } else { error.hint(format!("also: {}", others.join("; "))) }
            }
            RunError::Applied(_) => {
                Error::new(Code::PlanApplied, message).hint("a plan is applied once: make it again")
            }
            RunError::Expired(_) => Error::new(Code::PlanExpired, message).hint("make it again"),
            RunError::Moved { .. } | RunError::OtherVersion(_) => Error::new(Code::FleetMoved, message)
                .hint("make the plan again, and look at it again: it may be another one now"),
            RunError::Locked { .. } => {
                Error::new(Code::PlanLocked, message).hint("apply it when that run is over")
            }
            RunError::TooMany(_) => Error::new(Code::TooManyRuns, message),
            RunError::Over { .. } => Error::new(Code::RunOver, message),
            RunError::WrongState { .. } => Error::new(Code::WrongStepState, message),
            RunError::Denied(_) => Error::new(Code::Forbidden, message),
            RunError::Store(error) => error.into(),
        }
    }
}
