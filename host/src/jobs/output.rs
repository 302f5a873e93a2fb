//! What operations have written for whoever watches, until the master has it.
//!
//! In memory, and bounded: an operation that is [`WINDOW`] ahead of the master waits, whether the master is
//! slow or away. One that has ended waits for nothing, so what is left of it stays here until the master is
//! back, and of all such together no more than [`LEFT`]: then the oldest goes, as it does when this process
//! ends. The result says how much was written, so that the master knows what is missing.

use bytes::{Buf as _, Bytes, BytesMut};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use windlass_types::RequestId;

/// How far an operation may be ahead of the master.
const WINDOW: u64 = 1 << 20;
/// What operations that have ended may have left to be sent, together.
const LEFT: u64 = 32 << 20;
/// Sent at once.
const PIECE: usize = 256 << 10;

#[derive(Debug, Default)]
struct Stream {
    /// The master has all before.
    taken: u64,
    /// Sent in this session up to here.
    sent: u64,
    /// From `taken` on. One piece, whatever the pieces it was written in.
    data: BytesMut,
}

impl Stream {
    /// Written up to here.
    fn end(&self) -> u64 {
        self.taken + self.left()
    }

    /// What the master does not have.
    fn left(&self) -> u64 {
        self.data.len() as u64
    }

    /// The master has all up to here.
    fn take(&mut self, upto: u64) {
        // No more than the length of `data`, which is a usize.
        let gone = upto.saturating_sub(self.taken).min(self.left());
        self.data.advance(gone as usize);
        self.taken += gone;
        self.sent = self.sent.max(self.taken);
    }

    /// What comes after what was sent.
    fn next(&mut self) -> Option<(u64, Bytes)> {
        let offset = self.sent;
        let rest = &self.data[(offset - self.taken) as usize..];
        let data = Bytes::copy_from_slice(&rest[..rest.len().min(PIECE)]);
        self.sent += data.len() as u64;
        (!data.is_empty()).then_some((offset, data))
    }
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<RequestId, Stream>,
    /// Those of operations that have ended, oldest first.
    ended: VecDeque<RequestId>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Streams {
    state: Mutex<State>,
    taken: Notify,
}

impl Streams {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation has written something.
    pub fn push(&self, id: RequestId, data: Bytes) {
        self.state().streams.entry(id).or_default().data.extend_from_slice(&data);
    }

    /// Wait until an operation may write more.
    pub async fn room(&self, id: RequestId) {
        loop {
            let taken = self.taken.notified();
            tokio::pin!(taken);
            // From now on, so that nothing is missed between the look and the wait.
            taken.as_mut().enable();
            let full = |stream: &Stream| stream.left() >= WINDOW;
            if !self.state().streams.get(&id).is_some_and(full) {
                return;
            }
            taken.await;
        }
    }

    /// The next to send, where it begins, and whether there is more.
    pub fn next(&self, id: RequestId) -> Option<(u64, Bytes, bool)> {
        let mut state = self.state();
        let stream = state.streams.get_mut(&id)?;
        let (offset, data) = stream.next()?;
        Some((offset, data, stream.sent < stream.end()))
    }

    /// The master has the output of a request up to here.
    pub fn taken(&self, id: RequestId, upto: u64) {
        let mut state = self.state();
        if let Some(stream) = state.streams.get_mut(&id) {
            stream.take(upto);
        }
        drop(state);
        self.taken.notify_waiters();
    }

    /// An operation has ended; gives back how much it has written.
    pub fn ended(&self, id: RequestId) -> u64 {
        let mut state = self.state();
        let Some(stream) = state.streams.get(&id) else { return 0 };
        let written = stream.end();
        state.ended.push_back(id);
        let State { streams, ended } = &mut *state;
        let mut sum: u64 = ended.iter().filter_map(|id| streams.get(id)).map(Stream::left).sum();
        while sum > LEFT
            && let Some(oldest) = ended.pop_front()
        {
            sum -= streams.remove(&oldest).as_ref().map_or(0, Stream::left);
        }
        written
    }

    /// The master has the result, and so had all output it will get.
    pub fn forget(&self, id: RequestId) {
        let mut state = self.state();
        state.streams.remove(&id);
        state.ended.retain(|ended| *ended != id);
    }

    /// A new session: what was sent and not taken is sent again. Gives back whose there is some of.
    pub fn again(&self) -> Vec<RequestId> {
        let mut state = self.state();
        let again = state.streams.iter_mut().filter_map(|(id, stream)| {
            stream.sent = stream.taken;
            (!stream.data.is_empty()).then_some(*id)
        });
        again.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(length: usize) -> Bytes {
        vec![7; length].into()
    }

    #[tokio::test]
    async fn who_is_ahead_waits_until_the_master_has_it() {
        let (streams, id) = (Streams::default(), RequestId::new());
        streams.room(id).await;
        streams.push(id, bytes(WINDOW as usize));
        let room = streams.room(id);
        tokio::pin!(room);
        assert!(futures_util::poll!(&mut room).is_pending());
        streams.taken(id, 1);
        assert!(futures_util::poll!(&mut room).is_ready());
    }

    #[test]
    fn what_is_left_of_those_that_ended_is_bounded() {
        let streams = Streams::default();
        let ids: Vec<RequestId> = (0..40).map(|_| RequestId::new()).collect();
        for id in &ids {
            streams.push(*id, bytes(1 << 20));
            assert_eq!(streams.ended(*id), 1 << 20);
        }
        let left = streams.again();
        assert_eq!(left.len(), 32);
        assert!(ids[8..].iter().all(|id| left.contains(id)), "the oldest went");
        for id in &ids {
            streams.forget(*id);
        }
        assert!(streams.state().streams.is_empty() && streams.state().ended.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Send,
        Taken(u64),
        Session,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..400_000_usize).prop_map(Step::Push),
            Just(Step::Send),
            (0..900_000_u64).prop_map(Step::Taken),
            Just(Step::Session),
        ]
    }

    proptest! {
        /// Whatever is lost on the way, the master that keeps what it has not yet puts the whole together.
        #[test]
        fn all_of_it_arrives_in_order(steps in proptest::collection::vec(step(), 0..40)) {
            let (streams, id) = (Streams::default(), RequestId::new());
            let (mut written, mut kept) = (Vec::<u8>::new(), Vec::new());
            let receive = |kept: &mut Vec<u8>, offset: u64, data: &[u8]| {
                let have = kept.len() - offset as usize;
                if have < data.len() {
                    kept.extend_from_slice(&data[have..]);
                }
            };
            for step in steps {
                match step {
                    Step::Push(length) => {
                        // No byte like those around it.
                        let data: Vec<u8> = (written.len()..written.len() + length).map(|at| (at % 251) as u8).collect();
                        written.extend_from_slice(&data);
                        streams.push(id, data.into());
                    }
                    Step::Send => {
                        if let Some((offset, data, _)) = streams.next(id) {
                            prop_assert!(data.len() <= PIECE && !data.is_empty());
                            receive(&mut kept, offset, &data);
                        }
                    }
                    Step::Taken(upto) => streams.taken(id, upto.min(kept.len() as u64)),
                    Step::Session => drop(streams.again()),
                }
            }
            while let Some((offset, data, more)) = streams.next(id) {
                receive(&mut kept, offset, &data);
                prop_assert_eq!(more, offset as usize + data.len() < written.len());
            }
            prop_assert_eq!(kept, written);
        }
    }
}
