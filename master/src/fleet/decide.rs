//! What operators decide about nodes.

use super::{ChangeKind, Fleet, FleetError, NodeRecord, told};
use crate::store::{self, StoreError, audit, events::NewEvent};
use serde_json::json;
use std::sync::Arc;
use windlass_types::{
    NodeId, NodeName,
    api::{AcceptNode, ChangeNode, NodeState},
};

const MAX_LABELS: usize = 64;
const MAX_FLAGS: usize = 32;
const MAX_NAME: usize = 63;
const MAX_VALUE: usize = 255;

impl Fleet {
    /// Let a pending (or rejected) node in.
    ///
    /// # Errors
    /// If it is neither, its fingerprint is another one, or the name is taken.
    pub async fn accept(&self, node: NodeId, how: &AcceptNode) -> Result<Arc<NodeRecord>, FleetError> {
        let (record, _guard) = self.lock_node(node).await?;
        if !matches!(record.state, NodeState::Pending | NodeState::Rejected) {
            return Err(wrong_state(&record, "pending"));
        }
        if let Some(given) = how.fingerprint.filter(|given| *given != record.fingerprint) {
            return Err(FleetError::WrongFingerprint {
                name: record.name.clone(),
                actual: record.fingerprint,
                given,
            });
        }
        let mut accepted = NodeRecord::clone(&record);
        accepted.state = NodeState::Accepted;
        if let Some(name) = &how.name {
            accepted.name = name.clone();
        }
        self.check_name(&accepted.name, node)?;
        self.save(accepted, ChangeKind::State, None).await
    }

    /// Turn a pending node away.
    ///
    /// # Errors
    /// If it is not pending.
    pub async fn reject(&self, node: NodeId) -> Result<Arc<NodeRecord>, FleetError> {
        self.set_state(node, NodeState::Pending, NodeState::Rejected).await
    }

    /// Take an accepted node out: its certificate no longer counts, its session ends at once.
    ///
    /// # Errors
    /// If it is not accepted.
    pub async fn revoke(&self, node: NodeId) -> Result<Arc<NodeRecord>, FleetError> {
        let record = self.set_state(node, NodeState::Accepted, NodeState::Revoked).await?;
        if let Some(live) = record.presence.live() {
            live.end(tonic::Status::permission_denied(format!(
                "node `{}` was revoked by an operator",
                record.name
            )));
        }
        Ok(record)
    }

