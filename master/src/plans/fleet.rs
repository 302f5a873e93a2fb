//! What a plan rests on, of what is known about nodes.
//!
//! Which node each of its names means, whether it is accepted, its flags and its labels: labels say which
//! zone it is in, and who may do what there. Other nodes don't matter. Whether a node is there is not part of
//! it, but a plan is applied only where all are.

use crate::{fleet::NodeRecord, jobs::Jobs};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use windlass_types::{Digest, NodeId, NodeName, api::NodeState};

/// What a plan rests on, by the names of its nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts(pub BTreeMap<NodeName, NodeFacts>);

/// What it rests on of one node, which was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeFacts {
    pub id: NodeId,
    pub flags: BTreeSet<String>,
    pub labels: BTreeMap<String, String>,
}

/// The accepted nodes by name.
pub(super) fn accepted(jobs: &Jobs) -> HashMap<NodeName, Arc<NodeRecord>> {
    let nodes = jobs.all_records();
    let accepted = nodes.iter().filter(|node| node.state == NodeState::Accepted);
    accepted.map(|node| (node.name.clone(), node.clone())).collect()
}

impl Facts {
    /// Of these nodes.
    pub fn of<'a>(nodes: impl Iterator<Item = &'a Arc<NodeRecord>>) -> Self {
        let facts = |node: &Arc<NodeRecord>| NodeFacts {
            id: node.id,
            flags: BTreeSet::clone(&node.flags),
            labels: BTreeMap::clone(&node.labels),
        };
        Facts(nodes.map(|node| (node.name.clone(), facts(node))).collect())
    }

    /// A digest over all of it.
    pub fn version(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// What is not so any more, in words.
    pub fn moved(&self, jobs: &Jobs) -> Vec<String> {
        let nodes = accepted(jobs);
        let mut moved = Vec::new();
        for (name, then) in &self.0 {
            let Some(node) = nodes.get(name) else {
                moved.push(format!("node {name} is not accepted any more"));
                continue;
            };
            if node.id != then.id {
                moved.push(format!("node {name} is another one"));
                continue;
            }
            for flag in node.flags.difference(&then.flags) {
                moved.push(format!("node {name} has the flag `{flag}`"));
            }
            for flag in then.flags.difference(&node.flags) {
                moved.push(format!("node {name} has the flag `{flag}` no more"));
            }
            let keys: BTreeSet<&String> = node.labels.keys().chain(then.labels.keys()).collect();
            for key in keys {
                match (then.labels.get(key), node.labels.get(key)) {
                    (before, now) if before == now => {}
                    (_, Some(now)) => moved.push(format!("node {name} has the label {key}={now}")),
                    (_, None) => moved.push(format!("node {name} has the label `{key}` no more")),
                }
            }
            if !jobs.online(node.id) {
                moved.push(format!("node {name} is not connected"));
            }
        }
        moved
    }
}
