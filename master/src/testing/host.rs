//! A host that speaks the real protocol and has no will of its own.

use super::soon;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};
use windlass_identity::{
    ChannelOptions, ClientIdentity, NodeKey, Trust, certificates_from_pem, channel, client_config,
    read_certificate,
};
use windlass_proto::v1::{
    Heartbeat, Hello, HostMessage, Inventory, RenewRequest, host_message, master_message::Kind,
    node_client::NodeClient,
};
use windlass_types::NodeId;

/// A host that has a certificate.
#[derive(Clone)]
pub(crate) struct FakeHost {
    pub channel: Channel,
    pub key_pem: String,
    pub chain: String,
    pub hello: Hello,
    address: SocketAddr,
    trust: Trust,
}

impl FakeHost {
    pub fn new(address: SocketAddr, trust: Trust, key: &NodeKey, chain: &str) -> Self {
        let identity = ClientIdentity::new(chain, key).unwrap();
        let tls = client_config(&trust, Some(identity), &["h2"]).unwrap();
        let channel = channel(&address.to_string(), Arc::new(tls), &ChannelOptions::default()).unwrap();
        let hello = Hello {
            protocol: windlass_proto::PROTOCOL,
            host_version: "0.1.0".into(),
            instance: uuid::Uuid::new_v4().to_string(),
            ..Default::default()
        };
        FakeHost { channel, key_pem: key.key_pem(), chain: chain.to_owned(), hello, address, trust }
    }

    pub fn key(&self) -> NodeKey {
        NodeKey::from_pem(&self.key_pem).unwrap()
    }

    /// Another process with a copy of key and certificate.
    pub fn copy(&self) -> Self {
        let copy = FakeHost::new(self.address, self.trust.clone(), &self.key(), &self.chain);
        FakeHost { hello: Hello { instance: copy.hello.instance, ..self.hello.clone() }, ..copy }
    }

    /// The same process over a new connection.
    pub fn again(&self) -> Self {
        FakeHost { hello: self.hello.clone(), ..self.copy() }
    }

    /// The same process, which finds its master at another address.
    pub fn at(&self, address: SocketAddr) -> Self {
        let there = FakeHost::new(address, self.trust.clone(), &self.key(), &self.chain);
        FakeHost { hello: self.hello.clone(), ..there }
    }

    /// With another certificate.
    pub fn with(&self, chain: &str, key: &NodeKey) -> Self {
        FakeHost { hello: self.hello.clone(), ..FakeHost::new(self.address, self.trust.clone(), key, chain) }
    }

    pub fn having(mut self, inventory: Inventory) -> Self {
        self.hello.inventory = Some(inventory);
        self
    }

    pub fn generation(&self) -> u64 {
        let chain = certificates_from_pem(&self.chain).unwrap();
        read_certificate(&chain[0]).unwrap().node.unwrap().generation
    }

    pub fn id(&self) -> NodeId {
        let chain = certificates_from_pem(&self.chain).unwrap();
        read_certificate(&chain[0]).unwrap().node.unwrap().id
    }

    pub async fn renew(&self, key: &NodeKey) -> Result<Self, Status> {
        let request = RenewRequest { csr_pem: key.csr_pem().unwrap() };
        let reply = soon("a reply", NodeClient::new(self.channel.clone()).renew(request)).await?;
        Ok(self.with(&reply.into_inner().certificate_pem, key))
    }

    /// Connect with this first message.
    pub async fn begin(&self, first: host_message::Kind) -> Result<Connection, Status> {
        let (sender, outgoing) = mpsc::channel(64);
        sender.try_send(HostMessage { kind: Some(first) }).unwrap();
        let mut client = NodeClient::new(self.channel.clone())
            .max_decoding_message_size(windlass_proto::MAX_MESSAGE_BYTES);
        let mut incoming = soon("a reply", client.connect(ReceiverStream::new(outgoing))).await?.into_inner();
        let mute = Arc::new(AtomicBool::new(false));
        let deaf = Arc::new(AtomicBool::new(false));
        // The test takes its messages or not; the bound keeps a broken test from eating the memory.
        let (messages, receiver) = mpsc::channel(4096);
        let task = tokio::spawn({
            let (sender, mute, deaf) = (sender.clone(), mute.clone(), deaf.clone());
            async move {
                loop {
                    if deaf.load(Ordering::SeqCst) {
                        std::future::pending::<()>().await;
                    }
                    let message = match incoming.message().await {
                        Ok(Some(message)) => message,
                        Ok(None) => return Status::ok("end of stream"),
                        Err(status) => return status,
                    };
                    match message.kind {
                        Some(Kind::Heartbeat(beat)) if !mute.load(Ordering::SeqCst) => {
                            let answer = Heartbeat { answers: beat.sequence, ..Default::default() };
                            let kind = Some(host_message::Kind::Heartbeat(answer));
                            let _ = sender.send(HostMessage { kind }).await;
                        }
                        Some(Kind::Heartbeat(_)) | None => {}
                        Some(kind) => {
                            let _ = messages.send(kind).await;
                        }
                    }
                }
            }
        });
        Ok(Connection { sender, messages: receiver, mute, deaf, task: Some(task) })
    }

    /// Connect, and see the welcome.
    pub async fn connect(&self) -> Result<Connection, Status> {
        let mut connection = self.begin(host_message::Kind::Hello(self.hello.clone())).await?;
        match connection.next().await {
            Kind::Welcome(welcome) => assert_eq!(welcome.node_id, self.id().to_string()),
            other => panic!("the first message is {other:?}"),
        }
        Ok(connection)
    }

    /// Connect, which has to be refused.
    pub async fn refused(&self) -> Status {
        match self.connect().await {
            Ok(_) => panic!("the host got in"),
            Err(status) => status,
        }
    }
}

/// A session, from the side of the host. It answers heartbeats unless it is mute.
pub(crate) struct Connection {
    sender: mpsc::Sender<HostMessage>,
    messages: mpsc::Receiver<Kind>,
    pub mute: Arc<AtomicBool>,
    /// Reads nothing more.
    pub deaf: Arc<AtomicBool>,
    task: Option<tokio::task::JoinHandle<Status>>,
}

impl Connection {
    pub fn mute(&self) {
        self.mute.store(true, Ordering::SeqCst);
    }

    pub async fn say(&self, kind: host_message::Kind) {
        // A refused message shows in what the master answers.
        let _ = self.sender.send(HostMessage { kind: Some(kind) }).await;
    }

    /// The next message that is no heartbeat.
    pub async fn next(&mut self) -> Kind {
        match soon("a message", self.messages.recv()).await {
            Some(kind) => kind,
            None => panic!("the session has ended: {:?}", self.ended().await),
        }
    }

    /// Messages that have come and were not taken.
    pub fn rest(&mut self) -> Vec<Kind> {
        std::iter::from_fn(|| self.messages.try_recv().ok()).collect()
    }

    /// Wait for the end of the session, and why it ended.
    pub async fn ended(&mut self) -> Status {
        soon("the end of the session", self.task.take().unwrap()).await.unwrap()
    }

    pub fn is_over(&self) -> bool {
        self.task.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
