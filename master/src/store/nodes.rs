//! Rows of nodes, join tokens and plugin sources.

use super::{Connection, Row, Store, StoreError, sql};
use crate::fleet::{Inventory, NodeRecord, Presence};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, str::FromStr, sync::Arc};
use windlass_types::{
    Digest, NodeId,
    api::{JoinToken, NodeState},
};

type Result<T> = std::result::Result<T, StoreError>;

fn state_from(text: &str) -> Result<NodeState> {
    [NodeState::Pending, NodeState::Accepted, NodeState::Rejected, NodeState::Revoked]
        .into_iter()
        .find(|state| crate::fleet::state_word(*state) == text)
        .ok_or_else(|| StoreError::corrupt("node state", text))
}

pub(crate) fn parse<T: FromStr>(what: &'static str, text: &str) -> Result<T>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| StoreError::corrupt(what, error))
}

pub(crate) fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::corrupt(what, error))
}

/// One of a closed set, stored as its word.
pub(crate) fn from_word<T: DeserializeOwned>(what: &'static str, word: &str) -> Result<T> {
    T::deserialize(serde::de::value::StrDeserializer::<serde_json::Error>::new(word))
        .map_err(|error| StoreError::corrupt(what, error))
}

pub(crate) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::corrupt(what, error))
}

/// SQL has no unsigned 64-bit numbers; generations never get near the end of the signed ones.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// All nodes, and their inventories by digest.
pub async fn load(store: &Store) -> Result<Vec<NodeRecord>> {
    let mut inventories: BTreeMap<String, Arc<Inventory>> = BTreeMap::new();
    for row in sql::query("SELECT digest, plugins FROM inventories").fetch_all(store.readers()).await? {
        let plugins: String = row.try_get("plugins")?;
        inventories.insert(row.try_get("digest")?, Arc::new(from_json("inventory", &plugins)?));
    }
    sql::query("SELECT * FROM nodes")
        .fetch_all(store.readers())
        .await?
        .iter()
        .map(|row| record(row, &inventories))
        .collect()
}

fn record(row: &Row, inventories: &BTreeMap<String, Arc<Inventory>>) -> Result<NodeRecord> {
    let text = |column: &str| row.try_get::<String>(column);
    let inventory: Option<String> = row.try_get("inventory")?;
    let last_seen_ms: Option<i64> = row.try_get("last_seen_ms")?;
    Ok(NodeRecord {
        id: parse("node id", &text("id")?)?,
        name: parse("node name", &text("name")?)?,
        state: state_from(&text("state")?)?,
        fingerprint: parse("fingerprint", &text("fingerprint")?)?,
        issued_generation: row.try_get::<i64>("issued_generation")?.unsigned_abs(),
        seen_generation: row.try_get::<i64>("seen_generation")?.unsigned_abs(),
        certificate_serial: row.try_get("certificate_serial")?,
        certificate_expires_ms: row.try_get("certificate_expires_ms")?,
        labels: Arc::new(from_json("labels", &text("labels")?)?),
        flags: Arc::new(from_json("flags", &text("flags")?)?),
        facts: Arc::new(from_json("facts", &text("facts")?)?),
        inventory: inventory.and_then(|digest| inventories.get(&digest).cloned()).unwrap_or_default(),
        progress: Arc::default(),
        sealing_key: None,
        host_version: row.try_get("host_version")?,
        address: row.try_get("address")?,
        created_ms: row.try_get("created_ms")?,
        presence: Arc::new(Presence::new(last_seen_ms)),
    })
}

