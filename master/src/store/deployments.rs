//! Rows of deployments and their nodes.

use super::{
    Connection, Row, Store, StoreError,
    bundles::{maybe, signed},
    events::{self, NewEvent},
    jobs::chunks,
    nodes::{from_json, parse, to_json},
    sql::{self, Insert},
};
use crate::{
    bundles::state_word,
    deployments::{Live, Part, Rollout},
};
use serde_json::json;
use std::collections::BTreeMap;
use windlass_types::{
    DeploymentId, Digest, PluginName,
    api::bundles::{Deployment, DeploymentNodeState, DeploymentState, PluginVersion},
};

type Result<T> = std::result::Result<T, StoreError>;

fn state_from(text: &str) -> Result<DeploymentState> {
    from_json("deployment state", &format!("\"{text}\""))
}

fn at_word(state: DeploymentNodeState) -> &'static str {
    match state {
        DeploymentNodeState::Waiting => "waiting",
        DeploymentNodeState::Sent => "sent",
        DeploymentNodeState::Installing => "installing",
        DeploymentNodeState::Active => "active",
        DeploymentNodeState::Failed => "failed",
        DeploymentNodeState::RolledBack => "rolled_back",
        DeploymentNodeState::Offline => "offline",
        DeploymentNodeState::Skipped => "skipped",
    }
}

fn at_from(text: &str) -> Result<DeploymentNodeState> {
    from_json("state of a node", &format!("\"{text}\""))
}

/// What the event log is told of a deployment: each new state.
fn told(live: &Live, before: Option<DeploymentState>) -> Vec<NewEvent> {
    let rollout = &live.rollout;
    let kind = match (before, rollout.state) {
        (Some(before), now) if before == now => return Vec::new(),
        _ if live.finished_ms.is_some() => "deployment.finished",
        (Some(DeploymentState::Paused), DeploymentState::Running) => "deployment.resumed",
        (_, DeploymentState::Running) => "deployment.started",
        (_, DeploymentState::WaitingApproval) => "deployment.waiting",
        (_, DeploymentState::Paused) => "deployment.paused",
        (_, DeploymentState::RollingBack) => "deployment.rolling_back",
        // The others are ends.
        _ => "deployment.finished",
    };
    let data = json!({
        "plugin": rollout.plugin, "version": live.to.as_ref().map(|to| &to.version),
        "state": state_word(rollout.state), "reason": rollout.reason, "nodes": rollout.parts.len(),
    });
    vec![NewEvent::new(kind, rollout.id, data)]
}

