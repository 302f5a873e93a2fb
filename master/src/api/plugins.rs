//! Routes of plugins: what nodes run of them, and what they are let do.

use super::{
    Shared,
    auth::Caller,
    error::Error,
    extract::{Ask, Body, Segment, after, limit, page},
};
use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use windlass_types::{
    PluginName,
    api::{
        Page, PageQuery,
        bundles::{
            ApprovePlugin, Deployment, PinPlugin, PluginApproval, PluginDetail, PluginEvent, PluginSummary,
            RollbackPlugin, UnpinPlugin,
        },
    },
};

/// Plugins, by name.
#[utoipa::path(get, path = "/api/v1/plugins", tag = "plugins", params(PageQuery), responses((status = 200, body = Page<PluginSummary>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<PluginSummary>>, Error> {
    let limit = limit(&query)?;
    let after: Option<PluginName> = after(&query)?;
    let items = shared.context.bundles.plugins(after.as_ref(), limit as usize + 1);
    Ok(page(items, limit, |plugin: &PluginSummary| plugin.name.to_string()))
}

/// A plugin: versions, approval, and what every node runs of it.
#[utoipa::path(get, path = "/api/v1/plugins/{name}", tag = "plugins", params(("name" = PluginName, Path, description = "Name of the plugin.")), responses((status = 200, body = PluginDetail)))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
) -> Result<Json<PluginDetail>, Error> {
    Ok(Json(shared.context.bundles.plugin(&name.parse()?)?))
}

/// What happened to a plugin on the nodes, newest first.
#[utoipa::path(get, path = "/api/v1/plugins/{name}/events", tag = "plugins", params(("name" = PluginName, Path, description = "Name of the plugin."), PageQuery), responses((status = 200, body = Page<PluginEvent>)))]
pub async fn events(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<PluginEvent>>, Error> {
    let limit = limit(&query)?;
    let items = shared.context.bundles.plugin_events(&name.parse()?, after(&query)?, limit + 1).await?;
    Ok(page(items, limit, |event: &PluginEvent| event.seq.to_string()))
}

/// Approve what a bundle asks for, all of it or less. A deployment that waits for it goes on.
#[utoipa::path(post, path = "/api/v1/plugins/{name}/approve", tag = "plugins", params(("name" = PluginName, Path, description = "Name of the plugin.")), request_body = ApprovePlugin, responses((status = 200, body = PluginApproval)))]
pub async fn approve(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
    Body(how): Body<ApprovePlugin>,
) -> Result<Json<PluginApproval>, Error> {
    Ok(Json(shared.context.bundles.approve(&name.parse()?, how, &caller.name).await?))
}

/// Keep nodes at one version, whatever is deployed.
#[utoipa::path(post, path = "/api/v1/plugins/{name}/pin", tag = "plugins", params(("name" = PluginName, Path, description = "Name of the plugin.")), request_body = PinPlugin, responses((status = 200, body = PluginDetail)))]
pub async fn pin(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
    Body(how): Body<PinPlugin>,
) -> Result<Json<PluginDetail>, Error> {
    Ok(Json(shared.context.bundles.pin(&name.parse()?, how, &caller.name).await?))
}

/// Let nodes follow deployments again.
#[utoipa::path(post, path = "/api/v1/plugins/{name}/unpin", tag = "plugins", params(("name" = PluginName, Path, description = "Name of the plugin.")), request_body = UnpinPlugin, responses((status = 200, body = PluginDetail)))]
pub async fn unpin(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
    Body(how): Body<UnpinPlugin>,
) -> Result<Json<PluginDetail>, Error> {
    Ok(Json(shared.context.bundles.unpin(&name.parse()?, how, &caller.name).await?))
}

/// Take every node back to the version before. Without a target, a deployment that is under way is rolled back.
#[utoipa::path(post, path = "/api/v1/plugins/{name}/rollback", tag = "plugins", params(("name" = PluginName, Path, description = "Name of the plugin.")), request_body = RollbackPlugin, responses((status = 201, body = Deployment)))]
pub async fn rollback(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
    Body(how): Body<RollbackPlugin>,
) -> Result<(StatusCode, Json<Deployment>), Error> {
    let made = shared.context.bundles.rollback(&name.parse()?, how, &caller.name).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Which node.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RemoveQuery {
    /// Id or name; all nodes unless told.
    node: Option<String>,
}

/// Take a plugin off all nodes, or off one node, which is kept without it until it is unpinned.
#[utoipa::path(delete, path = "/api/v1/plugins/{name}", tag = "plugins", params(("name" = PluginName, Path, description = "Name of the plugin."), RemoveQuery), responses((status = 204)))]
pub async fn remove(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
    Ask(query): Ask<RemoveQuery>,
) -> Result<StatusCode, Error> {
    shared.context.bundles.remove(&name.parse()?, query.node.as_deref(), &caller.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
