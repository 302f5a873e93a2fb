//! Rows of what watches have found.

use super::{
    Connection, Row, Store, StoreError,
    jobs::chunks,
    nodes::{from_json, parse},
    sql::{self, Insert},
};
use std::collections::BTreeMap;
use windlass_types::{Digest, NodeId, OperationName, Outcome, OutcomeKind, PluginName};

type Result<T> = std::result::Result<T, StoreError>;

/// The latest result of a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusRow {
    pub plugin: PluginName,
    pub watch: String,
    pub operation: OperationName,
    pub every_ms: u64,
    pub plugin_version: String,
    pub plugin_digest: Digest,
    pub content: Digest,
    pub kind: OutcomeKind,
    pub outcome_bytes: usize,
    pub problem: Option<String>,
    pub collected_ms: i64,
    pub changed_ms: i64,
    pub received_ms: i64,
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn kind(text: &str) -> Result<OutcomeKind> {
    let known = OutcomeKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    known.ok_or_else(|| StoreError::corrupt("outcome kind", text))
}

fn row(row: &Row) -> Result<StatusRow> {
    let text = |column: &str| row.try_get::<&str>(column);
    Ok(StatusRow {
        plugin: parse("plugin name", text("plugin")?)?,
        watch: row.try_get("watch")?,
        operation: parse("operation", text("operation")?)?,
        every_ms: row.try_get::<i64>("every_ms")?.unsigned_abs(),
        plugin_version: row.try_get("plugin_version")?,
        plugin_digest: parse("digest", text("plugin_digest")?)?,
        content: parse("digest", text("content")?)?,
        kind: kind(text("kind")?)?,
        outcome_bytes: usize::try_from(row.try_get::<i64>("outcome_bytes")?).unwrap_or(0),
        problem: row.try_get("problem")?,
        collected_ms: row.try_get("collected_ms")?,
        changed_ms: row.try_get("changed_ms")?,
        received_ms: row.try_get("received_ms")?,
    })
}

/// Everything but the results themselves, by node.
///
/// # Errors
/// If the database fails or a row can't be read.
pub async fn load(store: &Store) -> Result<BTreeMap<NodeId, Vec<StatusRow>>> {
    let rows = sql::query(
        "SELECT node_id, plugin, watch, operation, every_ms, plugin_version, plugin_digest, content, kind, \
         outcome_bytes, problem, collected_ms, changed_ms, received_ms \
         FROM node_status ORDER BY node_id, plugin, watch",
    )
    .fetch_all(store.readers())
    .await?;
    let mut all: BTreeMap<NodeId, Vec<StatusRow>> = BTreeMap::new();
    for found in &rows {
        let node = parse("node id", found.try_get::<&str>("node_id")?)?;
        all.entry(node).or_default().push(row(found)?);
    }
    Ok(all)
}

/// The results of a node, by plugin and watch.
///
/// # Errors
/// If the database fails or a row can't be read.
pub async fn outcomes(store: &Store, node: NodeId) -> Result<BTreeMap<(String, String), (Digest, Outcome)>> {
    let rows = sql::query("SELECT plugin, watch, content, outcome FROM node_status WHERE node_id = $1")
        .bind(node.to_string())
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            let outcome = from_json("outcome", row.try_get("outcome")?)?;
            let content = parse("digest", row.try_get::<&str>("content")?)?;
            Ok(((row.try_get("plugin")?, row.try_get("watch")?), (content, outcome)))
        })
        .collect()
}

/// Put results in the place of those before; `rows` come with their outcomes as JSON.
///
/// # Errors
/// If the database fails.
pub async fn put(c: &mut Connection, node: NodeId, rows: &[(StatusRow, String)]) -> Result<()> {
    for chunk in chunks(rows) {
        let mut insert = Insert::new(
            "INSERT INTO node_status (node_id, plugin, watch, operation, every_ms, plugin_version, \
             plugin_digest, content, kind, outcome, outcome_bytes, problem, collected_ms, changed_ms, \
             received_ms) ",
        );
        insert.push_values(chunk, |into, (row, outcome)| {
            into.push_bind(node.to_string())
                .push_bind(row.plugin.to_string())
                .push_bind(row.watch.clone())
                .push_bind(row.operation.to_string())
                .push_bind(signed(row.every_ms))
                .push_bind(row.plugin_version.clone())
                .push_bind(row.plugin_digest.to_string())
                .push_bind(row.content.to_string())
                .push_bind(row.kind.as_str())
                .push_bind(outcome.clone())
                .push_bind(signed(row.outcome_bytes as u64))
                .push_bind(row.problem.clone())
                .push_bind(row.collected_ms)
                .push_bind(row.changed_ms)
                .push_bind(row.received_ms);
        });
        insert.push(
            " ON CONFLICT (node_id, plugin, watch) DO UPDATE SET operation = excluded.operation, \
             every_ms = excluded.every_ms, plugin_version = excluded.plugin_version, \
             plugin_digest = excluded.plugin_digest, content = excluded.content, kind = excluded.kind, \
             outcome = excluded.outcome, outcome_bytes = excluded.outcome_bytes, \
             problem = excluded.problem, collected_ms = excluded.collected_ms, \
             changed_ms = excluded.changed_ms, received_ms = excluded.received_ms",
        );
        insert.build().execute(&mut *c).await?;
    }
    Ok(())
}

/// A watch that stays has other properties now.
///
/// # Errors
/// If the database fails.
pub async fn alter(
    c: &mut Connection,
    node: NodeId,
    (plugin, watch): (&PluginName, &str),
    operation: &OperationName,
    every_ms: u64,
) -> Result<()> {
    sql::query(
        "UPDATE node_status SET operation = $4, every_ms = $5 \
         WHERE node_id = $1 AND plugin = $2 AND watch = $3",
    )
    .bind(node.to_string())
    .bind(plugin.as_str())
    .bind(watch)
    .bind(operation.to_string())
    .bind(signed(every_ms))
    .execute(c)
    .await?;
    Ok(())
}

/// Forget a watch of a node.
///
/// # Errors
/// If the database fails.
pub async fn delete(c: &mut Connection, node: NodeId, plugin: &PluginName, watch: &str) -> Result<()> {
    sql::query("DELETE FROM node_status WHERE node_id = $1 AND plugin = $2 AND watch = $3")
        .bind(node.to_string())
        .bind(plugin.as_str())
        .bind(watch)
        .execute(c)
        .await?;
    Ok(())
}
