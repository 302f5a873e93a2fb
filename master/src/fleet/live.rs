//! Presence: the live session of a node, and when it was last heard of.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use windlass_proto::v1::{Heartbeat, master_message::Kind};

/// Messages that wait for one host. A host that does not take so many is as good as gone: its
/// session is ended, and what was meant for it waits for the next one.
pub(crate) const OUTGOING: usize = 256;

/// Whether and when a node was there.
#[derive(Debug, Default)]
pub struct Presence {
    last_seen_ms: AtomicI64,
    live: Mutex<Option<Arc<Live>>>,
    /// Held while the live session is put in or taken out, so that the jobs hear of sessions one
    /// after the other.
    pub(crate) attaching: tokio::sync::Mutex<()>,
    /// Woken when somebody decided about the node.
    pub(crate) decided: Notify,
}

/// The live session of a node.
#[derive(Debug)]
pub(crate) struct Live {
    /// Tells sessions apart.
    pub session: u64,
    /// Of the host process.
    pub instance: String,
    pub outgoing: mpsc::Sender<Box<Kind>>,
    /// Ends the session, with what to tell the host.
    end: Mutex<Option<oneshot::Sender<tonic::Status>>>,
    /// Sequence of our heartbeats.
    sequence: AtomicU64,
    /// The newest of them that the host has answered.
    answered: watch::Sender<u64>,
    /// Cancelled when the session handles no message any more.
    pub done: CancellationToken,
}

impl Live {
    pub fn new(instance: String) -> (Arc<Self>, mpsc::Receiver<Box<Kind>>, oneshot::Receiver<tonic::Status>) {
        static SESSIONS: AtomicU64 = AtomicU64::new(1);
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        let (end, ended) = oneshot::channel();
        let live = Live {
            session: SESSIONS.fetch_add(1, Ordering::Relaxed),
            instance,
            outgoing,
            end: Mutex::new(Some(end)),
            sequence: AtomicU64::new(0),
            answered: watch::Sender::new(0),
            done: CancellationToken::new(),
        };
        (Arc::new(live), messages, ended)
    }

    /// End the session. The first reason counts.
    pub fn end(&self, why: tonic::Status) {
        if let Some(end) = self.end.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error means that it has ended by itself.
            let _ = end.send(why);
        }
    }

    /// Send a heartbeat. False when the queue is full.
    pub fn beat(&self) -> Option<u64> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let heartbeat = Kind::Heartbeat(Heartbeat { sequence, answers: 0, running_jobs: 0 });
        self.outgoing.try_send(Box::new(heartbeat)).ok().map(|()| sequence)
    }

    /// The host answered our heartbeats up to this one.
    pub fn answer(&self, sequence: u64) {
        self.answered.send_if_modified(|newest| {
            let newer = sequence > *newest;
            *newest = sequence.max(*newest);
            newer
        });
    }

    /// Ask whether the host still lives.
    pub async fn probe(&self, limit: std::time::Duration) -> bool {
        let Some(sequence) = self.beat() else { return false };
        let mut answers = self.answered.subscribe();
        tokio::select! {
            () = self.done.cancelled() => false,
            answered = tokio::time::timeout(limit, answers.wait_for(|answer| *answer >= sequence)) => {
                matches!(answered, Ok(Ok(_)))
            }
        }
    }
}

impl Presence {
    pub(crate) fn new(last_seen_ms: Option<i64>) -> Self {
        Presence { last_seen_ms: AtomicI64::new(last_seen_ms.unwrap_or(0)), ..Default::default() }
    }
    /// True while it has a live session.
    pub fn online(&self) -> bool {
        self.lock().is_some()
    }
    /// When it was last heard of.
    pub fn last_seen_ms(&self) -> Option<i64> {
        Some(self.last_seen_ms.load(Ordering::Relaxed)).filter(|ms| *ms != 0)
    }
    pub(crate) fn seen(&self) {
        self.last_seen_ms.store(crate::now_ms(), Ordering::Relaxed);
    }
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.lock().clone()
    }
    pub(crate) fn is_live(&self, session: u64) -> bool {
        self.lock().as_ref().is_some_and(|live| live.session == session)
    }
    pub(crate) fn set_live(&self, live: Arc<Live>) -> Option<Arc<Live>> {
        self.lock().replace(live)
    }
    /// Take the session out, if it is still this one.
    pub(crate) fn clear_live(&self, session: u64) -> bool {
        let mut live = self.lock();
        let same = live.as_ref().is_some_and(|live| live.session == session);
        if same {
            *live = None;
        }
        same
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
