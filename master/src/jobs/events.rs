//! The events of one job, as its watchers see them.
//!
//! Events have numbers without gaps. The newest of them are kept in a ring, bounded by number and
//! bytes; a watcher has a cursor and reads at its own pace. One that falls off the end of the ring,
//! or comes for the first time, gets a snapshot and goes on from there: a slow watcher costs no
//! memory and holds up nobody. Until somebody has watched, nothing is kept at all.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;
use windlass_types::api::{JobEvent, JobEventKind};

/// Events kept for watchers that lag or reconnect.
const KEPT: usize = 1024;
/// Bytes of them; the newest one is kept whatever its size.
const KEPT_BYTES: usize = 4 << 20;

/// The events of one job.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    /// In order, without gaps, up to `newest`.
    kept: VecDeque<Kept>,
    bytes: usize,
    newest: u64,
    watched: bool,
    finished: bool,
}

/// An event as it goes out.
#[derive(Debug, Clone)]
pub struct Kept {
    pub seq: u64,
    /// The JSON of a [`JobEvent`].
    pub json: Arc<str>,
    /// The last one.
    pub last: bool,
}

/// What comes after a cursor.
#[derive(Debug)]
pub enum After {
    /// These, in order; none for now.
    Events(Vec<Kept>),
    /// The cursor is unknown or too old.
    Gone,
}

/// The JSON of an event.
pub fn to_json(seq: u64, kind: JobEventKind) -> Arc<str> {
    serde_json::to_string(&JobEvent { seq, kind }).unwrap_or_default().into()
}

impl Events {
    /// Begin with this number. A job that is loaded again begins with a higher one than it ever
    /// had, so that the cursor of a watcher from before is never taken for a position in here.
    pub fn new(first: u64) -> Self {
        Events {
            ring: Mutex::new(Ring { newest: first, ..Ring::default() }),
            newest: watch::Sender::new(first),
        }
    }

    /// Add an event. It is made only if somebody may see it.
    pub fn push(&self, kind: impl FnOnce() -> JobEventKind) {
        let mut ring = self.lock();
        ring.newest += 1;
        let seq = ring.newest;
        if ring.watched {
            let kind = kind();
            let last = matches!(kind, JobEventKind::Finished { .. });
            let json = to_json(seq, kind);
            ring.bytes += json.len();
            ring.kept.push_back(Kept { seq, json, last });
            while ring.kept.len() > KEPT || (ring.bytes > KEPT_BYTES && ring.kept.len() > 1) {
                let dropped = ring.kept.pop_front();
                ring.bytes -= dropped.map_or(0, |event| event.json.len());
            }
            ring.finished |= last;
        }
        drop(ring);
        self.newest.send_replace(seq);
    }

    /// From now on keep events. Gives back the number of the newest event.
    pub fn watch(&self) -> u64 {
        let mut ring = self.lock();
        ring.watched = true;
        ring.newest
    }

    /// What comes after `cursor`.
    pub fn after(&self, cursor: u64) -> After {
        let ring = self.lock();
        let oldest = ring.kept.front().map_or(ring.newest + 1, |event| event.seq);
        if cursor > ring.newest || cursor + 1 < oldest {
            return After::Gone;
        }
        After::Events(ring.kept.iter().filter(|event| event.seq > cursor).cloned().collect())
    }

    /// Wait until there is something after `cursor`.
    pub async fn changed(&self, cursor: u64) {
        // The sender is ours: it can't be gone.
        let _ = self.newest.subscribe().wait_for(|newest| *newest != cursor).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_types::NodeId;

    fn progress(message: String) -> JobEventKind {
        let name = "n1".parse().unwrap();
        JobEventKind::Progress { node: NodeId::new(), name, message, percent: None }
    }
    fn seqs(after: After) -> Option<Vec<u64>> {
        match after {
            After::Events(events) => Some(events.iter().map(|event| event.seq).collect()),
            After::Gone => None,
        }
    }

    #[test]
    fn a_cursor_is_followed_without_gaps_or_not_at_all() {
        let events = Events::new(1);
        events.push(|| unreachable!("nobody watches"));
        assert_eq!(seqs(events.after(1)), None, "event 2 was not kept");
        let cursor = events.watch();
        assert_eq!(cursor, 2);
        assert_eq!(seqs(events.after(cursor)), Some(vec![]));
        events.push(|| progress("a".into()));
        events.push(|| progress("b".into()));
        assert_eq!(seqs(events.after(cursor)), Some(vec![3, 4]));
        assert_eq!(seqs(events.after(3)), Some(vec![4]));
        assert_eq!(seqs(events.after(99)), None, "a number from another life");
    }

    #[test]
    fn the_ring_is_bounded_by_number_and_by_bytes() {
        let events = Events::new(0);
        events.watch();
        for _ in 0..KEPT + 10 {
            events.push(|| progress(String::new()));
        }
        assert_eq!(seqs(events.after(9)), None);
        assert_eq!(seqs(events.after(10)).map(|seqs| seqs.len()), Some(KEPT));
        events.push(|| progress("x".repeat(KEPT_BYTES)));
        assert_eq!(seqs(events.after(0)), None);
        assert_eq!(seqs(events.after(KEPT as u64 + 10)).map(|seqs| seqs.len()), Some(1));
    }
}
