//! Presence: the live session of a node, and when it was last heard of.

use std::sync::{
    Mutex,
    atomic::{AtomicI64, AtomicU64, Ordering},
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use windlass_proto::v1::master_message::Kind;

/// Whether and when a node was there.
#[derive(Debug, Default)]
pub struct Presence {
    last_seen_ms: AtomicI64,
    live: Mutex<Option<std::sync::Arc<Live>>>,
    /// One newcomer at a time asks whether the incumbent still lives.
    pub(crate) attaching: tokio::sync::Mutex<()>,
    /// Woken when an operator or a token decided about the node.
    pub(crate) decided: Notify,
}

/// The live session of a node.
#[derive(Debug)]
pub(crate) struct Live {
    /// Tells sessions of one node apart.
    pub session: u64,
    /// Of the host process.
    pub instance: String,
    pub outgoing: mpsc::Sender<Box<Kind>>,
    /// Ends the session, with what to tell the host.
    pub end: Mutex<Option<oneshot::Sender<tonic::Status>>>,
    /// Sequence of our heartbeats.
    pub sequence: AtomicU64,
    /// The newest of them that the host has answered.
    pub answered: watch::Sender<u64>,
}

impl Presence {
    pub(crate) fn new(last_seen_ms: Option<i64>) -> Self {
        Presence { last_seen_ms: AtomicI64::new(last_seen_ms.unwrap_or(0)), ..Default::default() }
    }
    /// True while it has a live session.
    pub fn online(&self) -> bool {
        self.live().is_some()
    }
    /// When it was last heard of.
    pub fn last_seen_ms(&self) -> Option<i64> {
        Some(self.last_seen_ms.load(Ordering::Relaxed)).filter(|ms| *ms != 0)
    }
    pub(crate) fn seen(&self) {
        self.last_seen_ms.store(crate::now_ms(), Ordering::Relaxed);
    }
    pub(crate) fn live(&self) -> Option<std::sync::Arc<Live>> {
        self.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
    pub(crate) fn set_live(&self, live: Option<std::sync::Arc<Live>>) -> Option<std::sync::Arc<Live>> {
        std::mem::replace(&mut *self.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner), live)
    }
}
