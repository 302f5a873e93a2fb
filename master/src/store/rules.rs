//! Rows of rules and of the events that fired them.
//!
//! A firing is a row before anything is done, together with the mark how far the rule has read the log.
//! So an event fires a rule once, whatever ends the master in between, and what was begun is found again.

use super::{
    Connection, Row, Store, StoreError,
    bundles::signed,
    events::{self, NewEvent},
    nodes::{from_json, from_word, parse, to_json},
    sql,
};
use crate::rules::Stored;
use serde_json::json;
use windlass_types::{
    JobId, RuleName,
    api::rules::{Firing, FiringState, NewRule},
};

type Result<T> = std::result::Result<T, StoreError>;

/// Firings of one rule that are kept.
const FIRINGS: i64 = 1000;
/// Firings of one rule that are begun and not done, at most: calls of a webhook that takes none.
const BEGUN: i64 = 1000;

fn state_word(state: FiringState) -> &'static str {
    match state {
        FiringState::Begun => "begun",
        FiringState::Done => "done",
        FiringState::LeftOut => "left_out",
        FiringState::Failed => "failed",
    }
}

/// A new rule, for events from now on.
pub async fn insert(c: &mut Connection, stored: &Stored) -> Result<i64> {
    let (new, done_seq) = (&stored.made, events::newest(c).await?);
    sql::query(
        "INSERT INTO rules (id, name, kind, condition, action, most, per_ms, paused, created_by, created_ms, \
         done_seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(&stored.id)
    .bind(new.name.as_str())
    .bind(&new.kind)
    .bind(&new.when)
    .bind(to_json("action", &new.then)?)
    .bind(i64::from(new.most))
    .bind(signed(new.per_ms))
    .bind(new.paused)
    .bind(&stored.created_by)
    .bind(stored.created_ms)
    .bind(done_seq)
    .execute(c)
    .await?;
    Ok(done_seq)
}

/// All rules.
pub async fn load(store: &Store) -> Result<Vec<Stored>> {
    let rows = sql::query("SELECT * FROM rules ORDER BY name").fetch_all(store.readers()).await?;
    rows.iter().map(stored).collect()
}

fn stored(row: &Row) -> Result<Stored> {
    Ok(Stored {
        id: row.try_get("id")?,
        made: NewRule {
            name: parse("name of a rule", row.try_get("name")?)?,
            kind: row.try_get("kind")?,
            when: row.try_get("condition")?,
            then: from_json("action", row.try_get("action")?)?,
            most: u32::try_from(row.try_get::<i64>("most")?).unwrap_or(u32::MAX),
            per_ms: row.try_get::<i64>("per_ms")?.unsigned_abs(),
            paused: row.try_get("paused")?,
        },
        created_by: row.try_get("created_by")?,
        created_ms: row.try_get("created_ms")?,
        done_seq: row.try_get("done_seq")?,
    })
}

/// Forget a rule and its firings. Its jobs stay.
pub async fn delete(c: &mut Connection, id: &str) -> Result<()> {
    sql::query("DELETE FROM rules WHERE id = $1").bind(id).execute(c).await?;
    Ok(())
}

/// Pause a rule, or let it go on with events from now on. Gives back up to where it is done.
pub async fn set_paused(c: &mut Connection, id: &str, paused: bool) -> Result<i64> {
    let done_seq = events::newest(c).await?;
    sql::query("UPDATE rules SET paused = $2, done_seq = $3 WHERE id = $1")
        .bind(id)
        .bind(paused)
        .bind(done_seq)
        .execute(c)
        .await?;
    Ok(done_seq)
}

/// An event that fits a rule, and what it is to become.
#[derive(Debug, Clone)]
pub struct Match {
    pub seq: i64,
    /// The id of the job, where there is to be one.
    pub job: Option<JobId>,
}

/// Note that events fit, and that all up to `done_seq` are done with. Gives back those that may fire: no
/// more than `most` since a time. The others are left out, and the first of a row of them is an event.
pub async fn begin(
    c: &mut Connection,
    rule: (&str, &RuleName),
    matches: &[Match],
    (most, since_ms): (u32, i64),
    done_seq: i64,
    now_ms: i64,
) -> Result<Vec<Match>> {
    let (id, name) = rule;
    let fired: Option<i64> = sql::query(
        "SELECT COUNT(*) FROM rule_firings WHERE rule_id = $1 AND state <> 'left_out' AND time_ms > $2",
    )
    .bind(id)
    .bind(since_ms)
    .fetch_scalar(&mut *c)
    .await?;
    let begun: Option<i64> =
        sql::query("SELECT COUNT(*) FROM rule_firings WHERE rule_id = $1 AND state = 'begun'")
            .bind(id)
            .fetch_scalar(&mut *c)
            .await?;
    let mut room = (i64::from(most) - fired.unwrap_or(0)).min(BEGUN - begun.unwrap_or(0));
    let mut fire = Vec::new();
    let mut left_out = 0_u32;
    for found in matches {
        let state = if room > 0 { FiringState::Begun } else { FiringState::LeftOut };
        let problem = (state == FiringState::LeftOut).then_some("too many within its time");
        let inserted = sql::query(
            "INSERT INTO rule_firings (rule_id, seq, state, job_id, problem, time_ms) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (rule_id, seq) DO NOTHING",
        )
        .bind(id)
        .bind(found.seq)
        .bind(state_word(state))
        .bind(found.job.filter(|_| state == FiringState::Begun).map(|job| job.to_string()))
        .bind(problem)
        .bind(now_ms)
        .execute(&mut *c)
        .await?;
        if inserted == 0 {
            continue;
        }
        if state == FiringState::Begun {
            room -= 1;
            fire.push(found.clone());
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        let data = json!({ "events": left_out, "reason": "too many within its time" });
        events::append(&mut *c, &[NewEvent::new("rule.left_out", name, data)]).await?;
    }
    if !matches.is_empty() {
        forget(&mut *c, id).await?;
    }
    sql::query("UPDATE rules SET done_seq = $2 WHERE id = $1 AND done_seq < $2")
        .bind(id)
        .bind(done_seq)
        .execute(c)
        .await?;
    Ok(fire)
}

/// The oldest beyond a number; never what is begun.
async fn forget(c: &mut Connection, id: &str) -> Result<()> {
    sql::query(
        "DELETE FROM rule_firings WHERE rule_id = $1 AND state <> 'begun' AND seq < \
         (SELECT seq FROM rule_firings WHERE rule_id = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2)",
    )
    .bind(id)
    .bind(FIRINGS - 1)
    .execute(c)
    .await?;
    Ok(())
}

/// Note what became of a firing.
pub async fn end(
    c: &mut Connection,
    (id, name): (&str, &RuleName),
    seq: i64,
    job: Option<JobId>,
    problem: Option<&str>,
) -> Result<()> {
    let state = if problem.is_none() { FiringState::Done } else { FiringState::Failed };
    let ended = sql::query(
        "UPDATE rule_firings SET state = $3, problem = $4 WHERE rule_id = $1 AND seq = $2 AND state = 'begun'",
    )
    .bind(id)
    .bind(seq)
    .bind(state_word(state))
    .bind(problem)
    .execute(&mut *c)
    .await?;
    if ended == 0 {
        return Ok(());
    }
    let (kind, data) = match problem {
        None => ("rule.fired", json!({ "event": seq, "job": job })),
        Some(problem) => ("rule.failed", json!({ "event": seq, "reason": problem })),
    };
    events::append(c, &[NewEvent::new(kind, name, data)]).await
}

/// A firing that may not have been done.
#[derive(Debug, Clone)]
pub struct Begun {
    pub rule: String,
    pub seq: i64,
    pub job: Option<JobId>,
    pub time_ms: i64,
}

/// Firings that may not have been done, oldest first.
pub async fn begun(store: &Store) -> Result<Vec<Begun>> {
    let rows = sql::query(
        "SELECT rule_id, seq, job_id, time_ms FROM rule_firings WHERE state = 'begun' ORDER BY time_ms, seq",
    );
    rows.fetch_all(store.readers())
        .await?
        .iter()
        .map(|row| {
            let job: Option<&str> = row.try_get("job_id")?;
            Ok(Begun {
                rule: row.try_get("rule_id")?,
                seq: row.try_get("seq")?,
                job: job.map(|job| parse("job id", job)).transpose()?,
                time_ms: row.try_get("time_ms")?,
            })
        })
        .collect()
}

/// Firings of a rule before a number, newest first.
pub async fn firings(store: &Store, id: &str, before: i64, limit: u32) -> Result<Vec<Firing>> {
    let rows =
        sql::query("SELECT * FROM rule_firings WHERE rule_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3")
            .bind(id)
            .bind(before)
            .bind(i64::from(limit))
            .fetch_all(store.readers())
            .await?;
    rows.iter()
        .map(|row| {
            let job: Option<&str> = row.try_get("job_id")?;
            Ok(Firing {
                seq: row.try_get("seq")?,
                state: from_word("state of a firing", row.try_get("state")?)?,
                job: job.map(|job| parse("job id", job)).transpose()?,
                problem: row.try_get("problem")?,
                time_ms: row.try_get("time_ms")?,
            })
        })
        .collect()
}
