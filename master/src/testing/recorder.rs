//! Stands in for the jobs: writes down what sessions tell it.

use super::soon;
use crate::{
    jobs::{NodeEvents, ResultRecord},
    store::StoreError,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::{Mutex, mpsc};
use windlass_types::{NodeId, Outcome, RequestId};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Connected(NodeId, Vec<RequestId>, Vec<RequestId>),
    Accepted(RequestId),
    Started(RequestId),
    Progress(RequestId, String, Option<u8>),
    Result(RequestId, Outcome),
    Disconnected(NodeId),
}

#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::UnboundedSender<Event>,
    receiver: Arc<Mutex<mpsc::UnboundedReceiver<Event>>>,
    /// Results cannot be stored while this is set.
    pub broken: Arc<AtomicBool>,
}

impl Default for Recorder {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Recorder { sender, receiver: Arc::new(Mutex::new(receiver)), broken: Arc::default() }
    }
}

impl Recorder {
    /// The next event.
    pub async fn next(&self) -> Event {
        soon("an event", async { self.receiver.lock().await.recv().await }).await.unwrap()
    }
    /// Events that have come and were not taken.
    pub async fn rest(&self) -> Vec<Event> {
        let mut receiver = self.receiver.lock().await;
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }
    fn put(&self, event: Event) {
        self.sender.send(event).unwrap();
    }
}

#[tonic::async_trait]
impl NodeEvents for Recorder {
    async fn connected(&self, node: NodeId, running: Vec<RequestId>, finished: Vec<RequestId>) {
        self.put(Event::Connected(node, running, finished));
    }
    async fn accepted(&self, _node: NodeId, request: RequestId) {
        self.put(Event::Accepted(request));
    }
    async fn started(&self, _node: NodeId, request: RequestId) {
        self.put(Event::Started(request));
    }
    async fn progress(&self, _node: NodeId, request: RequestId, message: String, percent: Option<u8>) {
        self.put(Event::Progress(request, message, percent));
    }
    async fn output(
        &self,
        _node: NodeId,
        _request: RequestId,
        offset: u64,
        data: bytes::Bytes,
    ) -> Result<u64, StoreError> {
        Ok(offset + data.len() as u64)
    }
    async fn result(
        &self,
        _node: NodeId,
        request: RequestId,
        result: ResultRecord,
    ) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        self.put(Event::Result(request, result.outcome));
        Ok(())
    }
    async fn disconnected(&self, node: NodeId) {
        self.put(Event::Disconnected(node));
    }
}
