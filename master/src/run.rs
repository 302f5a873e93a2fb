//! Puts the parts together.

use crate::{
    api,
    bundles::{Bundles, OpenError},
    ca::{Authority, CaError},
    catalog::Catalog,
    config::{Config, Listen},
    enroll::{Enrollment, RateLimit},
    fleet::Fleet,
    jobs::Jobs,
    session::{NodesOnly, Sessions},
    store::{Store, StoreError},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use windlass_identity::{IdentityError, ServerTls, TlsListener};

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

impl Listeners {
    /// Bind all of them.
    ///
    /// # Errors
    /// With the first that cannot be bound.
    pub async fn bind(listen: &Listen) -> Result<Self, RunError> {
        let bind = async |what, address: SocketAddr| {
            TcpListener::bind(address).await.map_err(|source| RunError::Bind { what, address, source })
        };
        Ok(Listeners {
            api: bind("api", listen.api).await?,
            node: bind("node", listen.node).await?,
            enroll: bind("enroll", listen.enroll).await?,
        })
    }
}

/// Why a master could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bundles(#[from] OpenError),
    #[error(transparent)]
    Authority(#[from] CaError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("cannot listen on {address} (`listen.{what}`)")]
    Bind {
        what: &'static str,
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot serve the {what} listener")]
    Serve {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("a part of the master ended by itself: {0}")]
    Ended(String),
}

/// Everything that is under way gets so long to end after `shutdown`.
const DRAIN: Duration = Duration::from_secs(10);

/// Run a master until `shutdown`.
///
/// # Errors
/// If the data directory was not initialised, or a part fails.
pub async fn run(config: Config, listeners: Listeners, shutdown: CancellationToken) -> Result<(), RunError> {
    run_with(config, listeners, shutdown, || ()).await
}

/// The same, and call `ready` when it serves.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    listeners: Listeners,
    shutdown: CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), RunError> {
    let config = Arc::new(config);
    let authority = Arc::new(Authority::load(&config.authority())?);
    let store = Store::open(&config.database(), config.store.durability).await?;
    // Whatever fails below ends the rest.
    let shutdown = shutdown.child_token();
    let _guard = shutdown.clone().drop_guard();
    let fleet = Fleet::open(store.clone()).await?;
    let catalog = Catalog::open(store.clone(), fleet.clone()).await?;
    let bundles = Bundles::open(&config, store.clone(), fleet.clone(), catalog.clone()).await?;
    let jobs =
        Jobs::start(config.clone(), store.clone(), fleet.clone(), catalog.clone(), shutdown.clone()).await?;

    let (key, server) = authority.server(&config.server_names)?;
    let chain = &server.chain_pem;
    let authorities = [authority.der().clone()];
    let node_tls = ServerTls::mutual(chain, &key, &authorities, Arc::new(NodesOnly), &["h2"])?;
    let enroll_tls = ServerTls::server_only(chain, &key, &["h2"])?;
    let api_tls = ServerTls::server_only(chain, &key, &["h2", "http/1.1"])?;
    let listener = |what, listener, tls: &ServerTls| {
        TlsListener::new(listener, tls).map_err(|error| serve_error(what)(error))
    };
    let node = listener("node", listeners.node, &node_tls)?;
    let enroll = listener("enroll", listeners.enroll, &enroll_tls)?;

    let enrollment = Enrollment {
        config: config.clone(),
        fleet: fleet.clone(),
        authority: authority.clone(),
        rate: RateLimit::new(config.enroll.requests_per_second, config.enroll.burst),
        shutdown: shutdown.clone(),
    };
    let sessions = Sessions {
        config: config.clone(),
        fleet: fleet.clone(),
        catalog: catalog.clone(),
        bundles: bundles.clone(),
        authority: authority.clone(),
        events: Arc::new(jobs.clone()),
        shutdown: shutdown.clone(),
        tasks: tokio_util::task::TaskTracker::new(),
    };
    let renewed = [node_tls, enroll_tls, api_tls.clone()];
    // Ends last, after the sessions, and writes what they left.
    let written = CancellationToken::new();
    let writing = tokio::spawn(fleet.clone().write_behind(written.clone()));

    let mut parts: JoinSet<Result<(), RunError>> = JoinSet::new();
    parts.spawn(async move { enrollment.serve(enroll).await.map_err(serve_error("enroll")) });
    parts.spawn(async move { sessions.serve(node).await.map_err(serve_error("node")) });
    let context = api::Context {
        config: config.clone(),
        store,
        fleet: fleet.clone(),
        catalog: catalog.clone(),
        jobs,
        bundles: bundles.clone(),
    };
    parts.spawn({
        let (shutdown, listener) = (shutdown.clone(), listeners.api);
        async move { api::serve(context, listener, api_tls, shutdown).await.map_err(serve_error("api")) }
    });
    let tending = tokio::spawn(catalog.tend(shutdown.clone()));
    let driving = tokio::spawn(bundles.drive(shutdown.clone()));
    let renewing = tokio::spawn(renew(authority, config, server.expires_ms, renewed, shutdown.clone()));

    ready();

    let result = supervise(parts, &shutdown).await;
    shutdown.cancel();
    let _ = tokio::join!(tending, driving, renewing);
    written.cancel();
    let _ = writing.await;
    result
}

fn serve_error<E: std::error::Error + Send + Sync + 'static>(
    what: &'static str,
) -> impl FnOnce(E) -> RunError {
    move |source| RunError::Serve { what, source: Box::new(source) }
}

/// Wait for the end, and for all parts after it.
async fn supervise(
    mut parts: JoinSet<Result<(), RunError>>,
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let flat = |ended: Result<Result<(), RunError>, tokio::task::JoinError>| {
        ended.unwrap_or_else(|error| Err(RunError::Ended(error.to_string())))
    };
    let mut result = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = parts.join_next() => match flat(ended) {
            Ok(()) if !shutdown.is_cancelled() => Err(RunError::Ended("a listener".into())),
            other => other,
        },
    };
    shutdown.cancel();
    let drained = tokio::time::timeout(DRAIN, async {
        while let Some(ended) = parts.join_next().await {
            if result.is_ok() {
                result = flat(ended);
            }
        }
    });
    if drained.await.is_err() {
        tracing::warn!("some connections did not end in time and are dropped");
    }
    result
}

/// Show a new certificate after two thirds of the old one's time.
async fn renew(
    authority: Arc<Authority>,
    config: Arc<Config>,
    mut expires_ms: i64,
    listeners: [ServerTls; 3],
    shutdown: CancellationToken,
) {
    loop {
        let left = u64::try_from(expires_ms - crate::now_ms()).unwrap_or(0);
        // Looked at each hour at least, for clocks that jump.
        let wait =
            Duration::from_millis(left / 3 * 2).clamp(Duration::from_secs(1), Duration::from_secs(3600));
        if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        if expires_ms - crate::now_ms() > crate::ca::SERVER_TTL_MS / 3 {
            continue;
        }
        match authority.server(&config.server_names) {
            Ok((key, issued)) => {
                for tls in &listeners {
                    if let Err(error) = tls.set_certificate(&issued.chain_pem, &key) {
                        tracing::error!(%error, "cannot show the new certificate");
                    }
                }
                expires_ms = issued.expires_ms;
            }
            Err(error) => tracing::error!(%error, "cannot renew the certificate of this master"),
        }
    }
}
