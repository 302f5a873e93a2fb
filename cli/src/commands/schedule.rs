//! `schedule …`

use super::{Context, run::unsure, standing};
use crate::{
    cli::schedule::{Add, Schedule},
    client::Client,
    duration::millis,
    exit::Exit,
    render::{schedule, time},
};
use anyhow::Result;
use serde::Serialize;
use windlass_types::api::{
    NewJob,
    schedules::{NewSchedule, ScheduleRun, When},
};

/// A schedule with its last runs, as programs get it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    schedule: &'a windlass_types::api::schedules::Schedule,
    runs: &'a [ScheduleRun],
}

pub async fn run(context: &Context, command: Schedule) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Schedule::Add(add) => self::add(context, &client, *add).await?,
        Schedule::List => {
            let all = client.schedules().await?;
            context
                .out
                .data(&all, |look| if all.is_empty() { String::new() } else { schedule::list(&all, look) })?;
            if all.is_empty() && context.out.is_table() {
                context.out.note("there are no schedules: see `windlass schedule add --help`");
            }
        }
        Schedule::Show { schedule: named, limit } => {
            let shown = client.schedule(&named.name).await?;
            let runs = client.schedule_runs(&named.name, limit as usize).await?;
            context
                .out
                .data(&Shown { schedule: &shown, runs: &runs }, |look| schedule::one(&shown, &runs, look))?;
        }
        Schedule::Pause { schedule: named } => {
            let paused = client.pause_schedule(&named.name, true).await?;
            changed(context, &paused, "paused")?;
        }
        Schedule::Resume { schedule: named } => {
            let resumed = client.pause_schedule(&named.name, false).await?;
            changed(context, &resumed, "resumed")?;
        }
        Schedule::RunNow { schedule: named } => {
            let run = client.run_schedule(&named.name).await.map_err(unsure)?;
            let id = run.job.map(|job| job.to_string()).unwrap_or_default();
            context.out.data(&run, |_| format!("{id}\n"))?;
            if context.out.is_table() {
                context.out.note(&format!("follow it with `windlass jobs watch {id}`"));
            }
        }
        Schedule::Next { schedule: named, number } => {
            let times = client.schedule_times(&named.name, number).await?;
            context.out.data(&times, |look| {
                times.times_ms.iter().map(|at| format!("{}\n", time::full(*at, look))).collect()
            })?;
            if times.times_ms.is_empty() && context.out.is_table() {
                context.out.note("it runs no more");
            }
        }
        Schedule::Remove { schedule: named } => {
            client.delete_schedule(&named.name).await?;
            context.out.note(&format!("removed schedule `{}`", named.name));
        }
    }
    Ok(Exit::Success)
}

async fn add(context: &Context, client: &Client, add: Add) -> Result<()> {
    let target = add.target.required()?;
    let (base, agreed) = (add.args.as_deref(), add.consent.yes);
    let args = standing::arguments(client, &add.operation, base, &add.words, add.dry_run, agreed).await?;
    let new = NewSchedule {
        name: add.name,
        job: NewJob {
            operation: add.operation,
            args,
            target,
            dry_run: add.dry_run,
            deadline_ms: add.timeout.map(millis),
            pick: add.pick,
            batch: add.batch,
            max_failures: add.max_failures,
            retries: add.retries,
            wait_offline_ms: add.wait_offline.map(millis),
        },
        when: When {
            cron: add.cron,
            time_zone: add.tz,
            every_ms: add.every.map(millis),
            splay_ms: add.splay.map(millis),
            valid_from_ms: add.from.map(jiff::Timestamp::as_millisecond),
            valid_until_ms: add.until.map(jiff::Timestamp::as_millisecond),
        },
        max_running: add.max_running,
        missed: add.missed.into(),
        paused: add.paused,
    };
    let made = client.new_schedule(&new).await?;
    changed(context, &made, "added")
}

/// Tell that a schedule was changed: in full for programs, a line for people.
fn changed(context: &Context, schedule: &windlass_types::api::schedules::Schedule, what: &str) -> Result<()> {
    if !context.out.is_table() {
        return context.out.data(schedule, |_| String::new());
    }
    let next = match schedule.next_ms {
        Some(next) => format!("; it runs next at {}", time::full(next, &context.stderr_look())),
        None => String::new(),
    };
    context.out.note(&format!("{what} `{}`{next}", schedule.name));
    Ok(())
}
