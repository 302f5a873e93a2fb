//! The fleet as planned operations see it: `windlass:plan/types.fleet`.

use crate::{
    fleet::{Fleet, NodeRecord},
    status::Statuses,
    store::StoreError,
};
use serde_json::{Value, json};
use windlass_types::{
    Outcome, PlanId,
    api::{NodeState, status::WatchStatus},
};

/// All accepted nodes, by name.
pub(super) async fn value(fleet: &Fleet, status: &Statuses, run: PlanId) -> Result<Value, StoreError> {
    let mut nodes = Vec::new();
    for node in fleet.nodes().iter().filter(|node| node.state == NodeState::Accepted) {
        nodes.push((node.name.clone(), self::node(node, status.of(node).await?.watches)));
    }
    nodes.sort_by(|(one, _), (other, _)| one.cmp(other));
    let nodes: Vec<Value> = nodes.into_iter().map(|(_, node)| node).collect();
    Ok(json!({ "run": run, "nodes": nodes }))
}

fn node(node: &NodeRecord, watches: Vec<WatchStatus>) -> Value {
    let labels = node.labels.iter().map(|(key, value)| json!({ "key": key, "value": value }));
    let facts = node.facts.iter().map(|(name, value)| json!({ "name": name, "value": value.to_string() }));
    json!({
        "id": node.id,
        "name": node.name,
        "online": node.online(),
        "labels": labels.collect::<Vec<_>>(),
        "flags": node.flags,
        "facts": facts.collect::<Vec<_>>(),
        // One that has not run yet has nothing to say.
        "status": watches.into_iter().filter_map(watch).collect::<Vec<_>>(),
    })
}

fn watch(watch: WatchStatus) -> Option<Value> {
    let output = match watch.outcome.as_ref()? {
        Outcome::Succeeded { value } => Some(value.to_string()),
        _ => None,
    };
    Some(json!({
        "plugin": watch.plugin,
        "watch": watch.watch,
        "output": output,
        "problem": watch.problem,
        "age_ms": watch.age_ms?,
    }))
}