/// A new node.
pub async fn insert(c: &mut Connection, node: &NodeRecord) -> Result<()> {
    sql::query(
        "INSERT INTO nodes (id, name, state, fingerprint, labels, flags, facts, host_version, address, \
         created_ms, last_seen_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(node.id.to_string())
    .bind(node.name.as_str())
    .bind(crate::fleet::state_word(node.state))
    .bind(node.fingerprint.to_string())
    .bind(to_json("labels", &*node.labels)?)
    .bind(to_json("flags", &*node.flags)?)
    .bind(to_json("facts", &*node.facts)?)
    .bind(&node.host_version)
    .bind(&node.address)
    .bind(node.created_ms)
    .bind(node.last_seen_ms())
    .execute(c)
    .await?;
    Ok(())
}

/// What was decided about a node: state, name, labels, flags.
pub async fn decide(c: &mut Connection, node: &NodeRecord) -> Result<()> {
    sql::query("UPDATE nodes SET name = $2, state = $3, labels = $4, flags = $5 WHERE id = $1")
        .bind(node.id.to_string())
        .bind(node.name.as_str())
        .bind(crate::fleet::state_word(node.state))
        .bind(to_json("labels", &*node.labels)?)
        .bind(to_json("flags", &*node.flags)?)
        .execute(c)
        .await?;
    Ok(())
}

/// A certificate was issued.
pub async fn issued(c: &mut Connection, node: &NodeRecord) -> Result<()> {
    sql::query(
        "UPDATE nodes SET issued_generation = $2, certificate_serial = $3, certificate_expires_ms = $4 \
         WHERE id = $1",
    )
    .bind(node.id.to_string())
    .bind(signed(node.issued_generation))
    .bind(&node.certificate_serial)
    .bind(node.certificate_expires_ms)
    .execute(c)
    .await?;
    Ok(())
}

/// A newer generation was seen, perhaps with a new key.
pub async fn seen(c: &mut Connection, node: &NodeRecord) -> Result<()> {
    sql::query(
        "UPDATE nodes SET seen_generation = $2, issued_generation = $3, fingerprint = $4, \
         certificate_serial = $5, certificate_expires_ms = $6 WHERE id = $1",
    )
    .bind(node.id.to_string())
    .bind(signed(node.seen_generation))
    .bind(signed(node.issued_generation))
    .bind(node.fingerprint.to_string())
    .bind(&node.certificate_serial)
    .bind(node.certificate_expires_ms)
    .execute(c)
    .await?;
    Ok(())
}

/// What a node says about itself, and when it was last heard of.
pub async fn observed(c: &mut Connection, node: &NodeRecord) -> Result<()> {
    let plugins = to_json("inventory", &*node.inventory)?;
    let digest = Digest::of(plugins.as_bytes()).to_string();
    sql::query("INSERT INTO inventories (digest, plugins) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(&digest)
        .bind(plugins)
        .execute(&mut *c)
        .await?;
    sql::query(
        "UPDATE nodes SET facts = $2, inventory = $3, host_version = $4, address = $5, last_seen_ms = $6 \
         WHERE id = $1",
    )
    .bind(node.id.to_string())
    .bind(to_json("facts", &*node.facts)?)
    .bind(digest)
    .bind(&node.host_version)
    .bind(&node.address)
    .bind(node.last_seen_ms())
    .execute(c)
    .await?;
    Ok(())
}

/// When a node was last heard of, and from where.
pub async fn last_seen(c: &mut Connection, node: &NodeRecord) -> Result<()> {
    sql::query("UPDATE nodes SET last_seen_ms = $2, address = $3 WHERE id = $1")
        .bind(node.id.to_string())
        .bind(node.last_seen_ms())
        .bind(&node.address)
        .execute(c)
        .await?;
    Ok(())
}

/// Forget a node.
pub async fn delete(c: &mut Connection, node: NodeId) -> Result<()> {
    sql::query("DELETE FROM nodes WHERE id = $1").bind(node.to_string()).execute(c).await?;
    Ok(())
}

/// Forget inventories that no node has any more.
pub async fn sweep_inventories(c: &mut Connection) -> Result<()> {
    sql::query(
        "DELETE FROM inventories WHERE digest NOT IN (SELECT inventory FROM nodes WHERE inventory IS NOT NULL)",
    )
    .execute(c)
    .await?;
    Ok(())
}

fn join_token(row: &Row) -> Result<JoinToken> {
    let used_by: Option<String> = row.try_get("used_by")?;
    Ok(JoinToken {
        id: row.try_get("id")?,
        token: None,
        labels: from_json("labels", &row.try_get::<String>("labels")?)?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        used_by: used_by.map(|id| parse("node id", &id)).transpose()?,
    })
}

/// A new join token.
pub async fn insert_join_token(c: &mut Connection, token: &JoinToken, hash: Digest) -> Result<()> {
    sql::query(
        "INSERT INTO join_tokens (id, hash, labels, created_ms, expires_ms) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&token.id)
    .bind(hash.to_string())
    .bind(to_json("labels", &token.labels)?)
    .bind(token.created_ms)
    .bind(token.expires_ms)
    .execute(c)
    .await?;
    Ok(())
}

/// All join tokens, newest first.
pub async fn join_tokens(store: &Store) -> Result<Vec<JoinToken>> {
    sql::query("SELECT * FROM join_tokens ORDER BY created_ms DESC, id")
        .fetch_all(store.readers())
        .await?
        .iter()
        .map(join_token)
        .collect()
}

/// A join token and the hash of its secret.
pub async fn find_join_token(store: &Store, id: &str) -> Result<Option<(JoinToken, Digest)>> {
    let row = sql::query("SELECT * FROM join_tokens WHERE id = $1")
        .bind(id)
        .fetch_optional(store.readers())
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((join_token(&row)?, parse("hash", &row.try_get::<String>("hash")?)?)))
}

/// Use a join token up. False when it was used before, has expired or is gone.
pub async fn consume_join_token(c: &mut Connection, id: &str, node: NodeId, now_ms: i64) -> Result<bool> {
    let done = sql::query(
        "UPDATE join_tokens SET used_by = $2, used_ms = $3 \
         WHERE id = $1 AND used_by IS NULL AND expires_ms > $3",
    )
    .bind(id)
    .bind(node.to_string())
    .bind(now_ms)
    .execute(c)
    .await?;
    Ok(done == 1)
}

/// Forget a join token. False when there is none.
pub async fn delete_join_token(c: &mut Connection, id: &str) -> Result<bool> {
    let done = sql::query("DELETE FROM join_tokens WHERE id = $1").bind(id).execute(c).await?;
    Ok(done == 1)
}

/// Forget join tokens that ended before this time, used or not.
pub async fn sweep_join_tokens(c: &mut Connection, before_ms: i64) -> Result<()> {
    sql::query("DELETE FROM join_tokens WHERE expires_ms < $1").bind(before_ms).execute(c).await?;
    Ok(())
}

/// A plugin source as stored.
#[derive(Debug)]
pub struct SourceRow {
    pub digest: Digest,
    pub image: Vec<u8>,
    pub manifest: Vec<u8>,
    pub wit: Vec<u8>,
}

/// All plugin sources.
pub async fn load_sources(store: &Store) -> Result<Vec<SourceRow>> {
    let rows = sql::query("SELECT digest, image, manifest, wit FROM plugin_sources")
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(SourceRow {
                digest: parse("digest", &row.try_get::<String>("digest")?)?,
                image: row.try_get("image")?,
                manifest: row.try_get("manifest")?,
                wit: row.try_get("wit")?,
            })
        })
        .collect()
}

/// Keep a verified plugin source. One that is there already stays as it is.
pub async fn insert_source(c: &mut Connection, source: &SourceRow) -> Result<()> {
    sql::query(
        "INSERT INTO plugin_sources (digest, image, manifest, wit, created_ms) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(source.digest.to_string())
    .bind(&source.image)
    .bind(&source.manifest)
    .bind(&source.wit)
    .bind(crate::now_ms())
    .execute(c)
    .await?;
    Ok(())
}

/// Forget a plugin source.
pub async fn delete_source(c: &mut Connection, digest: Digest) -> Result<()> {
    sql::query("DELETE FROM plugin_sources WHERE digest = $1").bind(digest.to_string()).execute(c).await?;
    Ok(())
}
