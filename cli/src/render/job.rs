//! Jobs: the list, and the head of one.

use super::{
    outcome,
    table::{Grid, Text, Tone},
    text::{self, clean, command_line},
    time, value,
};
use crate::output::Look;
use windlass_types::api::{Job, JobState, Target};

/// A target as it would be typed.
pub fn target(target: &Target) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    target.on.iter().for_each(|on| flag("--on", on));
    target.labels.iter().for_each(|(key, value)| flag("--label", &format!("{key}={value}")));
    target.flags.iter().for_each(|name| flag("--flag", name));
    target.facts.iter().for_each(|(key, value)| flag("--fact", &format!("{key}={value}")));
    if let Some(expression) = &target.r#where {
        flag("--where", expression);
    }
    command_line(words.iter().map(String::as_str))
}

/// The shortest beginning of each id that is its own among these, 13 characters at least: ids of
/// jobs begin with their time, and 13 characters are its milliseconds.
pub fn short_ids<Id: std::fmt::Display>(ids: &[Id]) -> Vec<String> {
    let all: Vec<String> = ids.iter().map(ToString::to_string).collect();
    all.iter()
        .map(|id| {
            let unique = |len: &usize| all.iter().filter(|other| other.starts_with(&id[..*len])).count() == 1;
            let len = (13..=id.len()).find(unique).unwrap_or(id.len());
            id[..len].trim_end_matches('-').to_owned()
        })
        .collect()
}

/// How a job stands.
pub fn state(job: &Job, look: &Look) -> String {
    let tally = outcome::tally(job.outcomes.iter().map(|(kind, count)| (*kind, *count)), look);
    let done: u32 = job.outcomes.values().sum();
    match job.state {
        JobState::Finished => tally,
        JobState::Running => {
            let word = if job.cancel_requested { "cancelling" } else { "running" };
            let rest = format!("{word}, {done} of {} done", job.nodes);
            if tally.is_empty() { rest } else { format!("{rest}: {tally}") }
        }
    }
}

/// The list of jobs.
pub fn list(jobs: &[Job], look: &Look) -> String {
    let mut grid = Grid::new(["job", "operation", "nodes", "state", "who", "when"]);
    let plain = Look { color: false, ..look.clone() };
    for (job, id) in jobs.iter().zip(short_ids(&jobs.iter().map(|job| job.id).collect::<Vec<_>>())) {
        let only = |kind| job.outcomes.len() == 1 && job.outcomes.contains_key(&kind);
        let tone = match job.state {
            JobState::Running => Tone::Unsure,
            JobState::Finished if only(windlass_types::OutcomeKind::Succeeded) => Tone::Good,
            JobState::Finished => Tone::Bad,
        };
        let dry = if job.dry_run { " (dry run)" } else { "" };
        grid.row([
            Text::from(id),
            format!("{}{dry}", job.operation).into(),
            job.nodes.to_string().into(),
            tone.text(state(job, &plain)),
            clean(&job.created_by).into(),
            time::ago(job.created_ms, look).into(),
        ]);
    }
    grid.render(look)
}

/// The head of one job.
pub fn head(job: &Job, look: &Look) -> String {
    let took =
        job.finished_ms.map(|at| at.saturating_sub(job.created_ms)).and_then(|ms| u64::try_from(ms).ok());
    let args = match &job.args {
        serde_json::Value::Object(object) if object.is_empty() => None,
        args => Some(clean(&args.to_string())),
    };
    let dry = job.dry_run.then(|| Tone::Unsure.text("nothing is changed, only recorded"));
    value::facts(
        [
            ("job", Some(Tone::Strong.text(job.id.to_string()))),
            ("operation", Some(format!("{} ({})", job.operation, job.effect).into())),
            ("arguments", args.map(Text::from)),
            ("dry run", dry),
            ("target", Some(target(&job.target).into())),
            ("by", Some(clean(&job.created_by).into())),
            ("begun", Some(time::full(job.created_ms, look).into())),
            ("deadline", (job.state == JobState::Running).then(|| time::full(job.deadline_ms, look).into())),
            ("took", took.map(|ms| time::duration_ms(ms).into())),
            ("state", Some(state(job, look).into())),
        ],
        look,
    )
}

/// The line that ends a run, for stderr: which job, how it went, how long it took.
pub fn summary(job: &Job, look: &Look) -> String {
    let took =
        job.finished_ms.map(|at| at.saturating_sub(job.created_ms)).and_then(|ms| u64::try_from(ms).ok());
    let took = took.map(|ms| format!(" in {}", time::duration_ms(ms))).unwrap_or_default();
    let dry = if job.dry_run { " (dry run)" } else { "" };
    let nodes = text::count(job.nodes as usize, "node");
    format!("job {}{dry}: {nodes}, {}{took}", job.id, state(job, look))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{self, look};
    use windlass_types::JobId;

    #[test]
    fn views() {
        let jobs = fixtures::jobs();
        insta::assert_snapshot!("jobs", list(&jobs, &look(None)));
        insta::assert_snapshot!("job_running", head(&jobs[0], &look(None)));
        insta::assert_snapshot!(
            "job_finished",
            format!("{}\n{}", head(&jobs[1], &look(None)), summary(&jobs[1], &look(None)))
        );
    }

    #[test]
    fn short_ids_are_unique_beginnings() {
        let ids: Vec<JobId> = [
            "0199a1b2-c3d4-7000-8000-000000000001",
            "0199a1b2-c3d4-7000-8000-000000000002",
            "0199a1b2-c3d5-7000-8000-000000000001",
        ]
        .map(|id| id.parse().unwrap())
        .into();
        assert_eq!(
            short_ids(&ids),
            ["0199a1b2-c3d4-7000-8000-000000000001", "0199a1b2-c3d4-7000-8000-000000000002", "0199a1b2-c3d5"]
        );
    }
}
