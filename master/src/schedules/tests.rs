use super::{fire::Looked, *};
use crate::{
    jobs::testing::{Grid, OPERATION},
    store::{
        events::{self, Filter},
        schedules::{Begun, Fire},
    },
};
use std::sync::atomic::{AtomicI64, Ordering};
use windlass_types::{
    JobId,
    api::{
        Job,
        schedules::{Missed, ScheduleRunState as State, When},
    },
};

const SECOND: i64 = 1000;

/// Schedules over jobs in memory, by a clock that stands still.
struct Rig {
    grid: Grid,
    schedules: Schedules,
    clock: Arc<AtomicI64>,
    recovered: bool,
}

impl Rig {
    async fn new() -> Self {
        let grid = Grid::new(&["n1"]).await;
        let clock = Arc::new(AtomicI64::new(1_000_000));
        let schedules = open(&grid, &clock).await;
        Rig { grid, schedules, clock, recovered: false }
    }

    /// What a master that starts finds.
    async fn restart(&mut self) {
        self.grid.restart().await;
        self.schedules = open(&self.grid, &self.clock).await;
        self.recovered = false;
    }

    /// Let time pass, and look.
    async fn after(&mut self, ms: i64) -> Looked {
        self.clock.fetch_add(ms, Ordering::SeqCst);
        self.schedules.inner.look(&mut self.recovered).await.unwrap()
    }

    async fn make(&self, change: impl FnOnce(&mut NewSchedule)) -> Schedule {
        let mut new = every_second("s");
        change(&mut new);
        self.schedules.create(new, "ann").await.unwrap()
    }

    async fn jobs(&self) -> Vec<Job> {
        let mut jobs = self.grid.jobs.page(None, 1000).await.unwrap().0;
        jobs.reverse();
        jobs
    }

    /// Runs by time, oldest first.
    async fn runs(&self) -> Vec<(i64, State, Option<JobId>)> {
        let runs = self.schedules.runs("s", None, 1000).await.unwrap();
        runs.into_iter().rev().map(|run| (run.fire_ms, run.state, run.job)).collect()
    }

    async fn told(&self) -> Vec<String> {
        let only = Filter::new(Some("schedule.*"), None).unwrap();
        let events = events::page(&self.grid.store, &only, 0, 1000).await.unwrap();
        events.into_iter().map(|event| event.kind).collect()
    }

    fn fire(&self, fire_ms: i64) -> Fire {
        let live = self.schedules.inner.find("s").unwrap();
        Fire {
            schedule: live.stored.id,
            name: live.stored.made.name,
            fire_ms,
            job: JobId::new(),
            max_running: live.stored.made.max_running,
            manual: false,
        }
    }
}

async fn open(grid: &Grid, clock: &Arc<AtomicI64>) -> Schedules {
    let clock = clock.clone();
    let tell: Clock = Arc::new(move || clock.load(Ordering::SeqCst));
    Schedules::open_with(grid.store.clone(), grid.jobs.clone(), tell).await.unwrap()
}

fn every_second(name: &str) -> NewSchedule {
    serde_json::from_value(json!({
        "name": name,
        "job": { "operation": OPERATION, "target": { "on": ["n1"] } },
        "when": { "every_ms": SECOND },
        "max_running": 100,
    }))
    .unwrap()
}

#[tokio::test]
async fn a_schedule_runs_at_its_times_and_no_others() {
    let mut rig = Rig::new().await;
    let made = rig.make(|_| ()).await;
    assert_eq!((made.next_ms, made.created_by.as_str()), (Some(1_001_000), "ann"));
    assert_eq!(rig.after(999).await, Looked::Done);
    assert_eq!(rig.jobs().await.len(), 0);
    rig.after(1).await;
    rig.after(1).await;
    rig.after(999).await;
    let (jobs, runs) = (rig.jobs().await, rig.runs().await);
    let expected: Vec<_> = [1_001_000, 1_002_000]
        .into_iter()
        .zip(&jobs)
        .map(|(fire_ms, job)| (fire_ms, State::Fired, Some(job.id)))
        .collect();
    assert_eq!((jobs.len(), runs), (2, expected));
    assert_eq!(jobs[0].created_by, "schedule:s");
    assert_eq!(rig.told().await, ["schedule.fired", "schedule.fired"]);
    assert_eq!(rig.schedules.next("s", 2).unwrap(), [1_003_000, 1_004_000]);
}

