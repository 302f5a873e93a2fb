//! Routes of deployments.

use super::{
    Shared,
    auth::Caller,
    error::{Code, Error},
    extract::{Ask, Body, Segment, after, limit, page},
};
use crate::{
    access::{Need, On},
    deployments::Action,
};
use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use utoipa::IntoParams;
use windlass_types::{
    DeploymentId, PluginName,
    api::{
        Page, PageQuery,
        access::Permission,
        bundles::{Deployment, DeploymentDetail, NewDeployment},
    },
};

/// The longest wait for a change.
pub const MAX_WAIT_MS: u64 = 600_000;

/// Which deployments, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeploymentsQuery {
    /// Only those of this plugin.
    #[param(value_type = Option<String>)]
    plugin: Option<PluginName>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items at most; 100 unless told, 1,000 at most.
    limit: Option<u32>,
}

/// When to answer.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// What is known already: the answer comes when there is a newer revision, or the deployment has ended.
    revision: Option<u64>,
    /// Or after so long, 10 minutes at most; at once unless told.
    wait_ms: Option<u64>,
}

/// Roll a bundle out.
#[utoipa::path(post, path = "/api/v1/deployments", tag = "deployments", request_body = NewDeployment, responses((status = 201, body = Deployment)))]
pub async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(new): Body<NewDeployment>,
) -> Result<(StatusCode, Json<Deployment>), Error> {
    may_deploy(&caller, &new).await?;
    let made = shared.context.bundles.deploy(new, &caller.name).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Nodes that join later get the bundle too, so the limits of the role have to be in the target.
async fn may_deploy(caller: &Caller, new: &NewDeployment) -> Result<(), Error> {
    let subject = format!("deployment of {}", new.plugin);
    let need = |permission| Need::Permission(permission);
    if new.approve {
        caller.may(need(Permission::PluginsApprove), On::Everywhere, &subject).await?;
    }
    // The one whose place it takes may be on any node.
    let on = match &new.target {
        Some(target) if !new.replace => On::Lasting(target),
        _ => On::Everywhere,
    };
    caller.may(need(Permission::PluginsDeploy), on, &subject).await
}

/// Deployments, newest first.
#[utoipa::path(get, path = "/api/v1/deployments", tag = "deployments", params(DeploymentsQuery), responses((status = 200, body = Page<Deployment>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<DeploymentsQuery>,
) -> Result<Json<Page<Deployment>>, Error> {
    let asked = PageQuery { after: query.after, limit: query.limit };
    let limit = limit(&asked)?;
    let before: Option<DeploymentId> = after(&asked)?;
    let items = shared.context.bundles.deployments(query.plugin.as_ref(), before, limit + 1).await?;
    Ok(page(items, limit, |deployment: &Deployment| deployment.id.to_string()))
}

/// A deployment with its nodes.
#[utoipa::path(get, path = "/api/v1/deployments/{id}", tag = "deployments", params(("id" = DeploymentId, Path), WaitQuery), responses((status = 200, body = DeploymentDetail)))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Segment(id): Segment,
    Ask(query): Ask<WaitQuery>,
) -> Result<Json<DeploymentDetail>, Error> {
    let wait = query.wait_ms.unwrap_or(0);
    if wait > MAX_WAIT_MS {
        return Err(Error::new(Code::BadRequest, format!("`wait_ms` is more than {MAX_WAIT_MS}")));
    }
    let wait = Duration::from_millis(wait);
    Ok(Json(shared.context.bundles.deployment(id.parse()?, query.revision, wait).await?))
}

/// Give the bundle to no further node until it is resumed.
#[utoipa::path(post, path = "/api/v1/deployments/{id}/pause", tag = "deployments", params(("id" = DeploymentId, Path)), responses((status = 200, body = Deployment)))]
pub async fn pause(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Deployment>, Error> {
    control(&shared, &caller, &id, Action::Pause).await
}

/// Go on. What has failed so far is accepted.
#[utoipa::path(post, path = "/api/v1/deployments/{id}/resume", tag = "deployments", params(("id" = DeploymentId, Path)), responses((status = 200, body = Deployment)))]
pub async fn resume(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Deployment>, Error> {
    control(&shared, &caller, &id, Action::Resume).await
}

/// End it where it is: nodes stay as they are.
#[utoipa::path(post, path = "/api/v1/deployments/{id}/abort", tag = "deployments", params(("id" = DeploymentId, Path)), responses((status = 200, body = Deployment)))]
pub async fn abort(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Deployment>, Error> {
    control(&shared, &caller, &id, Action::Abort).await
}

/// Take every node of it back to what it ran before.
#[utoipa::path(post, path = "/api/v1/deployments/{id}/rollback", tag = "deployments", params(("id" = DeploymentId, Path)), responses((status = 200, body = Deployment)))]
pub async fn rollback(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Deployment>, Error> {
    control(&shared, &caller, &id, Action::Rollback).await
}

async fn control(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    action: Action,
) -> Result<Json<Deployment>, Error> {
    let id = id.parse()?;
    let target = shared.context.bundles.deployment(id, None, Duration::ZERO).await?.deployment.target;
    let need = Need::Permission(Permission::PluginsDeploy);
    caller.may(need, On::Lasting(&target), &format!("deployment {id}")).await?;
    Ok(Json(shared.context.bundles.control(id, action, &caller.name).await?))
}
