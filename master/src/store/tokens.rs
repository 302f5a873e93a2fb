//! Tokens of operators.
//!
//! A token is `wl_` and 256 random bits. The database holds its SHA-256: enough to know it again,
//! useless to whoever reads the database. With that much randomness a slow hash would add nothing.

use super::{Connection, Row, Store, StoreError, audit, lease, nodes::parse, roles, sql, users};
use crate::access::{self, AccessError};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use std::sync::Arc;
use windlass_types::{
    Digest, RoleName,
    api::{NewToken, Role, Token, access::NewUser},
};

/// What every token begins with, so that people and scanners of secrets know one when they see it.
pub const PREFIX: &str = "wl_";

/// A token as it is checked.
#[derive(Debug, Clone)]
pub struct Known {
    pub id: String,
    pub hash: Digest,
    /// Of the user, or of a token of nobody.
    pub name: String,
    pub role: Arc<access::Role>,
    pub expires_ms: Option<i64>,
    pub last_used_ms: Option<i64>,
}

/// The hash under which a token is kept; none for text that can't be one.
pub fn hash(secret: &str) -> Option<Digest> {
    let random = secret.strip_prefix(PREFIX)?;
    (random.len() == 43).then(|| Digest::of(secret.as_bytes()))
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    use rand::{TryRngCore as _, rngs::OsRng};
    let mut bytes = [0; N];
    // Without randomness there is nothing safe to go on with.
    OsRng.try_fill_bytes(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Make a token. The secret is in the reply and nowhere else.
///
/// # Errors
/// If there is no such role or user, or the database fails.
pub async fn create(store: &Store, new: &NewToken) -> Result<Token, AccessError> {
    create_by(store, new, "system").await
}

/// Make a token, in the name of somebody.
///
/// # Errors
/// If there is no such role or user, a user has its name, or the database fails.
pub async fn create_by(store: &Store, new: &NewToken, actor: &str) -> Result<Token, AccessError> {
    let (secret, hash) = secret();
    let (new, actor) = (new.clone(), actor.to_owned());
    let token = store
        .write::<Token, AccessError, _>(move |c| Box::pin(async move { insert(c, new, hash, actor).await }))
        .await?;
    Ok(Token { token: Some(secret), ..token })
}

fn secret() -> (String, Digest) {
    let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<32>()));
    let hash = Digest::of(secret.as_bytes());
    (secret, hash)
}

/// Make a token of an administrator, beside whatever master leads: of the user that `new` names, who is made
/// when there is none, or else of nobody.
///
/// # Errors
/// If the user can't be or is no administrator, a user has the name of the token, or the database fails.
pub async fn create_beside(store: &Store, new: &NewToken, actor: &str) -> Result<Token, AccessError> {
    let (secret, hash) = secret();
    let (new, actor) = (new.clone(), actor.to_owned());
    let token = store
        .write::<Token, AccessError, _>(move |c| {
            Box::pin(async move {
                lease::alone(c).await?;
                if let Some(name) = &new.user {
                    let admin = Role::Admin.into();
                    match users::find(c, name).await? {
                        None => users::insert(c, NewUser { name: name.clone(), role: admin }, &actor).await?,
                        Some(user) if user.role != admin => {
                            return Err(AccessError::NoAdministrator { name: name.clone(), role: user.role });
                        }
                        Some(user) if user.disabled => return Err(AccessError::Disabled(name.clone())),
                        Some(_) => {}
                    }
                }
                insert(c, new, hash, actor).await
            })
        })
        .await?;
    Ok(Token { token: Some(secret), ..token })
}

