//! Routes of tokens and the audit log.

use super::{
    Shared,
    auth::Caller,
    error::{Code, Error},
    extract::{Ask, Body, Segment, after, limit, page},
};
use crate::store::{
    audit::{self, VerifyError},
    tokens,
};
use axum::{Json, extract::State};
use http::StatusCode;
use std::sync::Arc;
use windlass_types::api::{AuditEntry, AuditHead, NewToken, Page, PageQuery, Token, WhoAmI};

/// Characters of the name of a token at most.
const MAX_NAME: usize = 100;

/// Who the token of this request stands for.
#[utoipa::path(get, path = "/api/v1/whoami", tag = "access", responses((status = 200, body = WhoAmI)))]
pub async fn whoami(caller: Caller) -> Json<WhoAmI> {
    let master_version = env!("CARGO_PKG_VERSION").to_owned();
    Json(WhoAmI { name: caller.name, role: caller.role.name.clone(), master_version })
}

/// Tokens, by id.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access", params(PageQuery), responses((status = 200, body = Page<Token>)))]
pub async fn tokens(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<Token>>, Error> {
    let limit = limit(&query)?;
    let after = query.after.as_deref().unwrap_or_default();
    let items = tokens::page(&shared.context.store, after, limit + 1).await?;
    Ok(page(items, limit, |token: &Token| token.id.clone()))
}

/// Make a token. The secret is in the reply and nowhere else.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", request_body = NewToken, responses((status = 201, body = Token)))]
pub async fn new_token(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<Token>), Error> {
    let bad = |problem: String| Error::new(Code::BadRequest, problem);
    let good = |c: char| !c.is_control();
    if new.name.trim().is_empty() || new.name.chars().count() > MAX_NAME || !new.name.chars().all(good) {
        return Err(bad(format!(
            "the name of a token has 1 to {MAX_NAME} characters, none of them control characters"
        )));
    }
    if stands_for_others(&new.name) {
        return Err(bad(format!("`{}` stands for somebody else in the audit log", new.name)));
    }
    if new.ttl_ms == Some(0) {
        return Err(bad("`ttl_ms` is 0: the token would be good for nothing".into()));
    }
    if new.role.is_some() == new.user.is_some() {
        return Err(bad("give either `role` or `user`: a token of a user has the user's role".into()));
    }
    let made = tokens::create_by(&shared.context.store, &new, &caller.name).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Names that the audit log has for who is neither a user nor a token.
pub(crate) fn stands_for_others(name: &str) -> bool {
    let kind = |kind: &str| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(':'));
    ["system", "unknown"].contains(&name) || ["schedule", "rule", "run", "local"].into_iter().any(kind)
}

/// Forget a token. It is good for nothing from then on.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "access", params(("id" = String, Path, description = "Id of the token.")), responses((status = 204)))]
pub async fn delete_token(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, Error> {
    let deleted = tokens::delete(&shared.context.store, &id, &caller.name).await?;
    shared.authenticator.changed();
    if deleted {
        return Ok(StatusCode::NO_CONTENT);
    }
    let id: String = id.chars().take(80).collect();
    Err(Error::new(Code::UnknownToken, format!("there is no token `{id}`")))
}

/// The audit log, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "access", params(PageQuery), responses((status = 200, body = Page<AuditEntry>)))]
pub async fn audit(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<AuditEntry>>, Error> {
    let limit = limit(&query)?;
    let items = audit::page(&shared.context.store, after(&query)?, limit + 1).await?;
    Ok(page(items, limit, |entry: &AuditEntry| entry.seq.to_string()))
}

/// Walk the whole audit log, and check that nothing in it was changed or taken out.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "access", responses((status = 200, body = AuditHead)))]
pub async fn verify_audit(State(shared): State<Arc<Shared>>) -> Result<Json<AuditHead>, Error> {
    match audit::verify(&shared.context.store).await {
        Ok(head) => Ok(Json(head)),
        Err(VerifyError::Store(error)) => Err(error.into()),
        Err(broken) => Err(Error::new(Code::AuditBroken, broken.to_string())
            .hint("compare with a backup of the database; what comes after that entry proves nothing")),
    }
}
