//! The listener for masters: takes what other masters carry here.

use super::{Door, Role, Roles, caller, link};
use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{Request, StatusCode};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use windlass_identity::{CertificateFacts, PeerCheck, PeerRefused, TlsListener};

/// Connections of masters; each has two.
const CONNECTIONS: usize = 64;
/// Streams of one connection: as many sessions as one door takes, and what else there is.
const STREAMS: u32 = 100_000;
/// Streams under way get so long to end after `shutdown`.
const DRAIN: Duration = Duration::from_secs(5);

/// Lets masters in, and nobody else.
#[derive(Debug)]
pub(crate) struct MastersOnly;

impl PeerCheck for MastersOnly {
    fn check(&self, peer: &CertificateFacts) -> Result<(), PeerRefused> {
        peer.master.map(|_| ()).ok_or(PeerRefused::Unknown)
    }
}

/// Serve other masters until `shutdown`. `beat` is the heartbeat of hosts.
pub(crate) async fn serve(
    roles: Roles,
    mut listener: TlsListener,
    beat: Duration,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        // A door that loses its network resets all of its hosts' streams at once. The limits are against
        // strangers, and nobody but masters gets here.
        .max_pending_accept_reset_streams(STREAMS as usize)
        .max_local_error_reset_streams(STREAMS as usize)
        .max_header_list_size(64 << 10)
        .initial_stream_window_size(link::STREAM_WINDOW)
        .initial_connection_window_size(link::CONNECTION_WINDOW)
        .keep_alive_interval(beat)
        .keep_alive_timeout(beat * 2);
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (conn, slot) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        let master = conn.peer().certificate.as_ref().and_then(|facts| facts.master);
        let address = conn.peer().address;
        tracing::debug!(?master, %address, "a master has connected");
        let roles = roles.clone();
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let role = roles.borrow().clone();
            answer(role, request.map(Body::new))
        });
        let served = graceful.watch(builder.serve_connection(TokioIo::new(conn), service));
        tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::debug!(?master, %address, %error, "the connection of a master ended");
            }
            drop(slot);
        });
    }
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}

/// Answer as to the caller itself, if this master leads.
async fn answer(role: Role, mut request: Request<Body>) -> Result<Response, Infallible> {
    let door = Door::of(request.uri().path());
    let Role::Leading(services) = role else {
        return Ok(door.nobody("this master does not lead"));
    };
    match caller::take(request.headers_mut()) {
        Some(peer) => {
            request.extensions_mut().insert(peer);
            services.of(door).oneshot(request).await
        }
        // The question of a master whether this one is there.
        None if request.uri().path() == "/healthz" => Ok("ok\n".into_response()),
        None => Ok((StatusCode::BAD_REQUEST, "the request names no caller\n").into_response()),
    }
}
