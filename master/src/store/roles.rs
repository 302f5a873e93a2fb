//! Rows of roles. Those that are always there have none.

use super::{
    Connection, Row, Store, StoreError, audit,
    nodes::{from_json, parse, to_json},
    sql,
};
use crate::access::{AccessError, Role, built_in_rules};
use serde_json::json;
use windlass_types::{
    RoleName,
    api::{
        self,
        access::{RoleInfo, RoleRule},
    },
};

/// A role out of its row, ready to be asked. Without one it allows nothing.
pub(super) fn compiled(name: RoleName, rules: Option<&str>) -> Result<Role, StoreError> {
    if let Some(role) = api::Role::named(&name) {
        return Ok(Role::built_in(role));
    }
    let Some(rules) = rules else { return Ok(Role::nothing(name)) };
    let rules: Vec<RoleRule> = from_json("rules", rules)?;
    Role::parse(name, &rules).map_err(|problem| StoreError::corrupt("role", problem))
}

/// An error unless there is such a role.
pub(super) async fn known(c: &mut Connection, name: &RoleName) -> Result<(), AccessError> {
    if api::Role::named(name).is_some() {
        return Ok(());
    }
    let row =
        sql::query("SELECT name FROM roles WHERE name = $1").bind(name.as_str()).fetch_optional(c).await?;
    row.map(drop).ok_or_else(|| AccessError::UnknownRole(name.clone()))
}

const COUNTS: &str = "SELECT (SELECT COUNT(*) FROM users WHERE role = $1) AS users, \
                      (SELECT COUNT(*) FROM tokens WHERE role = $1) AS tokens";

fn counted(row: &Row) -> Result<(i64, i64), StoreError> {
    Ok((row.try_get("users")?, row.try_get("tokens")?))
}

async fn info(
    store: &Store,
    name: RoleName,
    stored: Option<(Vec<RoleRule>, i64)>,
) -> Result<RoleInfo, StoreError> {
    let row = sql::query(COUNTS).bind(name.as_str()).fetch_one(store.readers()).await?;
    let (users, tokens) = counted(&row)?;
    let built_in = api::Role::named(&name);
    let (rules, created_ms) = match (built_in, stored) {
        (Some(role), _) => (built_in_rules(role), None),
        (None, Some((rules, created_ms))) => (rules, Some(created_ms)),
        (None, None) => (Vec::new(), None),
    };
    let used_by = u32::try_from(users.saturating_add(tokens)).unwrap_or(u32::MAX);
    Ok(RoleInfo { name, built_in: built_in.is_some(), rules, created_ms, used_by })
}

fn stored(row: &Row) -> Result<(RoleName, (Vec<RoleRule>, i64)), StoreError> {
    let rules = from_json("rules", &row.try_get::<String>("rules")?)?;
    Ok((parse("role", &row.try_get::<String>("name")?)?, (rules, row.try_get("created_ms")?)))
}

/// All roles, by name.
///
/// # Errors
/// If the database fails.
pub async fn all(store: &Store) -> Result<Vec<RoleInfo>, StoreError> {
    let rows = sql::query("SELECT * FROM roles ORDER BY name").fetch_all(store.readers()).await?;
    let mut roles = Vec::new();
    for role in api::Role::ALL {
        roles.push(info(store, role.into(), None).await?);
    }
    for row in &rows {
        let (name, rules) = stored(row)?;
        roles.push(info(store, name, Some(rules)).await?);
    }
    roles.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(roles)
}

/// One role.
///
/// # Errors
/// If there is none, or the database fails.
pub async fn get(store: &Store, name: &RoleName) -> Result<RoleInfo, AccessError> {
    if api::Role::named(name).is_some() {
        return Ok(info(store, name.clone(), None).await?);
    }
    let row = sql::query("SELECT * FROM roles WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(store.readers())
        .await?;
    let row = row.ok_or_else(|| AccessError::UnknownRole(name.clone()))?;
    let (name, rules) = stored(&row)?;
    Ok(info(store, name, Some(rules)).await?)
}

/// Make a role, or give one other rules, in the name of somebody.
///
/// # Errors
/// If the rules can't be right, it is always there, or the database fails.
pub async fn set(store: &Store, name: &RoleName, rules: &[RoleRule], actor: &str) -> Result<(), AccessError> {
    if api::Role::named(name).is_some() {
        return Err(AccessError::BuiltIn(name.clone()));
    }
    Role::parse(name.clone(), rules)?;
    let text = to_json("rules", &rules)?;
    let entry = audit::NewEntry::allowed(actor, "role.set", name, json!({ "rules": rules }));
    let name = name.to_string();
    store
        .write::<(), AccessError, _>(move |c| {
            Box::pin(async move {
                sql::query(
                    "INSERT INTO roles (name, rules, created_ms) VALUES ($1, $2, $3) \
                     ON CONFLICT (name) DO UPDATE SET rules = excluded.rules",
                )
                .bind(&name)
                .bind(text)
                .bind(crate::now_ms())
                .execute(&mut *c)
                .await?;
                Ok(audit::append(c, &entry).await?)
            })
        })
        .await
}

/// Remove a role that nobody has, in the name of somebody.
///
/// # Errors
/// If there is none, somebody has it, it is always there, or the database fails.
pub async fn remove(store: &Store, name: &RoleName, actor: &str) -> Result<(), AccessError> {
    if api::Role::named(name).is_some() {
        return Err(AccessError::BuiltIn(name.clone()));
    }
    let entry = audit::NewEntry::allowed(actor, "role.remove", name, serde_json::Value::Null);
    let name = name.clone();
    store
        .write::<(), AccessError, _>(move |c| {
            Box::pin(async move {
                known(c, &name).await?;
                let row = sql::query(COUNTS).bind(name.as_str()).fetch_one(&mut *c).await?;
                let (users, tokens) = counted(&row)?;
                if users + tokens > 0 {
                    return Err(AccessError::RoleInUse { name, users, tokens });
                }
                sql::query("DELETE FROM roles WHERE name = $1").bind(name.as_str()).execute(&mut *c).await?;
                Ok(audit::append(c, &entry).await?)
            })
        })
        .await
}
