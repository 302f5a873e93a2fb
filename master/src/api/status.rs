//! What watches found.

use super::{
    Shared,
    error::{Code, Error},
    extract::{Ask, Segment, limit, page},
};
use axum::{Json, extract::State};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use windlass_types::{
    NodeId,
    api::{
        NodeState, Page, PageQuery,
        status::{NodeStatus, WatchState, WatchStatus},
    },
};

/// Which watches, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatusQuery {
    /// Only this watch, `plugin.watch`, or all of a plugin.
    watch: Option<String>,
    /// Only those that stand so.
    state: Option<WatchState>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items at most; 100 unless told, 1,000 at most.
    limit: Option<u32>,
}

/// Watches of all accepted nodes, by node; without their results.
#[utoipa::path(get, path = "/api/v1/status", tag = "status", params(StatusQuery), responses((status = 200, body = Page<WatchStatus>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<StatusQuery>,
) -> Result<Json<Page<WatchStatus>>, Error> {
    let StatusQuery { watch, state, after, limit: wanted } = query;
    let limit = limit(&PageQuery { after: None, limit: wanted })?;
    let after = after.map(|text| Cursor::parse(&text)).transpose()?;
    let nodes = shared.context.fleet.nodes();
    let begin = after.as_ref().map_or(0, |after| {
        nodes.partition_point(|node| (node.name.as_str(), node.id) < (after.name.as_str(), after.node))
    });
    let mut items = Vec::new();
    for node in nodes[begin..].iter().filter(|node| node.state == NodeState::Accepted) {
        if items.len() > limit as usize {
            break;
        }
        let done = after.as_ref().filter(|after| after.node == node.id);
        items.extend(shared.context.status.brief(node).into_iter().filter(|item| {
            watch.as_deref().is_none_or(|text| crate::status::means(text, &item.plugin, &item.watch))
                && state.is_none_or(|state| item.state == state)
                && done
                    .is_none_or(|done| (item.plugin.as_str(), &*item.watch) > (&*done.plugin, &*done.watch))
        }));
    }
    items.truncate(limit as usize + 1);
    Ok(page(items, limit, |item: &WatchStatus| {
        format!("{},{},{},{}", item.node_name, item.node, item.plugin, item.watch)
    }))
}

/// Watches of a node, by id or name, with their results.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/status", tag = "status", params(("node" = String, Path, description = "Id or name.")), responses((status = 200, body = NodeStatus)))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Segment(node): Segment,
) -> Result<Json<NodeStatus>, Error> {
    let node = shared.context.fleet.find(&node)?;
    Ok(Json(shared.context.status.of(&node).await?))
}

/// Where a page ended. It holds even if that node or watch is gone.
struct Cursor {
    name: String,
    node: NodeId,
    plugin: String,
    watch: String,
}

impl Cursor {
    fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(',');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (name, node, plugin, watch) = (part(), part(), part(), part());
        let node =
            node.parse().map_err(|_| Error::new(Code::BadRequest, "`after` is not the `next` of a page"))?;
        Ok(Cursor { name, node, plugin, watch })
    }
}
