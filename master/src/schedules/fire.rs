//! From a time that has come to a job.

use super::{Inner, Live, ScheduleError, Schedules};
use crate::{
    jobs::JobError,
    store::{
        StoreError,
        audit::{self, NewEntry},
        schedules::{self as rows, Begun, Fire},
    },
};
use serde_json::json;
use windlass_types::{
    JobId,
    api::schedules::{Missed, ScheduleRun},
};

/// How a look at one schedule went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// All that was due is done with.
    Done,
    /// A time waits until a job has finished.
    Waits,
}

impl Inner {
    /// Make the jobs whose runs are noted and which may not have been made. The caller holds `changing`.
    pub(super) async fn recover(&self) -> Result<(), StoreError> {
        for (schedule, fire_ms, job, manual) in rows::begun(&self.store).await? {
            let live = self.live().values().find(|live| live.stored.id == schedule).cloned();
            // Its rows go with a schedule that is deleted.
            let Some(live) = live else { continue };
            self.make(&live, fire(&live, fire_ms, job, manual)).await?;
        }
        Ok(())
    }

    /// Do what is due of one schedule. The caller holds `changing`.
    pub(super) async fn look_at(&self, live: &Live) -> Result<Looked, StoreError> {
        let now_ms = self.now_ms();
        let due = live.plan.due(live.stored.done_ms, now_ms);
        if let Some(out) = due.left_out {
            let problem = match (out.number, out.more) {
                (1, false) => "its time was missed".to_owned(),
                (number, false) => format!("{number} times were missed"),
                (number, true) => format!("more than {number} times were missed"),
            };
            self.skip(live, out.newest_ms, problem).await?;
        }
        for fire_ms in due.run {
            let fire = fire(live, fire_ms, JobId::new(), false);
            match self.begin(&fire).await? {
                Begun::New => self.make(live, fire).await?,
                Begun::Known => {}
                Begun::Full { .. } if live.stored.made.missed == Missed::All => return Ok(Looked::Waits),
                Begun::Full { running } => {
                    let problem = match running {
                        1 => "the job before it was still running".to_owned(),
                        running => format!("{running} jobs before it were still running"),
                    };
                    self.skip(live, fire_ms, problem).await?;
                }
            }
            self.done(live, fire_ms);
        }
        Ok(Looked::Done)
    }

    pub(super) async fn begin(&self, fire: &Fire) -> Result<Begun, StoreError> {
        let (fire, now_ms) = (fire.clone(), self.now_ms());
        self.store.write(move |c| Box::pin(async move { rows::begin(c, &fire, now_ms).await })).await
    }

    async fn skip(&self, live: &Live, fire_ms: i64, problem: String) -> Result<(), StoreError> {
        let (id, name) = (live.stored.id.clone(), live.stored.made.name.clone());
        let now_ms = self.now_ms();
        tracing::info!(schedule = %name, problem, "a run of a schedule is left out");
        let write = self.store.write::<(), StoreError, _>(move |c| {
            Box::pin(async move { rows::skip(c, &id, &name, fire_ms, &problem, now_ms).await })
        });
        write.await?;
        self.done(live, fire_ms);
        Ok(())
    }

    fn done(&self, live: &Live, fire_ms: i64) {
        if let Some(live) = self.live().get_mut(&live.stored.made.name) {
            live.stored.done_ms = live.stored.done_ms.max(fire_ms);
        }
    }

    /// Make the job of a run that is noted, unless it is there, and note how that went.
    async fn make(&self, live: &Live, fire: Fire) -> Result<(), StoreError> {
        self.try_make(live, fire).await.map(drop)
    }

    async fn try_make(&self, live: &Live, fire: Fire) -> Result<Result<(), JobError>, StoreError> {
        let name = &live.stored.made.name;
        let made = match self.jobs.get(fire.job).await? {
            Some(_) => Ok(()),
            None => {
                let actor = format!("schedule:{name}");
                self.jobs.create_as(fire.job, live.stored.made.job.clone(), &actor).await.map(drop)
            }
        };
        let problem = match &made {
            Ok(()) => None,
            // Whether it was written is not known: the row stays, and is looked at again.
            Err(JobError::Store(_)) => {
                let Err(JobError::Store(error)) = made else { return Ok(made) };
                return Err(error);
            }
            Err(problem) => {
                tracing::warn!(schedule = %name, %problem, "a schedule can't run");
                Some(problem.to_string())
            }
        };
        let write = self.store.write::<(), StoreError, _>(move |c| {
            Box::pin(async move { rows::end(c, &fire, problem.as_deref()).await })
        });
        write.await?;
        Ok(made)
    }
}

fn fire(live: &Live, fire_ms: i64, job: JobId, manual: bool) -> Fire {
    Fire {
        schedule: live.stored.id.clone(),
        name: live.stored.made.name.clone(),
        fire_ms,
        job,
        max_running: live.stored.made.max_running,
        manual,
    }
}

impl Schedules {
    /// Run a schedule now, out of turn; also one that is paused.
    ///
    /// # Errors
    /// If there is none, too many of its jobs run, or the job can't be made.
    pub async fn run_now(&self, name: &str, actor: &str) -> Result<ScheduleRun, ScheduleError> {
        let inner = &self.inner;
        let _changing = inner.changing.lock().await;
        let live = inner.find(name)?;
        let mut fire = fire(&live, inner.now_ms(), JobId::new(), true);
        loop {
            match inner.begin(&fire).await? {
                Begun::New => break,
                // Its own time, or another run of this millisecond.
                Begun::Known => fire.fire_ms += 1,
                Begun::Full { running } => {
                    return Err(ScheduleError::Full { running, most: fire.max_running });
                }
            }
        }
        let entry =
            NewEntry::allowed(actor, "schedule.run", &live.stored.made.name, json!({ "job": fire.job }));
        let write = inner
            .store
            .write::<(), StoreError, _>(move |c| Box::pin(async move { audit::append(c, &entry).await }));
        write.await?;
        let fire_ms = fire.fire_ms;
        inner.try_make(&live, fire).await??;
        let runs = rows::runs(&inner.store, &live.stored.id, fire_ms + 1, 1).await?;
        runs.into_iter().next().ok_or_else(|| ScheduleError::Unknown(name.to_owned()))
    }
}
