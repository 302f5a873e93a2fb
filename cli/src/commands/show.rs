//! What a job brought, on stdout, and what that means for the exit code.

use super::{Context, jobs};
use crate::{
    cli::View,
    client::Client,
    exit::Exit,
    render::{
        job, results,
        table::{Tone, indent},
        trace,
    },
};
use anyhow::Result;
use serde::Serialize;
use windlass_types::{
    api::{Job, JobNode, JobTrace},
    shape::Shape,
};

/// The complete result, for programs.
#[derive(Serialize)]
pub struct Report<'a> {
    pub job: &'a Job,
    pub results: &'a [JobNode],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces: Option<&'a [JobTrace]>,
}

/// The result type of a job's operation as the master knows it now: a guide for showing, no more.
pub async fn result_shape(client: &Client, job: &Job) -> Option<Shape> {
    client.operation(job.operation.as_str()).await.ok()?.operation.signature.result
}

/// Show what an ended job brought; its exit code.
pub async fn finish(
    context: &Context,
    client: &Client,
    job: Job,
    result: Option<&Shape>,
    view: &View,
    with_trace: bool,
) -> Result<Exit> {
    let nodes = match &job.results {
        Some(nodes) => nodes.clone(),
        None => client.job_nodes(job.id).await?,
    };
    let traces = if with_trace || (job.dry_run && context.out.is_table()) {
        Some(jobs::fetch_traces(context, client, job.id).await?)
    } else {
        None
    };
    // The results stand beside the job, not also within it.
    let job = Job { results: None, ..job };
    show_results(context, &job, &nodes, result, view, traces.as_deref().filter(|_| with_trace))?;
    if let (true, Some(traces)) = (job.dry_run && context.out.is_table(), &traces) {
        show_plan(context, &nodes, traces)?;
    }
    if context.out.is_table() {
        context.out.note(&job::summary(&job, &context.stderr_look()));
    }
    let kinds = nodes.iter().filter_map(|node| node.outcome.as_ref().map(windlass_types::Outcome::kind));
    let exit = Exit::of_outcomes(kinds);
    let all_done = nodes.iter().all(|node| node.outcome.is_some());
    Ok(if all_done { exit } else { Exit::NotAll })
}

/// Print the results of a job, and traces where they are wanted.
pub fn show_results(
    context: &Context,
    job: &Job,
    nodes: &[JobNode],
    result: Option<&Shape>,
    view: &View,
    traces: Option<&[JobTrace]>,
) -> Result<()> {
    let mut note = None;
    context.out.data(&Report { job, results: nodes, traces }, |look| {
        let shown = results::results(nodes, result, &view.columns, look);
        note = shown.note;
        let mut text = shown.text;
        for one in traces.unwrap_or_default() {
            let head = Tone::Strong.paint(&format!("trace of {}", one.name), look);
            text.push_str(&format!("\n{head}\n{}", indent(&trace::table(one, look), 2)));
        }
        text
    })?;
    if let Some(note) = note {
        context.out.note(&Tone::Faint.paint(&note, &context.stderr_look()));
    }
    let written: Vec<&JobNode> = nodes.iter().filter(|node| node.output_bytes.is_some()).collect();
    let told = match written.as_slice() {
        [] => return Ok(()),
        [one] => format!("{} has written output: `windlass jobs output {} {}`", one.name, job.id, one.name),
        many => format!("{} nodes have written output: `windlass jobs output {} NODE`", many.len(), job.id),
    };
    if context.out.is_table() {
        context.out.note(&Tone::Faint.paint(&told, &context.stderr_look()));
    }
    Ok(())
}

/// What a dry run would have done.
fn show_plan(context: &Context, nodes: &[JobNode], traces: &[JobTrace]) -> Result<()> {
    // What a node that did not get to its end would still have done is not known.
    let reached_the_end = |trace: &JobTrace| {
        let mut of_node = nodes.iter().filter(|node| node.node == trace.node);
        of_node.any(|node| node.outcome.as_ref().is_some_and(windlass_types::Outcome::is_success))
    };
    let mut text = String::new();
    for trace in traces {
        let lines = trace::would_run(trace);
        if lines.is_empty() && reached_the_end(trace) {
            text.push_str(&format!("{}: would change nothing\n", trace.name));
        }
        for line in lines {
            text.push_str(&format!("{}: would run {line}\n", trace.name));
        }
    }
    if text.is_empty() {
        return Ok(());
    }
    context.out.raw(format!("\n{text}").as_bytes())
}
