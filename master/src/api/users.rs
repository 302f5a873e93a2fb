//! Routes of users.

use super::{
    Shared,
    auth::Caller,
    error::Error,
    extract::{Ask, Body, Segment, limit, page},
};
use crate::{access::AccessError, store::users};
use axum::{Json, extract::State};
use http::StatusCode;
use std::sync::Arc;
use windlass_types::{
    UserName,
    api::{
        Page, PageQuery,
        access::{ChangeUser, NewUser, User},
    },
};

/// Users, by name.
#[utoipa::path(get, path = "/api/v1/users", tag = "access", params(PageQuery), responses((status = 200, body = Page<User>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<User>>, Error> {
    let limit = limit(&query)?;
    let items =
        users::page(&shared.context.store, query.after.as_deref().unwrap_or_default(), limit + 1).await?;
    Ok(page(items, limit, |user: &User| user.name.to_string()))
}

/// Make a user.
#[utoipa::path(post, path = "/api/v1/users", tag = "access", request_body = NewUser, responses((status = 201, body = User)))]
pub async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<User>), Error> {
    if ["system", "unknown"].contains(&new.name.as_str()) {
        return Err(AccessError::Reserved(new.name.to_string()).into());
    }
    users::create(&shared.context.store, &new, &caller.name).await?;
    shared.authenticator.changed();
    Ok((StatusCode::CREATED, Json(users::get(&shared.context.store, new.name.as_str()).await?)))
}

/// One user.
#[utoipa::path(get, path = "/api/v1/users/{name}", tag = "access", params(("name" = UserName, Path)), responses((status = 200, body = User)))]
pub async fn show(State(shared): State<Arc<Shared>>, Segment(name): Segment) -> Result<Json<User>, Error> {
    Ok(Json(users::get(&shared.context.store, &name).await?))
}

/// Give a user another role, disable or enable one. It holds from the next request on.
#[utoipa::path(patch, path = "/api/v1/users/{name}", tag = "access", params(("name" = UserName, Path)), request_body = ChangeUser, responses((status = 200, body = User)))]
pub async fn change(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
    Body(change): Body<ChangeUser>,
) -> Result<Json<User>, Error> {
    users::change(&shared.context.store, &name.parse()?, &change, &caller.name).await?;
    shared.authenticator.changed();
    Ok(Json(users::get(&shared.context.store, &name).await?))
}

/// Remove a user with all tokens. They are good for nothing from then on.
#[utoipa::path(delete, path = "/api/v1/users/{name}", tag = "access", params(("name" = UserName, Path)), responses((status = 204)))]
pub async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<StatusCode, Error> {
    users::remove(&shared.context.store, &name.parse()?, &caller.name).await?;
    shared.authenticator.changed();
    Ok(StatusCode::NO_CONTENT)
}
