//! Live sessions: who may have one, and what happens when two want it.
//!
//! A node has one session at most. The certificate says which node, and the generation in it which
//! issue of the certificate:
//!
//! * An older generation than the newest one seen means that somebody kept a copy of an old key or
//!   restored an old disk. Nobody can tell which of the two is the real one, so the node is locked:
//!   it gets the flag `cloned_key`, its session ends, and nobody gets in until an operator removes
//!   the flag.
//! * The same host process that connects again (same instance) replaces its session.
//! * Another process waits while the incumbent is asked for a sign of life. If it answers, the
//!   newcomer is refused and the node gets the flag `duplicate_identity`; the incumbent goes on. If
//!   not, it was a session of a host that died or lost its network, and the newcomer replaces it.
//!
//! A generation counts as seen when a session begins with it, not when it is issued: a host that
//! crashes before it has stored a renewed certificate can go on with the old one.

use super::{
    ChangeKind, FLAG_CLONED, FLAG_DUPLICATE, Fleet, FleetError, Inventory, NodeRecord, Progress, live::Live,
    lock,
};
use crate::{
    ca::{Authority, Issued, Request},
    fleet::EnrollRefused,
    store::{self, StoreError, audit},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use windlass_identity::{CertificateFacts, NodeIdentity, SealingPublic};
use windlass_proto::v1::master_message::Kind;
use windlass_types::{NodeId, NodeName, api::NodeState};

/// An incumbent that has to go gets so long to finish the message it is at.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Why a session (or a renewal) was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionRefused {
    #[error("the certificate names no node of a grid")]
    NoNode,
    #[error(
        "this master does not know node {0}: it was deleted. To join again, remove the certificate on the \
         host and restart it"
    )]
    Unknown(NodeId),
    #[error("node `{name}` is {}: an operator has to delete it before this host can join again", super::state_word(*state))]
    NotAccepted { name: NodeName, state: NodeState },
    #[error(
        "the certificate of node `{name}` has generation {shown}, but generation {seen} has been seen: the key \
         or the disk of the host was copied. The node is locked until an operator removes its flag `cloned_key`"
    )]
    Cloned { name: NodeName, shown: u64, seen: u64 },
    #[error(
        "node `{0}` is locked, since an old certificate of it was seen again: the key or the disk of the host \
         was copied. An operator has to remove its flag `cloned_key`"
    )]
    Locked(NodeName),
    #[error(
        "node `{0}` is connected from another host process that is alive: the key may have been copied. Give \
         each host its own state directory"
    )]
    Duplicate(NodeName),
    #[error("the earlier session of node `{0}` does not end: try again")]
    Stuck(NodeName),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SessionRefused> for Status {
    fn from(refused: SessionRefused) -> Status {
        let message = refused.to_string();
        match refused {
            SessionRefused::NoNode | SessionRefused::Unknown(_) => Status::unauthenticated(message),
            SessionRefused::NotAccepted { .. }
            | SessionRefused::Cloned { .. }
            | SessionRefused::Locked(_) => Status::permission_denied(message),
            SessionRefused::Duplicate(_) => Status::already_exists(message),
            SessionRefused::Stuck(_) => Status::unavailable(message),
            SessionRefused::Store(error) => {
                tracing::error!(%error, "cannot begin a session");
                Status::unavailable("the master cannot reach its database: try again")
            }
        }
    }
}

/// What a host says about itself when it connects.
#[derive(Debug)]
pub(crate) struct Announced {
    pub instance: String,
    pub host_version: Option<String>,
    pub address: String,
    pub facts: Option<BTreeMap<String, Value>>,
    pub inventory: Option<Inventory>,
    pub progress: Option<Progress>,
    /// None: not told. `Some(None)`: the host has none.
    pub sealing_key: Option<Option<SealingPublic>>,
}

/// A session as it begins. Dropping it takes the node offline.
#[derive(Debug)]
pub(crate) struct Session {
    pub fleet: Fleet,
    pub node: Arc<NodeRecord>,
    pub live: Arc<Live>,
    pub messages: Option<mpsc::Receiver<Box<Kind>>>,
    pub ended: Option<oneshot::Receiver<Status>>,
}