#[tokio::test]
async fn a_master_that_ends_between_row_and_job_neither_loses_nor_doubles_the_run() {
    let mut rig = Rig::new().await;
    rig.make(|_| ()).await;
    rig.clock.fetch_add(SECOND, Ordering::SeqCst);
    // The row is there, the job is not.
    let lost = rig.fire(1_001_000);
    assert_eq!(rig.schedules.inner.begin(&lost).await.unwrap(), Begun::New);
    rig.restart().await;
    rig.after(0).await;
    assert_eq!(rig.runs().await, [(1_001_000, State::Fired, Some(lost.job))]);
    assert_eq!(rig.jobs().await.len(), 1);
    // The job is there, and nobody noted it.
    let made = rig.fire(1_002_000);
    rig.clock.fetch_add(SECOND, Ordering::SeqCst);
    rig.schedules.inner.begin(&made).await.unwrap();
    let job = every_second("s").job;
    rig.grid.jobs.create_as(made.job, job.clone(), "schedule:s").await.unwrap();
    rig.restart().await;
    for _ in 0..3 {
        rig.after(0).await;
        rig.restart().await;
    }
    assert_eq!(rig.runs().await[1], (1_002_000, State::Fired, Some(made.job)));
    assert_eq!(rig.jobs().await.len(), 2);
    assert_eq!(rig.told().await, ["schedule.fired", "schedule.fired"]);
    // Whatever else tries: the row of a time is one, and so is the job of an id.
    assert_eq!(rig.schedules.inner.begin(&rig.fire(1_002_000)).await.unwrap(), Begun::Known);
    let twice = rig.grid.jobs.create_as(made.job, job, "schedule:s").await.unwrap_err();
    assert!(matches!(&twice, JobError::Store(error) if error.is_unique_violation()), "{twice:?}");
    assert_eq!(rig.jobs().await.len(), 2);
}

#[tokio::test]
async fn what_was_missed_is_left_out_or_made_up_for() {
    for (missed, fired, left_out) in [(Missed::Skip, 0, 1), (Missed::Once, 1, 1), (Missed::All, 3, 0)] {
        let mut rig = Rig::new().await;
        rig.make(|new| {
            new.missed = missed;
            new.when.every_ms = Some(600_000);
        })
        .await;
        rig.restart().await;
        rig.after(2_000_000).await;
        rig.after(0).await;
        let runs = rig.runs().await;
        let count = |wanted: State| runs.iter().filter(|(_, state, _)| *state == wanted).count();
        assert_eq!((count(State::Fired), count(State::Skipped)), (fired, left_out), "{missed:?}");
        assert_eq!(rig.jobs().await.len(), fired);
        // Also after another start.
        rig.restart().await;
        rig.after(0).await;
        assert_eq!(rig.runs().await, runs);
    }
}

#[tokio::test]
async fn no_more_jobs_run_than_may() {
    let mut rig = Rig::new().await;
    rig.make(|new| new.max_running = 1).await;
    rig.after(SECOND).await;
    rig.after(SECOND).await;
    assert_eq!(rig.jobs().await.len(), 1);
    let states: Vec<State> = rig.runs().await.into_iter().map(|(_, state, _)| state).collect();
    assert_eq!(states, [State::Fired, State::Skipped]);
    let full = rig.schedules.run_now("s", "bob").await.unwrap_err();
    assert!(matches!(full, ScheduleError::Full { running: 1, most: 1 }), "{full:?}");
    rig.grid.succeed("n1").await.unwrap();
    rig.after(SECOND).await;
    assert_eq!(rig.jobs().await.len(), 2);
    assert_eq!(rig.told().await, ["schedule.fired", "schedule.skipped", "schedule.fired"]);
}

#[tokio::test]
async fn times_that_all_have_to_run_wait_for_each_other() {
    let mut rig = Rig::new().await;
    rig.make(|new| {
        new.max_running = 1;
        new.missed = Missed::All;
    })
    .await;
    assert_eq!(rig.after(2 * SECOND).await, Looked::Waits);
    assert_eq!(rig.after(0).await, Looked::Waits);
    assert_eq!(rig.runs().await.len(), 1);
    rig.grid.succeed("n1").await.unwrap();
    assert_eq!(rig.after(0).await, Looked::Done);
    let times: Vec<i64> = rig.runs().await.into_iter().map(|(fire_ms, ..)| fire_ms).collect();
    assert_eq!(times, [1_001_000, 1_002_000]);
}

#[tokio::test]
async fn a_job_that_can_not_be_made_is_noted_with_the_reason() {
    let mut rig = Rig::new().await;
    let target = |text: &str| serde_json::from_value(json!({ "labels": { "rack": text } })).unwrap();
    // Nobody has the label now, and somebody may have it later.
    rig.make(|new| new.job.target = target("z")).await;
    rig.after(SECOND).await;
    rig.restart().await;
    rig.after(0).await;
    let runs = rig.schedules.runs("s", None, 9).await.unwrap();
    assert_eq!((runs.len(), runs[0].state), (1, State::Failed));
    assert_eq!(runs[0].problem.as_deref(), Some("no accepted node fits the target"));
    assert_eq!(rig.told().await, ["schedule.failed"]);
    assert_eq!(rig.jobs().await.len(), 0);
}

