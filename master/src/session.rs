//! The stream of each accepted host.
//!
//! Any certificate of our authority that names a node gets through the handshake; whether the node
//! may act is decided at the first call, since only there the host can be told why not.
//!
//! A session is one task beside its connection: it handles the messages of its host one after the
//! other, sends heartbeats, and ends when three of them went unanswered, when somebody ends it
//! (revoked, deleted, locked, replaced, too slow) or when the master stops. Whatever ends it is told to
//! the host as a gRPC status, and the connection is cut shortly after.

mod fetch;
mod incoming;
mod inventory;

use crate::{
    bundles::{Bundles, NodeChange},
    ca::{Authority, Request},
    catalog::Catalog,
    config::Config,
    fleet::{Announced, EnrollRefused, Fleet, RenewRefused, Session, SessionRefused},
    jobs::NodeEvents,
    status::Statuses,
    uncut::uncut,
};
use futures_util::Stream;
pub(crate) use incoming::cut;
use incoming::{Incoming, request_ids};
use inventory::{Parsed, inventory};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming, service::Routes};
use windlass_identity::{CertificateFacts, PeerCheck, PeerInfo, PeerRefused, SealingPublic, TlsListener};
use windlass_proto::v1::{
    FetchRequest, Hello, HostMessage, MasterMessage, RenewReply, RenewRequest, Welcome, host_message,
    master_message::Kind, node_server,
};

/// A host that has connected has so long to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// A second process with the same certificate waits at most so long while the first one is asked
/// for a sign of life.
const PROBE: Duration = Duration::from_secs(2);
/// So long the host may take to read why its session ended, before its connection is cut.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);
/// The connection writes what its streams have handed over as soon as it is polled.
pub(crate) const FLUSH: Duration = Duration::from_millis(50);
/// Missing heartbeats that make a node offline.
const MISSING: u32 = 3;
/// Open connections of hosts.
const MAX_CONNECTIONS: usize = 65_536;

/// Lets every certificate in that names a node; the rest is decided where it can be explained.
#[derive(Debug)]
pub(crate) struct NodesOnly;

impl PeerCheck for NodesOnly {
    fn check(&self, peer: &CertificateFacts) -> Result<(), PeerRefused> {
        peer.node.map(|_| ()).ok_or(PeerRefused::Unknown)
    }
}

/// The node service.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub config: Arc<Config>,
    pub fleet: Fleet,
    pub catalog: Catalog,
    pub bundles: Bundles,
    pub status: Statuses,
    pub authority: Arc<Authority>,
    pub events: Arc<dyn NodeEvents>,
    /// What hosts are welcomed with.
    pub epoch: u64,
    pub shutdown: CancellationToken,
    /// Counts the tasks of sessions, so that all of them have ended when the master ends.
    pub tasks: tokio_util::task::TaskTracker,
}

