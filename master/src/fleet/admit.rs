//! What new nodes ask for.
//!
//! A node is known by its key from its first request on, so asking again changes nothing: a lost
//! reply is simply asked for again. The same key gets a certificate again too, with the next
//! generation, since it has just proved that it holds the key. Whoever has copied a key could do
//! that as well; what they can't do is stay unseen. While the node is connected the request is
//! refused. If the copy asks while the node is away and connects, its generation is the newer one,
//! and the real node is then seen with an older one, which locks both out until an operator looks.

use super::{ChangeKind, Fleet, FleetError, NodeRecord, Presence, decide::check_label, told};
use crate::{
    ca::{Authority, CaError, Issued, Request},
    store::{self, StoreError, audit, events::NewEvent},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use windlass_identity::NodeIdentity;
use windlass_types::{
    Fingerprint, NodeId, NodeName,
    api::{JoinToken, NodeState},
};

/// A pending node that has not asked for so long may be dropped when the list is full.
const STALE_MS: i64 = 600_000;

/// What a host asks for.
#[derive(Debug)]
pub(crate) struct Ask {
    pub fingerprint: Fingerprint,
    pub name: NodeName,
    pub join_token: Option<String>,
    pub facts: BTreeMap<String, Value>,
    pub host_version: Option<String>,
    pub address: String,
}

/// Where a node stands after its request.
#[derive(Debug)]
pub(crate) struct Admission {
    pub node: Arc<NodeRecord>,
    /// The name it asks for belongs to another node.
    pub name_taken: bool,
    /// It has used a join token up.
    pub joined: bool,
}

/// Why a request was turned away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollRefused {
    #[error("the join token is unknown, used up or expired: ask an operator for a new one")]
    BadToken,
    #[error(
        "too many nodes wait for a decision: ask an operator to accept or delete some, or for a join token"
    )]
    TooManyPending,
    #[error(
        "node `{0}` is connected at this moment, and another host with the same key asks for a certificate: \
         give this host its own key, or stop the other one"
    )]
    Connected(NodeName),
    #[error(
        "node `{0}` is locked, since an old certificate of it was seen again: an operator has to remove its \
         flag `cloned_key`"
    )]
    Locked(NodeName),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Authority(#[from] CaError),
}

impl From<StoreError> for EnrollRefused {
    fn from(error: StoreError) -> Self {
        EnrollRefused::Fleet(error.into())
    }
}

impl Fleet {
    /// The node with this key.
    pub(crate) fn by_key(&self, key: Fingerprint) -> Option<Arc<NodeRecord>> {
        self.read().by_key(key).cloned()
    }

    /// Take in a request. A new key becomes a pending node, or an accepted one with a join token.
    pub(crate) async fn admit(&self, ask: Ask, max_pending: usize) -> Result<Admission, EnrollRefused> {
        let _guard = self.lock_key(ask.fingerprint).await;
        let known = self.by_key(ask.fingerprint);
        if let Some(node) = &known {
            node.presence.seen();
            if node.state != NodeState::Pending {
                return Ok(Admission { node: node.clone(), name_taken: false, joined: false });
            }
        }
        let token = match &ask.join_token {
            Some(text) => Some(self.check_join_token(text).await?.ok_or(EnrollRefused::BadToken)?),
            None => None,
        };
        let id = known.as_ref().map_or_else(NodeId::new, |node| node.id);
        let name_taken = self.check_name(&ask.name, id).is_err();
        let mut record = known.as_deref().cloned().unwrap_or_else(|| NodeRecord {
            id,
            name: ask.name.clone(),
            state: NodeState::Pending,
            fingerprint: ask.fingerprint,
            issued_generation: 0,
            seen_generation: 0,
            certificate_serial: None,
            certificate_expires_ms: None,
            labels: Arc::default(),
            flags: Arc::default(),
            facts: Arc::default(),
            inventory: Arc::default(),
            progress: Arc::default(),
            sealing_key: None,
            host_version: None,
            address: None,
            created_ms: crate::now_ms(),
            presence: Arc::new(Presence::new(Some(crate::now_ms()))),
        });
        record.name = ask.name;
        record.facts = Arc::new(ask.facts);
        record.host_version = ask.host_version;
        record.address = Some(ask.address);
        // With the name taken, the token stays unused and an operator has to find another name.
        let token = token.filter(|_| !name_taken);
        if let Some(token) = &token {
            record.state = NodeState::Accepted;
            for (name, value) in &token.labels {
                check_label(name, value)?;
            }
            record.labels = Arc::new(token.labels.clone());
        } else if known.is_none() {
            self.make_room(max_pending).await?;
        }
        if !self.write_admitted(&record, known.as_deref(), token).await? {
            return Err(EnrollRefused::BadToken);
        }
        let (state, fresh) = (record.state, known.is_none());
        let node = self.change_records(|records| records.put(record));
        if state == NodeState::Accepted {
            self.offers_changed();
            node.presence.decided.notify_waiters();
            self.publish(node.id, ChangeKind::State);
        } else if fresh {
            tracing::info!(node = %node.id, name = %node.name, key = %node.fingerprint, "a node asks to join");
            self.publish(node.id, ChangeKind::Pending);
        }
        Ok(Admission { node, name_taken, joined: state == NodeState::Accepted })
    }

