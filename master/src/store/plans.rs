//! Rows of plans, of their runs, and of what happens to these.
//!
//! Events of a run are only ever added. Together with one that says that something begins goes the id of
//! the job that is to do it, which stays known until it is known how that ended: so a run finds its jobs
//! whatever ends the master in between, and none of them is forgotten before.

use super::{
    Connection, Row, Store, StoreError,
    jobs::chunks,
    nodes::{from_json, from_word, parse, to_json},
    sql::{self, Insert},
};
use crate::plans::{Facts, StoredPlan, StoredRun};
use std::collections::BTreeMap;
use windlass_types::{
    JobId, PlanId,
    api::plans::{How, PlanInfo, RunEvent, RunEventKind, RunInfo, RunState, StepState},
    plans::Plan,
};

type Result<T> = std::result::Result<T, StoreError>;

/// A new plan.
pub async fn insert(c: &mut Connection, stored: &StoredPlan) -> Result<()> {
    let info = &stored.info;
    sql::query(
        "INSERT INTO plans (id, title, source, plan, steps, review, fleet, created_by, created_ms, \
         expires_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(info.id.to_string())
    .bind(&info.title)
    .bind(to_json("source", &info.source)?)
    .bind(to_json("plan", &*stored.plan)?)
    .bind(i64::from(info.steps))
    .bind(to_json("review", &stored.review)?)
    .bind(to_json("fleet", &stored.facts)?)
    .bind(&info.created_by)
    .bind(info.created_ms)
    .bind(info.expires_ms)
    .execute(c)
    .await?;
    Ok(())
}

fn info(row: &Row) -> Result<PlanInfo> {
    let run: Option<&str> = row.try_get("run_state")?;
    Ok(PlanInfo {
        id: parse("plan id", row.try_get("id")?)?,
        title: row.try_get("title")?,
        source: from_json("source", row.try_get("source")?)?,
        steps: u32::try_from(row.try_get::<i64>("steps")?).unwrap_or(u32::MAX),
        created_by: row.try_get("created_by")?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        run: run.map(|state| from_word("state of a run", state)).transpose()?,
    })
}

/// One plan.
pub async fn get(store: &Store, id: PlanId) -> Result<Option<StoredPlan>> {
    let row = sql::query(
        "SELECT plans.*, runs.state AS run_state FROM plans LEFT JOIN runs ON runs.id = plans.id \
         WHERE plans.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(store.readers())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let plan: Plan = from_json("plan", row.try_get("plan")?)?;
    let facts: Facts = from_json("fleet", row.try_get("fleet")?)?;
    let review = from_json("review", row.try_get("review")?)?;
    Ok(Some(StoredPlan { info: info(&row)?, plan: plan.into(), review, facts }))
}

/// Plans before one, newest first.
pub async fn page(store: &Store, before: Option<PlanId>, limit: u32) -> Result<Vec<PlanInfo>> {
    let rows = sql::query(
        "SELECT plans.id, plans.title, plans.source, plans.steps, plans.created_by, plans.created_ms, \
         plans.expires_ms, runs.state AS run_state FROM plans LEFT JOIN runs ON runs.id = plans.id \
         WHERE $1 = '' OR plans.id < $1 ORDER BY plans.id DESC LIMIT $2",
    )
    .bind(before.map(|id| id.to_string()).unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(store.readers())
    .await?;
    rows.iter().map(info).collect()
}

/// Plans that were made and not applied.
pub async fn unapplied(c: &mut Connection) -> Result<i64> {
    let count = sql::query(
        "SELECT COUNT(*) FROM plans WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = plans.id)",
    );
    Ok(count.fetch_scalar(c).await?.unwrap_or(0))
}

/// A new run.
pub async fn begin(c: &mut Connection, run: &StoredRun) -> Result<()> {
    sql::query(
        "INSERT INTO runs (id, state, steps, started_by, started_ms, finished_ms) \
         VALUES ($1, $2, NULL, $3, $4, NULL)",
    )
    .bind(run.id.to_string())
    .bind(RunState::Running.as_str())
    .bind(&run.started_by)
    .bind(run.started_ms)
    .execute(c)
    .await?;
    Ok(())
}

/// Add to what happened to a run, which stands so by then. With `over` it is over, and these are its steps.
pub async fn append(
    c: &mut Connection,
    id: PlanId,
    added: &[RunEvent],
    state: RunState,
    over: Option<&BTreeMap<StepState, u32>>,
) -> Result<()> {
    let mut rows = Vec::with_capacity(added.len());
    for event in added {
        rows.push((event, to_json("event of a run", &event.kind)?));
    }
    let run = id.to_string();
    for chunk in chunks(&rows) {
        let mut query = Insert::new("INSERT INTO run_events (run_id, seq, time_ms, actor, event) ");
        query.push_values(chunk, |row, (event, json)| {
            row.push_bind(run.clone())
                .push_bind(super::bundles::signed(event.seq))
                .push_bind(event.time_ms)
                .push_bind(event.actor.clone())
                .push_bind(json.clone());
        });
        query.build().execute(&mut *c).await?;
    }
    for event in added {
        if let RunEventKind::Began { job, .. } = &event.kind {
            sql::query("INSERT INTO run_jobs (job_id, run_id) VALUES ($1, $2)")
                .bind(job.to_string())
                .bind(&run)
                .execute(&mut *c)
                .await?;
        }
    }
    let finished_ms = over.and(added.last()).map(|event| event.time_ms);
    sql::query("UPDATE runs SET state = $2, steps = $3, finished_ms = $4 WHERE id = $1")
        .bind(&run)
        .bind(state.as_str())
        .bind(over.map(|steps| to_json("steps", steps)).transpose()?)
        .bind(finished_ms)
        .execute(&mut *c)
        .await?;
    if over.is_some() {
        sql::query("DELETE FROM run_jobs WHERE run_id = $1").bind(&run).execute(c).await?;
    }
    Ok(())
}

/// It is known how these ended, and that nothing of them runs any more.
pub async fn known(c: &mut Connection, jobs: &[JobId]) -> Result<()> {
    for job in jobs {
        sql::query("DELETE FROM run_jobs WHERE job_id = $1").bind(job.to_string()).execute(&mut *c).await?;
    }
    Ok(())
}

/// Whether an end leaves nothing to find out.
pub fn settles(how: How) -> bool {
    how != How::Unanswered
}

fn run(row: &Row) -> Result<RunInfo> {
    let steps: Option<&str> = row.try_get("steps")?;
    Ok(RunInfo {
        id: parse("plan id", row.try_get("id")?)?,
        title: row.try_get("title")?,
        state: from_word("state of a run", row.try_get("state")?)?,
        paused: false,
        steps: steps.map(|steps| from_json("steps", steps)).transpose()?.unwrap_or_default(),
        started_by: row.try_get("started_by")?,
        started_ms: row.try_get("started_ms")?,
        finished_ms: row.try_get("finished_ms")?,
    })
}

/// One run.
pub async fn run_info(store: &Store, id: PlanId) -> Result<Option<RunInfo>> {
    let row = sql::query(
        "SELECT runs.*, plans.title FROM runs JOIN plans ON plans.id = runs.id WHERE runs.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(store.readers())
    .await?;
    row.as_ref().map(run).transpose()
}

/// Runs before one, newest first.
pub async fn runs(store: &Store, before: Option<PlanId>, limit: u32) -> Result<Vec<RunInfo>> {
    let rows = sql::query(
        "SELECT runs.*, plans.title FROM runs JOIN plans ON plans.id = runs.id \
         WHERE $1 = '' OR runs.id < $1 ORDER BY runs.id DESC LIMIT $2",
    )
    .bind(before.map(|id| id.to_string()).unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(store.readers())
    .await?;
    rows.iter().map(run).collect()
}

/// Runs that are not over.
pub async fn open(store: &Store) -> Result<Vec<PlanId>> {
    let rows = sql::query("SELECT id FROM runs WHERE finished_ms IS NULL ORDER BY id");
    let rows = rows.fetch_all(store.readers()).await?;
    rows.iter().map(|row| parse("plan id", row.try_get("id")?)).collect()
}

/// What happened to a run after a number, oldest first.
pub async fn events(store: &Store, id: PlanId, after: u64, limit: u32) -> Result<Vec<RunEvent>> {
    let rows = sql::query("SELECT * FROM run_events WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3")
        .bind(id.to_string())
        .bind(super::bundles::signed(after))
        .bind(i64::from(limit))
        .fetch_all(store.readers())
        .await?;
    let event = |row: &Row| {
        Ok(RunEvent {
            seq: row.try_get::<i64>("seq")?.unsigned_abs(),
            time_ms: row.try_get("time_ms")?,
            actor: row.try_get("actor")?,
            kind: from_json("event of a run", row.try_get("event")?)?,
        })
    };
    rows.iter().map(event).collect()
}

/// Forget some plans that were not applied in time, and some runs that ended before a time, or else the
/// oldest beyond a number. Gives back how many; call again until it is none.
pub async fn sweep(c: &mut Connection, now_ms: i64, before_ms: i64, keep: u64) -> Result<u64> {
    const SWEEP: i64 = 20;
    let mut swept = sql::query(
        "DELETE FROM plans WHERE id IN (SELECT id FROM plans WHERE expires_ms < $1 AND NOT EXISTS \
         (SELECT 1 FROM runs WHERE runs.id = plans.id) ORDER BY expires_ms LIMIT $2)",
    )
    .bind(now_ms)
    .bind(SWEEP)
    .execute(&mut *c)
    .await?;
    swept += sql::query(
        "DELETE FROM plans WHERE id IN \
         (SELECT id FROM runs WHERE finished_ms < $1 ORDER BY finished_ms LIMIT $2)",
    )
    .bind(before_ms)
    .bind(SWEEP)
    .execute(&mut *c)
    .await?;
    swept += sql::query(
        "DELETE FROM plans WHERE id IN (SELECT id FROM runs WHERE finished_ms IS NOT NULL \
         ORDER BY finished_ms DESC LIMIT $1 OFFSET $2)",
    )
    .bind(SWEEP)
    .bind(i64::try_from(keep).unwrap_or(i64::MAX))
    .execute(c)
    .await?;
    Ok(swept)
}
