//! Rows of stored secrets.

use super::{Connection, StoreError, nodes::parse, sql};
use crate::secrets::Stored;
use windlass_types::SecretName;

/// All of them, by name.
pub async fn all(c: &mut Connection) -> Result<Vec<Stored>, StoreError> {
    let rows = sql::query("SELECT * FROM secrets ORDER BY name").fetch_all(c).await?;
    rows.iter()
        .map(|row| {
            Ok(Stored {
                name: parse("name of a secret", row.try_get("name")?)?,
                id: row.try_get("id")?,
                version: u32::try_from(row.try_get::<i64>("version")?).unwrap_or(u32::MAX),
                key_id: row.try_get("key_id")?,
                sealed: row.try_get("sealed")?,
                created_by: row.try_get("created_by")?,
                created_ms: row.try_get("created_ms")?,
                changed_by: row.try_get("changed_by")?,
                changed_ms: row.try_get("changed_ms")?,
            })
        })
        .collect()
}

/// Store one, in the place of the one of its name.
pub async fn set(c: &mut Connection, secret: &Stored) -> Result<(), StoreError> {
    sql::query(
        "INSERT INTO secrets (name, id, version, key_id, sealed, created_by, created_ms, changed_by, \
         changed_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (name) DO UPDATE SET \
         id = excluded.id, version = excluded.version, key_id = excluded.key_id, sealed = excluded.sealed, \
         changed_by = excluded.changed_by, changed_ms = excluded.changed_ms",
    )
    .bind(secret.name.as_str())
    .bind(&secret.id)
    .bind(i64::from(secret.version))
    .bind(&secret.key_id)
    .bind(secret.sealed.clone())
    .bind(&secret.created_by)
    .bind(secret.created_ms)
    .bind(&secret.changed_by)
    .bind(secret.changed_ms)
    .execute(c)
    .await?;
    Ok(())
}

/// Forget one.
pub async fn remove(c: &mut Connection, name: &SecretName) -> Result<(), StoreError> {
    sql::query("DELETE FROM secrets WHERE name = $1").bind(name.as_str()).execute(c).await?;
    Ok(())
}
