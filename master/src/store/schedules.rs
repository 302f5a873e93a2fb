//! Rows of schedules and their runs.
//!
//! A run is a row before its job is made, with the id that the job will have. So whatever ends the
//! master in between, the next one finds the row and makes the job with that id, which can't be there
//! twice.

use super::{
    Connection, Row, Store, StoreError,
    events::{self, NewEvent},
    nodes::{from_json, from_word, parse, to_json},
    sql,
};
use crate::schedules::Stored;
use serde_json::json;
use windlass_types::{
    JobId, ScheduleName,
    api::schedules::{Missed, NewSchedule, ScheduleRun, ScheduleRunState},
};

type Result<T> = std::result::Result<T, StoreError>;

/// Runs of one schedule that are kept.
const RUNS: i64 = 1000;

fn missed_word(missed: Missed) -> &'static str {
    match missed {
        Missed::Skip => "skip",
        Missed::Once => "once",
        Missed::All => "all",
    }
}

/// A new schedule.
pub async fn insert(c: &mut Connection, stored: &Stored) -> Result<()> {
    let new = &stored.made;
    sql::query(
        "INSERT INTO schedules (id, name, job, timing, max_running, missed, paused, created_by, created_ms, \
         done_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&stored.id)
    .bind(new.name.as_str())
    .bind(to_json("job", &new.job)?)
    .bind(to_json("timing", &new.when)?)
    .bind(i64::from(new.max_running))
    .bind(missed_word(new.missed))
    .bind(new.paused)
    .bind(&stored.created_by)
    .bind(stored.created_ms)
    .bind(stored.done_ms)
    .execute(c)
    .await?;
    Ok(())
}

/// All schedules.
pub async fn load(store: &Store) -> Result<Vec<Stored>> {
    let rows = sql::query("SELECT * FROM schedules ORDER BY name").fetch_all(store.readers()).await?;
    rows.iter().map(stored).collect()
}

fn stored(row: &Row) -> Result<Stored> {
    let text = |column: &str| row.try_get::<&str>(column);
    Ok(Stored {
        id: row.try_get("id")?,
        made: NewSchedule {
            name: parse("name of a schedule", text("name")?)?,
            job: from_json("job", text("job")?)?,
            when: from_json("timing", text("timing")?)?,
            max_running: u32::try_from(row.try_get::<i64>("max_running")?).unwrap_or(u32::MAX),
            missed: from_word("policy", text("missed")?)?,
            paused: row.try_get("paused")?,
        },
        created_by: row.try_get("created_by")?,
        created_ms: row.try_get("created_ms")?,
        done_ms: row.try_get("done_ms")?,
    })
}

/// Forget a schedule and its runs. Its jobs stay.
pub async fn delete(c: &mut Connection, id: &str) -> Result<()> {
    sql::query("DELETE FROM schedules WHERE id = $1").bind(id).execute(c).await?;
    Ok(())
}

/// Pause a schedule, or let it go on after `done_ms`.
pub async fn set_paused(c: &mut Connection, id: &str, paused: bool, done_ms: i64) -> Result<()> {
    sql::query("UPDATE schedules SET paused = $2, done_ms = $3 WHERE id = $1")
        .bind(id)
        .bind(paused)
        .bind(done_ms)
        .execute(c)
        .await?;
    Ok(())
}

/// What became of a time that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Make the job.
    New,
    /// So many of its jobs are not finished.
    Full { running: i64 },
    /// This time has a run already.
    Known,
}

/// A time for which a job shall be made.
#[derive(Debug, Clone)]
pub struct Fire {
    pub schedule: String,
    pub name: ScheduleName,
    pub fire_ms: i64,
    pub job: JobId,
    pub max_running: u32,
    pub manual: bool,
}

/// Note that a job will be made, if there may be one more. Nothing is written if not.
pub async fn begin(c: &mut Connection, fire: &Fire, now_ms: i64) -> Result<Begun> {
    let row = sql::query(
        "SELECT COUNT(*) AS running FROM schedule_runs r LEFT JOIN jobs j ON j.id = r.job_id WHERE r.schedule_id = $1 \
         AND (r.state = 'begun' OR (r.state = 'fired' AND j.id IS NOT NULL AND j.finished_ms IS NULL))",
    )
    .bind(&fire.schedule)
    .fetch_one(&mut *c)
    .await?;
    let running: i64 = row.try_get("running")?;
    if running >= i64::from(fire.max_running) {
        return Ok(Begun::Full { running });
    }
    let run = ScheduleRun {
        fire_ms: fire.fire_ms,
        state: ScheduleRunState::Begun,
        job: Some(fire.job),
        problem: None,
        manual: fire.manual,
        time_ms: now_ms,
    };
    let new = insert_run(&mut *c, &fire.schedule, &run).await?;
    if !fire.manual {
        done(&mut *c, &fire.schedule, fire.fire_ms).await?;
    }
    Ok(if new { Begun::New } else { Begun::Known })
}