async fn insert(
    c: &mut Connection,
    new: NewToken,
    hash: Digest,
    actor: String,
) -> Result<Token, AccessError> {
    let (user_id, role) = match &new.user {
        Some(user) => {
            let row = users::row(c, user).await?;
            (Some(row.id), row.role)
        }
        None => {
            let role = new.role.clone().ok_or_else(|| StoreError::corrupt("token", "no role and no user"))?;
            roles::known(c, &role).await?;
            if users::is_user(c, &new.name).await? {
                return Err(AccessError::UserOfThatName(new.name));
            }
            (None, role)
        }
    };
    let now = crate::now_ms();
    let token = Token {
        id: hex::encode(random::<8>()),
        token: None,
        name: new.name,
        role,
        user: new.user,
        created_ms: now,
        expires_ms: new.ttl_ms.map(|ttl| now.saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX))),
        last_used_ms: None,
    };
    sql::query(
        "INSERT INTO tokens (id, hash, name, role, user_id, created_ms, expires_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&token.id)
    .bind(hash.to_string())
    .bind(&token.name)
    .bind(user_id.is_none().then(|| token.role.to_string()))
    .bind(user_id)
    .bind(token.created_ms)
    .bind(token.expires_ms)
    .execute(&mut *c)
    .await?;
    let mut detail = json!({ "name": token.name, "role": token.role, "expires_ms": token.expires_ms });
    if let Some(user) = &token.user {
        detail["user"] = json!(user);
    }
    let entry = audit::NewEntry::allowed(&actor, "token.create", &token.id, detail);
    audit::append(c, &entry).await?;
    Ok(token)
}

/// The token with this hash, unless its user is disabled.
///
/// # Errors
/// If the database fails.
pub async fn find(store: &Store, hash: Digest) -> Result<Option<Known>, StoreError> {
    let row = sql::query(
        "SELECT t.id, t.hash, COALESCE(u.name, t.name) AS who, COALESCE(u.role, t.role) AS role_name, r.rules, \
         t.expires_ms, t.last_used_ms \
         FROM tokens t \
         LEFT JOIN users u ON u.id = t.user_id \
         LEFT JOIN roles r ON r.name = COALESCE(u.role, t.role) \
         WHERE t.hash = $1 AND (t.user_id IS NULL OR u.disabled = FALSE)",
    )
    .bind(hash.to_string())
    .fetch_optional(store.readers())
    .await?;
    row.map(|row| {
        let name: RoleName = parse("role", &row.try_get::<String>("role_name")?)?;
        let rules = row.try_get::<Option<String>>("rules")?;
        Ok(Known {
            id: row.try_get("id")?,
            hash: parse("hash", &row.try_get::<String>("hash")?)?,
            name: row.try_get("who")?,
            role: Arc::new(roles::compiled(name, rules.as_deref())?),
            expires_ms: row.try_get("expires_ms")?,
            last_used_ms: row.try_get("last_used_ms")?,
        })
    })
    .transpose()
}

fn token(row: &Row) -> Result<Token, StoreError> {
    let user = row.try_get::<Option<String>>("user_name")?;
    Ok(Token {
        id: row.try_get("id")?,
        token: None,
        name: row.try_get("name")?,
        role: parse("role", &row.try_get::<String>("role_name")?)?,
        user: user.map(|user| parse("user", &user)).transpose()?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        last_used_ms: row.try_get("last_used_ms")?,
    })
}

/// A page, by id: tokens with a higher id than `after`.
///
/// # Errors
/// If the database fails.
pub async fn page(store: &Store, after: &str, limit: u32) -> Result<Vec<Token>, StoreError> {
    sql::query(
        "SELECT t.id, t.name, t.created_ms, t.expires_ms, t.last_used_ms, u.name AS user_name, \
         COALESCE(u.role, t.role) AS role_name \
         FROM tokens t LEFT JOIN users u ON u.id = t.user_id WHERE t.id > $1 ORDER BY t.id LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(store.readers())
    .await?
    .iter()
    .map(token)
    .collect()
}

/// Forget a token, in the name of somebody. False when there is none.
///
/// # Errors
/// If the database fails.
pub async fn delete(store: &Store, id: &str, actor: &str) -> Result<bool, StoreError> {
    let (id, actor) = (id.to_owned(), actor.to_owned());
    store
        .write(move |c| {
            Box::pin(async move {
                let row = sql::query("DELETE FROM tokens WHERE id = $1 RETURNING name")
                    .bind(&id)
                    .fetch_optional(&mut *c)
                    .await?;
                let Some(row) = row else { return Ok(false) };
                let detail = json!({ "name": row.try_get::<String>("name")? });
                let entry = audit::NewEntry::allowed(&actor, "token.delete", id, detail);
                audit::append(c, &entry).await?;
                Ok(true)
            })
        })
        .await
}

/// Note when a token was used.
///
/// # Errors
/// If the database fails.
pub async fn used(c: &mut Connection, id: &str, now_ms: i64) -> Result<(), StoreError> {
    sql::query("UPDATE tokens SET last_used_ms = $2 WHERE id = $1").bind(id).bind(now_ms).execute(c).await?;
    Ok(())
}
