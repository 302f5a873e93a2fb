//! From what nodes have to what can be run.

use super::{Source, source::SourceOperation};
use crate::fleet::{Inventory, NodeRecord};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use windlass_types::{
    Digest, Effect, OperationName,
    api::{NodeState, OperationInfo},
    schema,
};

/// Nodes with one type of one operation, by bundle.
type Bundles = BTreeMap<Digest, u32>;

/// The operations of these nodes for which there is a source.
pub(super) fn list(
    nodes: &[Arc<NodeRecord>],
    sources: &HashMap<Digest, Arc<Source>>,
) -> BTreeMap<OperationName, Arc<OperationInfo>> {
    // Most nodes share a few inventories, so the work does not grow with the nodes.
    let mut inventories: HashMap<*const Inventory, (&Inventory, u32)> = HashMap::new();
    for node in nodes.iter().filter(|node| node.state == NodeState::Accepted) {
        inventories.entry(Arc::as_ptr(&node.inventory)).or_insert((&node.inventory, 0)).1 += 1;
    }
    let mut offers: BTreeMap<OperationName, BTreeMap<Digest, Bundles>> = BTreeMap::new();
    for (inventory, count) in inventories.values() {
        for plugin in inventory.plugins.iter().filter(|plugin| plugin.problem.is_none()) {
            for (local, operation) in &plugin.operations {
                let Ok(name) = format!("{}.{local}", plugin.name).parse() else { continue };
                let types = offers.entry(name).or_default();
                *types.entry(operation.type_digest).or_default().entry(plugin.digest).or_default() += count;
            }
        }
    }
    offers
        .into_iter()
        .filter_map(|(name, types)| {
            let info = choose(&name, &types, sources)?;
            Some((name, Arc::new(info)))
        })
        .collect()
}

/// A bundle with the wanted type of the operation.
struct Known<'s> {
    digest: Digest,
    nodes: u32,
    source: &'s Source,
    operation: &'s SourceOperation,
}

fn choose(
    name: &OperationName,
    types: &BTreeMap<Digest, Bundles>,
    sources: &HashMap<Digest, Arc<Source>>,
) -> Option<OperationInfo> {
    let known = |type_digest: Digest, bundles: &Bundles| -> Vec<Known<'_>> {
        bundles
            .iter()
            .filter_map(|(digest, nodes)| {
                let source = sources.get(digest).filter(|source| source.plugin == name.plugin())?;
                let operation = source.operations.get(name.local())?;
                // A node may claim any type for any bundle; only the one in its WIT is described by it.
                (operation.type_digest == type_digest).then_some(Known {
                    digest: *digest,
                    nodes: *nodes,
                    source,
                    operation,
                })
            })
            .collect()
    };
    let count = |bundles: &Bundles| bundles.values().sum::<u32>();
    let (type_digest, bundles, known) = types
        .iter()
        .map(|(type_digest, bundles)| (*type_digest, bundles, known(*type_digest, bundles)))
        .filter(|(_, _, known)| !known.is_empty())
        .max_by_key(|(digest, bundles, known)| {
            (count(bundles), known.iter().map(|known| known.source.version).max(), Reverse(*digest))
        })?;
    let shown = known.iter().max_by_key(|known| (known.source.version, known.nodes, known.digest))?;
    let policies = || known.iter().map(|known| &known.operation.policy);
    let timeout = policies().map(|policy| policy.timeout).max().unwrap_or(Duration::ZERO);
    Some(OperationInfo {
        name: name.clone(),
        effect: policies().map(|policy| policy.effect).max().unwrap_or(Effect::Destroy),
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        idempotent: policies().all(|policy| policy.idempotent),
        locks: policies()
            .flat_map(|policy| policy.locks.iter().cloned())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        plugin_version: shown.source.version.to_string(),
        plugin_digest: shown.digest,
        type_digest,
        operation: shown.operation.operation.clone(),
        args_schema: schema::of_params(&shown.operation.operation.signature),
        nodes: count(bundles),
        other_types: types
            .iter()
            .filter(|(digest, _)| **digest != type_digest)
            .map(|(digest, bundles)| (*digest, count(bundles)))
            .collect(),
    })
}
