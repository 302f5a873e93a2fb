//! `run`: from words to a job, to what its nodes answered.

use super::{
    Context,
    follow::{self, End, Interrupts, OnInterrupt},
    show::{Report, finish},
};
use crate::{
    args,
    cli::Run,
    client::{Client, ClientError},
    duration::millis,
    exit::{Exit, Problem},
    output::consent,
    render::{
        table::Tone,
        text::{self, count},
    },
};
use anyhow::Result;
use serde_json::Value;
use std::time::Duration;
use windlass_types::{
    Effect,
    api::{Job, JobState, NewJob, OperationInfo, Resolved, Target},
};

/// Quick jobs end within this: one exchange with the master, and no events to follow.
const QUICK: Duration = Duration::from_millis(300);
/// So many nodes are named before a run; of more only the number is told.
const NAMED: usize = 12;

pub async fn run(context: &Context, command: Run) -> Result<Exit> {
    let target = command.target.required()?;
    let client = context.client()?;
    let info = client.operation(command.operation.as_str()).await?;
    let args = arguments(&info, command.args.as_deref(), &command.words)?;
    let target = settle(context, &client, &info, &command, target).await?;
    let new = NewJob {
        operation: command.operation.clone(),
        args,
        target,
        dry_run: command.dry_run,
        deadline_ms: command.timeout.map(millis),
        pick: command.pick.or(command.one.then_some(1)),
        batch: command.batch,
        max_failures: command.max_failures,
        retries: command.retries,
        wait_offline_ms: command.wait_offline.map(millis),
    };
    let mut interrupts = if command.detach { None } else { Some(Interrupts::new()?) };
    let wait = if command.detach { Duration::ZERO } else { QUICK };
    // Not broken off by Ctrl-C: a job whose id is not known could not be cancelled.
    let mut job = client.new_job(&new, wait).await.map_err(unsure)?;
    if command.detach {
        return detached(context, &job);
    }
    if let (JobState::Running, Some(interrupts)) = (job.state, &mut interrupts) {
        match follow::follow(context, &client, job, interrupts, OnInterrupt::Cancel).await? {
            End::Finished(ended) => job = *ended,
            End::Left => return Ok(Exit::Left),
        }
    }
    let result = info.operation.signature.result.as_ref();
    finish(context, &client, job, result, &command.view, command.trace).await
}

/// A job whose making got no reply may have been made: it is not made again.
pub(super) fn unsure(error: ClientError) -> anyhow::Error {
    if !error.may_have_arrived() {
        return error.into();
    }
    Problem::failed("it is not known whether the job was made")
        .hint("look for it with `windlass jobs list` before you run it again")
        .because(error)
        .into()
}

/// The arguments of an operation from the command line, checked against its type.
pub(super) fn arguments(info: &OperationInfo, base: Option<&str>, words: &[String]) -> Result<Value> {
    let see = format!("see `windlass ops show {}`", info.name);
    args::read(info.name.as_str(), &info.operation.signature, base, words, &see)
}

/// Say where it will run, and get consent where data may be lost. What was agreed to is then named
/// node by node, so that nothing else is touched even if the fleet changes meanwhile.
async fn settle(
    context: &Context,
    client: &Client,
    info: &OperationInfo,
    command: &Run,
    target: Target,
) -> Result<Target> {
    use std::io::IsTerminal as _;
    let dangerous = info.effect == Effect::Destroy && !command.dry_run;
    let watched = std::io::stderr().is_terminal() && context.out.is_table();
    if !(dangerous && !command.consent.yes || watched) {
        return Ok(target);
    }
    let resolved = client.resolve(&target).await?;
    let nodes = describe(&resolved);
    if !dangerous || command.consent.yes {
        if resolved.nodes.len() > 1 {
            let look = context.stderr_look();
            context.out.note(&Tone::Faint.paint(&format!("on {nodes}"), &look));
        }
        return Ok(target);
    }
    consent(false, &format!("run `{}`, which may lose data, on {nodes}?", info.name))?;
    Ok(Target { on: resolved.nodes.iter().map(|node| node.id.to_string()).collect(), ..Target::default() })
}

fn describe(resolved: &Resolved) -> String {
    let mut names: Vec<String> = resolved
        .nodes
        .iter()
        .map(|node| if node.online { node.name.to_string() } else { format!("{} (offline)", node.name) })
        .collect();
    names.sort_by(|a, b| text::natural(a, b));
    let all = count(names.len(), "node");
    match names.len() {
        0 => all,
        1..=NAMED => format!("{all}: {}", names.join(", ")),
        _ => format!("{all}: {}, …", names[..NAMED].join(", ")),
    }
}

fn detached(context: &Context, job: &Job) -> Result<Exit> {
    let report = Report { job, results: job.results.as_deref().unwrap_or_default(), traces: None };
    context.out.data(&report, |_| format!("{}\n", job.id))?;
    if context.out.is_table() {
        context.out.note(&format!(
            "on {}; follow it with `windlass jobs watch {}`",
            count(job.nodes as usize, "node"),
            job.id
        ));
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn misfits_name_place_type_and_help() {
        let info = &fixtures::operations()[2];
        let words = ["name=tank", "disks=a", "layout.raidz=many"].map(str::to_owned);
        let error = arguments(info, None, &words).unwrap_err();
        let told: Vec<String> = error.chain().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "the arguments do not fit `store.pool.create`",
                "/layout/raidz: expected u8 (an integer from 0 to 255), found \"many\""
            ]
        );
    }

    #[test]
    fn nodes_are_named_until_there_are_too_many() {
        let nodes = |many: usize| {
            let node = |index: usize| windlass_types::api::ResolvedNode {
                id: windlass_types::NodeId::new(),
                name: format!("n{index}").parse().unwrap(),
                online: index != 2,
            };
            describe(&Resolved { nodes: (1..=many).map(node).collect() })
        };
        assert_eq!(nodes(1), "1 node: n1");
        assert_eq!(nodes(3), "3 nodes: n1, n2 (offline), n3");
        assert!(nodes(40).starts_with("40 nodes: n1, ") && nodes(40).ends_with("n12, …"), "{}", nodes(40));
    }
}
