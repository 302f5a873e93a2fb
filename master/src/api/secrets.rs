//! Routes of stored secrets.

use super::{
    Shared,
    auth::Caller,
    error::{Code, Error},
    extract::{Ask, Body, Segment, limit, page},
};
use crate::{secrets::Stored, store::roles};
use axum::{Json, extract::State};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use globset::Glob;
use http::StatusCode;
use std::sync::Arc;
use windlass_types::{
    SecretName,
    api::{
        Page, PageQuery,
        access::RoleInfo,
        secrets::{SecretInfo, SecretRule, SetSecret},
    },
};
use zeroize::Zeroizing;

fn info(stored: &Stored, roles: &[RoleInfo]) -> SecretInfo {
    let gives = |glob: &String| {
        Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(stored.name.as_str()))
    };
    let given_by = roles
        .iter()
        .flat_map(|role| role.rules.iter().zip(1..).map(move |(rule, number)| (role, rule, number)))
        .filter(|(_, rule, _)| rule.secrets.iter().any(gives))
        .map(|(role, rule, number)| SecretRule {
            role: role.name.clone(),
            rule: number,
            operations: rule.operations.clone(),
        })
        .collect();
    SecretInfo {
        name: stored.name.clone(),
        version: stored.version,
        created_by: stored.created_by.clone(),
        created_ms: stored.created_ms,
        changed_by: stored.changed_by.clone(),
        changed_ms: stored.changed_ms,
        given_by,
    }
}

/// Secrets, by name, without their values.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets", params(PageQuery), responses((status = 200, body = Page<SecretInfo>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<PageQuery>,
) -> Result<Json<Page<SecretInfo>>, Error> {
    let limit = limit(&query)?;
    let after = query.after.unwrap_or_default();
    let roles = roles::all(&shared.context.store).await?;
    let stored = shared.context.vault.all();
    let items = stored.iter().filter(|stored| stored.name.as_str() > after.as_str());
    let items = items.map(|stored| info(stored, &roles)).collect();
    Ok(page(items, limit, |secret: &SecretInfo| secret.name.to_string()))
}

/// What is known of a secret but for its value.
#[utoipa::path(get, path = "/api/v1/secrets/{name}", tag = "secrets", params(("name" = SecretName, Path)), responses((status = 200, body = SecretInfo)))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
) -> Result<Json<SecretInfo>, Error> {
    let stored = shared.context.vault.get(&name.parse()?)?;
    Ok(Json(info(&stored, &roles::all(&shared.context.store).await?)))
}

/// Store a secret, or give one another value.
#[utoipa::path(put, path = "/api/v1/secrets/{name}", tag = "secrets", params(("name" = SecretName, Path)), request_body = SetSecret, responses((status = 200, body = SecretInfo)))]
pub async fn set(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
    Body(secret): Body<SetSecret>,
) -> Result<Json<SecretInfo>, Error> {
    let name: SecretName = name.parse()?;
    let text = Zeroizing::new(secret.value);
    let value = BASE64.decode(text.as_bytes()).map(Zeroizing::new);
    let value = value.map_err(|_| Error::new(Code::BadSecret, "`value` is not base64"))?;
    let stored = shared.context.vault.set(&name, &value, &caller.name).await?;
    Ok(Json(info(&stored, &roles::all(&shared.context.store).await?)))
}

/// Forget a secret.
#[utoipa::path(delete, path = "/api/v1/secrets/{name}", tag = "secrets", params(("name" = SecretName, Path)), responses((status = 204)))]
pub async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<StatusCode, Error> {
    shared.context.vault.remove(&name.parse()?, &caller.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
