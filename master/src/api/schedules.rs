//! Routes of schedules.
//!
//! Whoever may run an operation may let it run by the clock. The nodes are looked up anew each time, so a
//! role that allows it on some nodes only has to find its own limits in the target ([`On::Lasting`]).

use super::{
    Shared,
    auth::Caller,
    error::{Code, Error},
    extract::{Ask, Body, Segment, after, limit, page},
};
use crate::{
    access::{Need, On},
    schedules::MOST_TIMES,
};
use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use windlass_types::{
    Effect, ScheduleName,
    api::{
        NewJob, Page, PageQuery,
        schedules::{NewSchedule, Schedule, ScheduleRun, ScheduleTimes},
    },
};

/// How many times.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TimesQuery {
    /// 5 unless told, 1,000 at most.
    count: Option<usize>,
}

/// Schedules, by name.
#[utoipa::path(get, path = "/api/v1/schedules", tag = "schedules", params(PageQuery), responses((status = 200, body = Page<Schedule>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<Schedule>>, Error> {
    let limit = limit(&query)?;
    let items = shared.context.schedules.list(after(&query)?.as_ref(), limit as usize + 1);
    Ok(page(items, limit, |schedule: &Schedule| schedule.name.to_string()))
}

/// Run an operation by the clock.
#[utoipa::path(post, path = "/api/v1/schedules", tag = "schedules", request_body = NewSchedule, responses((status = 201, body = Schedule)))]
pub async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(new): Body<NewSchedule>,
) -> Result<(StatusCode, Json<Schedule>), Error> {
    may(&shared, &caller, &new.job, &new.name).await?;
    Ok((StatusCode::CREATED, Json(shared.context.schedules.create(new, &caller.name).await?)))
}

/// An error unless the caller may run this job each time.
async fn may(shared: &Shared, caller: &Caller, job: &NewJob, name: &ScheduleName) -> Result<(), Error> {
    // One that no node offers may do anything.
    let effect = shared.context.jobs.effect(&job.operation).unwrap_or(Effect::Destroy);
    let need = Need::Operation { name: &job.operation, effect };
    caller.may(need, On::Lasting(&job.target), &format!("schedule {name}")).await
}

/// The same for a schedule that is there.
async fn may_change(shared: &Shared, caller: &Caller, name: &str) -> Result<(), Error> {
    let schedule = shared.context.schedules.get(name)?;
    may(shared, caller, &schedule.job, &schedule.name).await
}

/// One schedule.
#[utoipa::path(get, path = "/api/v1/schedules/{name}", tag = "schedules", params(("name" = String, Path)), responses((status = 200, body = Schedule)))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
) -> Result<Json<Schedule>, Error> {
    Ok(Json(shared.context.schedules.get(&name)?))
}

/// Forget a schedule. Its jobs go on.
#[utoipa::path(delete, path = "/api/v1/schedules/{name}", tag = "schedules", params(("name" = String, Path)), responses((status = 204)))]
pub async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<StatusCode, Error> {
    may_change(&shared, &caller, &name).await?;
    shared.context.schedules.delete(&name, &caller.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Run nothing until it is resumed.
#[utoipa::path(post, path = "/api/v1/schedules/{name}/pause", tag = "schedules", params(("name" = String, Path)), responses((status = 200, body = Schedule)))]
pub async fn pause(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<Json<Schedule>, Error> {
    may_change(&shared, &caller, &name).await?;
    Ok(Json(shared.context.schedules.pause(&name, true, &caller.name).await?))
}

/// Go on. Times that passed meanwhile stay left out.
#[utoipa::path(post, path = "/api/v1/schedules/{name}/resume", tag = "schedules", params(("name" = String, Path)), responses((status = 200, body = Schedule)))]
pub async fn resume(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<Json<Schedule>, Error> {
    may_change(&shared, &caller, &name).await?;
    Ok(Json(shared.context.schedules.pause(&name, false, &caller.name).await?))
}

/// Run it now, out of turn, also when it is paused.
#[utoipa::path(post, path = "/api/v1/schedules/{name}/run", tag = "schedules", params(("name" = String, Path)), responses((status = 201, body = ScheduleRun)))]
pub async fn run(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<(StatusCode, Json<ScheduleRun>), Error> {
    may_change(&shared, &caller, &name).await?;
    Ok((StatusCode::CREATED, Json(shared.context.schedules.run_now(&name, &caller.name).await?)))
}

/// Runs of a schedule, newest first, also those that were left out. The newest 1,000 are kept.
#[utoipa::path(get, path = "/api/v1/schedules/{name}/runs", tag = "schedules", params(("name" = String, Path), PageQuery), responses((status = 200, body = Page<ScheduleRun>)))]
pub async fn runs(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<ScheduleRun>>, Error> {
    let limit = limit(&query)?;
    let runs = shared.context.schedules.runs(&name, after(&query)?, limit + 1).await?;
    Ok(page(runs, limit, |run: &ScheduleRun| run.fire_ms.to_string()))
}

/// The next times of a schedule, as if it were not paused.
#[utoipa::path(get, path = "/api/v1/schedules/{name}/next", tag = "schedules", params(("name" = String, Path), TimesQuery), responses((status = 200, body = ScheduleTimes)))]
pub async fn next(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
    Ask(query): Ask<TimesQuery>,
) -> Result<Json<ScheduleTimes>, Error> {
    let count = query.count.unwrap_or(5);
    if count == 0 || count > MOST_TIMES {
        return Err(Error::new(Code::BadRequest, format!("`count` is {count}: expected 1 to {MOST_TIMES}")));
    }
    Ok(Json(ScheduleTimes { times_ms: shared.context.schedules.next(&name, count)? }))
}
