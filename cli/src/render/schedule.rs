//! Schedules and their runs.

use super::{
    job::target,
    table::{Grid, Text, Tone},
    text::clean,
    time, value,
};
use crate::output::Look;
use windlass_types::api::schedules::{Missed, Schedule, ScheduleRun, ScheduleRunState, When};

/// When a schedule runs, as it would be typed.
fn when(when: &When) -> String {
    let mut text = match (&when.cron, when.every_ms) {
        (Some(cron), _) => format!("{} {}", clean(cron), clean(when.time_zone.as_deref().unwrap_or("UTC"))),
        (None, every_ms) => format!("every {}", time::duration_ms(every_ms.unwrap_or(0))),
    };
    if let Some(splay_ms) = when.splay_ms.filter(|splay_ms| *splay_ms > 0) {
        text += &format!(", up to {} later", time::duration_ms(splay_ms));
    }
    text
}

fn next(schedule: &Schedule, look: &Look) -> Text {
    match schedule.next_ms {
        _ if schedule.paused => Tone::Unsure.text("paused"),
        Some(next_ms) => time::ago(next_ms, look).into(),
        None => Tone::Faint.text("over"),
    }
}

/// The list of schedules.
pub fn list(schedules: &[Schedule], look: &Look) -> String {
    let mut grid = Grid::new(["schedule", "operation", "when", "next", "nodes", "who"]);
    for schedule in schedules {
        let dry = if schedule.job.dry_run { " (dry run)" } else { "" };
        grid.row([
            Text::from(schedule.name.as_str()),
            format!("{}{dry}", schedule.job.operation).into(),
            when(&schedule.when).into(),
            next(schedule, look),
            target(&schedule.job.target).into(),
            clean(&schedule.created_by).into(),
        ]);
    }
    grid.render(look)
}

/// A schedule with its last runs.
pub fn one(schedule: &Schedule, runs: &[ScheduleRun], look: &Look) -> String {
    let args = match &schedule.job.args {
        serde_json::Value::Object(object) if object.is_empty() => None,
        args => Some(clean(&args.to_string())),
    };
    let moment = |at: Option<i64>| at.map(|at| Text::from(time::full(at, look)));
    let missed = match schedule.missed {
        Missed::Skip => "left out",
        Missed::Once => "made up for by one run",
        Missed::All => "made up for, one after the other",
    };
    let mut out = value::facts(
        [
            ("schedule", Some(Tone::Strong.text(schedule.name.as_str()))),
            ("operation", Some(schedule.job.operation.to_string().into())),
            ("arguments", args.map(Text::from)),
            ("dry run", schedule.job.dry_run.then(|| Tone::Unsure.text("nothing is changed, only recorded"))),
            ("target", Some(target(&schedule.job.target).into())),
            ("when", Some(when(&schedule.when).into())),
            ("not before", moment(schedule.when.valid_from_ms)),
            ("not after", moment(schedule.when.valid_until_ms)),
            ("next", Some(next(schedule, look))),
            ("at once", Some(schedule.max_running.to_string().into())),
            ("missed times", Some(missed.into())),
            ("timeout", schedule.job.deadline_ms.map(|ms| time::duration_ms(ms).into())),
            ("by", Some(clean(&schedule.created_by).into())),
            ("made", moment(Some(schedule.created_ms))),
        ],
        look,
    );
    if !runs.is_empty() {
        let mut grid = Grid::new(["time", "run", "job", "problem"]);
        for run in runs {
            let state = match run.state {
                ScheduleRunState::Begun => Tone::Unsure.text("begins"),
                ScheduleRunState::Fired if run.manual => Tone::Good.text("ran, out of turn"),
                ScheduleRunState::Fired => Tone::Good.text("ran"),
                ScheduleRunState::Skipped => Tone::Unsure.text("left out"),
                ScheduleRunState::Failed => Tone::Bad.text("failed"),
            };
            let job = match (run.state, run.job) {
                (ScheduleRunState::Fired, Some(job)) => job.to_string(),
                _ => "-".into(),
            };
            grid.row([
                Text::from(time::clock(run.fire_ms, look)),
                state,
                job.into(),
                clean(run.problem.as_deref().unwrap_or("-")).into(),
            ]);
        }
        out.push('\n');
        out.push_str(&grid.render(look));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{NOW_MS, look};
    use serde_json::{Value, json};

    fn schedule(change: Value) -> Schedule {
        let mut all = json!({
            "name": "nightly",
            "job": {
                "operation": "zfs.pool.scrub", "args": { "pool": "tank" }, "target": { "on": ["n*"] },
                "deadline_ms": 600_000,
            },
            "when": { "cron": "0 3 * * *", "time_zone": "Europe/Berlin", "splay_ms": 300_000 },
            "max_running": 1, "missed": "once", "paused": false, "created_by": "ann",
            "created_ms": NOW_MS - 86_400_000, "next_ms": NOW_MS + 7_200_000,
        });
        all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn views() {
        let nightly = schedule(json!({}));
        let watch = schedule(json!({
            "name": "watch", "when": { "every_ms": 900_000 }, "paused": true, "next_ms": null,
            "job": { "operation": "monitor.system.read", "target": { "on": ["n1"] }, "dry_run": true },
        }));
        insta::assert_snapshot!("schedules", list(&[nightly.clone(), watch], &look(None)));
        let run = |hours: i64, state: &str, problem: Option<&str>, manual: bool| -> ScheduleRun {
            serde_json::from_value(json!({
                "fire_ms": NOW_MS - hours * 3_600_000, "state": state, "problem": problem, "manual": manual,
                "job": "0199a1b2-c3d4-7000-8000-000000000001", "time_ms": NOW_MS,
            }))
            .unwrap()
        };
        let runs = [
            run(1, "begun", None, false),
            run(2, "fired", None, true),
            run(9, "fired", None, false),
            run(33, "skipped", Some("the job before it was still running"), false),
            run(57, "failed", Some("no accepted node fits the target"), false),
        ];
        insta::assert_snapshot!("schedule", one(&nightly, &runs, &look(None)));
    }
}
