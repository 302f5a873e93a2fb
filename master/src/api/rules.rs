//! Routes of rules.
//!
//! Whoever makes a rule must be allowed what it does: its job on every node that it may come to mean.

use super::{
    Shared,
    auth::Caller,
    error::Error,
    extract::{Ask, Body, Segment, after, limit, page},
};
use crate::access::{Need, On};
use axum::{Json, extract::State};
use http::StatusCode;
use std::sync::Arc;
use windlass_types::{
    Effect,
    api::{
        Page, PageQuery,
        rules::{Firing, NewRule, Rule, Then, Tried, TryRule},
    },
};

/// Rules, by name.
#[utoipa::path(get, path = "/api/v1/rules", tag = "rules", params(PageQuery), responses((status = 200, body = Page<Rule>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<Rule>>, Error> {
    let limit = limit(&query)?;
    let items = shared.context.rules.list(after(&query)?.as_ref(), limit as usize + 1);
    Ok(page(items, limit, |rule: &Rule| rule.name.to_string()))
}

/// Do something whenever something happens, from now on.
#[utoipa::path(post, path = "/api/v1/rules", tag = "rules", request_body = NewRule, responses((status = 201, body = Rule)))]
pub async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(new): Body<NewRule>,
) -> Result<(StatusCode, Json<Rule>), Error> {
    let (job, on) = match &new.then {
        Then::Webhook(_) => (None, On::Everywhere),
        Then::Run(job) => (Some(job), On::Lasting(&job.target)),
        // Any node may be the one that something happens to.
        Then::RunThere(job) => (Some(job), On::Everywhere),
    };
    if let Some(job) = job {
        // One that no node offers may do anything.
        let effect = shared.context.jobs.effect(&job.operation).unwrap_or(Effect::Destroy);
        let need = Need::Operation { name: &job.operation, effect };
        caller.may(need, on, &format!("rule {}", new.name)).await?;
    }
    Ok((StatusCode::CREATED, Json(shared.context.rules.create(new, &caller.name).await?)))
}

/// Which events of the past would have fitted; nothing is done.
#[utoipa::path(post, path = "/api/v1/rules/try", tag = "rules", request_body = TryRule, responses((status = 200, body = Tried)))]
pub async fn try_on(
    State(shared): State<Arc<Shared>>,
    Body(tried): Body<TryRule>,
) -> Result<Json<Tried>, Error> {
    Ok(Json(shared.context.rules.try_on(tried).await?))
}

/// One rule.
#[utoipa::path(get, path = "/api/v1/rules/{name}", tag = "rules", params(("name" = String, Path)), responses((status = 200, body = Rule)))]
pub async fn show(State(shared): State<Arc<Shared>>, Segment(name): Segment) -> Result<Json<Rule>, Error> {
    Ok(Json(shared.context.rules.get(&name)?))
}

/// Forget a rule. Its jobs go on.
#[utoipa::path(delete, path = "/api/v1/rules/{name}", tag = "rules", params(("name" = String, Path)), responses((status = 204)))]
pub async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<StatusCode, Error> {
    shared.context.rules.delete(&name, &caller.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Do nothing until it is resumed.
#[utoipa::path(post, path = "/api/v1/rules/{name}/pause", tag = "rules", params(("name" = String, Path)), responses((status = 200, body = Rule)))]
pub async fn pause(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<Json<Rule>, Error> {
    Ok(Json(shared.context.rules.pause(&name, true, &caller.name).await?))
}

/// Go on with what happens from now on.
#[utoipa::path(post, path = "/api/v1/rules/{name}/resume", tag = "rules", params(("name" = String, Path)), responses((status = 200, body = Rule)))]
pub async fn resume(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<Json<Rule>, Error> {
    Ok(Json(shared.context.rules.pause(&name, false, &caller.name).await?))
}

/// Events that fitted a rule, newest first, also those that were left out. The newest 1,000 are kept.
#[utoipa::path(get, path = "/api/v1/rules/{name}/firings", tag = "rules", params(("name" = String, Path), PageQuery), responses((status = 200, body = Page<Firing>)))]
pub async fn firings(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<Firing>>, Error> {
    let limit = limit(&query)?;
    let firings = shared.context.rules.firings(&name, after(&query)?, limit + 1).await?;
    Ok(page(firings, limit, |firing: &Firing| firing.seq.to_string()))
}