impl Sessions {
    /// The service as routes.
    pub fn routes(self) -> axum::Router {
        let service = node_server::NodeServer::new(self)
            .max_decoding_message_size(windlass_proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(windlass_proto::MAX_MESSAGE_BYTES);
        Routes::new(service).into_axum_router()
    }

    fn heartbeat(&self) -> Duration {
        self.config.heartbeat()
    }

    async fn begin(
        &self,
        peer: &PeerInfo,
        incoming: &mut Streaming<HostMessage>,
    ) -> Result<(Session, Hello, Vec<NodeChange>), Status> {
        let certificate = certificate(peer)?;
        // Before the hello, so that who may not act costs next to nothing.
        self.fleet.check(certificate).await?;
        let first = tokio::time::timeout(HELLO, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("the host said no hello"))??;
        let Some(HostMessage { kind: Some(host_message::Kind::Hello(mut hello)) }) = first else {
            return Err(Status::invalid_argument("the first message of a host has to be its hello"));
        };
        if hello.protocol != windlass_proto::PROTOCOL {
            return Err(Status::failed_precondition(format!(
                "this master speaks protocol {}, the host {}: bring both to the same release",
                windlass_proto::PROTOCOL,
                hello.protocol
            )));
        }
        if hello.instance.is_empty() || hello.instance.len() > 128 || hello.host_version.len() > 256 {
            return Err(Status::invalid_argument("the hello has a bad `instance` or `host_version`"));
        }
        let bad = |what: String| Status::invalid_argument(what);
        let Parsed { inventory, progress, changes } =
            inventory(hello.inventory.take().unwrap_or_default()).map_err(bad)?;
        let sealing_key = match &hello.sealing_key[..] {
            [] => None,
            key => Some(SealingPublic::from_bytes(key).map_err(|error| bad(error.to_string()))?),
        };
        let announced = Announced {
            instance: hello.instance.clone(),
            host_version: Some(std::mem::take(&mut hello.host_version)).filter(|text| !text.is_empty()),
            address: peer.address.ip().to_canonical().to_string(),
            facts: Some(crate::enroll::facts(&hello.facts.take().unwrap_or_default().json).map_err(bad)?),
            inventory: Some(inventory),
            progress: Some(progress),
            sealing_key: Some(sealing_key),
        };
        let (heartbeat_ms, epoch) = (self.config.heartbeat_ms, self.epoch);
        let probe = PROBE.min(self.heartbeat() * MISSING);
        let session = self
            .fleet
            .attach(certificate, announced, probe, |node| {
                Kind::Welcome(Welcome {
                    node_id: node.id.to_string(),
                    node_name: node.name.to_string(),
                    heartbeat_ms,
                    time_ms: crate::now_ms(),
                    master_version: env!("CARGO_PKG_VERSION").to_owned(),
                    epoch,
                    takes_watch_reports: true,
                })
            })
            .await?;
        Ok((session, hello, changes))
    }

    /// The life of a session.
    async fn run(
        self,
        session: Session,
        hello: Hello,
        changes: Vec<NodeChange>,
        incoming: Streaming<HostMessage>,
        mut ended: oneshot::Receiver<Status>,
        farewell: Farewell,
        peer: PeerInfo,
    ) {
        let id = session.node.id;
        let why = match ended.try_recv() {
            // Revoked, or its predecessor is stuck: the jobs need not hear of it.
            Ok(why) => why,
            Err(_) => {
                tracing::info!(node = %id, name = %session.node.name, address = %peer.address, "connected");
                let running = request_ids(&hello.running_requests);
                let finished = request_ids(&hello.finished_requests);
                drop(hello);
                self.events.connected(id, running, finished).await;
                self.catalog.look_for(id).await;
                self.bundles.changes(id, &session.node.name, changes).await;
                self.bundles.connected(id);
                self.talk(&session, incoming, &mut ended, &peer).await
            }
        };
        tracing::info!(node = %id, name = %session.node.name, reason = %why.message(), "disconnected");
        session.finish(self.events.disconnected(id)).await;
        self.catalog.gone(id);
        let _ = farewell.last.send(why);
        // Once the stream is gone its last words are on their way, if there is still somebody to read them.
        let _ = tokio::time::timeout(FAREWELL, farewell.gone.cancelled()).await;
        tokio::time::sleep(FLUSH).await;
        peer.cut.cut();
    }

    /// Handle messages until something ends the session.
    async fn talk(
        &self,
        session: &Session,
        mut incoming: Streaming<HostMessage>,
        ended: &mut oneshot::Receiver<Status>,
        peer: &PeerInfo,
    ) -> Status {
        let handler = Incoming { sessions: self, session, address: peer.address.ip() };
        let heartbeat = self.heartbeat();
        let silence = heartbeat * MISSING;
        let silent = tokio::time::sleep(silence);
        tokio::pin!(silent);
        let mut beat = tokio::time::interval_at(Instant::now() + heartbeat, heartbeat);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // In this order: an end counts at once, and what has arrived is read before its
            // sender is called silent.
            tokio::select! {
                biased;
                why = &mut *ended => {
                    return why.unwrap_or_else(|_| Status::aborted("the session was dropped"));
                }
                () = self.shutdown.cancelled() => return Status::unavailable("the master is shutting down"),
                message = incoming.message() => {
                    let message = match message {
                        Ok(Some(message)) => message,
                        Ok(None) => return Status::ok("the host ended the session"),
                        Err(error) => return error,
                    };
                    silent.as_mut().reset(Instant::now() + silence);
                    session.node.presence.seen();
                    if let Err(why) = handler.handle(message).await {
                        return why;
                    }
                }
                () = &mut silent => {
                    return Status::deadline_exceeded("three heartbeats of the host are missing");
                }
                _ = beat.tick() => {
                    if session.live.beat().is_none() {
                        return Status::resource_exhausted("the host does not read its messages");
                    }
                }
            }
        }
    }
}

