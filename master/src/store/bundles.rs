//! Rows of bundles, approvals, and what nodes are wanted to run.
//!
//! What concerns many nodes at once goes in by the hundred rows: a deployment to ten thousand nodes
//! must not keep every other write waiting for seconds.

use super::{
    Connection, Row, Store, StoreError, deployments,
    events::{self, NewEvent},
    jobs::chunks,
    nodes::{from_json, insert_source, parse, to_json},
    sql::{self, Insert},
};
use crate::bundles::{Approved, Assignment, Change, Fallback, Model, Stored};
use serde_json::json;
use std::{collections::HashMap, sync::Arc};
use windlass_bundle::{oci::Image, signature::Signature};
use windlass_types::{
    Digest, NodeId, NodeName, PluginName,
    api::bundles::{PluginEvent, PluginEventKind},
};

type Result<T> = std::result::Result<T, StoreError>;

/// SQL has no unsigned 64-bit numbers; none of ours gets near the end of the signed ones.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn digest(row: &Row, column: &str) -> Result<Digest> {
    parse("digest", row.try_get(column)?)
}

pub(super) fn maybe<T: std::str::FromStr>(what: &'static str, row: &Row, column: &str) -> Result<Option<T>>
where
    T::Err: std::fmt::Display,
{
    row.try_get::<Option<&str>>(column)?.map(|text| parse(what, text)).transpose()
}

/// Everything that is kept in memory.
pub async fn load(store: &Store) -> Result<Model> {
    let mut model = Model::default();
    let mut signatures: HashMap<Digest, Vec<Signature>> = HashMap::new();
    let rows = sql::query("SELECT bundle, signature FROM bundle_signatures ORDER BY bundle, created_ms, key");
    for row in rows.fetch_all(store.readers()).await? {
        let signature = Signature::from_json(row.try_get::<&str>("signature")?.as_bytes())
            .map_err(|error| StoreError::corrupt("signature", error))?;
        signatures.entry(digest(&row, "bundle")?).or_default().push(signature);
    }
    for row in sql::query("SELECT * FROM bundles").fetch_all(store.readers()).await? {
        let stored = stored(&row, &mut signatures)?;
        model.put(Arc::new(stored));
    }
    for row in sql::query("SELECT * FROM approvals").fetch_all(store.readers()).await? {
        let text: String = row.try_get("approval")?;
        let approved = Approved {
            approval: from_json("approval", &text)?,
            json: text.into(),
            approved_by: row.try_get("approved_by")?,
            approved_ms: row.try_get("approved_ms")?,
        };
        model.approvals.insert(parse("plugin name", row.try_get("plugin")?)?, Arc::new(approved));
    }
    for row in sql::query("SELECT * FROM node_plugins").fetch_all(store.readers()).await? {
        let assignment = Assignment {
            digest: maybe("digest", &row, "digest")?,
            deployment: parse("deployment id", row.try_get("deployment")?)?,
            allow_downgrade: row.try_get("allow_downgrade")?,
            pinned: row.try_get("pinned")?,
            previous: maybe("digest", &row, "previous_digest")?,
            revision: row.try_get::<i64>("revision")?.unsigned_abs(),
        };
        let node: NodeId = parse("node id", row.try_get("node_id")?)?;
        let plugin = parse("plugin name", row.try_get("plugin")?)?;
        model.sets.entry(node).or_default().plugins.insert(plugin, assignment);
    }
    for row in sql::query("SELECT * FROM node_sets").fetch_all(store.readers()).await? {
        let node: NodeId = parse("node id", row.try_get("node_id")?)?;
        model.sets.entry(node).or_default().revision = row.try_get::<i64>("revision")?.unsigned_abs();
    }
    let rows = sql::query("SELECT * FROM plugin_defaults ORDER BY created_ms, deployment");
    for row in rows.fetch_all(store.readers()).await? {
        let fallback = Fallback {
            deployment: parse("deployment id", row.try_get("deployment")?)?,
            digest: digest(&row, "digest")?,
            target: from_json("target", row.try_get("target")?)?,
            allow_downgrade: row.try_get("allow_downgrade")?,
            created_ms: row.try_get("created_ms")?,
        };
        let plugin: PluginName = parse("plugin name", row.try_get("plugin")?)?;
        model.fallbacks.entry(plugin).or_default().push(Arc::new(fallback));
    }
    for live in deployments::unfinished(store).await? {
        model.live.insert(live.rollout.id, Arc::new(live));
    }
    Ok(model)
}

fn stored(row: &Row, signatures: &mut HashMap<Digest, Vec<Signature>>) -> Result<Stored> {
    let digest = digest(row, "digest")?;
    let image: &str = row.try_get("image")?;
    Ok(Stored {
        digest,
        plugin: parse("plugin name", row.try_get("plugin")?)?,
        version: parse("version", row.try_get("version")?)?,
        description: row.try_get("description")?,
        image: Image::parse(image.as_bytes()).map_err(|error| StoreError::corrupt("image", error))?,
        size_bytes: row.try_get::<i64>("size_bytes")?.unsigned_abs(),
        operations: from_json("operations", row.try_get("operations")?)?,
        capabilities: from_json("capabilities", row.try_get("capabilities")?)?,
        signatures: signatures.remove(&digest).unwrap_or_default(),
        created_by: row.try_get("created_by")?,
        created_ms: row.try_get("created_ms")?,
    })
}

/// Write changes.
pub async fn write(c: &mut Connection, changes: &[Change]) -> Result<()> {
    let (mut assigned, mut sets) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            Change::Assign(node, plugin, Some(assignment)) => assigned.push((*node, plugin, assignment)),
            Change::Set(node, revision) => sets.push((*node, *revision)),
            other => write_one(c, other).await?,
        }
    }
    for chunk in chunks(&assigned) {
        let mut query = Insert::new(
            "INSERT INTO node_plugins (node_id, plugin, digest, deployment, allow_downgrade, pinned, \
             previous_digest, revision) ",
        );
        query.push_values(chunk, |row, (node, plugin, assignment)| {
            row.push_bind(node.to_string())
                .push_bind(plugin.to_string())
                .push_bind(assignment.digest.map(|digest| digest.to_string()))
                .push_bind(assignment.deployment.to_string())
                .push_bind(assignment.allow_downgrade)
                .push_bind(assignment.pinned)
                .push_bind(assignment.previous.map(|digest| digest.to_string()))
                .push_bind(signed(assignment.revision));
        });
        query.push(
            " ON CONFLICT (node_id, plugin) DO UPDATE SET digest = excluded.digest, \
             deployment = excluded.deployment, allow_downgrade = excluded.allow_downgrade, \
             pinned = excluded.pinned, previous_digest = excluded.previous_digest, \
             revision = excluded.revision",
        );
        query.build().execute(&mut *c).await?;
    }
    for chunk in chunks(&sets) {
        let mut query = Insert::new("INSERT INTO node_sets (node_id, revision) ");
        query.push_values(chunk, |row, (node, revision)| {
            row.push_bind(node.to_string()).push_bind(signed(*revision));
        });
        query.push(" ON CONFLICT (node_id) DO UPDATE SET revision = excluded.revision");
        query.build().execute(&mut *c).await?;
    }
    Ok(())
}

