//! `plugins deploy` and `plugins rollback`: say what will happen, ask, do it, follow.

use super::{
    follow::{self, Asked},
    of_plugin,
};
use crate::{
    cli::plugins::{BundleRef, Deploy, Rollback},
    client::{Client, ClientError},
    commands::Context,
    duration::millis,
    exit::{Exit, Problem},
    output::consent,
    render::{deployment, text::count},
};
use anyhow::Result;
use windlass_types::api::{
    Target,
    bundles::{Deployment, DeploymentState, NewDeployment, RollbackPlugin, Strategy},
};

pub async fn deploy(context: &Context, client: &Client, command: Deploy) -> Result<Exit> {
    let wanted = &command.bundle.bundle;
    let detail = client.bundle(&BundleRef::Named(wanted.clone()).to_api()).await?;
    of_plugin(&detail.bundle, &wanted.plugin)?;
    let target = command.target.or_all();
    let everybody = || Target { on: vec!["*".into()], ..Target::default() };
    let resolved = client.resolve(&target.clone().unwrap_or_else(everybody)).await?;
    let strategy = Strategy {
        canary: command.canary,
        batch: command.batch.of(resolved.nodes.len()),
        soak_ms: millis(command.soak),
        node_timeout_ms: millis(command.node_timeout),
        max_failures: command.max_failures,
        on_failure: command.on_failure.into(),
    };
    if !command.consent.yes || context.out.is_table() {
        let now = client.plugin(&wanted.plugin).await?.nodes;
        let plan = deployment::Plan {
            bundle: &detail,
            nodes: &resolved.nodes,
            now: &now,
            strategy: &strategy,
            approve: command.approve,
        };
        context.out.note(deployment::plan(&plan, &context.stderr_look()).trim_end());
    }
    let nodes = count(resolved.nodes.len(), "node");
    consent(command.consent.yes, &format!("deploy {wanted} to {nodes}?"))?;
    let new = NewDeployment {
        plugin: wanted.plugin.clone(),
        // What was shown is what is deployed.
        bundle: detail.bundle.digest.to_string(),
        target,
        strategy,
        approve: command.approve,
        allow_downgrade: command.allow_downgrade,
        replace: command.replace,
    };
    let made = client.new_deployment(&new).await.map_err(unsure)?;
    begun(context, client, made, command.detach, Asked::Forward).await
}

pub async fn rollback(context: &Context, client: &Client, command: Rollback) -> Result<Exit> {
    let plugin = &command.plugin.plugin;
    let target = command.target.or_all();
    let what = match &target {
        None => format!("take `{plugin}` back to the version before, everywhere?"),
        Some(target) => {
            let nodes = client.resolve(target).await?.nodes.len();
            format!("take `{plugin}` back to the version before, on {}?", count(nodes, "node"))
        }
    };
    consent(command.consent.yes, &what)?;
    let body = RollbackPlugin { target, reason: command.reason.clone() };
    let made = client.rollback_plugin(plugin, &body).await.map_err(unsure)?;
    begun(context, client, made, command.detach, Asked::Back).await
}

/// A deployment whose making got no reply may have been made: it is not made again.
fn unsure(error: ClientError) -> anyhow::Error {
    if let ClientError::Api { error: api, .. } = &error
        && api.code == "deployment_running"
    {
        return Problem::failed("another deployment of the plugin is under way")
            .hint("see `windlass plugins rollouts list`; `--replace` takes its place")
            .because(error)
            .into();
    }
    if !error.may_have_arrived() {
        return error.into();
    }
    Problem::failed("it is not known whether the deployment was made")
        .hint("look for it with `windlass plugins rollouts list` before you try again")
        .because(error)
        .into()
}

async fn begun(
    context: &Context,
    client: &Client,
    made: Deployment,
    detach: bool,
    asked: Asked,
) -> Result<Exit> {
    if !detach {
        return follow::to_its_end(context, client, made.id, asked).await;
    }
    context.out.data(&made, |_| format!("{}\n", made.id))?;
    if context.out.is_table() {
        context.out.note(
            &follow::next(&made)
                .unwrap_or_else(|| format!("follow it with `windlass plugins rollouts watch {}`", made.id)),
        );
    }
    Ok(if made.state == DeploymentState::WaitingApproval { Exit::Denied } else { Exit::Success })
}
