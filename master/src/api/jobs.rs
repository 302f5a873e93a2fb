//! Routes of operations, targets and jobs.

use super::{
    Shared,
    auth::Caller,
    error::{Code, Error, unknown_operation},
    events::last_event_id,
    extract::{Ask, Body, Segment, after, limit, page},
};
use crate::{
    access::{Denied, Need, On, Permit, decide},
    jobs::{JobError, events::Kept},
    targets::nearest_names,
};
use axum::{
    Json,
    extract::{Path, State},
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use std::{convert::Infallible, sync::Arc, time::Duration};
use utoipa::IntoParams;
use windlass_types::{
    JobId, OperationName,
    api::{
        Job, JobEvent, JobNode, JobOutput, JobTrace, NewJob, OperationInfo, Page, PageQuery, Resolved, Target,
    },
};

/// The longest wait for the end of a job.
pub const MAX_WAIT_MS: u64 = 600_000;
/// The longest wait for output.
const MAX_OUTPUT_WAIT_MS: u64 = 30_000;
/// Watchers get a comment this often, so that both ends notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Operations that at least one node offers, by name.
#[utoipa::path(get, path = "/api/v1/operations", tag = "jobs", params(PageQuery), responses((status = 200, body = Page<OperationInfo>)))]
pub async fn operations(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<OperationInfo>>, Error> {
    let limit = limit(&query)?;
    let operations = shared.context.catalog.operations();
    let begin: std::ops::Bound<OperationName> =
        after(&query)?.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
    let items = operations
        .range((begin, std::ops::Bound::Unbounded))
        .take(limit as usize + 1)
        .map(|(_, info)| (**info).clone())
        .collect();
    Ok(page(items, limit, |info: &OperationInfo| info.name.to_string()))
}

/// One operation, with documentation and types.
#[utoipa::path(get, path = "/api/v1/operations/{name}", tag = "jobs", params(("name" = OperationName, Path, description = "`plugin.interface.function`.")), responses((status = 200, body = OperationInfo)))]
pub async fn operation(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
) -> Result<Json<OperationInfo>, Error> {
    let operations = shared.context.catalog.operations();
    let info = name.parse::<OperationName>().ok().and_then(|name| operations.get(&name));
    match info {
        Some(info) => Ok(Json((**info).clone())),
        None => {
            let shown: String = name.chars().take(200).collect();
            let nearest = nearest_names(&shown, operations.keys().map(OperationName::as_str));
            Err(unknown_operation(format!("no node offers an operation `{shown}`"), &nearest))
        }
    }
}

/// The nodes that a target means now.
#[utoipa::path(post, path = "/api/v1/targets/resolve", tag = "jobs", request_body = Target, responses((status = 200, body = Resolved)))]
pub async fn resolve(
    State(shared): State<Arc<Shared>>,
    Body(target): Body<Target>,
) -> Result<Json<Resolved>, Error> {
    Ok(Json(shared.context.jobs.resolve(&target).await?))
}

/// Whether to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// How long to wait for the end of the job, in milliseconds; not at all unless told, 600,000 at most.
    #[serde(default)]
    wait_ms: u64,
}

/// Run an operation. Replies when the job is finished, or after `wait_ms`.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", params(WaitQuery), request_body = NewJob, responses((status = 201, body = Job)))]
pub async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Ask(query): Ask<WaitQuery>,
    Body(new): Body<NewJob>,
) -> Result<(StatusCode, Json<Job>), Error> {
    let jobs = &shared.context.jobs;
    let subject = format!("job of {}", new.operation);
    let permit = Permit(caller.role.clone());
    let created = match jobs.create_permitted(new, &caller.name, &permit).await {
        Err(JobError::Denied(denied)) => return Err(caller.refused(denied, &subject).await),
        other => other?,
    };
    let job = match query.wait_ms.min(MAX_WAIT_MS) {
        0 => created.job,
        wait => jobs.wait(created, Duration::from_millis(wait)).await?,
    };
    Ok((StatusCode::CREATED, Json(job)))
}

/// Jobs, newest first. A page ends early when its jobs are large.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", params(PageQuery), responses((status = 200, body = Page<Job>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<Job>>, Error> {
    let (items, more) = shared.context.jobs.page(after(&query)?, limit(&query)?).await?;
    let next = items.last().filter(|_| more).map(|job| job.id.to_string());
    Ok(Json(Page { items, next }))
}

/// One job.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = JobId, Path)), responses((status = 200, body = Job)))]
pub async fn show(State(shared): State<Arc<Shared>>, Segment(id): Segment) -> Result<Json<Job>, Error> {
    let id: JobId = id.parse()?;
    match shared.context.jobs.get(id).await? {
        Some(job) => Ok(Json(job)),
        None => Err(JobError::UnknownJob(id).into()),
    }
}