/// Leave a time out, and all before it.
pub async fn skip(
    c: &mut Connection,
    id: &str,
    name: &ScheduleName,
    fire_ms: i64,
    problem: &str,
    now_ms: i64,
) -> Result<()> {
    let run = ScheduleRun {
        fire_ms,
        state: ScheduleRunState::Skipped,
        job: None,
        problem: Some(problem.to_owned()),
        manual: false,
        time_ms: now_ms,
    };
    if insert_run(&mut *c, id, &run).await? {
        let data = json!({ "fire_ms": fire_ms, "reason": problem });
        events::append(&mut *c, &[NewEvent::new("schedule.skipped", name, data)]).await?;
    }
    done(c, id, fire_ms).await
}

/// A new run, unless its time has one. The oldest beyond a number are forgotten.
async fn insert_run(c: &mut Connection, id: &str, run: &ScheduleRun) -> Result<bool> {
    let inserted = sql::query(
        "INSERT INTO schedule_runs (schedule_id, fire_ms, job_id, state, problem, manual, time_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (schedule_id, fire_ms) DO NOTHING",
    )
    .bind(id)
    .bind(run.fire_ms)
    .bind(run.job.map(|job| job.to_string()))
    .bind(state_word(run.state))
    .bind(&run.problem)
    .bind(run.manual)
    .bind(run.time_ms)
    .execute(&mut *c)
    .await?;
    // What is begun, or runs, counts for `max_running`, however old it is.
    sql::query(
        "DELETE FROM schedule_runs WHERE schedule_id = $1 AND state <> 'begun' AND fire_ms < \
         (SELECT fire_ms FROM schedule_runs WHERE schedule_id = $1 ORDER BY fire_ms DESC LIMIT 1 OFFSET $2) \
         AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = schedule_runs.job_id AND j.finished_ms IS NULL)",
    )
    .bind(id)
    .bind(RUNS - 1)
    .execute(c)
    .await?;
    Ok(inserted == 1)
}

async fn done(c: &mut Connection, id: &str, fire_ms: i64) -> Result<()> {
    sql::query("UPDATE schedules SET done_ms = $2 WHERE id = $1 AND done_ms < $2")
        .bind(id)
        .bind(fire_ms)
        .execute(c)
        .await?;
    Ok(())
}

/// Note what became of a run that was begun: its job was made, or why not.
pub async fn end(c: &mut Connection, fire: &Fire, problem: Option<&str>) -> Result<()> {
    let state = if problem.is_none() { ScheduleRunState::Fired } else { ScheduleRunState::Failed };
    let ended = sql::query(
        "UPDATE schedule_runs SET state = $3, problem = $4 \
         WHERE schedule_id = $1 AND fire_ms = $2 AND state = 'begun'",
    )
    .bind(&fire.schedule)
    .bind(fire.fire_ms)
    .bind(state_word(state))
    .bind(problem)
    .execute(&mut *c)
    .await?;
    if ended == 0 {
        return Ok(());
    }
    let (kind, data) = match problem {
        None => {
            ("schedule.fired", json!({ "job": fire.job, "fire_ms": fire.fire_ms, "manual": fire.manual }))
        }
        Some(problem) => ("schedule.failed", json!({ "fire_ms": fire.fire_ms, "reason": problem })),
    };
    events::append(c, &[NewEvent::new(kind, &fire.name, data)]).await
}

/// Runs whose job may not have been made yet, oldest first: id of the schedule, time, job, and
/// whether an operator ran it.
pub async fn begun(store: &Store) -> Result<Vec<(String, i64, JobId, bool)>> {
    let rows = sql::query(
        "SELECT schedule_id, fire_ms, job_id, manual FROM schedule_runs WHERE state = 'begun' \
         ORDER BY time_ms, fire_ms",
    );
    rows.fetch_all(store.readers())
        .await?
        .iter()
        .map(|row| {
            let job = parse("job id", row.try_get("job_id")?)?;
            Ok((row.try_get("schedule_id")?, row.try_get("fire_ms")?, job, row.try_get("manual")?))
        })
        .collect()
}

fn state_word(state: ScheduleRunState) -> &'static str {
    match state {
        ScheduleRunState::Begun => "begun",
        ScheduleRunState::Fired => "fired",
        ScheduleRunState::Skipped => "skipped",
        ScheduleRunState::Failed => "failed",
    }
}

/// Runs of a schedule before a time, newest first.
pub async fn runs(store: &Store, id: &str, before_ms: i64, limit: u32) -> Result<Vec<ScheduleRun>> {
    let rows = sql::query(
        "SELECT * FROM schedule_runs WHERE schedule_id = $1 AND fire_ms < $2 ORDER BY fire_ms DESC LIMIT $3",
    )
    .bind(id)
    .bind(before_ms)
    .bind(i64::from(limit))
    .fetch_all(store.readers())
    .await?;
    rows.iter()
        .map(|row| {
            let job: Option<&str> = row.try_get("job_id")?;
            Ok(ScheduleRun {
                fire_ms: row.try_get("fire_ms")?,
                state: from_word("state of a run", row.try_get("state")?)?,
                job: job.map(|job| parse("job id", job)).transpose()?,
                problem: row.try_get("problem")?,
                manual: row.try_get("manual")?,
                time_ms: row.try_get("time_ms")?,
            })
        })
        .collect()
}