#[tokio::test]
async fn operators_pause_resume_run_and_remove() {
    let mut rig = Rig::new().await;
    rig.make(|_| ()).await;
    let paused = rig.schedules.pause("s", true, "bob").await.unwrap();
    assert_eq!((paused.paused, paused.next_ms), (true, None));
    rig.restart().await;
    rig.after(5 * SECOND).await;
    assert_eq!(rig.runs().await, []);
    let run = rig.schedules.run_now("s", "bob").await.unwrap();
    assert_eq!((run.fire_ms, run.state, run.manual), (1_005_000, State::Fired, true));
    // The clock stands still, and a time has one run.
    assert_eq!(rig.schedules.run_now("s", "bob").await.unwrap().fire_ms, 1_005_001);
    let resumed = rig.schedules.pause("s", false, "bob").await.unwrap();
    assert_eq!(resumed.next_ms, Some(1_006_000), "what passed meanwhile is not made up for");
    rig.after(SECOND).await;
    assert_eq!(rig.jobs().await.len(), 3);
    rig.schedules.delete("s", "bob").await.unwrap();
    rig.restart().await;
    rig.after(5 * SECOND).await;
    assert_eq!(rig.jobs().await.len(), 3, "its jobs stay, and no more come");
    for gone in [
        rig.schedules.get("s").map(drop),
        rig.schedules.run_now("s", "bob").await.map(drop),
        rig.schedules.delete("s", "bob").await,
    ] {
        assert!(matches!(gone, Err(ScheduleError::Unknown(_))), "{gone:?}");
    }
    let actions: Vec<String> = audit::page(&rig.grid.store, None, 100)
        .await
        .unwrap()
        .into_iter()
        .rev()
        .map(|entry| format!("{} {}", entry.actor, entry.action))
        .filter(|text| text.contains("schedule."))
        .collect();
    let all = ["ann schedule.create", "bob schedule.pause", "bob schedule.run", "bob schedule.run"];
    assert_eq!(actions[..4], all);
    assert_eq!(actions[4..], ["bob schedule.resume", "bob schedule.delete"]);
}

#[tokio::test]
async fn what_can_not_work_is_refused() {
    let rig = Rig::new().await;
    rig.make(|_| ()).await;
    let refused = async |change: &dyn Fn(&mut NewSchedule)| {
        let mut new = every_second("t");
        change(&mut new);
        rig.schedules.create(new, "ann").await.unwrap_err()
    };
    let taken = refused(&|new| new.name = "s".parse().unwrap()).await;
    assert!(matches!(taken, ScheduleError::Taken(_)));
    let bad: [&dyn Fn(&mut NewSchedule); 4] = [
        &|new| new.max_running = 0,
        &|new| new.when = When::default(),
        &|new| new.when.valid_until_ms = Some(5),
        &|new| new.when = When { cron: Some("0 0 30 2 *".into()), ..When::default() },
    ];
    for change in bad {
        let error = refused(change).await;
        assert!(matches!(error, ScheduleError::Bad(_)), "{error:?}");
    }
    let jobs: [&dyn Fn(&mut NewSchedule); 3] = [
        &|new| new.job.operation = "monitor.system.none".parse().unwrap(),
        &|new| new.job.args = json!({ "limit": "many" }),
        &|new| new.job.target.on = vec!["n9".into()],
    ];
    for change in jobs {
        let error = refused(change).await;
        assert!(matches!(error, ScheduleError::Job(_)), "{error:?}");
    }
}

#[tokio::test]
async fn the_task_runs_what_is_due_and_ends_with_its_term() {
    let rig = Rig::new().await;
    let over = tokio_util::sync::CancellationToken::new();
    let driving = tokio::spawn(rig.schedules.clone().drive(over.clone()));
    let mut newest = rig.grid.store.newest_event();
    rig.make(|_| ()).await;
    rig.clock.fetch_add(SECOND, Ordering::SeqCst);
    // The clock of the test moved, which the task's timer can't know: any change makes it look.
    rig.schedules.inner.wake.notify_one();
    crate::testing::soon("a job", newest.changed()).await.unwrap();
    assert_eq!(rig.jobs().await.len(), 1);
    over.cancel();
    crate::testing::soon("the end of the task", driving).await.unwrap();
}

#[tokio::test]
async fn the_list_of_runs_is_bounded_also_where_all_are_left_out() {
    let mut rig = Rig::new().await;
    rig.make(|new| new.max_running = 1).await;
    for _ in 0..1010 {
        rig.after(SECOND).await;
    }
    let runs = rig.schedules.runs("s", None, 2000).await.unwrap();
    assert_eq!(runs.len(), 1001, "the newest, and the one whose job still runs");
    assert_eq!((runs[0].fire_ms, runs[1000].fire_ms), (1_000_000 + 1010 * SECOND, 1_001_000));
    assert_eq!(rig.jobs().await.len(), 1);
}
