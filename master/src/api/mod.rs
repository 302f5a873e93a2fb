//! The operator API.

use crate::{catalog::Catalog, config::Config, fleet::Fleet, jobs::Jobs, store::Store};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use windlass_identity::ServerTls;

/// What the API needs.
#[derive(Debug, Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub store: Store,
    pub fleet: Fleet,
    pub catalog: Catalog,
    pub jobs: Jobs,
}

/// Serve until `shutdown`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    _context: Context,
    _listener: TcpListener,
    _tls: ServerTls,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    shutdown.cancelled().await;
    Ok(())
}
