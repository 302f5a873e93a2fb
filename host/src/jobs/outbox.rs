//! What waits to be said to the master.
//!
//! Jobs speak at any time; the session writes when the network takes it. Between them is this box. It
//! is bounded by merging instead of by blocking jobs: for each request at most one `Accepted`, one
//! `Started`, the *latest* progress, and one result wait, and results lie in the journal, not here. While
//! there is no session the box takes nothing: the lists in `Hello` and the journal hold all that counts.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use windlass_proto::v1;
use windlass_types::RequestId;

/// Results of requests that were refused wait here themselves, since nothing was promised about them.
/// When so many wait, the session stops reading, and with it the master stops sending.
const REFUSALS: usize = 256;

/// A message for the master.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Accepted(RequestId),
    Started(RequestId),
    Progress {
        id: RequestId,
        message: String,
        percent: Option<u8>,
    },
    /// There is output to send.
    Output(RequestId),
    /// A result that is in the journal.
    Recorded(RequestId),
    /// A result that is nowhere else.
    Refused(Box<v1::Result>),
}

#[derive(Debug, Default)]
struct Pending {
    accepted: bool,
    started: bool,
    progress: Option<(String, Option<u8>)>,
    output: bool,
    recorded: bool,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    order: VecDeque<RequestId>,
    pending: HashMap<RequestId, Pending>,
    refused: VecDeque<Box<v1::Result>>,
    /// Results sent in this session and not acknowledged.
    sent: HashMap<RequestId, Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    emptied: Notify,
}

impl Outbox {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every critical section leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins: empty, then take everything.
    pub fn open(&self) {
        *self.state() = State { open: true, ..State::default() };
    }

    /// The session ended: take nothing more.
    pub fn close(&self) {
        *self.state() = State::default();
        self.emptied.notify_waiters();
    }

    fn put(&self, id: RequestId, change: impl FnOnce(&mut Pending)) {
        let mut state = self.state();
        if !state.open {
            return;
        }
        if !state.pending.contains_key(&id) {
            state.order.push_back(id);
        }
        change(state.pending.entry(id).or_default());
        drop(state);
        self.filled.notify_one();
    }

    /// The request is in the journal.
    pub fn accepted(&self, id: RequestId) {
        self.put(id, |pending| pending.accepted = true);
    }
    /// Its operation began.
    pub fn started(&self, id: RequestId) {
        self.put(id, |pending| pending.started = true);
    }
    /// It went on; replaces progress that was not sent yet.
    pub fn progress(&self, id: RequestId, message: String, percent: Option<u8>) {
        self.put(id, |pending| pending.progress = Some((message, percent)));
    }
    /// It has written something for whoever watches. That goes before its result.
    pub fn output(&self, id: RequestId) {
        self.put(id, |pending| pending.output = true);
    }
    /// Its result is in the journal.
    pub fn recorded(&self, id: RequestId) {
        self.put(id, |pending| pending.recorded = true);
    }
    /// It was refused, or its result could not be kept.
    pub fn refused(&self, result: v1::Result) {
        let mut state = self.state();
        if state.open {
            state.refused.push_back(Box::new(result));
            drop(state);
            self.filled.notify_one();
        }
    }

    /// The master has the result.
    pub fn acknowledged(&self, id: RequestId) {
        self.state().sent.remove(&id);
    }

    /// Put the results back that were sent `age` ago and are not acknowledged.
    pub fn resend(&self, age: Duration) {
        let late: Vec<RequestId> = {
            let mut state = self.state();
            let late: Vec<RequestId> =
                state.sent.iter().filter(|(_, at)| at.elapsed() >= age).map(|(id, _)| *id).collect();
            for id in &late {
                state.sent.remove(id);
            }
            late
        };
        for id in late {
            self.recorded(id);
        }
    }

    /// The next event; waits for one.
    pub async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self) -> Option<Event> {
        let mut state = self.state();
        if let Some(result) = state.refused.pop_front() {
            drop(state);
            self.emptied.notify_waiters();
            return Some(Event::Refused(result));
        }
        let id = *state.order.front()?;
        let pending = state.pending.get_mut(&id)?;
        let event = if std::mem::take(&mut pending.accepted) {
            Event::Accepted(id)
        } else if std::mem::take(&mut pending.started) {
            Event::Started(id)
        } else if let Some((message, percent)) = pending.progress.take() {
            Event::Progress { id, message, percent }
        } else if std::mem::take(&mut pending.output) {
            Event::Output(id)
        } else {
            pending.recorded = false;
            state.sent.insert(id, Instant::now());
            Event::Recorded(id)
        };
        let pending = state.pending.get(&id)?;
        let Pending { accepted, started, progress, output, recorded } = pending;
        let empty = !accepted && !started && progress.is_none() && !output && !recorded;
        if empty {
            state.pending.remove(&id);
            state.order.pop_front();
        }
        Some(event)
    }

    /// Wait until there is room for refusals.
    pub async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.state().refused.len() < REFUSALS {
                return;
            }
            emptied.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &Outbox) -> Vec<Event> {
        std::iter::from_fn(|| outbox.take()).collect()
    }

    #[test]
    fn what_one_request_says_stays_in_order_and_progress_is_merged() {
        let outbox = Outbox::default();
        outbox.open();
        let (a, b) = (RequestId::new(), RequestId::new());
        outbox.accepted(a);
        outbox.accepted(b);
        outbox.started(a);
        for step in 0..1000_u32 {
            outbox.progress(a, format!("step {step}"), None);
        }
        outbox.recorded(a);
        outbox.recorded(a);
        assert_eq!(
            drain(&outbox),
            [
                Event::Accepted(a),
                Event::Started(a),
                Event::Progress { id: a, message: "step 999".into(), percent: None },
                Event::Recorded(a),
                Event::Accepted(b),
            ]
        );
    }

    #[test]
    fn without_a_session_nothing_piles_up() {
        let outbox = Outbox::default();
        outbox.accepted(RequestId::new());
        outbox.refused(v1::Result::default());
        outbox.open();
        assert_eq!(drain(&outbox), []);
        outbox.accepted(RequestId::new());
        outbox.close();
        outbox.open();
        assert_eq!(drain(&outbox), []);
    }

    #[test]
    fn results_come_again_until_they_are_acknowledged() {
        let outbox = Outbox::default();
        outbox.open();
        let id = RequestId::new();
        outbox.recorded(id);
        assert_eq!(drain(&outbox), [Event::Recorded(id)]);
        outbox.resend(Duration::from_secs(3600));
        assert_eq!(drain(&outbox), []);
        outbox.resend(Duration::ZERO);
        assert_eq!(drain(&outbox), [Event::Recorded(id)]);
        outbox.acknowledged(id);
        outbox.resend(Duration::ZERO);
        assert_eq!(drain(&outbox), []);
    }

    #[tokio::test]
    async fn refusals_are_bounded() {
        let outbox = Outbox::default();
        outbox.open();
        for _ in 0..REFUSALS {
            outbox.room().await;
            outbox.refused(v1::Result::default());
        }
        let full = tokio::time::timeout(Duration::from_millis(20), outbox.room()).await;
        assert!(full.is_err(), "there is no room for more");
        assert!(matches!(outbox.next().await, Event::Refused(_)));
        outbox.room().await;
    }
}
