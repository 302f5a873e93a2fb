//! Operations that run by the clock.
//!
//! What holds, whatever ends a master and whenever: **a time of a schedule makes one job at most, and
//! none is made for a time that was left out.** A run goes through two transactions:
//!
//! 1. Its row, with the primary key (schedule, time) and the id of a job that is not there yet, and the
//!    mark how far the schedule is done. Whoever comes second finds the row and does nothing.
//! 2. The job with that id, as [`crate::jobs`] makes any job.
//!
//! A third one notes that the job was made. Cut between one and two, the next start makes the job;
//! between two and three, it finds the job, whose primary key would refuse a second one anyway. A job
//! that can't be made, because its operation is gone or its target means nobody, is noted with the
//! reason, and not tried again.
//!
//! * `timing`: which times there are, and which of those that have passed run. Pure functions.
//! * `drive`: the one task that sleeps until the next time.
//! * `fire`: the transactions.
//!
//! All of it belongs to the leading part and is built from the store. The clock is given from outside.

mod drive;
mod fire;
#[cfg(test)]
mod tests;
mod timing;

use crate::{
    jobs::{JobError, Jobs},
    store::{
        Store, StoreError,
        audit::{self, NewEntry},
        schedules as rows,
    },
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use timing::Plan;
use tokio::sync::Notify;
use windlass_types::{
    Digest, ScheduleName,
    api::schedules::{NewSchedule, Schedule, ScheduleRun},
};

/// Schedules at most: each is looked at whenever one is due.
const MOST: usize = 1000;
/// Jobs of one schedule at once at most.
const MOST_RUNNING: u32 = 100;
/// The longest list of times to come.
pub const MOST_TIMES: usize = 1000;

/// Why a schedule can't be made, or do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error("there is no schedule `{0}`")]
    Unknown(String),
    #[error("there is a schedule `{0}` already")]
    Taken(ScheduleName),
    /// Its times or numbers can't be right; says why.
    #[error("{0}")]
    Bad(String),
    /// An operator wants a run, and others are not finished.
    #[error("{running} of its jobs are running, and it may have {most} at once")]
    Full { running: i64, most: u32 },
    /// Its job would be no good.
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A schedule as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub id: String,
    pub made: NewSchedule,
    pub created_by: String,
    pub created_ms: i64,
    /// Times up to here are done with.
    pub done_ms: i64,
}

/// A schedule in memory.
#[derive(Debug, Clone)]
struct Live {
    stored: Stored,
    plan: Plan,
}

impl Live {
    fn new(stored: Stored) -> Result<Self, String> {
        let made = &stored.made;
        let plan = Plan::read(&made.when, made.missed, stored.created_ms, seed(&stored.id))?;
        Ok(Live { stored, plan })
    }

    /// When it runs next, by the clock.
    fn next_ms(&self) -> Option<i64> {
        if self.stored.made.paused {
            return None;
        }
        self.plan.next(self.stored.done_ms).map(|next| self.plan.clock_ms(next))
    }

    fn to_api(&self) -> Schedule {
        let Stored { made, created_by, created_ms, .. } = self.stored.clone();
        Schedule {
            name: made.name,
            job: made.job,
            when: made.when,
            max_running: made.max_running,
            missed: made.missed,
            paused: made.paused,
            created_by,
            created_ms,
            next_ms: self.next_ms(),
        }
    }
}

/// Where in its splay a schedule is: by its id, so that it is the same at every master.
fn seed(id: &str) -> u64 {
    let digest = Digest::of(id.as_bytes());
    digest.as_bytes().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// Tells the time, in milliseconds since 1970-01-01 UTC.
pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The schedules. Clones share them.
#[derive(Clone)]
pub struct Schedules {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Schedules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schedules")
    }
}

struct Inner {
    store: Store,
    jobs: Jobs,
    clock: Clock,
    /// Held by whoever decides about schedules, so that memory and store say the same.
    changing: tokio::sync::Mutex<()>,
    live: Mutex<BTreeMap<ScheduleName, Live>>,
    /// Something may be due earlier than the task thinks.
    wake: Notify,
}

impl Inner {
    fn live(&self) -> MutexGuard<'_, BTreeMap<ScheduleName, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    fn find(&self, name: &str) -> Result<Live, ScheduleError> {
        let unknown = || ScheduleError::Unknown(name.chars().take(80).collect());
        let name: ScheduleName = name.parse().map_err(|_| unknown())?;
        self.live().get(&name).cloned().ok_or_else(unknown)
    }
}

