//! Routes of nodes and join tokens.
//!
//! A change goes into the audit log before it is made, so that none can go past it; one that then
//! fails gets a second entry that says so.

use super::{
    Shared,
    auth::Caller,
    error::Error,
    extract::{Ask, Body, Segment, after, limit, page},
};
use crate::{
    access::{Need, On},
    fleet::{FleetError, NodeRecord},
    store::{
        StoreError,
        audit::{self, NewEntry},
    },
};
use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::IntoParams;
use windlass_types::{
    NodeId,
    api::{
        AcceptNode, ChangeNode, JoinToken, NewJoinToken, Node, NodeState, Page, PageQuery, access::Permission,
    },
};

/// Which nodes, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NodesQuery {
    /// Only nodes in this state.
    state: Option<NodeState>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items at most; 100 unless told, 1,000 at most.
    limit: Option<u32>,
}

/// Nodes, by name.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "nodes", params(NodesQuery), responses((status = 200, body = Page<Node>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<NodesQuery>,
) -> Result<Json<Page<Node>>, Error> {
    let state = query.state;
    let query = PageQuery { after: query.after, limit: query.limit };
    let limit = limit(&query)?;
    // The list is sorted by name and id, so a cursor of both holds even if its node is gone.
    let after = match &query.after {
        None => None,
        Some(text) => {
            let (name, id) = text.split_once(',').unwrap_or((text, ""));
            let id: NodeId = id.parse().map_err(|_| {
                Error::new(super::error::Code::BadRequest, "`after` is not the `next` of a page")
            })?;
            Some((name.to_owned(), id))
        }
    };
    let nodes = shared.context.fleet.nodes();
    let key = |node: &NodeRecord| (node.name.as_str().to_owned(), node.id);
    let begin = after.map_or(0, |after| nodes.partition_point(|node| key(node) <= after));
    let items = nodes[begin..]
        .iter()
        .filter(|node| state.is_none_or(|state| node.state == state))
        .take(limit as usize + 1)
        .map(|node| node.to_api())
        .collect();
    Ok(page(items, limit, |node: &Node| format!("{},{}", node.name, node.id)))
}

/// A node, by id or name.
#[utoipa::path(get, path = "/api/v1/nodes/{node}", tag = "nodes", params(("node" = String, Path, description = "Id or name.")), responses((status = 200, body = Node)))]
pub async fn show(State(shared): State<Arc<Shared>>, Segment(node): Segment) -> Result<Json<Node>, Error> {
    Ok(Json(shared.context.fleet.find(&node)?.to_api()))
}

/// Let a pending node in.
#[utoipa::path(post, path = "/api/v1/nodes/{node}/accept", tag = "nodes", params(("node" = String, Path, description = "Id or name.")), request_body = AcceptNode, responses((status = 200, body = Node)))]
pub async fn accept(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(node): Segment,
    Body(how): Body<AcceptNode>,
) -> Result<Json<Node>, Error> {
    let node = shared.context.fleet.find(&node)?;
    let detail = json!({ "node": node.name, "fingerprint": node.fingerprint, "as": how.name });
    let done = shared
        .audited(&caller, "node.accept", node.id, detail, shared.context.fleet.accept(node.id, &how))
        .await?;
    Ok(Json(done.to_api()))
}

/// Turn a pending node away.
#[utoipa::path(post, path = "/api/v1/nodes/{node}/reject", tag = "nodes", params(("node" = String, Path, description = "Id or name.")), responses((status = 200, body = Node)))]
pub async fn reject(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(node): Segment,
) -> Result<Json<Node>, Error> {
    let node = shared.context.fleet.find(&node)?;
    let detail = json!({ "node": node.name, "fingerprint": node.fingerprint });
    let done =
        shared.audited(&caller, "node.reject", node.id, detail, shared.context.fleet.reject(node.id)).await?;
    Ok(Json(done.to_api()))
}

/// Take an accepted node out: its certificate no longer counts, its session ends at once.
#[utoipa::path(post, path = "/api/v1/nodes/{node}/revoke", tag = "nodes", params(("node" = String, Path, description = "Id or name.")), responses((status = 200, body = Node)))]
pub async fn revoke(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(node): Segment,
) -> Result<Json<Node>, Error> {
    let node = shared.context.fleet.find(&node)?;
    let detail = json!({ "node": node.name, "fingerprint": node.fingerprint });
    let done =
        shared.audited(&caller, "node.revoke", node.id, detail, shared.context.fleet.revoke(node.id)).await?;
    Ok(Json(done.to_api()))
}

