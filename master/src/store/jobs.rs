//! Rows of jobs, their nodes and outcomes.
//!
//! Nothing here costs a statement per node: rows go in by the hundred, and the outcomes that were
//! new come back, so that the primary key, and not a look beforehand, decides which outcome counts.

use super::{
    Connection, Row, Store, StoreError,
    bundles::signed,
    events::{self, NewEvent},
    nodes::{from_json, from_word, parse, to_json},
    outputs,
    sql::{self, Insert},
};
use crate::secrets::Pins;
use futures_util::TryStreamExt as _;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use windlass_types::{
    Digest, JobId, NodeId, NodeName, Outcome, OutcomeKind, RequestId,
    api::{Job, JobNode, JobNodeState, JobState, JobTrace},
    trace::CallStats,
};

type Result<T> = std::result::Result<T, StoreError>;

/// Rows of one statement. A few fixed sizes, so that the prepared statements are few as well.
const CHUNKS: [usize; 6] = [128, 32, 8, 4, 2, 1];

pub(super) fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = CHUNKS.into_iter().find(|size| *size <= rows.len())?;
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

/// A node of a job, as it is created.
#[derive(Debug, Clone)]
pub struct PartRow {
    pub request: RequestId,
    pub node: NodeId,
    pub name: NodeName,
}

/// A node of an unfinished job, as it is loaded.
#[derive(Debug, Clone)]
pub struct StoredPart {
    pub position: u32,
    pub row: PartRow,
    pub stage: JobNodeState,
    pub started_ms: Option<i64>,
    /// When it had its turn, in a job with batches.
    pub released_ms: Option<i64>,
    /// Counts from 1.
    pub attempt: u32,
    /// What came of the attempt before.
    pub last: Option<Outcome>,
    /// It has its outcome.
    pub done: bool,
}

/// An unfinished job, as it is loaded.
#[derive(Debug)]
pub struct StoredJob {
    pub job: Job,
    pub type_digest: Digest,
    /// How long each node has from its turn on.
    pub node_ms: u64,
    /// The secrets that its arguments name, as they were when it was made.
    pub secrets: Pins,
    pub parts: Vec<StoredPart>,
}

/// An outcome to store.
#[derive(Debug, Clone)]
pub struct OutcomeRow {
    pub job: JobId,
    pub position: u32,
    pub kind: OutcomeKind,
    pub started_ms: Option<i64>,
    pub plugin_digest: Option<Digest>,
    pub stats_json: Option<String>,
    pub outcome_json: String,
    pub trace_json: String,
    /// How much it has written on its way.
    pub output_bytes: u64,
}

/// How far a node says it is.
#[derive(Debug, Clone, Copy)]
pub struct StageRow {
    pub job: JobId,
    pub position: u32,
    /// If the node is asked under another one by now, the stage means nothing.
    pub request: RequestId,
    pub stage: JobNodeState,
    pub started_ms: Option<i64>,
}

fn stage_word(stage: JobNodeState) -> &'static str {
    match stage {
        JobNodeState::Waiting => "waiting",
        JobNodeState::Sent => "sent",
        JobNodeState::Accepted => "accepted",
        // What is done has an outcome, which says so.
        JobNodeState::Running | JobNodeState::Done => "running",
    }
}

fn stage_from(text: &str) -> Result<JobNodeState> {
    use JobNodeState::{Accepted, Running, Sent, Waiting};
    [Waiting, Sent, Accepted, Running]
        .into_iter()
        .find(|stage| stage_word(*stage) == text)
        .ok_or_else(|| StoreError::corrupt("stage", text))
}

