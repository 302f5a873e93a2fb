//! The way to the leader.

use super::{Door, Leader, caller};
use crate::session::{FAREWELL, FLUSH};
use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use http::{HeaderMap, HeaderValue, Request, Version, header};
use hyper::body::{Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, transport::Channel};
use tower::Service as _;
use windlass_identity::{
    ChannelOptions, ClientIdentity, IdentityError, PeerInfo, Trust, channel, client_config, master_name,
};

/// Bytes of one stream that may be under way. Enough that a fetch over a long line is not slow.
pub(super) const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes of all streams. So many that hosts which read nothing can't use it up: HTTP/2 takes no more.
pub(super) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// A leader that answers at all does so by then.
const ALIVE: Duration = Duration::from_secs(2);

/// Why there is no way to a leader.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the address `{0}` of the leader can't be looked up")]
    Lookup(String, #[source] std::io::Error),
    #[error("the address `{0}` of the leader leads nowhere")]
    NoAddress(String),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The way to one leader, for as long as it leads.
#[derive(Debug)]
pub(crate) struct Link {
    pub leader: Leader,
    /// Sessions have a connection of their own, so that no upload is in their way.
    sessions: Channel,
    calls: Channel,
    /// Cancelled when that master does not lead any more.
    ended: CancellationToken,
    /// Requests and sessions under way.
    carried: AtomicUsize,
}

impl Link {
    /// A way to `leader`; connects at the first request. `beat` is the heartbeat of hosts.
    pub async fn new(
        leader: Leader,
        trust: &Trust,
        identity: Arc<ClientIdentity>,
        beat: Duration,
    ) -> Result<Arc<Self>, LinkError> {
        let address = &leader.address;
        let dial = tokio::net::lookup_host(address.as_str())
            .await
            .map_err(|error| LinkError::Lookup(address.clone(), error))?
            .next()
            .ok_or_else(|| LinkError::NoAddress(address.clone()))?;
        let tls = Arc::new(client_config(trust, Some(identity), &["h2"])?);
        // With a ping each heartbeat and two to wait for its answer, three missing ones end it.
        let options = ChannelOptions {
            dial: Some(dial),
            connect_timeout: (beat * 2).clamp(Duration::from_millis(500), Duration::from_secs(5)),
            keep_alive: beat,
            windows: Some((STREAM_WINDOW, CONNECTION_WINDOW)),
        };
        let name = format!("{}:{}", master_name(leader.master), dial.port());
        let connect = || channel(&name, tls.clone(), &options);
        Ok(Arc::new(Link {
            sessions: connect()?,
            calls: connect()?,
            leader,
            ended: CancellationToken::new(),
            carried: AtomicUsize::new(0),
        }))
    }

    /// Ends all that is under way.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// What is under way.
    pub fn carried(&self) -> usize {
        self.carried.load(Ordering::Relaxed)
    }

    /// Whether the leader answers, and leads.
    pub async fn reaches(&self) -> bool {
        let Ok(request) = Request::get("/healthz").body(tonic::body::Body::empty()) else { return false };
        let asked = self.call(self.calls.clone(), request);
        matches!(tokio::time::timeout(ALIVE, asked).await, Ok(Ok(reply)) if reply.status().is_success())
    }

    async fn call(
        &self,
        mut channel: Channel,
        request: Request<tonic::body::Body>,
    ) -> Result<Response<tonic::body::Body>, tonic::transport::Error> {
        std::future::poll_fn(|context| channel.poll_ready(context)).await?;
        channel.call(request).await
    }

    /// Carry a request there and its reply back.
    pub async fn carry(self: Arc<Self>, door: Door, request: Request<Body>) -> Response {
        let (mut head, body) = request.into_parts();
        let Some(peer) = head.extensions.remove::<PeerInfo>() else {
            return door.nobody("the connection has no peer");
        };
        let safe = head.method.is_safe();
        let session = door == Door::Node && head.uri.path().ends_with("/Connect");
        head.extensions.clear();
        end_of_hop(&mut head.headers);
        caller::set(&mut head.headers, &peer);
        head.version = Version::HTTP_2;
        let way = Way::new(self.clone(), session.then_some(peer));
        let channel = if session { self.sessions.clone() } else { self.calls.clone() };
        let request = Request::from_parts(head, tonic::body::Body::new(body));
        let reply = tokio::select! {
            biased;
            () = self.ended.cancelled() => return door.lost(safe, "another one leads now"),
            reply = self.call(channel, request) => reply,
        };
        match reply {
            Ok(reply) => {
                let (mut head, body) = reply.into_parts();
                head.version = Version::default();
                head.extensions.clear();
                end_of_hop(&mut head.headers);
                let ended = Box::pin(self.ended.clone().cancelled_owned());
                Response::from_parts(head, Body::new(Carried { body, door, ended, over: false, _way: way }))
            }
            Err(error) => {
                tracing::debug!(leader = %self.leader.master, error = &error as &dyn std::error::Error,
                    "cannot reach the leading master");
                door.lost(
                    safe || never_sent(&error),
                    &format!("master {} does not answer", self.leader.master),
                )
            }
        }
    }
}

/// Whether there was no connection to send a request over.
fn never_sent(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<tonic::ConnectError>())
}

/// Headers that are about one connection (RFC 9110, 7.6.1), and the name of this door.
fn end_of_hop(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::HOST,
        header::EXPECT,
        header::HeaderName::from_static("keep-alive"),
        header::HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}

/// Counts one request. A session's connection is cut when it is over.
#[derive(Debug)]
struct Way {
    link: Arc<Link>,
    session: Option<PeerInfo>,
}

impl Way {
    fn new(link: Arc<Link>, session: Option<PeerInfo>) -> Self {
        link.carried.fetch_add(1, Ordering::Relaxed);
        Way { link, session }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.link.carried.fetch_sub(1, Ordering::Relaxed);
        if let Some(peer) = self.session.take() {
            // Its last words are on their way, if there is still somebody to read them.
            tokio::spawn(async move {
                tokio::time::sleep(FAREWELL + FLUSH).await;
                peer.cut.cut();
            });
        }
    }
}

/// The body of a reply on its way back.
struct Carried {
    body: tonic::body::Body,
    door: Door,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
    _way: Way,
}

impl Carried {
    /// The last frame of a stream that is cut: an error, in the form of its door.
    fn cut(&mut self, why: &'static str) -> Option<Result<Frame<Bytes>, tonic::Status>> {
        self.over = true;
        Some(match self.door {
            // A reply that just ended would look whole.
            Door::Api => Err(tonic::Status::unavailable(why)),
            Door::Node | Door::Enroll => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from(Code::Unavailable as i32));
                trailers.insert("grpc-message", HeaderValue::from_static(why));
                Ok(Frame::trailers(trailers))
            }
        })
    }
}

impl HttpBody for Carried {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.ended.as_mut().poll(context).is_ready() {
            // Percent-encoded, as gRPC has it; nothing here needs it.
            return Poll::Ready(self.cut("the leading master has changed: connect again"));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the leading master is gone");
                Poll::Ready(self.cut("the leading master is gone: connect again"))
            }
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