/// Serve accepted hosts until `shutdown`, then until their connections have ended.
///
/// # Errors
/// If the server fails.
pub(crate) async fn serve(
    routes: axum::Router,
    listener: TlsListener,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    tonic::transport::Server::builder()
        .max_concurrent_streams(8)
        .http2_max_header_list_size(16 << 10)
        .add_routes(routes.into())
        .serve_with_incoming_shutdown(
            crate::connections::limited(listener.incoming(), slots),
            shutdown.cancelled_owned(),
        )
        .await
}

fn certificate(peer: &PeerInfo) -> Result<&CertificateFacts, Status> {
    peer.certificate.as_deref().ok_or_else(|| SessionRefused::NoNode.into())
}

fn peer<T>(request: &tonic::Request<T>) -> Result<PeerInfo, Status> {
    let peer = request.extensions().get::<PeerInfo>().cloned();
    peer.ok_or_else(|| Status::internal("the connection has no peer"))
}

#[tonic::async_trait]
impl node_server::Node for Sessions {
    type ConnectStream = Outgoing;

    async fn connect(
        &self,
        request: tonic::Request<Streaming<HostMessage>>,
    ) -> Result<Response<Outgoing>, Status> {
        let peer = peer(&request)?;
        let mut incoming = request.into_inner();
        let (mut session, hello, changes) = self
            .begin(&peer, &mut incoming)
            .await
            .inspect_err(|why| tracing::info!(address = %peer.address, reason = %why.message(), "refused"))?;
        let (Some(messages), Some(ended)) = (session.messages.take(), session.ended.take()) else {
            return Err(Status::internal("the session has begun twice"));
        };
        let (sender, last) = oneshot::channel();
        let gone = CancellationToken::new();
        let farewell = Farewell { last: sender, gone: gone.clone() };
        self.tasks.spawn(self.clone().run(session, hello, changes, incoming, ended, farewell, peer));
        Ok(Response::new(Outgoing { messages, last: Some(last), _gone: gone.drop_guard() }))
    }

    type FetchStream = fetch::Chunks;

    async fn fetch(&self, request: tonic::Request<FetchRequest>) -> Result<Response<fetch::Chunks>, Status> {
        let peer = peer(&request)?;
        self.blob(&peer, request.into_inner()).await.map(Response::new)
    }

    async fn renew(&self, request: tonic::Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        let peer = peer(&request)?;
        let csr = Request::from_pem(&request.into_inner().csr_pem)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let ttl = self.config.certificate_ttl.0;
        let (fleet, authority) = (self.fleet.clone(), self.authority.clone());
        let certificate = certificate(&peer)?.clone();
        let renewed = uncut(async move { fleet.renew(&authority, &certificate, csr, ttl).await }).await;
        let issued = renewed.map_err(|refused| match refused {
            RenewRefused::Session(refused) => refused.into(),
            RenewRefused::KeyTaken => Status::already_exists(refused.to_string()),
            RenewRefused::Enroll(EnrollRefused::Fleet(crate::fleet::FleetError::Store(error))) => {
                SessionRefused::Store(error).into()
            }
            RenewRefused::Enroll(_) => Status::failed_precondition(refused.to_string()),
        })?;
        Ok(Response::new(RenewReply {
            certificate_pem: issued.chain_pem,
            ca_pem: self.authority.pem().to_owned(),
        }))
    }
}

/// The other end of an [`Outgoing`].
struct Farewell {
    last: oneshot::Sender<Status>,
    /// Cancelled when the stream is dropped.
    gone: CancellationToken,
}

/// Messages to one host, then why it was the last one.
#[derive(Debug)]
pub(crate) struct Outgoing {
    messages: mpsc::Receiver<Box<Kind>>,
    last: Option<oneshot::Receiver<Status>>,
    _gone: tokio_util::sync::DropGuard,
}

impl Stream for Outgoing {
    type Item = Result<MasterMessage, Status>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(last) = &mut self.last else { return Poll::Ready(None) };
        // The end goes before what waits: a revoked host gets nothing more.
        if let Poll::Ready(last) = Pin::new(last).poll(context) {
            self.last = None;
            self.messages.close();
            return Poll::Ready(match last {
                Ok(status) if status.code() != tonic::Code::Ok => Some(Err(status)),
                _ => None,
            });
        }
        let message = ready!(self.messages.poll_recv(context));
        Poll::Ready(message.map(|kind| Ok(MasterMessage { kind: Some(*kind) })))
    }
}
