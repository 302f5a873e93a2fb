//! What the event log is told about nodes.

use super::{Fleet, NodeRecord, lock, state_word};
use crate::store::{self, StoreError, events::NewEvent};
use serde_json::{Map, Value, json};
use windlass_types::{NodeId, api::NodeState};

/// Connections that are not in the log yet, at most. Each node that comes and goes is written within a
/// second, so only a database that stands still makes it come to that.
const MOST: usize = 50_000;

/// Connections that are not in the log yet.
#[derive(Debug, Default)]
pub(super) struct Connections {
    events: Vec<NewEvent>,
    /// How many there was no room for.
    lost: u64,
}

impl Connections {
    fn push(&mut self, event: NewEvent) {
        if self.events.len() < MOST {
            self.events.push(event);
        } else {
            self.lost += 1;
        }
    }
}

impl Fleet {
    /// A session began or ended. The log has it with the next [`Fleet::flush`].
    pub(super) fn tell_connection(&self, id: NodeId, connected: bool) {
        let Some(node) = self.node(id) else { return };
        let event = match connected {
            true => NewEvent::of_node(
                "node.connected",
                id,
                &node.name,
                json!({ "address": node.address, "host_version": node.host_version }),
            ),
            false => NewEvent::of_node("node.disconnected", id, &node.name, json!({})),
        };
        lock(&self.inner.behind).connections.push(event);
    }

    /// Write what the log does not have yet.
    pub(super) async fn write_connections(&self, connections: Connections) {
        let Connections { events, lost } = connections;
        if lost > 0 {
            tracing::error!(lost, "too many connections at once for the event log");
        }
        for batch in events.chunks(super::BATCH) {
            let batch = batch.to_vec();
            let written = self.inner.store.write::<(), StoreError, _>(move |c| {
                Box::pin(async move { store::events::append(c, &batch).await })
            });
            if let Err(error) = written.await {
                tracing::error!(%error, "cannot write who came and went to the event log");
            }
        }
    }
}

/// What was decided about a node: none when nothing is another than before.
pub(super) fn decided(before: Option<&NodeRecord>, after: &NodeRecord) -> Option<NewEvent> {
    let event = |kind, data| Some(NewEvent::of_node(kind, after.id, &after.name, data));
    if before.map(|before| before.state) != Some(after.state) {
        let kind = match after.state {
            NodeState::Pending => "node.pending",
            NodeState::Accepted => "node.accepted",
            NodeState::Rejected => "node.rejected",
            NodeState::Revoked => "node.revoked",
        };
        return event(
            kind,
            json!({ "fingerprint": after.fingerprint, "before": before.map(|before| state_word(before.state)) }),
        );
    }
    let before = before?;
    let mut labels = Map::new();
    for (name, value) in after.labels.iter().filter(|(name, value)| before.labels.get(*name) != Some(*value))
    {
        labels.insert(name.clone(), json!(value));
    }
    for name in before.labels.keys().filter(|name| !after.labels.contains_key(*name)) {
        labels.insert(name.clone(), Value::Null);
    }
    let mut flags = Map::new();
    for flag in after.flags.symmetric_difference(&before.flags) {
        flags.insert(flag.clone(), after.flags.contains(flag).into());
    }
    if labels.is_empty() && flags.is_empty() {
        return None;
    }
    // As in the request that changes a node: null for a label that is gone, false for a flag.
    event("node.changed", json!({ "labels": labels, "flags": flags }))
}