    /// Forget a node. Its session ends at once, its certificate no longer counts, its id is never
    /// used again.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete(&self, node: NodeId) -> Result<(), FleetError> {
        let (record, _guard) = self.lock_node(node).await?;
        let event = NewEvent::of_node("node.deleted", node, &record.name, json!({}));
        let done: Result<(), StoreError> = self
            .inner
            .store
            .write(move |c| {
                Box::pin(async move {
                    store::nodes::delete(c, node).await?;
                    store::events::append(c, &[event]).await
                })
            })
            .await;
        done?;
        self.change_records(|records| records.remove(node));
        if let Some(live) = record.presence.live() {
            live.end(tonic::Status::unauthenticated(format!(
                "node `{}` was deleted by an operator",
                record.name
            )));
        }
        record.presence.decided.notify_waiters();
        self.offers_changed();
        self.publish(node, ChangeKind::Deleted);
        Ok(())
    }

    /// Set and remove labels and flags.
    ///
    /// # Errors
    /// If a label or flag is no good.
    pub async fn change(&self, node: NodeId, change: &ChangeNode) -> Result<Arc<NodeRecord>, FleetError> {
        let (record, _guard) = self.lock_node(node).await?;
        let mut changed = NodeRecord::clone(&record);
        let labels = Arc::make_mut(&mut changed.labels);
        for (name, value) in &change.labels {
            check_label(name, value.as_deref().unwrap_or_default())?;
            match value {
                Some(value) => drop(labels.insert(name.clone(), value.clone())),
                None => drop(labels.remove(name)),
            }
        }
        let flags = Arc::make_mut(&mut changed.flags);
        for (name, set) in &change.flags {
            check_word("flag", name)?;
            if *set {
                flags.insert(name.clone());
            } else {
                flags.remove(name);
            }
        }
        if changed.labels.len() > MAX_LABELS || changed.flags.len() > MAX_FLAGS {
            return Err(FleetError::BadChange(format!(
                "a node has {MAX_LABELS} labels and {MAX_FLAGS} flags at most"
            )));
        }
        self.save(changed, ChangeKind::Data, None).await
    }

    async fn set_state(
        &self,
        node: NodeId,
        from: NodeState,
        to: NodeState,
    ) -> Result<Arc<NodeRecord>, FleetError> {
        let (record, _guard) = self.lock_node(node).await?;
        if record.state != from {
            return Err(wrong_state(&record, super::state_word(from)));
        }
        let changed = NodeRecord { state: to, ..NodeRecord::clone(&record) };
        self.save(changed, ChangeKind::State, None).await
    }

    pub(super) fn check_name(&self, name: &NodeName, node: NodeId) -> Result<(), FleetError> {
        match self.accepted(name).filter(|taken| taken.id != node) {
            Some(taken) => Err(FleetError::NameTaken { name: name.clone(), by: taken.id }),
            None => Ok(()),
        }
    }

    /// Commit and publish what was decided. The caller holds the lock of the node. What operators
    /// do is in the audit log already; `entry` is for what the system does by itself.
    pub(super) async fn save(
        &self,
        changed: NodeRecord,
        kind: ChangeKind,
        entry: Option<audit::NewEntry>,
    ) -> Result<Arc<NodeRecord>, FleetError> {
        let row = changed.clone();
        let event: Vec<NewEvent> =
            told::decided(self.node(changed.id).as_deref(), &changed).into_iter().collect();
        let saved: Result<(), StoreError> = self
            .inner
            .store
            .write(move |c| {
                Box::pin(async move {
                    if let Some(entry) = entry {
                        audit::append(c, &entry).await?;
                    }
                    store::nodes::decide(c, &row).await?;
                    store::events::append(c, &event).await
                })
            })
            .await;
        match saved {
            // Somebody else took the name since it was checked.
            Err(error) if error.is_unique_violation() => {
                self.check_name(&changed.name, changed.id)?;
                return Err(error.into());
            }
            other => other?,
        }
        let NodeRecord { id, name, state, labels, flags, .. } = changed;
        let record = self
            .update(id, |record| {
                record.name = name;
                record.state = state;
                record.labels = labels;
                record.flags = flags;
            })
            .ok_or_else(|| FleetError::UnknownNode { node: id.to_string() })?;
        if kind == ChangeKind::State {
            self.offers_changed();
            record.presence.decided.notify_waiters();
        }
        self.publish(id, kind);
        Ok(record)
    }
}

fn wrong_state(record: &NodeRecord, expected: &'static str) -> FleetError {
    FleetError::WrongState { name: record.name.clone(), state: record.state, expected }
}

/// Names of labels and flags are words that need no quotes in a shell or in CEL.
fn check_word(kind: &str, word: &str) -> Result<(), FleetError> {
    let valid = word.len() <= MAX_NAME
        && word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/'));
    if valid {
        return Ok(());
    }
    let shown: String = word.chars().take(80).collect();
    Err(FleetError::BadChange(format!(
        "`{shown}` is not a {kind}: expected a letter, then letters, digits, `_`, `-`, `.` or `/`, \
         {MAX_NAME} characters at most"
    )))
}

/// Check a label.
pub(super) fn check_label(name: &str, value: &str) -> Result<(), FleetError> {
    check_word("label", name)?;
    if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
        return Err(FleetError::BadChange(format!(
            "the value of label `{name}` is longer than {MAX_VALUE} bytes or holds control characters"
        )));
    }
    Ok(())
}