/// A new job with its nodes.
pub async fn insert(
    c: &mut Connection,
    job: &Job,
    type_digest: Digest,
    node_ms: u64,
    secrets: &Pins,
    parts: &[PartRow],
) -> Result<()> {
    sql::query(
        "INSERT INTO jobs (id, operation, args, effect, type_digest, dry_run, target, created_by, \
         created_ms, deadline_ms, nodes, batch, max_failures, node_ms, retries, wait_ms, locks, secrets) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    )
    .bind(job.id.to_string())
    .bind(job.operation.as_str())
    .bind(job.args.to_string())
    .bind(job.effect.as_str())
    .bind(type_digest.to_string())
    .bind(job.dry_run)
    .bind(to_json("target", &job.target)?)
    .bind(&job.created_by)
    .bind(job.created_ms)
    .bind(job.deadline_ms)
    .bind(i64::from(job.nodes))
    .bind(job.batch.map(i64::from))
    .bind(job.max_failures.map(i64::from))
    .bind(signed(node_ms))
    .bind(job.retries.map(i64::from))
    .bind(job.wait_offline_ms.map(signed))
    .bind(match job.locks.as_slice() {
        [] => None,
        locks => Some(to_json("locks", &locks)?),
    })
    .bind(if secrets.is_empty() { None } else { Some(to_json("secrets", secrets)?) })
    .execute(&mut *c)
    .await?;
    let id = job.id.to_string();
    let mut position = 0_i64;
    for chunk in chunks(parts) {
        let mut query =
            Insert::new("INSERT INTO job_nodes (job_id, position, request_id, node_id, node_name) ");
        query.push_values(chunk, |row, part| {
            row.push_bind(id.clone())
                .push_bind(position)
                .push_bind(part.request.to_string())
                .push_bind(part.node.to_string())
                .push_bind(part.name.as_str().to_owned());
            position += 1;
        });
        query.build().execute(&mut *c).await?;
    }
    Ok(())
}

/// Store outcomes and count them. Gives back those that were the first of their node; the others
/// are left as if they had not come.
pub async fn insert_outcomes(
    c: &mut Connection,
    rows: &[OutcomeRow],
    now_ms: i64,
) -> Result<HashSet<(JobId, u32)>> {
    let mut first = HashSet::with_capacity(rows.len());
    let mut counts: BTreeMap<JobId, BTreeMap<OutcomeKind, i64>> = BTreeMap::new();
    for chunk in chunks(rows) {
        let mut query = Insert::new(
            "INSERT INTO job_outcomes (job_id, position, started_ms, finished_ms, plugin_digest, stats, \
             outcome, trace) ",
        );
        query.push_values(chunk, |values, row| {
            values
                .push_bind(row.job.to_string())
                .push_bind(i64::from(row.position))
                .push_bind(row.started_ms)
                .push_bind(now_ms)
                .push_bind(row.plugin_digest.map(|digest| digest.to_string()))
                .push_bind(row.stats_json.clone())
                .push_bind(row.outcome_json.clone())
                .push_bind(row.trace_json.clone());
        });
        query.push(" ON CONFLICT (job_id, position) DO NOTHING RETURNING job_id, position");
        let mut new = HashSet::with_capacity(chunk.len());
        for row in query.build().fetch_all(&mut *c).await? {
            let job: JobId = parse("job id", row.try_get("job_id")?)?;
            let position: i64 = row.try_get("position")?;
            new.insert((job, u32::try_from(position).unwrap_or(u32::MAX)));
        }
        for row in chunk {
            // The same one twice in a chunk: the first counts.
            if new.contains(&(row.job, row.position)) && first.insert((row.job, row.position)) {
                *counts.entry(row.job).or_default().entry(row.kind).or_default() += 1;
            }
        }
    }
    for row in rows.iter().filter(|row| row.output_bytes > 0 && first.contains(&(row.job, row.position))) {
        outputs::told(&mut *c, row.job, row.position, row.output_bytes).await?;
    }
    let mut finished = Vec::new();
    for (job, kinds) in counts {
        let mut query = sql::query(
            "UPDATE jobs SET succeeded = succeeded + $2, failed = failed + $3, trapped = trapped + $4, \
             timed_out = timed_out + $5, denied = denied + $6, refused = refused + $7, \
             cancelled = cancelled + $8, no_answer = no_answer + $9, indeterminate = indeterminate + $10, \
             done = done + $11, finished_ms = CASE WHEN done + $11 >= nodes THEN $12 ELSE finished_ms END \
             WHERE id = $1 RETURNING operation, created_by, nodes, finished_ms, succeeded, failed, trapped, \
             timed_out, denied, refused, cancelled, no_answer, indeterminate",
        )
        .bind(job.to_string());
        for kind in OutcomeKind::ALL {
            query = query.bind(kinds.get(&kind).copied().unwrap_or(0));
        }
        let row = query.bind(kinds.values().sum::<i64>()).bind(now_ms).fetch_one(&mut *c).await?;
        // Outcomes of a finished job are never the first of their node, so it finishes once.
        if row.try_get::<Option<i64>>("finished_ms")?.is_some() {
            let mut outcomes = serde_json::Map::new();
            for kind in OutcomeKind::ALL {
                let number: i64 = row.try_get(kind.as_str())?;
                if number > 0 {
                    outcomes.insert(kind.as_str().to_owned(), number.into());
                }
            }
            let data = json!({
                "operation": row.try_get::<&str>("operation")?, "by": row.try_get::<&str>("created_by")?,
                "nodes": row.try_get::<i64>("nodes")?, "outcomes": outcomes,
            });
            finished.push(NewEvent { time_ms: now_ms, ..NewEvent::new("job.finished", job, data) });
        }
    }
    events::append(c, &finished).await?;
    Ok(first)
}

/// Note that nodes of a job with batches have their turn.
pub async fn release(c: &mut Connection, job: JobId, positions: &[u32], now_ms: i64) -> Result<()> {
    for position in positions {
        sql::query("UPDATE job_nodes SET released_ms = $3 WHERE job_id = $1 AND position = $2")
            .bind(job.to_string())
            .bind(i64::from(*position))
            .bind(now_ms)
            .execute(&mut *c)
            .await?;
    }
    Ok(())
}

/// Note how far nodes are.
pub async fn update_stages(c: &mut Connection, rows: &[StageRow]) -> Result<()> {
    for row in rows {
        sql::query(
            "UPDATE job_nodes SET stage = $4, started_ms = $5 \
             WHERE job_id = $1 AND position = $2 AND request_id = $3",
        )
        .bind(row.job.to_string())
        .bind(i64::from(row.position))
        .bind(row.request.to_string())
        .bind(stage_word(row.stage))
        .bind(row.started_ms)
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}

/// A node that is to be asked again.
#[derive(Debug, Clone)]
pub struct AgainRow {
    pub job: JobId,
    pub position: u32,
    /// Under which it was asked, and will be.
    pub old: RequestId,
    pub new: RequestId,
    pub attempt: u32,
    /// When its time begins anew; none if it goes on.
    pub released_ms: Option<i64>,
    pub last: Outcome,
}

/// Ask a node again.
pub async fn again(c: &mut Connection, row: &AgainRow) -> Result<()> {
    let changed = sql::query(
        "UPDATE job_nodes SET request_id = $4, attempt = $5, last_outcome = $6, \
         released_ms = COALESCE($7, released_ms), stage = 'waiting', started_ms = NULL \
         WHERE job_id = $1 AND position = $2 AND request_id = $3",
    )
    .bind(row.job.to_string())
    .bind(i64::from(row.position))
    .bind(row.old.to_string())
    .bind(row.new.to_string())
    .bind(i64::from(row.attempt))
    .bind(to_json("outcome", &row.last)?)
    .bind(row.released_ms)
    .execute(c)
    .await?;
    match changed {
        1 => Ok(()),
        _ => Err(StoreError::corrupt("node of a job", format!("no request {}", row.old))),
    }
}

/// Note that somebody wants a job cancelled. False when it is finished, or there is none.
pub async fn request_cancel(c: &mut Connection, id: JobId) -> Result<bool> {
    let done = sql::query("UPDATE jobs SET cancel_requested = TRUE WHERE id = $1 AND finished_ms IS NULL")
        .bind(id.to_string())
        .execute(c)
        .await?;
    Ok(done == 1)
}

fn job(row: &Row) -> Result<Job> {
    let text = |column: &str| row.try_get::<&str>(column);
    let count =
        |column: &str| row.try_get::<i64>(column).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let maybe = |column: &str| {
        row.try_get::<Option<i64>>(column)
            .map(|number| number.map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
    };
    let finished_ms: Option<i64> = row.try_get("finished_ms")?;
    let mut outcomes = BTreeMap::new();
    for kind in OutcomeKind::ALL {
        let number = count(kind.as_str())?;
        if number > 0 {
            outcomes.insert(kind, number);
        }
    }
    Ok(Job {
        id: parse("job id", text("id")?)?,
        operation: parse("operation name", text("operation")?)?,
        args: from_json("arguments", text("args")?)?,
        effect: from_word("effect", text("effect")?)?,
        dry_run: row.try_get("dry_run")?,
        target: from_json("target", text("target")?)?,
        state: if finished_ms.is_some() { JobState::Finished } else { JobState::Running },
        cancel_requested: row.try_get("cancel_requested")?,
        created_by: row.try_get("created_by")?,
        created_ms: row.try_get("created_ms")?,
        deadline_ms: row.try_get("deadline_ms")?,
        finished_ms,
        nodes: count("nodes")?,
        batch: maybe("batch")?,
        max_failures: maybe("max_failures")?,
        retries: maybe("retries")?,
        wait_offline_ms: row.try_get::<Option<i64>>("wait_ms")?.map(i64::unsigned_abs),
        locks: match row.try_get::<Option<&str>>("locks")? {
            Some(locks) => from_json("locks", locks)?,
            None => Vec::new(),
        },
        outcomes,
        results: None,
    })
}

/// One job.
pub async fn get(store: &Store, id: JobId) -> Result<Option<Job>> {
    let row = sql::query("SELECT * FROM jobs WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(store.readers())
        .await?;
    row.as_ref().map(job).transpose()
}

/// A page, newest first: jobs before `before`, `limit` at most, and no more once their arguments and
/// targets have passed `max_bytes`. The flag says that there are more.
pub async fn page(
    store: &Store,
    before: Option<JobId>,
    limit: u32,
    max_bytes: usize,
) -> Result<(Vec<Job>, bool)> {
    // After every id.
    let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
    let mut rows = sql::query("SELECT * FROM jobs WHERE id < $1 ORDER BY id DESC LIMIT $2")
        .bind(before)
        .bind(i64::from(limit) + 1)
        .fetch(store.readers());
    let (mut items, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        if items.len() >= limit as usize || bytes >= max_bytes {
            return Ok((items, true));
        }
        bytes += row.try_get::<&str>("args")?.len() + row.try_get::<&str>("target")?.len();
        items.push(job(&row)?);
    }
    Ok((items, false))
}

/// All unfinished jobs with their nodes.
pub async fn unfinished(c: &mut Connection) -> Result<Vec<StoredJob>> {
    let rows =
        sql::query("SELECT * FROM jobs WHERE finished_ms IS NULL ORDER BY id").fetch_all(&mut *c).await?;
    let mut jobs = Vec::with_capacity(rows.len());
    for row in &rows {
        let job = job(row)?;
        let digest = parse("digest", row.try_get("type_digest")?)?;
        let parts = sql::query(
            "SELECT n.position, n.request_id, n.node_id, n.node_name, n.stage, n.started_ms, \
             n.released_ms, n.attempt, n.last_outcome, o.finished_ms FROM job_nodes n LEFT JOIN job_outcomes o \
             ON o.job_id = n.job_id AND o.position = n.position WHERE n.job_id = $1 ORDER BY n.position",
        )
        .bind(job.id.to_string())
        .fetch_all(&mut *c)
        .await?
        .iter()
        .map(|row| {
            Ok(StoredPart {
                position: u32::try_from(row.try_get::<i64>("position")?).unwrap_or(u32::MAX),
                row: PartRow {
                    request: parse("request id", row.try_get("request_id")?)?,
                    node: parse("node id", row.try_get("node_id")?)?,
                    name: parse("node name", row.try_get("node_name")?)?,
                },
                stage: stage_from(row.try_get("stage")?)?,
                started_ms: row.try_get("started_ms")?,
                released_ms: row.try_get("released_ms")?,
                attempt: u32::try_from(row.try_get::<i64>("attempt")?).unwrap_or(u32::MAX),
                last: match row.try_get::<Option<&str>>("last_outcome")? {
                    Some(outcome) => Some(from_json("outcome", outcome)?),
                    None => None,
                },
                done: row.try_get::<Option<i64>>("finished_ms")?.is_some(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
        // Jobs that were made before there were batches have no batch either.
        let node_ms: Option<i64> = row.try_get("node_ms")?;
        let node_ms = u64::try_from(node_ms.unwrap_or(job.deadline_ms - job.created_ms)).unwrap_or(0);
        let secrets = match row.try_get::<Option<&str>>("secrets")? {
            Some(secrets) => from_json("secrets", secrets)?,
            None => Pins::new(),
        };
        jobs.push(StoredJob { job, type_digest: digest, node_ms, secrets, parts });
    }
    Ok(jobs)
}

/// Nodes of a job after a position (from -1), with their outcomes: `limit` at most, and no more once
/// their outcomes have passed `max_bytes`. The flag says that there are more.
pub async fn nodes(
    store: &Store,
    id: JobId,
    after: i64,
    limit: u32,
    max_bytes: usize,
) -> Result<(Vec<(u32, JobNode)>, bool)> {
    let mut rows = sql::query(
        "SELECT n.position, n.node_id, n.node_name, n.stage, n.attempt, COALESCE(o.started_ms, n.started_ms) AS started_ms, \
         o.finished_ms, o.plugin_digest, o.stats, o.outcome, p.bytes AS output_bytes FROM job_nodes n \
         LEFT JOIN job_outcomes o ON o.job_id = n.job_id AND o.position = n.position \
         LEFT JOIN job_outputs p ON p.job_id = n.job_id AND p.position = n.position \
         WHERE n.job_id = $1 AND n.position > $2 ORDER BY n.position LIMIT $3",
    )
    .bind(id.to_string())
    .bind(after)
    .bind(i64::from(limit) + 1)
    .fetch(store.readers());
    let (mut items, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        if items.len() >= limit as usize || bytes >= max_bytes {
            return Ok((items, true));
        }
        let text = |column: &str| row.try_get::<Option<&str>>(column);
        let outcome = text("outcome")?;
        bytes += outcome.map_or(0, str::len);
        let outcome: Option<Outcome> = outcome.map(|outcome| from_json("outcome", outcome)).transpose()?;
        let node = JobNode {
            node: parse("node id", row.try_get("node_id")?)?,
            name: parse("node name", row.try_get("node_name")?)?,
            state: if outcome.is_some() { JobNodeState::Done } else { stage_from(row.try_get("stage")?)? },
            outcome,
            stats: text("stats")?.map(|stats| from_json::<CallStats>("stats", stats)).transpose()?,
            plugin_digest: text("plugin_digest")?.map(|digest| parse("digest", digest)).transpose()?,
            plugin_version: None,
            started_ms: row.try_get("started_ms")?,
            finished_ms: row.try_get("finished_ms")?,
            attempts: u32::try_from(row.try_get::<i64>("attempt")?).ok().filter(|attempt| *attempt > 1),
            output_bytes: row.try_get::<Option<i64>>("output_bytes")?.map(i64::unsigned_abs),
        };
        items.push((u32::try_from(row.try_get::<i64>("position")?).unwrap_or(u32::MAX), node));
    }
    Ok((items, false))
}

/// The trace of a node of a job; empty until it has its outcome. None when the job has no such node.
pub async fn trace(store: &Store, id: JobId, node: &str) -> Result<Option<JobTrace>> {
    let row = sql::query(
        "SELECT n.node_id, n.node_name, o.trace FROM job_nodes n LEFT JOIN job_outcomes o \
         ON o.job_id = n.job_id AND o.position = n.position \
         WHERE n.job_id = $1 AND (n.node_id = $2 OR n.node_name = $2)",
    )
    .bind(id.to_string())
    .bind(node)
    .fetch_optional(store.readers())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let trace: Option<&str> = row.try_get("trace")?;
    Ok(Some(JobTrace {
        job: id,
        node: parse("node id", row.try_get("node_id")?)?,
        name: parse("node name", row.try_get("node_name")?)?,
        entries: trace.map(|trace| from_json("trace", trace)).transpose()?.unwrap_or_default(),
    }))
}

/// Nodes of jobs forgotten in one transaction, so that no write waits long for it; one job at least.
const SWEEP: i64 = 5000;

/// A run that has yet to learn how a job ended would make it a second time.
macro_rules! unwanted {
    () => {
        " AND NOT EXISTS (SELECT 1 FROM run_jobs WHERE run_jobs.job_id = jobs.id) ORDER BY finished_ms"
    };
}

/// Forget some of the finished jobs that ended before a time, and of the oldest beyond a number.
/// Gives back how many; call again until it is none.
pub async fn sweep(c: &mut Connection, before_ms: i64, keep: u64) -> Result<u64> {
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    // The first query goes along the index; the second begins behind what is kept.
    let mut old =
        sql::query(concat!("SELECT id, nodes FROM jobs WHERE finished_ms < $1", unwanted!(), " LIMIT 50"))
            .bind(before_ms)
            .fetch_all(&mut *c)
            .await?;
    if old.is_empty() {
        let sql = concat!(
            "SELECT id, nodes FROM jobs WHERE finished_ms IS NOT NULL",
            unwanted!(),
            " DESC LIMIT 50 OFFSET $1"
        );
        old = sql::query(sql).bind(keep).fetch_all(&mut *c).await?;
    }
    let (mut swept, mut nodes) = (0, 0);
    for row in old {
        if nodes >= SWEEP {
            break;
        }
        nodes += row.try_get::<i64>("nodes")?;
        let id: &str = row.try_get("id")?;
        sql::query("DELETE FROM jobs WHERE id = $1").bind(id).execute(&mut *c).await?;
        swept += 1;
    }
    Ok(swept)
}

/// Under which requests the nodes of a job were asked, by position.
pub async fn requests(store: &Store, job: JobId) -> Result<Vec<(NodeId, RequestId)>> {
    let rows = sql::query("SELECT node_id, request_id FROM job_nodes WHERE job_id = $1 ORDER BY position")
        .bind(job.to_string())
        .fetch_all(store.readers())
        .await?;
    let row = |row: &Row| {
        let node = parse("node id", row.try_get("node_id")?)?;
        Ok((node, parse("request id", row.try_get("request_id")?)?))
    };
    rows.iter().map(row).collect()
}
