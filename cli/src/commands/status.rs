//! `status`

use super::Context;
use crate::{
    cli::Status,
    client::Client,
    exit::Exit,
    render::{status, text},
};
use anyhow::Result;
use std::collections::{BTreeMap, HashSet};
use windlass_types::{
    NodeId, OperationName,
    api::{
        Target,
        status::{WatchState, WatchStatus},
    },
    shape::Shape,
};

pub async fn run(context: &Context, command: Status) -> Result<Exit> {
    let client = context.client()?;
    let state = command.state.map(WatchState::from);
    match &command.node {
        Some(node) if !node.contains(['*', '?', '[', ',']) => {
            show(context, &client, node, command.watch.as_deref(), state).await
        }
        Some(globs) => {
            let on = globs.split(',').map(str::to_owned).collect();
            let target = Target { on, ..Target::default() };
            list(context, &client, Some(target), command.watch.as_deref(), state).await
        }
        None => list(context, &client, command.target.or_all(), command.watch.as_deref(), state).await,
    }
}

async fn list(
    context: &Context,
    client: &Client,
    target: Option<Target>,
    watch: Option<&str>,
    state: Option<WatchState>,
) -> Result<Exit> {
    let among: Option<HashSet<NodeId>> = match target {
        Some(target) => Some(client.resolve(&target).await?.nodes.iter().map(|node| node.id).collect()),
        None => None,
    };
    let mut all = client.status(watch, state).await?;
    all.retain(|item| among.as_ref().is_none_or(|among| among.contains(&item.node)));
    all.sort_by(|a, b| {
        text::natural(a.node_name.as_str(), b.node_name.as_str())
            .then_with(|| (&a.plugin, &a.watch).cmp(&(&b.plugin, &b.watch)))
    });
    context.out.data(&all, |look| if all.is_empty() { String::new() } else { status::list(&all, look) })?;
    if all.is_empty() && context.out.is_table() {
        context.out.note(match (watch, state) {
            (None, None) => "there are no watches: no plugin of these nodes has any",
            _ => "no watch is so",
        });
    }
    Ok(Exit::Success)
}

async fn show(
    context: &Context,
    client: &Client,
    node: &str,
    watch: Option<&str>,
    state: Option<WatchState>,
) -> Result<Exit> {
    let mut found = client.node_status(node).await?;
    let wanted = |item: &WatchStatus| {
        let name = format!("{}.{}", item.plugin, item.watch);
        watch.is_none_or(|watch| watch == name || watch == item.plugin.as_str())
            && state.is_none_or(|state| item.state == state)
    };
    found.watches.retain(wanted);
    let mut shapes: BTreeMap<OperationName, Option<Shape>> = BTreeMap::new();
    if context.out.is_table() {
        for watch in &found.watches {
            if !shapes.contains_key(&watch.operation) {
                // Only the order of fields is lost without it.
                let info = client.operation(watch.operation.as_str()).await.ok();
                shapes.insert(watch.operation.clone(), info.and_then(|info| info.operation.signature.result));
            }
        }
    }
    context.out.data(&found, |look| status::node(&found, &shapes, look))?;
    if found.watches.is_empty() && context.out.is_table() {
        context.out.note(&format!("`{}` has no such watch", found.node_name));
    }
    Ok(Exit::Success)
}