impl Schedules {
    /// Load the schedules.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn open(store: Store, jobs: Jobs) -> Result<Self, StoreError> {
        Self::open_with(store, jobs, Arc::new(crate::now_ms)).await
    }

    /// As [`Schedules::open`], by another clock.
    ///
    /// # Errors
    /// If the store can't be read.
    pub(crate) async fn open_with(store: Store, jobs: Jobs, clock: Clock) -> Result<Self, StoreError> {
        let mut live = BTreeMap::new();
        for stored in rows::load(&store).await? {
            let name = stored.made.name.clone();
            let schedule = Live::new(stored).map_err(|problem| StoreError::corrupt("schedule", problem))?;
            live.insert(name, schedule);
        }
        let inner = Inner {
            store,
            jobs,
            clock,
            changing: tokio::sync::Mutex::default(),
            live: Mutex::new(live),
            wake: Notify::new(),
        };
        Ok(Schedules { inner: Arc::new(inner) })
    }

    /// All schedules after a name, by name.
    pub fn list(&self, after: Option<&ScheduleName>, limit: usize) -> Vec<Schedule> {
        use std::ops::Bound;
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let live = self.inner.live();
        live.range::<ScheduleName, _>((begin, Bound::Unbounded))
            .take(limit)
            .map(|(_, live)| live.to_api())
            .collect()
    }

    /// One schedule.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<Schedule, ScheduleError> {
        Ok(self.inner.find(name)?.to_api())
    }

    /// The next times of a schedule by the clock, as if it were not paused.
    ///
    /// # Errors
    /// If there is none.
    pub fn next(&self, name: &str, number: usize) -> Result<Vec<i64>, ScheduleError> {
        let Live { plan, stored } = self.inner.find(name)?;
        let mut at = stored.done_ms.max(self.inner.now_ms().saturating_sub(plan.clock_ms(0)));
        let mut times = Vec::new();
        while times.len() < number.min(MOST_TIMES)
            && let Some(next) = plan.next(at)
        {
            times.push(plan.clock_ms(next));
            at = next;
        }
        Ok(times)
    }

    /// Runs of a schedule before a time, newest first.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn runs(
        &self,
        name: &str,
        before_ms: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ScheduleRun>, ScheduleError> {
        let id = self.inner.find(name)?.stored.id;
        Ok(rows::runs(&self.inner.store, &id, before_ms.unwrap_or(i64::MAX), limit).await?)
    }

    /// Make a schedule.
    ///
    /// # Errors
    /// If its name is taken, or its times or its job are no good.
    pub async fn create(&self, new: NewSchedule, actor: &str) -> Result<Schedule, ScheduleError> {
        let inner = &self.inner;
        let now_ms = inner.now_ms();
        if new.max_running == 0 || new.max_running > MOST_RUNNING {
            return Err(ScheduleError::Bad(format!("`max_running` is not within 1 to {MOST_RUNNING}")));
        }
        let stored = Stored {
            id: uuid::Uuid::now_v7().to_string(),
            made: new,
            created_by: actor.to_owned(),
            created_ms: now_ms,
            done_ms: now_ms,
        };
        let live = Live::new(stored.clone()).map_err(ScheduleError::Bad)?;
        if live.plan.next(now_ms).is_none() {
            return Err(ScheduleError::Bad("it would never run: no time to come fits".into()));
        }
        inner.jobs.check(&stored.made.job).await?;
        let _changing = inner.changing.lock().await;
        let name = stored.made.name.clone();
        {
            let known = inner.live();
            if known.contains_key(&name) {
                return Err(ScheduleError::Taken(name));
            }
            if known.len() >= MOST {
                return Err(ScheduleError::Bad(format!("there are {MOST} schedules already")));
            }
        }
        let made = &stored.made;
        let detail = json!({
            "operation": made.job.operation, "dry_run": made.job.dry_run, "when": made.when,
            "missed": made.missed, "max_running": made.max_running,
        });
        let entry = NewEntry::allowed(actor, "schedule.create", &name, detail);
        let write = inner.store.write::<(), StoreError, _>(move |c| {
            Box::pin(async move {
                rows::insert(c, &stored).await?;
                audit::append(c, &entry).await
            })
        });
        write.await?;
        let shown = live.to_api();
        inner.live().insert(name, live);
        inner.wake.notify_one();
        Ok(shown)
    }

    /// Forget a schedule. Its jobs go on.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn delete(&self, name: &str, actor: &str) -> Result<(), ScheduleError> {
        let inner = &self.inner;
        let _changing = inner.changing.lock().await;
        let Stored { id, made, .. } = inner.find(name)?.stored;
        let entry = NewEntry::allowed(actor, "schedule.delete", &made.name, Value::Null);
        let write = inner.store.write::<(), StoreError, _>(move |c| {
            Box::pin(async move {
                rows::delete(c, &id).await?;
                audit::append(c, &entry).await
            })
        });
        write.await?;
        inner.live().remove(&made.name);
        Ok(())
    }

    /// Run nothing until it is resumed, or go on. Times that passed meanwhile are no longer of interest.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn pause(&self, name: &str, paused: bool, actor: &str) -> Result<Schedule, ScheduleError> {
        let inner = &self.inner;
        let _changing = inner.changing.lock().await;
        let mut live = inner.find(name)?;
        if live.stored.made.paused == paused {
            return Ok(live.to_api());
        }
        live.stored.made.paused = paused;
        if !paused {
            let now_ms = inner.now_ms().saturating_sub(live.plan.clock_ms(0));
            live.stored.done_ms = live.stored.done_ms.max(now_ms);
        }
        let (id, done_ms) = (live.stored.id.clone(), live.stored.done_ms);
        let action = if paused { "schedule.pause" } else { "schedule.resume" };
        let entry = NewEntry::allowed(actor, action, &live.stored.made.name, Value::Null);
        let write = inner.store.write::<(), StoreError, _>(move |c| {
            Box::pin(async move {
                rows::set_paused(c, &id, paused, done_ms).await?;
                audit::append(c, &entry).await
            })
        });
        write.await?;
        let shown = live.to_api();
        inner.live().insert(live.stored.made.name.clone(), live);
        inner.wake.notify_one();
        Ok(shown)
    }
}