/// Forget a node. Its session ends at once, and its id is never used again.
#[utoipa::path(delete, path = "/api/v1/nodes/{node}", tag = "nodes", params(("node" = String, Path, description = "Id or name.")), responses((status = 204)))]
pub async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(node): Segment,
) -> Result<StatusCode, Error> {
    let node = shared.context.fleet.find(&node)?;
    let detail = json!({ "node": node.name, "fingerprint": node.fingerprint });
    shared.audited(&caller, "node.delete", node.id, detail, shared.context.fleet.delete(node.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Set and remove labels and flags.
#[utoipa::path(patch, path = "/api/v1/nodes/{node}", tag = "nodes", params(("node" = String, Path, description = "Id or name.")), request_body = ChangeNode, responses((status = 200, body = Node)))]
pub async fn change(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(node): Segment,
    Body(change): Body<ChangeNode>,
) -> Result<Json<Node>, Error> {
    let node = shared.context.fleet.find(&node)?;
    let need = Need::Permission(Permission::NodesWrite);
    caller.may(need, On::Nodes(std::slice::from_ref(&node)), &format!("node {}", node.name)).await?;
    let detail = json!({ "node": node.name, "labels": change.labels, "flags": change.flags });
    let done = shared
        .audited(&caller, "node.change", node.id, detail, shared.context.fleet.change(node.id, &change))
        .await?;
    Ok(Json(done.to_api()))
}

/// Join tokens, newest first.
#[utoipa::path(get, path = "/api/v1/join-tokens", tag = "nodes", params(PageQuery), responses((status = 200, body = Page<JoinToken>)))]
pub async fn join_tokens(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<JoinToken>>, Error> {
    let limit = limit(&query)?;
    let mut tokens = shared.context.fleet.join_tokens().await?;
    // By age, then id: a cursor of both holds even if its token is gone.
    tokens.sort_by(|a, b| b.created_ms.cmp(&a.created_ms).then_with(|| a.id.cmp(&b.id)));
    if let Some(after) = after::<JoinCursor>(&query)? {
        tokens.retain(|token| (-token.created_ms, token.id.as_str()) > (-after.0, after.1.as_str()));
    }
    tokens.truncate(limit as usize + 1);
    Ok(page(tokens, limit, |token: &JoinToken| format!("{},{}", token.created_ms, token.id)))
}

struct JoinCursor(i64, String);

impl std::str::FromStr for JoinCursor {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (created, id) = text.split_once(',').ok_or(())?;
        Ok(JoinCursor(created.parse().ok().filter(|created| *created >= 0).ok_or(())?, id.to_owned()))
    }
}

/// Make a join token: it accepts one node, once.
#[utoipa::path(post, path = "/api/v1/join-tokens", tag = "nodes", request_body = NewJoinToken, responses((status = 201, body = JoinToken)))]
pub async fn new_join_token(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(new): Body<NewJoinToken>,
) -> Result<(StatusCode, Json<JoinToken>), Error> {
    let detail = json!({ "ttl_ms": new.ttl_ms, "labels": new.labels });
    let made = shared
        .audited(&caller, "join-token.create", "", detail, shared.context.fleet.create_join_token(&new))
        .await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Forget a join token.
#[utoipa::path(delete, path = "/api/v1/join-tokens/{id}", tag = "nodes", params(("id" = String, Path, description = "Id of the token.")), responses((status = 204)))]
pub async fn delete_join_token(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, Error> {
    let subject: String = id.chars().take(80).collect();
    let deleted = shared.context.fleet.delete_join_token(&id);
    shared.audited(&caller, "join-token.delete", subject, Value::Null, deleted).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Shared {
    /// Make a change of the fleet, with its entry in the audit log first.
    async fn audited<T>(
        &self,
        caller: &Caller,
        action: &'static str,
        subject: impl ToString,
        detail: Value,
        change: impl Future<Output = Result<T, FleetError>>,
    ) -> Result<T, Error> {
        let entry = NewEntry::allowed(&caller.name, action, subject, detail);
        self.append(entry.clone()).await?;
        match change.await {
            Ok(done) => Ok(done),
            Err(error) => {
                let detail = json!({ "failed": error.to_string() });
                self.append(NewEntry { detail, ..entry }).await?;
                Err(error.into())
            }
        }
    }

    async fn append(&self, entry: NewEntry) -> Result<(), StoreError> {
        self.context.store.write(move |c| Box::pin(async move { audit::append(c, &entry).await })).await
    }
}