async fn write_one(c: &mut Connection, change: &Change) -> Result<()> {
    match change {
        Change::Bundle(stored, source) => {
            insert_bundle(c, stored).await?;
            for signature in &stored.signatures {
                put_signature(c, stored.digest, signature).await?;
            }
            let data = json!({
                "plugin": stored.plugin, "version": stored.version.to_string(), "by": stored.created_by,
            });
            events::append(c, &[NewEvent::new("plugin.uploaded", stored.digest, data)]).await?;
            insert_source(c, source).await
        }
        Change::Signature(bundle, signature) => put_signature(c, *bundle, signature).await,
        Change::DropBundle(digest) => {
            sql::query("DELETE FROM bundles WHERE digest = $1").bind(digest.to_string()).execute(c).await?;
            Ok(())
        }
        Change::Approval(plugin, approved) => {
            sql::query(
                "INSERT INTO approvals (plugin, approval, approved_by, approved_ms) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (plugin) DO UPDATE SET approval = excluded.approval, \
                 approved_by = excluded.approved_by, approved_ms = excluded.approved_ms",
            )
            .bind(plugin.as_str())
            .bind(to_json("approval", &approved.approval)?)
            .bind(&approved.approved_by)
            .bind(approved.approved_ms)
            .execute(&mut *c)
            .await?;
            let data = json!({ "by": approved.approved_by });
            events::append(c, &[NewEvent::new("plugin.approved", plugin, data)]).await
        }
        Change::Assign(node, plugin, None) => {
            sql::query("DELETE FROM node_plugins WHERE node_id = $1 AND plugin = $2")
                .bind(node.to_string())
                .bind(plugin.as_str())
                .execute(c)
                .await?;
            Ok(())
        }
        Change::ForgetNode(node) => {
            for sql in
                ["DELETE FROM node_plugins WHERE node_id = $1", "DELETE FROM node_sets WHERE node_id = $1"]
            {
                sql::query(sql).bind(node.to_string()).execute(&mut *c).await?;
            }
            Ok(())
        }
        Change::Fallback(plugin, fallback) => {
            sql::query(
                "INSERT INTO plugin_defaults (plugin, deployment, digest, target, allow_downgrade, created_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(plugin.as_str())
            .bind(fallback.deployment.to_string())
            .bind(fallback.digest.to_string())
            .bind(to_json("target", &fallback.target)?)
            .bind(fallback.allow_downgrade)
            .bind(fallback.created_ms)
            .execute(c)
            .await?;
            Ok(())
        }
        Change::DropFallback(plugin, deployment) => {
            sql::query("DELETE FROM plugin_defaults WHERE plugin = $1 AND deployment = $2")
                .bind(plugin.as_str())
                .bind(deployment.to_string())
                .execute(c)
                .await?;
            Ok(())
        }
        Change::Deployment { live, new, parts } => deployments::put(c, live, *new, parts).await,
        Change::Audit(entry) => super::audit::append(c, entry).await,
        // Written by the hundred.
        Change::Assign(_, _, Some(_)) | Change::Set(..) => Ok(()),
    }
}

async fn insert_bundle(c: &mut Connection, stored: &Stored) -> Result<()> {
    let image =
        std::str::from_utf8(stored.image.manifest()).map_err(|error| StoreError::corrupt("image", error))?;
    sql::query(
        "INSERT INTO bundles (digest, plugin, version, description, image, size_bytes, operations, \
         capabilities, created_by, created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(stored.digest.to_string())
    .bind(stored.plugin.as_str())
    .bind(stored.version.to_string())
    .bind(&stored.description)
    .bind(image)
    .bind(signed(stored.size_bytes))
    .bind(to_json("operations", &stored.operations)?)
    .bind(to_json("capabilities", &stored.capabilities)?)
    .bind(&stored.created_by)
    .bind(stored.created_ms)
    .execute(c)
    .await?;
    Ok(())
}

async fn put_signature(c: &mut Connection, bundle: Digest, signature: &Signature) -> Result<()> {
    let json =
        String::from_utf8(signature.to_json()).map_err(|error| StoreError::corrupt("signature", error))?;
    sql::query(
        "INSERT INTO bundle_signatures (bundle, key, signature, created_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (bundle, key) DO UPDATE SET signature = excluded.signature, \
         created_ms = excluded.created_ms",
    )
    .bind(bundle.to_string())
    .bind(signature.key().to_string())
    .bind(json)
    .bind(crate::now_ms())
    .execute(c)
    .await?;
    Ok(())
}

/// An event of a node, to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Of the node.
    pub number: u64,
    /// Its `seq` is given when it is stored.
    pub event: PluginEvent,
}

/// Store events; those that are there already stay as they are. Gives back how many were new.
pub async fn insert_events(c: &mut Connection, rows: &[EventRow]) -> Result<u64> {
    let last: Option<i64> =
        sql::query("SELECT MAX(seq) FROM plugin_events").fetch_scalar(&mut *c).await?.flatten();
    let (mut seq, mut new) = (last.unwrap_or(0), Vec::new());
    for EventRow { number, event } in rows {
        let done = sql::query(
            "INSERT INTO plugin_events (seq, node_id, node_name, number, time_ms, plugin, kind, version, \
             digest, from_version, message, stored_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
        )
        .bind(seq + 1)
        .bind(event.node.to_string())
        .bind(event.name.as_str())
        .bind(signed(*number))
        .bind(event.time_ms)
        .bind(event.plugin.as_str())
        .bind(kind_word(event.kind))
        .bind(&event.version)
        .bind(event.digest.map(|digest| digest.to_string()))
        .bind(&event.from_version)
        .bind(&event.message)
        .bind(crate::now_ms())
        .execute(&mut *c)
        .await?;
        if done == 1 {
            seq += 1;
            new.push(told(event));
        }
    }
    events::append(c, &new).await?;
    Ok(new.len() as u64)
}

/// What the log of the whole grid is told of an event of a node. Its time is the master's: the clock of
/// the node may be wrong, and it may have been away for long.
fn told(event: &PluginEvent) -> NewEvent {
    let kind = match event.kind {
        PluginEventKind::Installed => "plugin.installed",
        PluginEventKind::Failed => "plugin.failed",
        PluginEventKind::RolledBack => "plugin.rolled_back",
        PluginEventKind::Removed => "plugin.removed",
    };
    let data = json!({
        "version": event.version, "from_version": event.from_version, "message": event.message,
        "node_time_ms": event.time_ms,
    });
    let told = NewEvent::of_node(kind, event.node, &event.name, data);
    NewEvent { subject: event.plugin.to_string(), ..told }
}

/// The newest event of each node: its number and time there.
pub async fn newest_events(store: &Store) -> Result<HashMap<NodeId, (u64, i64)>> {
    let rows = sql::query(
        "SELECT node_id, number, time_ms FROM plugin_events WHERE seq IN \
         (SELECT MAX(seq) FROM plugin_events GROUP BY node_id)",
    );
    rows.fetch_all(store.readers())
        .await?
        .iter()
        .map(|row| {
            let number = row.try_get::<i64>("number")?.unsigned_abs();
            Ok((parse("node id", row.try_get("node_id")?)?, (number, row.try_get("time_ms")?)))
        })
        .collect()
}

/// A page of the events of a plugin, newest first: those before `before`.
pub async fn events(
    store: &Store,
    plugin: &PluginName,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<PluginEvent>> {
    let rows =
        sql::query("SELECT * FROM plugin_events WHERE plugin = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3")
            .bind(plugin.as_str())
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(store.readers())
            .await?;
    rows.iter().map(event).collect()
}

fn event(row: &Row) -> Result<PluginEvent> {
    let name: NodeName = parse("node name", row.try_get("node_name")?)?;
    Ok(PluginEvent {
        seq: row.try_get("seq")?,
        time_ms: row.try_get("time_ms")?,
        node: parse("node id", row.try_get("node_id")?)?,
        name,
        plugin: parse("plugin name", row.try_get("plugin")?)?,
        kind: kind_from(row.try_get("kind")?)?,
        version: row.try_get("version")?,
        digest: maybe("digest", row, "digest")?,
        from_version: row.try_get("from_version")?,
        message: row.try_get("message")?,
    })
}

fn kind_word(kind: PluginEventKind) -> &'static str {
    match kind {
        PluginEventKind::Installed => "installed",
        PluginEventKind::Failed => "failed",
        PluginEventKind::RolledBack => "rolled_back",
        PluginEventKind::Removed => "removed",
    }
}

/// The kind of a word; none for one of a later version.
pub(crate) fn kind_of(word: &str) -> Option<PluginEventKind> {
    use PluginEventKind::{Failed, Installed, Removed, RolledBack};
    [Installed, Failed, RolledBack, Removed].into_iter().find(|kind| kind_word(*kind) == word)
}

fn kind_from(word: &str) -> Result<PluginEventKind> {
    kind_of(word).ok_or_else(|| StoreError::corrupt("kind of a plugin event", word))
}

/// Events forgotten in one transaction.
const SWEEP: i64 = 2000;

/// Forget some events that were stored before a time, and of the oldest beyond a number. Gives back
/// how many; call again until it is none.
pub async fn sweep_events(c: &mut Connection, before_ms: i64, keep: u64) -> Result<u64> {
    let done = sql::query(
        "DELETE FROM plugin_events WHERE seq IN (SELECT seq FROM plugin_events \
         WHERE stored_ms < $1 OR seq <= (SELECT MAX(seq) FROM plugin_events) - $2 ORDER BY seq LIMIT $3)",
    )
    .bind(before_ms)
    .bind(signed(keep))
    .bind(SWEEP)
    .execute(c)
    .await?;
    Ok(done)
}
