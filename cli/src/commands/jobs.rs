//! `jobs …`

use super::{Context, follow, ids, output, show as results};
use crate::{
    cli::{Jobs, View},
    client::Client,
    exit::Exit,
    render::{job, table::Tone, text, trace},
};
use anyhow::Result;
use windlass_types::{JobId, api::JobState};

/// Traces of so many nodes are fetched at most; more are asked for by name.
const MOST_TRACES: usize = 100;

pub async fn run(context: &Context, command: Jobs) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Jobs::List { limit } => {
            let jobs = client.jobs(limit as usize).await?;
            let empty = jobs.is_empty();
            context.out.data(&jobs, |look| if empty { String::new() } else { job::list(&jobs, look) })?;
            if empty && context.out.is_table() {
                context.out.note("there are no jobs yet");
            }
            Ok(Exit::Success)
        }
        Jobs::Show { job, view } => show(context, &client, id(&client, &job.job).await?, &view).await,
        Jobs::Watch { job, view } => watch(context, &client, id(&client, &job.job).await?, &view).await,
        Jobs::Cancel { job } => cancel(context, &client, id(&client, &job.job).await?).await,
        Jobs::Output { job, node, follow } => {
            output::show(context, &client, id(&client, &job.job).await?, node.as_deref(), follow).await
        }
        Jobs::Trace { job, node } => {
            let id = id(&client, &job.job).await?;
            traces(context, &client, id, node.as_deref()).await?;
            Ok(Exit::Success)
        }
    }
}

/// The job that a whole id or the beginning of one means.
async fn id(client: &Client, text: &str) -> Result<JobId> {
    let recent = async |most| Ok(client.jobs(most).await?.iter().map(|job| job.id).collect());
    ids::find(text, "job", "windlass jobs list", recent).await
}

async fn show(context: &Context, client: &Client, id: JobId, view: &View) -> Result<Exit> {
    let job = client.job(id).await?;
    let nodes = client.job_nodes(id).await?;
    if context.out.is_table() {
        context.out.raw(format!("{}\n", job::head(&job, &context.out.look)).as_bytes())?;
    }
    let result = results::result_shape(client, &job).await;
    results::show_results(context, &job, &nodes, result.as_ref(), view, None)?;
    Ok(Exit::Success)
}

async fn watch(context: &Context, client: &Client, id: JobId, view: &View) -> Result<Exit> {
    let job = client.job(id).await?;
    let mut interrupts = follow::Interrupts::new()?;
    let job = match job.state {
        JobState::Finished => job,
        JobState::Running => {
            match follow::follow(context, client, job, &mut interrupts, follow::OnInterrupt::Leave).await? {
                follow::End::Finished(job) => *job,
                follow::End::Left => return Ok(Exit::Left),
            }
        }
    };
    let result = results::result_shape(client, &job).await;
    results::finish(context, client, job, result.as_ref(), view, false).await
}

async fn cancel(context: &Context, client: &Client, id: JobId) -> Result<Exit> {
    let job = client.cancel(id).await?;
    if context.out.is_table() {
        let look = context.stderr_look();
        context.out.note(&match job.state {
            JobState::Finished => format!("job {id} has ended: {}", job::state(&job, &look)),
            JobState::Running => format!("asked the nodes to stop job {id}"),
        });
    } else {
        context.out.data(&job, |_| String::new())?;
    }
    Ok(Exit::Success)
}

/// Print the traces of a job.
pub async fn traces(context: &Context, client: &Client, id: JobId, node: Option<&str>) -> Result<()> {
    let mut all = Vec::new();
    match node {
        Some(node) => all.push(client.trace(id, node).await?),
        None => {
            for trace in fetch_traces(context, client, id).await? {
                all.push(trace);
            }
        }
    }
    context.out.data(&all, |look| {
        let parts: Vec<String> = all
            .iter()
            .map(|one| {
                let head = Tone::Strong.paint(one.name.as_str(), look);
                format!("{head}\n{}", crate::render::table::indent(&trace::table(one, look), 2))
            })
            .collect();
        parts.join("\n")
    })
}

/// The traces of all nodes of a job, in the order of their names; the first of them for many.
pub async fn fetch_traces(
    context: &Context,
    client: &Client,
    id: JobId,
) -> Result<Vec<windlass_types::api::JobTrace>> {
    let mut nodes = client.job_nodes(id).await?;
    nodes.sort_by(|a, b| text::natural(a.name.as_str(), b.name.as_str()));
    if nodes.len() > MOST_TRACES {
        context.out.note(&format!(
            "showing the first {MOST_TRACES} of {} nodes: name one to see its trace",
            nodes.len()
        ));
    }
    let mut all = Vec::new();
    for node in nodes.iter().take(MOST_TRACES) {
        all.push(client.trace(id, &node.node.to_string()).await?);
    }
    Ok(all)
}
