//! `plugin run`: one operation on this machine.

use super::{
    arguments, configuration, operation, secrets,
    session::Session,
    source::{self, Source},
};
use crate::{
    cli::plugin::local::{CallArgs, Run},
    commands::Context,
    exit::Exit,
    output::consent,
    render::{
        outcome, results, scalar,
        table::{Tone, indent},
        text::clean,
        time, trace,
    },
};
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use windlass_runtime::{Call, Plugin, Recording, Report, Secrets, Tape};
use windlass_types::{
    Effect, JobId, NodeId, Outcome,
    api::{JobNode, JobNodeState, JobTrace},
    shape::Operation,
    trace::{CallStats, TraceDetail, TraceEntry},
};

/// The complete result, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    operation: &'a str,
    plugin_version: String,
    dry_run: bool,
    outcome: &'a Outcome,
    stats: CallStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a [TraceEntry]>,
}

pub async fn run(context: &Context, run: Run) -> Result<Exit> {
    let (plugin, rest) = match run.words.split_first() {
        Some((first, rest)) if source::is_plugin(first) => (first.as_str(), rest),
        _ => (".", run.words.as_slice()),
    };
    let Some((name, words)) = rest.split_first() else {
        return Err(crate::exit::Problem::usage("which operation?")
            .hint("`windlass plugin run [PLUGIN] OPERATION [KEY=VALUE]...`")
            .into());
    };
    let source = Source::open(Path::new(plugin))?;
    let operation = operation(&source, name)?;
    let args = arguments(operation, &run.call, words)?;
    agree(&source, operation, &run.call, run.consent.yes)?;
    let session = Session::start(context, &source).await?;
    let plugin = session.load(&source, configuration(run.call.configuration.as_deref())?)?;
    let recording = run.record.as_ref().map(|_| Recording::new());
    let tape = recording.clone().map_or(Tape::Off, Tape::Record);
    let secrets = secrets::of_file(operation, &args, run.call.secrets.as_deref())?;
    let call = call(operation, args, secrets, &plugin, &run.call, tape);
    let Some(report) = session.call_watched(context, &plugin, call).await? else { return Ok(Exit::Left) };
    if let (Some(file), Some(recording)) = (&run.record, recording) {
        let cassette = recording.cassette().context("the cassette cannot be made")?;
        std::fs::write(file, cassette.to_text())
            .with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    show(context, &run, operation, &plugin, session.node, report)
}

/// Get consent where data may be lost.
pub(super) fn agree(source: &Source, operation: &Operation, call: &CallArgs, yes: bool) -> Result<()> {
    let effect = source.bundle.manifest.operation(operation.name.local()).effect;
    if effect < Effect::Destroy || call.dry_run {
        return Ok(());
    }
    consent(yes, &format!("run `{}`, which may lose data, on this machine?", operation.name))
}

/// What to call.
pub(super) fn call(
    operation: &Operation,
    args: Value,
    secrets: Secrets,
    plugin: &Plugin,
    options: &CallArgs,
    tape: Tape,
) -> Call {
    let own = plugin.manifest().operation(operation.name.local()).timeout;
    Call {
        job_id: JobId::new().to_string(),
        operation: operation.name.clone(),
        args,
        secrets,
        type_digest: None,
        time_limit: options.timeout.unwrap_or(own),
        dry_run: options.dry_run,
        cancel: Default::default(),
        progress: None,
        output: None,
        tape,
    }
}

fn show(
    context: &Context,
    run: &Run,
    operation: &Operation,
    plugin: &Plugin,
    name: windlass_types::NodeName,
    report: Report,
) -> Result<Exit> {
    let Report { outcome, trace: entries, stats } = report;
    let kind = outcome.kind();
    let shown = Shown {
        operation: operation.name.as_str(),
        plugin_version: plugin.version(),
        dry_run: run.call.dry_run,
        outcome: &outcome,
        stats,
        trace: run.trace.then_some(&entries),
    };
    let node = JobNode {
        node: NodeId::new(),
        name: name.clone(),
        state: JobNodeState::Done,
        outcome: Some(outcome.clone()),
        stats: Some(stats),
        plugin_digest: None,
        plugin_version: None,
        started_ms: None,
        finished_ms: None,
        attempts: None,
        output_bytes: None,
    };
    let traced = JobTrace { job: JobId::new(), node: node.node, name, entries: entries.clone() };
    let result = operation.signature.result.as_ref();
    let mut note = None;
    context.out.data(&shown, |look| {
        let shown = results::results(std::slice::from_ref(&node), result, &run.view.columns, look);
        note = shown.note;
        let mut text = shown.text;
        if run.trace {
            let head = Tone::Strong.paint("trace", look);
            text.push_str(&format!("\n{head}\n{}", indent(&trace::table(&traced, look), 2)));
        }
        if run.call.dry_run {
            text.push_str(&plan(&traced, outcome.is_success()));
        }
        text
    })?;
    if context.out.is_table() {
        let look = context.stderr_look();
        for line in note.into_iter().chain(logged(&entries).filter(|_| !run.trace)) {
            context.out.note(&Tone::Faint.paint(&line, &look));
        }
        context.out.note(&format!(
            "{} in {}; {} of memory at most",
            outcome::tone(kind).paint(outcome::word(kind), &look),
            time::duration_us(stats.wall_us),
            scalar::size(stats.memory_peak_bytes)
        ));
    }
    Ok(Exit::of_outcomes([kind]))
}

/// What a dry run would have done.
fn plan(trace: &JobTrace, reached_the_end: bool) -> String {
    let lines = trace::would_run(trace);
    match (lines.is_empty(), reached_the_end) {
        (true, true) => "\nwould change nothing\n".into(),
        (true, false) => String::new(),
        (false, _) => lines.iter().fold("\n".to_owned(), |text, line| text + &format!("would run {line}\n")),
    }
}

/// What the plugin logged and printed.
fn logged(entries: &[TraceEntry]) -> impl Iterator<Item = String> {
    entries.iter().filter_map(|entry| match &entry.detail {
        TraceDetail::Log { level, message } => Some(format!("{level}: {}", clean(message))),
        _ => None,
    })
}