/// The nodes of a job with their outcomes, by name. A page ends early when its outcomes are large.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/nodes", tag = "jobs", params(("id" = JobId, Path), PageQuery), responses((status = 200, body = Page<JobNode>)))]
pub async fn nodes(
    State(shared): State<Arc<Shared>>,
    Segment(id): Segment,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<JobNode>>, Error> {
    let after = after::<u32>(&query)?.map_or(-1, i64::from);
    let (nodes, more) = shared.context.jobs.nodes(id.parse()?, after, limit(&query)?).await?;
    let next = nodes.last().filter(|_| more).map(|(position, _)| position.to_string());
    Ok(Json(Page { items: nodes.into_iter().map(|(_, node)| node).collect(), next }))
}

/// What happens to a job, as server-sent events. `id` is the `seq` of the event; with `Last-Event-ID`
/// the stream goes on after that one, or begins with a new snapshot. It ends after `finished`.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/events",
    tag = "jobs",
    params(("id" = JobId, Path), ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was seen.")),
    responses((status = 200, body = JobEvent, content_type = "text/event-stream"))
)]
pub async fn events(
    State(shared): State<Arc<Shared>>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + Send + use<>>, Error> {
    let last = last_event_id(&headers)?;
    let events = shared.context.jobs.watch(id.parse()?, last).await?;
    let events = events.map(|Kept { seq, json, .. }| Ok(Event::default().id(seq.to_string()).data(&*json)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Cancel a job: nodes that do not have it yet never get it, the others are told to stop.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = JobId, Path)), responses((status = 200, body = Job)))]
pub async fn cancel(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Job>, Error> {
    let id: JobId = id.parse()?;
    may_cancel(&shared, &caller, id).await?;
    Ok(Json(shared.context.jobs.cancel(id, &caller.name).await?))
}

/// Whoever may make a job may cancel it, and nobody else.
async fn may_cancel(shared: &Shared, caller: &Caller, id: JobId) -> Result<(), Error> {
    let jobs = &shared.context.jobs;
    let job = jobs.get(id).await?.ok_or(JobError::UnknownJob(id))?;
    let subject = format!("cancel job {id}");
    let need = Need::Operation { name: &job.operation, effect: job.effect };
    // Most roles are about all nodes, and then it does not matter which ones these are.
    if decide(&caller.role, need, On::Everywhere).is_ok() {
        return Ok(());
    }
    let mut nodes = Vec::new();
    let mut gone = Vec::new();
    for (node, name) in jobs.all_nodes(id).await? {
        match jobs.node(node) {
            Some(record) => nodes.push(record),
            // What labels it had is not known any more.
            None => gone.push(name),
        }
    }
    let denied = if gone.is_empty() {
        Permit(caller.role.clone()).operation(&job.operation, job.effect, &nodes).await.err()
    } else {
        let what = format!("`{}` ({})", job.operation, job.effect);
        Some(Denied::Nodes { role: caller.role.name.clone(), what, nodes: gone })
    };
    match denied {
        None => Ok(()),
        Some(denied) => Err(caller.refused(denied, &subject).await),
    }
}

/// What an operation asked of its host on one node.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/nodes/{node}/trace", tag = "jobs", params(("id" = JobId, Path), ("node" = String, Path, description = "Id or name.")), responses((status = 200, body = JobTrace)))]
pub async fn trace(
    State(shared): State<Arc<Shared>>,
    Path((id, node)): Path<(String, String)>,
) -> Result<Json<JobTrace>, Error> {
    let id: JobId = id.parse()?;
    match shared.context.jobs.trace(id, &node).await? {
        Some(trace) => Ok(Json(trace)),
        None => {
            let node: String = node.chars().take(253).collect();
            Err(Error::new(Code::UnknownNode, format!("job {id} has no node `{node}`")))
        }
    }
}

/// From where, and how long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OutputQuery {
    /// Bytes that are known already.
    #[serde(default)]
    after: u64,
    /// So long at most, if there is no more yet and the operation runs; up to 30,000.
    #[serde(default)]
    wait_ms: u64,
}

/// What an operation has written on its way on one node, from a byte on.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/nodes/{node}/output", tag = "jobs", params(("id" = JobId, Path), ("node" = String, Path, description = "Id or name."), OutputQuery), responses((status = 200, body = JobOutput)))]
pub async fn output(
    State(shared): State<Arc<Shared>>,
    Path((id, node)): Path<(String, String)>,
    Ask(query): Ask<OutputQuery>,
) -> Result<Json<JobOutput>, Error> {
    let id: JobId = id.parse()?;
    let wait = Duration::from_millis(query.wait_ms.min(MAX_OUTPUT_WAIT_MS));
    match shared.context.jobs.output(id, &node, query.after, wait).await? {
        Some(output) => Ok(Json(output)),
        None if shared.context.jobs.get(id).await?.is_none() => Err(JobError::UnknownJob(id).into()),
        None => {
            let node: String = node.chars().take(253).collect();
            Err(Error::new(Code::UnknownNode, format!("job {id} has no node `{node}`")))
        }
    }
}
