//! Puts the parts together.

use crate::{
    api,
    catalog::Catalog,
    config::Config,
    fleet::Fleet,
    jobs::Jobs,
    store::{Store, StoreError},
};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Bound listeners.
#[derive(Debug)]
pub struct Listeners {
    /// Operators.
    pub api: TcpListener,
    /// Accepted hosts.
    pub node: TcpListener,
    /// New hosts.
    pub enroll: TcpListener,
}

/// Why a master could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot serve {what}")]
    Serve {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Run a master until `shutdown`.
///
/// # Errors
/// If the data directory was not initialised, or a part fails.
pub async fn run(config: Config, _listeners: Listeners, shutdown: CancellationToken) -> Result<(), RunError> {
    let config = Arc::new(config);
    let store = Store::open(&config.database(), config.store.durability).await?;
    let fleet = Fleet::open(store.clone()).await?;
    let catalog = Catalog::open(store.clone(), fleet.clone()).await?;
    let jobs =
        Jobs::start(config.clone(), store.clone(), fleet.clone(), catalog.clone(), shutdown.clone()).await?;
    let _context = api::Context { config, store, fleet, catalog, jobs };
    shutdown.cancelled().await;
    Ok(())
}