impl Session {
    /// The session handles no message any more. Runs `last` if the node has no other session by
    /// now, before it may get another one.
    pub async fn finish(&self, last: impl Future<Output = ()>) {
        self.live.done.cancel();
        let presence = &self.node.presence;
        if presence.is_live(self.live.session) {
            let _guard = presence.attaching.lock().await;
            if presence.clear_live(self.live.session) {
                self.fleet.went_offline(self.node.id);
                last.await;
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Does nothing after `finish`; matters when its task is dropped or panics.
        self.live.done.cancel();
        if self.node.presence.clear_live(self.live.session) {
            self.fleet.went_offline(self.node.id);
        }
    }
}

impl Fleet {
    fn went_offline(&self, node: NodeId) {
        lock(&self.inner.behind).seen.insert(node);
        self.tell_connection(node, false);
        self.publish(node, ChangeKind::Offline);
    }

    /// Whether this certificate may act for its node.
    pub(crate) async fn check(&self, peer: &CertificateFacts) -> Result<Arc<NodeRecord>, SessionRefused> {
        let NodeIdentity { id, generation } = peer.node.ok_or(SessionRefused::NoNode)?;
        let node = self.node(id).ok_or(SessionRefused::Unknown(id))?;
        if node.state != NodeState::Accepted {
            return Err(SessionRefused::NotAccepted { name: node.name.clone(), state: node.state });
        }
        if node.flags.contains(FLAG_CLONED) {
            return Err(SessionRefused::Locked(node.name.clone()));
        }
        if generation < node.seen_generation {
            let (name, seen) = (node.name.clone(), node.seen_generation);
            tracing::warn!(node = %id, %name, shown = generation, seen,
                "an old certificate was seen again: the node is locked");
            self.flag(id, FLAG_CLONED, json!({ "shown": generation, "seen": seen })).await?;
            if let Some(live) = node.presence.live() {
                live.end(SessionRefused::Locked(name.clone()).into());
            }
            return Err(SessionRefused::Cloned { name, shown: generation, seen });
        }
        Ok(node)
    }

    /// Whether this certificate may still act for its node, without any consequence.
    pub(crate) fn may_act(&self, peer: &CertificateFacts) -> bool {
        let Some(NodeIdentity { id, generation }) = peer.node else { return false };
        self.node(id).is_some_and(|node| {
            node.state == NodeState::Accepted
                && !node.flags.contains(FLAG_CLONED)
                && generation >= node.seen_generation
        })
    }

    /// Begin a session. `welcome` makes the first message, once the node's name is known.
    pub(crate) async fn attach(
        &self,
        peer: &CertificateFacts,
        announced: Announced,
        probe: Duration,
        welcome: impl FnOnce(&NodeRecord) -> Kind,
    ) -> Result<Session, SessionRefused> {
        let presence = self.check(peer).await?.presence.clone();
        let _guard = presence.attaching.lock().await;
        // Things may have changed while another newcomer was being looked at.
        let node = self.check(peer).await?;
        if let Some(incumbent) = presence.live()
            && incumbent.instance != announced.instance
            && incumbent.probe(probe).await
        {
            tracing::warn!(node = %node.id, name = %node.name, address = %announced.address,
                "a second host with the same certificate wants in");
            self.flag(node.id, FLAG_DUPLICATE, json!({ "address": announced.address })).await?;
            return Err(SessionRefused::Duplicate(node.name.clone()));
        }
        self.see(&node, peer).await?;
        let (live, messages, ended) = Live::new(announced.instance.clone());
        self.observe(node.id, announced);
        let node = self.node(node.id).ok_or(SessionRefused::Unknown(node.id))?;
        let session =
            Session { fleet: self.clone(), node, live, messages: Some(messages), ended: Some(ended) };
        // The queue is empty: the first message always fits.
        let _ = session.live.outgoing.try_send(Box::new(welcome(&session.node)));
        presence.seen();
        if let Some(incumbent) = presence.set_live(session.live.clone()) {
            incumbent.end(Status::aborted("replaced by a newer session of the same node"));
            if tokio::time::timeout(HAND_OVER, incumbent.done.cancelled()).await.is_err() {
                session.live.end(SessionRefused::Stuck(session.node.name.clone()).into());
            }
        }
        // Whoever revoked or locked the node since the check has found no session to end. It is
        // ended as a session, since it may have taken the place of one.
        if let Err(refused) = self.check(peer).await {
            session.live.end(refused.into());
        }
        self.tell_connection(session.node.id, true);
        self.publish(session.node.id, ChangeKind::Online);
        Ok(session)
    }

    /// Note a new generation, and the key it was issued for.
    async fn see(&self, node: &NodeRecord, peer: &CertificateFacts) -> Result<(), SessionRefused> {
        let Some(NodeIdentity { generation, .. }) = peer.node else { return Err(SessionRefused::NoNode) };
        if generation == node.seen_generation && peer.fingerprint == node.fingerprint {
            return Ok(());
        }
        // The issue of another certificate at the same time must not be written over.
        let Ok((node, _guard)) = self.lock_node(node.id).await else {
            return Err(SessionRefused::Unknown(node.id));
        };
        let mut seen = NodeRecord::clone(&node);
        seen.seen_generation = generation;
        // More than we issued: the database is an older copy. The signature is ours, so it was us.
        seen.issued_generation = seen.issued_generation.max(generation);
        seen.fingerprint = peer.fingerprint;
        seen.certificate_serial = Some(peer.serial.to_string());
        seen.certificate_expires_ms = Some(peer.not_after_ms);
        let row = seen.clone();
        self.inner
            .store
            .write::<_, StoreError, _>(move |c| Box::pin(async move { store::nodes::seen(c, &row).await }))
            .await?;
        self.update(node.id, |node| {
            node.seen_generation = seen.seen_generation;
            node.issued_generation = node.issued_generation.max(generation);
            node.fingerprint = seen.fingerprint;
            node.certificate_serial = seen.certificate_serial;
            node.certificate_expires_ms = seen.certificate_expires_ms;
        });
        Ok(())
    }

    /// Take what a host says about itself.
    pub(crate) fn observe(&self, id: NodeId, announced: Announced) {
        let Announced { host_version, address, facts, inventory, progress, sealing_key, .. } = announced;
        let inventory = inventory.and_then(|inventory| {
            self.share(inventory)
                .inspect_err(|error| tracing::error!(%error, node = %id, "cannot keep an inventory"))
                .ok()
        });
        let Some(node) = self.node(id) else { return };
        let facts = facts.filter(|facts| *facts != *node.facts);
        let inventory = inventory.filter(|inventory| !Arc::ptr_eq(inventory, &node.inventory));
        let progress = progress.filter(|progress| *progress != *node.progress);
        let sealing_key = sealing_key.filter(|key| key.as_ref() != node.sealing_key.as_deref());
        let same_version = host_version.is_none() || host_version == node.host_version;
        if facts.is_none()
            && inventory.is_none()
            && progress.is_none()
            && sealing_key.is_none()
            && same_version
            && node.address.as_deref() == Some(address.as_str())
        {
            return;
        }
        let (new_facts, new_inventory) = (facts.is_some(), inventory.is_some());
        let new_progress = progress.is_some();
        self.update(id, |node| {
            if let Some(facts) = facts {
                node.facts = Arc::new(facts);
            }
            if let Some(inventory) = inventory {
                node.inventory = inventory;
            }
            if let Some(progress) = progress {
                node.progress = Arc::new(progress);
            }
            if let Some(key) = sealing_key {
                node.sealing_key = key.map(Arc::new);
            }
            if host_version.is_some() {
                node.host_version = host_version;
            }
            node.address = Some(address);
        });
        if new_inventory {
            self.offers_changed();
        }
        if new_facts || new_inventory || !same_version {
            lock(&self.inner.behind).observed.insert(id);
        }
        if new_facts || new_inventory || new_progress || !same_version {
            self.publish(id, ChangeKind::Data);
        }
    }

    /// Set a flag on behalf of the system. None when the node is gone.
    async fn flag(
        &self,
        id: NodeId,
        flag: &'static str,
        detail: Value,
    ) -> Result<Option<Arc<NodeRecord>>, StoreError> {
        let Ok((node, _guard)) = self.lock_node(id).await else { return Ok(None) };
        if node.flags.contains(flag) {
            return Ok(Some(node));
        }
        let mut flagged = NodeRecord::clone(&node);
        Arc::make_mut(&mut flagged.flags).insert(flag.to_owned());
        let entry = audit::NewEntry {
            actor: "system".into(),
            action: "node.flag",
            subject: id.to_string(),
            detail: json!({ "flag": flag, "name": node.name, "cause": detail }),
            allowed: true,
        };
        match self.save(flagged, ChangeKind::Data, Some(entry)).await {
            Ok(node) => Ok(Some(node)),
            Err(FleetError::Store(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The next certificate for a node that shows a valid one.
    pub(crate) async fn renew(
        &self,
        authority: &Authority,
        peer: &CertificateFacts,
        request: Request,
        ttl: Duration,
    ) -> Result<Issued, RenewRefused> {
        let id = self.check(peer).await?.id;
        let (node, _guard) = self.lock_node(id).await.map_err(EnrollRefused::from)?;
        if self.by_key(request.fingerprint()).is_some_and(|other| other.id != id) {
            return Err(RenewRefused::KeyTaken);
        }
        let (_, issued) = self.issue(authority, &node, request, ttl).await?;
        Ok(issued)
    }
}

/// Why a renewal was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewRefused {
    #[error(transparent)]
    Session(#[from] SessionRefused),
    #[error(transparent)]
    Enroll(#[from] EnrollRefused),
    #[error("the key belongs to another node")]
    KeyTaken,
}