/// Write a deployment as it is now, and those of its parts that are not as they were.
pub async fn put(c: &mut Connection, live: &Live, new: bool, parts: &[usize]) -> Result<()> {
    let shown = live.to_api();
    let rollout = &live.rollout;
    let before: Option<String> = match new {
        true => None,
        false => {
            sql::query("SELECT state FROM deployments WHERE id = $1")
                .bind(rollout.id.to_string())
                .fetch_scalar(&mut *c)
                .await?
        }
    };
    events::append(c, &told(live, before.map(|state| state_from(&state)).transpose()?)).await?;
    if new {
        sql::query(
            "INSERT INTO deployments (id, plugin, digest, version, state, reason, target, strategy, \
             allow_downgrade, revision, begun, soak_since_ms, forgiven, nodes, by_state, created_by, \
             created_ms, finished_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        )
        .bind(rollout.id.to_string())
        .bind(rollout.plugin.as_str())
        .bind(live.to.as_ref().map(|to| to.digest.to_string()))
        .bind(live.to.as_ref().map(|to| to.version.clone()))
        .bind(state_word(rollout.state))
        .bind(&rollout.reason)
        .bind(to_json("target", &live.target)?)
        .bind(to_json("strategy", &rollout.strategy)?)
        .bind(live.allow_downgrade)
        .bind(signed(live.revision))
        .bind(i64::from(rollout.begun))
        .bind(rollout.soak_since_ms)
        .bind(i64::from(rollout.forgiven))
        .bind(i64::from(shown.nodes))
        .bind(to_json("counts", &shown.by_state)?)
        .bind(&live.created_by)
        .bind(live.created_ms)
        .bind(live.finished_ms)
        .execute(&mut *c)
        .await?;
    } else {
        sql::query(
            "UPDATE deployments SET state = $2, reason = $3, revision = $4, begun = $5, \
             soak_since_ms = $6, forgiven = $7, by_state = $8, finished_ms = $9 WHERE id = $1",
        )
        .bind(rollout.id.to_string())
        .bind(state_word(rollout.state))
        .bind(&rollout.reason)
        .bind(signed(live.revision))
        .bind(i64::from(rollout.begun))
        .bind(rollout.soak_since_ms)
        .bind(i64::from(rollout.forgiven))
        .bind(to_json("counts", &shown.by_state)?)
        .bind(live.finished_ms)
        .execute(&mut *c)
        .await?;
    }
    let parts: Vec<(usize, &Part)> =
        parts.iter().filter_map(|at| Some((*at, rollout.parts.get(*at)?))).collect();
    for chunk in chunks(&parts) {
        let mut query = Insert::new(
            "INSERT INTO deployment_nodes (deployment_id, position, node_id, node_name, step, state, \
             to_digest, from_digest, from_version, problem, given, sent_ms, changed_ms) ",
        );
        query.push_values(chunk, |row, (position, part)| {
            row.push_bind(rollout.id.to_string())
                .push_bind(i64::try_from(*position).unwrap_or(i64::MAX))
                .push_bind(part.node.to_string())
                .push_bind(part.name.to_string())
                .push_bind(i64::from(part.step))
                .push_bind(at_word(part.state))
                .push_bind(part.to.map(|digest| digest.to_string()))
                .push_bind(part.from.as_ref().map(|from| from.digest.to_string()))
                .push_bind(part.from.as_ref().map(|from| from.version.clone()))
                .push_bind(part.problem.clone())
                .push_bind(part.given)
                .push_bind(part.sent_ms)
                .push_bind(part.changed_ms);
        });
        query.push(
            " ON CONFLICT (deployment_id, position) DO UPDATE SET step = excluded.step, \
             state = excluded.state, problem = excluded.problem, given = excluded.given, \
             sent_ms = excluded.sent_ms, changed_ms = excluded.changed_ms",
        );
        query.build().execute(&mut *c).await?;
    }
    Ok(())
}

fn live(row: &Row, parts: Vec<Part>) -> Result<Live> {
    let number =
        |column: &str| row.try_get::<i64>(column).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    let digest: Option<Digest> = maybe("digest", row, "digest")?;
    let version: Option<String> = row.try_get("version")?;
    Ok(Live {
        rollout: Rollout {
            id: parse("deployment id", row.try_get("id")?)?,
            plugin: parse("plugin name", row.try_get("plugin")?)?,
            state: state_from(row.try_get("state")?)?,
            reason: row.try_get("reason")?,
            strategy: from_json("strategy", row.try_get("strategy")?)?,
            begun: number("begun")?,
            soak_since_ms: row.try_get("soak_since_ms")?,
            forgiven: number("forgiven")?,
            parts,
        },
        to: digest.zip(version).map(|(digest, version)| PluginVersion { version, digest }),
        target: from_json("target", row.try_get("target")?)?,
        allow_downgrade: row.try_get("allow_downgrade")?,
        revision: row.try_get::<i64>("revision")?.unsigned_abs(),
        created_by: row.try_get("created_by")?,
        created_ms: row.try_get("created_ms")?,
        finished_ms: row.try_get("finished_ms")?,
    })
}

fn part(row: &Row) -> Result<Part> {
    let from: Option<Digest> = maybe("digest", row, "from_digest")?;
    let version: Option<String> = row.try_get("from_version")?;
    Ok(Part {
        node: parse("node id", row.try_get("node_id")?)?,
        name: parse("node name", row.try_get("node_name")?)?,
        step: u32::try_from(row.try_get::<i64>("step")?).unwrap_or(u32::MAX),
        state: at_from(row.try_get("state")?)?,
        to: maybe("digest", row, "to_digest")?,
        from: from.zip(version).map(|(digest, version)| PluginVersion { version, digest }),
        problem: row.try_get("problem")?,
        given: row.try_get("given")?,
        sent_ms: row.try_get("sent_ms")?,
        changed_ms: row.try_get("changed_ms")?,
    })
}

async fn parts(store: &Store, id: &str) -> Result<Vec<Part>> {
    sql::query("SELECT * FROM deployment_nodes WHERE deployment_id = $1 ORDER BY position")
        .bind(id)
        .fetch_all(store.readers())
        .await?
        .iter()
        .map(part)
        .collect()
}

/// Deployments that have not ended.
pub async fn unfinished(store: &Store) -> Result<Vec<Live>> {
    let rows = sql::query("SELECT * FROM deployments WHERE finished_ms IS NULL ORDER BY id")
        .fetch_all(store.readers())
        .await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in &rows {
        let parts = parts(store, row.try_get("id")?).await?;
        all.push(live(row, parts)?);
    }
    Ok(all)
}

/// One deployment, with its nodes.
pub async fn get(store: &Store, id: DeploymentId) -> Result<Option<Live>> {
    let id = id.to_string();
    let row = sql::query("SELECT * FROM deployments WHERE id = $1")
        .bind(&id)
        .fetch_optional(store.readers())
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(live(&row, parts(store, &id).await?)?))
}

/// A page, newest first: deployments before `before`.
pub async fn page(
    store: &Store,
    plugin: Option<&PluginName>,
    before: Option<DeploymentId>,
    limit: u32,
) -> Result<Vec<Deployment>> {
    // After every id.
    let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
    let rows = match plugin {
        Some(plugin) => {
            sql::query("SELECT * FROM deployments WHERE plugin = $1 AND id < $2 ORDER BY id DESC LIMIT $3")
                .bind(plugin.as_str())
        }
        None => sql::query("SELECT * FROM deployments WHERE id < $1 ORDER BY id DESC LIMIT $2"),
    };
    let rows = rows.bind(before).bind(i64::from(limit)).fetch_all(store.readers()).await?;
    rows.iter()
        .map(|row| {
            let by_state: BTreeMap<DeploymentNodeState, u32> = from_json("counts", row.try_get("by_state")?)?;
            let nodes = u32::try_from(row.try_get::<i64>("nodes")?).unwrap_or(u32::MAX);
            Ok(Deployment { nodes, by_state, ..live(row, Vec::new())?.to_api() })
        })
        .collect()
}

/// Forget deployments that ended before a time.
pub async fn sweep(c: &mut Connection, before_ms: i64) -> Result<u64> {
    let done = sql::query(
        "DELETE FROM deployments WHERE id IN \
         (SELECT id FROM deployments WHERE finished_ms < $1 ORDER BY finished_ms LIMIT 20)",
    )
    .bind(before_ms)
    .execute(c)
    .await?;
    Ok(done)
}
