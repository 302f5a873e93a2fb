//! `plugins rollouts …`: deployments under way, and those that were.

use super::follow::{self, Asked};
use crate::{
    cli::plugins::{DeploymentArg, Rollouts},
    client::{Client, bundles::Control},
    commands::{Context, ids},
    exit::Exit,
    output::consent,
    render::deployment,
};
use anyhow::Result;
use windlass_types::DeploymentId;

pub async fn run(context: &Context, client: &Client, command: Rollouts) -> Result<Exit> {
    match command {
        Rollouts::List { plugin, limit } => {
            let all = client.deployments(plugin.as_ref(), limit as usize).await?;
            let empty = all.is_empty();
            context
                .out
                .data(&all, |look| if empty { String::new() } else { deployment::list(&all, look) })?;
            if empty && context.out.is_table() {
                context.out.note("nothing has been deployed yet");
            }
            Ok(Exit::Success)
        }
        Rollouts::Show { deployment } => {
            let detail = client.deployment(id(client, &deployment).await?).await?;
            context.out.data(&detail, |look| {
                format!(
                    "{}\n{}",
                    deployment::head(&detail.deployment, look),
                    deployment::nodes(&detail, look)
                )
            })?;
            Ok(Exit::Success)
        }
        Rollouts::Watch { deployment } => {
            let id = id(client, &deployment).await?;
            follow::to_its_end(context, client, id, Asked::Forward).await
        }
        Rollouts::Pause { deployment } => {
            control(context, client, &deployment, Control::Pause, "no further node gets it").await
        }
        Rollouts::Resume { deployment } => {
            control(context, client, &deployment, Control::Resume, "it goes on").await
        }
        Rollouts::Abort { deployment } => {
            control(context, client, &deployment, Control::Abort, "nodes stay as they are").await
        }
        Rollouts::Rollback { deployment, consent: given } => {
            let id = id(client, &deployment).await?;
            let now = client.deployment(id).await?.deployment;
            let what = format!("undo the deployment of {} on {} nodes?", deployment::what(&now), now.nodes);
            consent(given.yes, &what)?;
            client.control_deployment(id, Control::Rollback).await?;
            follow::to_its_end(context, client, id, Asked::Back).await
        }
    }
}

/// The deployment that a whole id or the beginning of one means.
async fn id(client: &Client, arg: &DeploymentArg) -> Result<DeploymentId> {
    let recent = async |most| {
        Ok(client.deployments(None, most).await?.iter().map(|deployment| deployment.id).collect())
    };
    ids::find(&arg.deployment, "deployment", "windlass plugins rollouts list", recent).await
}

async fn control(
    context: &Context,
    client: &Client,
    arg: &DeploymentArg,
    control: Control,
    outcome: &str,
) -> Result<Exit> {
    let id = id(client, arg).await?;
    let deployment = client.control_deployment(id, control).await?;
    if context.out.is_table() {
        let state = deployment::state(&deployment, &context.stderr_look());
        context.out.note(&format!("deployment {id}: {outcome}; {state}"));
    } else {
        context.out.data(&deployment, |_| String::new())?;
    }
    Ok(Exit::Success)
}