    /// False when the token was used by somebody else since it was checked.
    async fn write_admitted(
        &self,
        record: &NodeRecord,
        known: Option<&NodeRecord>,
        token: Option<JoinToken>,
    ) -> Result<bool, StoreError> {
        let (row, fresh) = (record.clone(), known.is_none());
        let event: Vec<NewEvent> = told::decided(known, record).into_iter().collect();
        self.inner
            .store
            .write(move |c| {
                Box::pin(async move {
                    if let Some(token) = token {
                        if !store::nodes::consume_join_token(c, &token.id, row.id, crate::now_ms()).await? {
                            return Ok(false);
                        }
                        let entry = audit::NewEntry {
                            actor: "system".into(),
                            action: "node.join",
                            subject: row.id.to_string(),
                            detail: json!({
                                "name": row.name, "fingerprint": row.fingerprint, "join_token": token.id,
                            }),
                            allowed: true,
                        };
                        audit::append(c, &entry).await?;
                    }
                    if fresh {
                        store::nodes::insert(c, &row).await?;
                    } else {
                        store::nodes::decide(c, &row).await?;
                        store::nodes::observed(c, &row).await?;
                    }
                    store::events::append(c, &event).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// When too many wait, forget the one that has not asked for the longest time.
    async fn make_room(&self, max_pending: usize) -> Result<(), EnrollRefused> {
        let stale = {
            let records = self.read();
            if records.pending() < max_pending {
                return Ok(());
            }
            records
                .all()
                .filter(|node| node.state == NodeState::Pending)
                .min_by_key(|node| node.last_seen_ms())
                .filter(|node| node.last_seen_ms().unwrap_or(0) < crate::now_ms() - STALE_MS)
                .cloned()
        };
        let stale = stale.ok_or(EnrollRefused::TooManyPending)?;
        let id = stale.id;
        let reason = json!({ "reason": "others wait, and it did not ask again" });
        let event = NewEvent::of_node("node.deleted", id, &stale.name, reason);
        self.inner
            .store
            .write::<(), StoreError, _>(move |c| {
                Box::pin(async move {
                    store::nodes::delete(c, id).await?;
                    store::events::append(c, &[event]).await
                })
            })
            .await?;
        self.change_records(|records| records.remove(id));
        self.publish(id, ChangeKind::Deleted);
        Ok(())
    }

    /// A certificate for an accepted node that asks at the enrolment service.
    pub(crate) async fn issue_first(
        &self,
        authority: &Authority,
        node: NodeId,
        request: Request,
        ttl: Duration,
    ) -> Result<(Arc<NodeRecord>, Issued), EnrollRefused> {
        let (record, _guard) = self.lock_node(node).await?;
        if record.flags.contains(super::FLAG_CLONED) {
            return Err(EnrollRefused::Locked(record.name.clone()));
        }
        if record.online() {
            return Err(EnrollRefused::Connected(record.name.clone()));
        }
        self.issue(authority, &record, request, ttl).await
    }

    /// The next certificate for a node, for the key of the request. The caller holds its lock.
    pub(super) async fn issue(
        &self,
        authority: &Authority,
        record: &NodeRecord,
        request: Request,
        ttl: Duration,
    ) -> Result<(Arc<NodeRecord>, Issued), EnrollRefused> {
        if record.state != NodeState::Accepted {
            let (name, state) = (record.name.clone(), record.state);
            return Err(FleetError::WrongState { name, state, expected: "accepted" }.into());
        }
        let generation = record.issued_generation + 1;
        let issued =
            authority.sign_node(request, NodeIdentity { id: record.id, generation }, &record.name, ttl)?;
        let mut row = record.clone();
        row.issued_generation = generation;
        row.certificate_serial = Some(issued.serial.to_string());
        row.certificate_expires_ms = Some(issued.expires_ms);
        let written = row.clone();
        // Committed before it leaves: no generation is ever given out twice.
        self.inner
            .store
            .write::<_, StoreError, _>(move |c| {
                Box::pin(async move { store::nodes::issued(c, &written).await })
            })
            .await?;
        let node = self
            .update(record.id, |node| {
                node.issued_generation = row.issued_generation;
                node.certificate_serial = row.certificate_serial;
                node.certificate_expires_ms = row.certificate_expires_ms;
            })
            .ok_or_else(|| FleetError::UnknownNode { node: record.id.to_string() })?;
        Ok((node, issued))
    }
}
