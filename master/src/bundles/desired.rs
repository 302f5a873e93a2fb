//! What goes to each node: the set of plugins it is wanted to run.
//!
//! A set is sent when a session begins and whenever it changes, always the newest one as a whole. It
//! is sent under a lock, so a session never gets an older set after a newer one. A node that an
//! operator has set aside (`maintenance`, `cordoned`) is sent nothing until that is over.

use super::{Bundles, Inner, Model, lock, model::NodeSet};
use crate::fleet::NodeRecord;
use windlass_proto::v1::{Desired, DesiredPlugin, master_message::Kind};
use windlass_types::NodeId;

/// Flags that keep a node as it is.
pub(crate) const HOLDING: [&str; 2] = ["maintenance", "cordoned"];

/// The flag that keeps this node as it is; none if nothing does.
pub(crate) fn held(node: &NodeRecord) -> Option<&'static str> {
    HOLDING.into_iter().find(|flag| node.flags.contains(*flag))
}

impl Bundles {
    /// A node has a new session.
    pub(crate) fn connected(&self, node: NodeId) {
        self.inner.send_set(node);
    }
}

impl Inner {
    /// Send a node its set, unless this session has it already.
    pub fn send_set(&self, node: NodeId) {
        let mut sent = lock(&self.sent);
        let Some(record) = self.fleet.node(node) else {
            sent.remove(&node);
            return;
        };
        let Some(session) = record.presence.live().map(|live| live.session) else {
            sent.remove(&node);
            return;
        };
        if held(&record).is_some() {
            return;
        }
        let model = self.model();
        let Some(set) = model.sets.get(&node).filter(|set| set.revision > 0) else { return };
        if sent.get(&node) == Some(&(session, set.revision)) {
            return;
        }
        let message = Kind::Desired(desired(&model, set));
        // Offline by now: the next session begins with it.
        if self.fleet.send(node, message).is_ok() {
            sent.insert(node, (session, set.revision));
        }
    }
}

fn desired(model: &Model, set: &NodeSet) -> Desired {
    let plugins = set.plugins.iter().filter_map(|(name, assignment)| {
        let stored = model.bundles.get(&assignment.digest?)?;
        Some(DesiredPlugin {
            name: name.to_string(),
            version: stored.version.to_string(),
            digest: stored.digest.to_string(),
            signatures: stored.signatures.iter().map(|signature| signature.to_json().into()).collect(),
            approval_json: model
                .approvals
                .get(name)
                .map(|approved| approved.json.clone())
                .unwrap_or_default(),
            deployment: assignment.deployment.to_string(),
            allow_downgrade: assignment.allow_downgrade,
        })
    });
    Desired { revision: set.revision, plugins: plugins.collect() }
}
