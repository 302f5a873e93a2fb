//! `plugin record`: a case made from what this machine says.

use super::{
    arguments,
    case::{self, CallFile, Case, Expected},
    configuration, operation,
    run::{agree, call},
    secrets,
    session::Session,
    source::{self, Source},
};
use crate::{
    cli::plugin::local::Record,
    commands::Context,
    exit::{Exit, Problem},
    render::{outcome, text::count},
};
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;
use windlass_runtime::{Recording, Tape};
use windlass_types::Outcome;

/// The complete result, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    case: &'a Path,
    calls: usize,
    outcome: &'a Outcome,
}

pub async fn record(context: &Context, record: Record) -> Result<Exit> {
    let (project, rest) = match record.words.split_first() {
        Some((first, rest)) if source::is_plugin(first) => (Some(first.as_str()), rest),
        _ => (None, record.words.as_slice()),
    };
    let [name, operation_name, words @ ..] = rest else {
        return Err(Problem::usage("a name for the case and an operation are needed")
            .hint("`windlass plugin record [PROJECT] CASE OPERATION [KEY=VALUE]...`")
            .into());
    };
    let project = source::project(project)?;
    let dir = case::folder(&project, name)?;
    if dir.exists() && !record.replace {
        return Err(Problem::failed(format!("there is a case `{name}` already"))
            .hint("`--replace` records it anew")
            .into());
    }
    let source = Source::of(&project, record.bundle.bundle.as_deref())?;
    let operation = operation(&source, operation_name)?;
    let args = arguments(operation, &record.call, words)?;
    let configuration = configuration(record.call.configuration.as_deref())?;
    agree(&source, operation, &record.call, record.consent.yes)?;
    let session = Session::start(context, &source).await?;
    let plugin = session.load(&source, configuration.clone())?;
    let recording = Recording::new();
    let secrets = secrets::of_file(operation, &args, record.call.secrets.as_deref())?;
    let call = call(operation, args.clone(), secrets, &plugin, &record.call, Tape::Record(recording.clone()));
    let Some(report) = session.call_watched(context, &plugin, call).await? else { return Ok(Exit::Left) };
    let Some(expected) = Expected::of(&report.outcome) else {
        let how = outcome::word(report.outcome.kind());
        let why = outcome::detail(&report.outcome, &context.stderr_look());
        return Err(Problem::failed(format!("the operation did not come to its end: {how}: {why}"))
            .hint("nothing was written: a case expects a result, an error or a denial")
            .into());
    };
    let object = |value: Value| match value {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    let case = Case {
        call: CallFile {
            about: record.about.clone(),
            operation: operation.name.local().to_owned(),
            args: object(args),
            dry_run: record.call.dry_run,
            configuration: object(configuration),
        },
        cassette: recording.cassette().context("the cassette cannot be made")?,
        expected: Some(expected),
    };
    case.write(&dir)?;
    let calls = case.cassette.len();
    context
        .out
        .data(&Shown { case: &dir, calls, outcome: &report.outcome }, |_| format!("{}\n", dir.display()))?;
    if context.out.is_table() {
        let look = context.stderr_look();
        let kind = report.outcome.kind();
        let how = outcome::tone(kind).paint(outcome::word(kind), &look);
        let detail = outcome::detail(&report.outcome, &look);
        let why = if detail.is_empty() { detail } else { format!(" ({detail})") };
        context.out.note(&format!(
            "it {how}{why} after {} of the host; look it through before you share it",
            count(calls, "call")
        ));
    }
    Ok(Exit::Success)
}
