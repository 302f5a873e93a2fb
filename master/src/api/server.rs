//! The listener of the API: TLS, HTTP/1.1 and HTTP/2.

use axum::{Extension, Router, body::Body};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use windlass_identity::{ServerTls, TlsListener};

/// Connections at once; more wait in the listen queue.
const CONNECTIONS: usize = 4096;
/// A client that has not sent the head of its request by then is dropped; so is one that is idle so long.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// HTTP/2 clients are asked whether they live this often.
const PING: Duration = Duration::from_secs(30);
/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 128;
/// Requests under way get so long to end after `shutdown`.
const DRAIN: Duration = Duration::from_secs(5);

/// Serve until `shutdown`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    router: Router,
    listener: TcpListener,
    tls: ServerTls,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let mut listener = TlsListener::new(listener, &tls)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(64 << 10);
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (conn, slot) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        let peer = conn.peer().clone();
        let address = peer.address;
        let service = router.clone().layer(Extension(peer));
        let service = TowerToHyperService::new(
            service.map_request(|request: http::Request<hyper::body::Incoming>| request.map(Body::new)),
        );
        let served = graceful.watch(builder.serve_connection(TokioIo::new(conn), service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = served.await {
                // Most often the client just went away.
                tracing::debug!(%address, error, "a connection ended");
            }
            drop(slot);
        });
    }
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::info!("requests are still under way: leaving them");
    }
    Ok(())
}
