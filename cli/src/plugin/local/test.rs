//! `plugin test`: the cases of a project.

use super::{
    case::{self, Case, Expected},
    operation, secrets,
    session::Session,
    source::{self, Source},
    verdict::{Failure, Tested, Verdict, judge},
};
use crate::{
    cli::plugin::local::Test,
    commands::Context,
    exit::{self, Exit, Problem},
    render::cases,
};
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use windlass_runtime::{Call, Playback, Report, Tape};
use windlass_types::Outcome;

/// The complete result, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    cases: &'a [Tested],
    ok: usize,
    failed: usize,
}

pub async fn test(context: &Context, test: Test) -> Result<Exit> {
    let (project, filter) = match &test.words[..] {
        [] => (None, None),
        [word] if source::is_plugin(word) => (Some(word.as_str()), None),
        [word] => (None, Some(word.as_str())),
        [project, filter, ..] => (Some(project.as_str()), Some(filter.as_str())),
    };
    let project = source::project(project)?;
    let mut cases = case::list(&project)?;
    let all = cases.len();
    cases.retain(|(name, _)| filter.is_none_or(|filter| name.contains(filter)));
    if cases.is_empty() {
        return Err(match filter {
            Some(filter) if all > 0 => {
                Problem::failed(format!("no case of {all} has `{filter}` in its name"))
            }
            _ => Problem::failed(format!("there are no cases in `{}`", project.join("cases").display()))
                .hint("make one with `windlass plugin record CASE OPERATION [KEY=VALUE]...`"),
        }
        .into());
    }
    let source = Source::of(&project, test.bundle.bundle.as_deref())?;
    let session = Session::start(context, &source).await?;
    let mut tested = Vec::with_capacity(cases.len());
    for (name, dir) in cases {
        tested.push(one(&source, &session, name, &dir, test.update).await);
    }
    let failed = tested.iter().filter(|case| matches!(case.verdict, Verdict::Failed(_))).count();
    let shown = Shown { cases: &tested, ok: tested.len() - failed, failed };
    context.out.data(&shown, |look| cases::list(&tested, look))?;
    if context.out.is_table() {
        context.out.note(&cases::summary(&tested, &context.stderr_look()));
    }
    Ok(if failed == 0 { Exit::Success } else { Exit::Failed })
}

async fn one(source: &Source, session: &Session, name: String, dir: &Path, update: bool) -> Tested {
    let mut tested = Tested { case: name, operation: None, verdict: Verdict::Ok, outcome: None, stats: None };
    let case = match Case::read(dir) {
        Ok(case) => case,
        Err(error) => {
            tested.verdict = failed(&error);
            return tested;
        }
    };
    tested.operation = Some(case.call.operation.clone());
    let (report, tape) = match play(source, session, &case).await {
        Ok(played) => played,
        Err(error) => {
            tested.verdict = failed(&error);
            return tested;
        }
    };
    let recorded = tape.is_ok();
    let judged = judge(case.expected.as_ref(), &report.outcome, tape);
    tested.verdict = match (judged, Expected::of(&report.outcome)) {
        (Ok(()), _) => Verdict::Ok,
        // Other calls than the recorded ones are for the author to look at.
        (Err(_), Some(now)) if update && recorded => match now.write(dir) {
            Ok(()) => Verdict::Updated,
            Err(error) => failed(&error),
        },
        (Err(failure), _) => Verdict::Failed(failure),
    };
    (tested.outcome, tested.stats) = (Some(report.outcome), Some(report.stats));
    tested
}

async fn play(
    source: &Source,
    session: &Session,
    case: &Case,
) -> Result<(Report, Result<(), windlass_runtime::TapeError>)> {
    let operation = operation(source, &case.call.operation)?;
    let plugin = session.load(source, Value::Object(case.call.configuration.clone()))?;
    let playback = Playback::new(case.cassette.clone());
    let args = Value::Object(case.call.args.clone());
    let report = session
        .call(
            &plugin,
            Call {
                job_id: "test".into(),
                operation: operation.name.clone(),
                secrets: secrets::made_up(operation, &args),
                args,
                type_digest: None,
                time_limit: plugin.manifest().operation(operation.name.local()).timeout,
                dry_run: case.call.dry_run,
                cancel: Default::default(),
                progress: None,
                output: None,
                tape: Tape::Replay(playback.clone()),
            },
        )
        .await;
    // A call that was refused has not begun: its cassette says nothing.
    let tape = match report.outcome {
        Outcome::Refused { .. } => Ok(()),
        _ => playback.finish(),
    };
    Ok((report, tape))
}

/// A case that could not be run.
fn failed(error: &anyhow::Error) -> Verdict {
    let problem: Vec<String> = error.chain().map(ToString::to_string).collect();
    Verdict::Failed(Failure { hint: exit::hint(error), ..Failure::new(problem.join(": ")) })
}
