//! Rows of users.

use super::{Connection, Row, Store, StoreError, audit, nodes::parse, roles, sql, tokens};
use crate::access::AccessError;
use serde_json::{Value, json};
use windlass_types::{
    RoleName, UserName,
    api::access::{ChangeUser, NewUser, User},
};

/// A user as others refer to it.
pub(super) struct UserRow {
    pub id: String,
    pub role: RoleName,
    pub disabled: bool,
}

/// The row of a user.
pub(super) async fn row(c: &mut Connection, name: &UserName) -> Result<UserRow, AccessError> {
    find(c, name).await?.ok_or_else(|| AccessError::UnknownUser(name.to_string()))
}

/// The row of a user, if there is one.
pub(super) async fn find(c: &mut Connection, name: &UserName) -> Result<Option<UserRow>, StoreError> {
    let row = sql::query("SELECT id, role, disabled FROM users WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(c)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let role = parse("role", &row.try_get::<String>("role")?)?;
    Ok(Some(UserRow { id: row.try_get("id")?, role, disabled: row.try_get("disabled")? }))
}

/// Whether somebody has this name.
pub(super) async fn is_user(c: &mut Connection, name: &str) -> Result<bool, StoreError> {
    Ok(sql::query("SELECT id FROM users WHERE name = $1").bind(name).fetch_optional(c).await?.is_some())
}

fn user(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        name: parse("user", &row.try_get::<String>("name")?)?,
        role: parse("role", &row.try_get::<String>("role")?)?,
        disabled: row.try_get("disabled")?,
        created_ms: row.try_get("created_ms")?,
        tokens: u32::try_from(row.try_get::<i64>("tokens")?).unwrap_or(u32::MAX),
    })
}

/// A page, by name: users after a name.
///
/// # Errors
/// If the database fails.
pub async fn page(store: &Store, after: &str, limit: u32) -> Result<Vec<User>, StoreError> {
    let rows = sql::query(
        "SELECT u.name, u.role, u.disabled, u.created_ms, \
         (SELECT COUNT(*) FROM tokens t WHERE t.user_id = u.id) AS tokens \
         FROM users u WHERE u.name > $1 ORDER BY u.name LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(store.readers())
    .await?;
    rows.iter().map(user).collect()
}

/// One user.
///
/// # Errors
/// If there is none, or the database fails.
pub async fn get(store: &Store, name: &str) -> Result<User, AccessError> {
    let row = sql::query(
        "SELECT u.name, u.role, u.disabled, u.created_ms, \
         (SELECT COUNT(*) FROM tokens t WHERE t.user_id = u.id) AS tokens \
         FROM users u WHERE u.name = $1",
    )
    .bind(name)
    .fetch_optional(store.readers())
    .await?;
    let row = row.ok_or_else(|| AccessError::UnknownUser(name.chars().take(80).collect()))?;
    Ok(user(&row)?)
}

/// Make a user, in the name of somebody.
///
/// # Errors
/// If the name is taken by a user or a token, there is no such role, or the database fails.
pub async fn create(store: &Store, new: &NewUser, actor: &str) -> Result<(), AccessError> {
    let (new, actor) = (new.clone(), actor.to_owned());
    store.write(move |c| Box::pin(async move { insert(c, new, &actor).await })).await
}

/// The same, in a transaction that has begun.
pub(super) async fn insert(c: &mut Connection, new: NewUser, actor: &str) -> Result<(), AccessError> {
    let entry = audit::NewEntry::allowed(actor, "user.create", &new.name, json!({ "role": new.role }));
    roles::known(c, &new.role).await?;
    if is_user(c, new.name.as_str()).await? {
        return Err(AccessError::UserTaken(new.name));
    }
    let named = sql::query("SELECT id FROM tokens WHERE name = $1 AND user_id IS NULL LIMIT 1")
        .bind(new.name.as_str())
        .fetch_optional(&mut *c)
        .await?;
    if named.is_some() {
        return Err(AccessError::TokenOfThatName(new.name.to_string()));
    }
    sql::query("INSERT INTO users (id, name, role, disabled, created_ms) VALUES ($1, $2, $3, FALSE, $4)")
        .bind(hex::encode(tokens::random::<8>()))
        .bind(new.name.as_str())
        .bind(new.role.as_str())
        .bind(crate::now_ms())
        .execute(&mut *c)
        .await?;
    Ok(audit::append(c, &entry).await?)
}

/// Change a user, in the name of somebody.
///
/// # Errors
/// If there is no such user or role, or the database fails.
pub async fn change(
    store: &Store,
    name: &UserName,
    change: &ChangeUser,
    actor: &str,
) -> Result<(), AccessError> {
    let entry = audit::NewEntry::allowed(actor, "user.change", name, json!(change));
    let (name, change) = (name.clone(), change.clone());
    store
        .write::<(), AccessError, _>(move |c| {
            Box::pin(async move {
                let id = row(c, &name).await?.id;
                if let Some(role) = &change.role {
                    roles::known(c, role).await?;
                    let update = sql::query("UPDATE users SET role = $2 WHERE id = $1");
                    update.bind(&id).bind(role.as_str()).execute(&mut *c).await?;
                }
                if let Some(disabled) = change.disabled {
                    let update = sql::query("UPDATE users SET disabled = $2 WHERE id = $1");
                    update.bind(&id).bind(disabled).execute(&mut *c).await?;
                }
                Ok(audit::append(c, &entry).await?)
            })
        })
        .await
}

/// Remove a user and all tokens, in the name of somebody.
///
/// # Errors
/// If there is none, or the database fails.
pub async fn remove(store: &Store, name: &UserName, actor: &str) -> Result<(), AccessError> {
    let mut entry = audit::NewEntry::allowed(actor, "user.remove", name, Value::Null);
    let name = name.clone();
    store
        .write::<(), AccessError, _>(move |c| {
            Box::pin(async move {
                let id = row(c, &name).await?.id;
                let tokens =
                    sql::query("DELETE FROM tokens WHERE user_id = $1").bind(&id).execute(&mut *c).await?;
                entry.detail = json!({ "tokens": tokens });
                sql::query("DELETE FROM users WHERE id = $1").bind(&id).execute(&mut *c).await?;
                Ok(audit::append(c, &entry).await?)
            })
        })
        .await
}
