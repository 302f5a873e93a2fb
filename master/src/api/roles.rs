//! Routes of roles.

use super::{
    Shared,
    auth::Caller,
    error::{Code, Error},
    extract::{Ask, Body, Segment, limit, page},
};
use crate::{
    access::{Need, On, Role, decide, rules_of_nodes},
    store::roles,
};
use axum::{Json, extract::State};
use http::StatusCode;
use std::sync::Arc;
use windlass_types::{
    RoleName,
    api::{
        Page, PageQuery,
        access::{CheckRole, CheckedNode, RoleInfo, RoleRules, RoleVerdict},
    },
};

/// Roles, by name, with those that are always there.
#[utoipa::path(get, path = "/api/v1/roles", tag = "access", params(PageQuery), responses((status = 200, body = Page<RoleInfo>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<RoleInfo>>, Error> {
    let limit = limit(&query)?;
    let after = query.after.unwrap_or_default();
    let mut items = roles::all(&shared.context.store).await?;
    items.retain(|role| role.name.as_str() > after.as_str());
    Ok(page(items, limit, |role: &RoleInfo| role.name.to_string()))
}

/// One role.
#[utoipa::path(get, path = "/api/v1/roles/{name}", tag = "access", params(("name" = RoleName, Path)), responses((status = 200, body = RoleInfo)))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
) -> Result<Json<RoleInfo>, Error> {
    Ok(Json(roles::get(&shared.context.store, &name.parse()?).await?))
}

/// Make a role, or give one other rules. They hold from the next request on.
#[utoipa::path(put, path = "/api/v1/roles/{name}", tag = "access", params(("name" = RoleName, Path)), request_body = RoleRules, responses((status = 200, body = RoleInfo)))]
pub async fn set(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
    Body(rules): Body<RoleRules>,
) -> Result<Json<RoleInfo>, Error> {
    let name: RoleName = name.parse()?;
    roles::set(&shared.context.store, &name, &rules.rules, &caller.name).await?;
    shared.authenticator.changed();
    Ok(Json(roles::get(&shared.context.store, &name).await?))
}

/// Remove a role that nobody has.
#[utoipa::path(delete, path = "/api/v1/roles/{name}", tag = "access", params(("name" = RoleName, Path)), responses((status = 204)))]
pub async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<StatusCode, Error> {
    roles::remove(&shared.context.store, &name.parse()?, &caller.name).await?;
    shared.authenticator.changed();
    Ok(StatusCode::NO_CONTENT)
}

/// Whether a role would let an operation run on some nodes, and which rule lets it.
#[utoipa::path(post, path = "/api/v1/roles/{name}/check", tag = "access", params(("name" = RoleName, Path)), request_body = CheckRole, responses((status = 200, body = RoleVerdict)))]
pub async fn check(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
    Body(asked): Body<CheckRole>,
) -> Result<Json<RoleVerdict>, Error> {
    let info = roles::get(&shared.context.store, &name.parse()?).await?;
    let effect = asked.effect.or_else(|| shared.context.jobs.effect(&asked.operation));
    let effect = effect.ok_or_else(|| {
        Error::new(Code::UnknownOperation, format!("no node offers an operation `{}`", asked.operation))
            .hint("give its `effect`, to ask about an operation that may come")
    })?;
    let role = Role::parse(info.name, &info.rules).map_err(crate::access::AccessError::BadRole)?;
    let nodes = shared.context.jobs.resolve_records(&asked.target).await?;
    let verdict = tokio::task::spawn_blocking(move || {
        let need = Need::Operation { name: &asked.operation, effect };
        let rules = rules_of_nodes(&role, need, &nodes);
        let denied = decide(&role, need, On::Nodes(&nodes)).err();
        let reason = match &denied {
            Some(denied) => denied.to_string(),
            None => format!("role `{}` allows `{}` ({effect}) on all of them", role.name, asked.operation),
        };
        let of_node = |(node, rule): (&Arc<crate::fleet::NodeRecord>, Option<usize>)| CheckedNode {
            name: node.name.clone(),
            rule: rule.and_then(|rule| u32::try_from(rule + 1).ok()),
        };
        RoleVerdict {
            allowed: denied.is_none(),
            reason,
            effect,
            nodes: nodes.iter().zip(rules).map(of_node).collect(),
        }
    });
    let late = |_| Error::new(Code::Timeout, "the role could not be asked");
    Ok(Json(verdict.await.map_err(late)?))
}
