//! Puts the parts together: the doors, which are open for as long as the process runs, and the
//! leading part, which is there while this master leads.

use crate::{
    api,
    bundles::OpenError,
    ca::{Authority, CaError},
    config::{Config, Listen},
    election::{Election, Standing},
    enroll,
    front::{Door, Gate, Leader, Link, Role, Roles, health, peers},
    leading::Leading,
    session::{self, NodesOnly},
    store::{Store, StoreError, lease::Candidate},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use windlass_identity::{ClientIdentity, IdentityError, ServerTls, TlsListener, Trust};
use windlass_types::MasterId;

/// Bound listeners.
#[derive(Debug)]
pub struct Listeners {
    /// Operators.
    pub api: TcpListener,
    /// Accepted hosts.
    pub node: TcpListener,
    /// New hosts.
    pub enroll: TcpListener,
    /// Other masters on the same database, if there may be some.
    pub peer: Option<TcpListener>,
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
            peer: match listen.peer {
                Some(address) => Some(bind("peer", address).await?),
                None => None,
            },
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
    #[error("this master must not lead: {0}")]
    Refused(Arc<str>),
}

/// Everything that is under way gets so long to end after `shutdown`.
const DRAIN: Duration = Duration::from_secs(10);
/// Between two attempts at what failed.
const AGAIN: Duration = Duration::from_secs(1);

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
    let store = Store::of(&config).await?;
    // Whatever fails below ends the rest.
    let shutdown = shutdown.child_token();
    let _guard = shutdown.clone().drop_guard();
    let me = MasterId::new();
    let candidate = Candidate {
        master: me,
        address: config.peer_address().unwrap_or_default(),
        authority: authority.fingerprint(),
    };
    if config.several() && config.blobs.url.is_none() {
        let folder = config.data_dir.join("blobs");
        tracing::info!(folder = %folder.display(), "other masters have to see the same parts of bundles here");
    }
    let election = Election::begin(store.clone(), candidate, config.several());
    // From here on nothing writes but the term that leads.
    let store = store.for_term(0);
    let (role, roles) = watch::channel(Role::waiting("this master has just started"));

    let mut parts = JoinSet::new();
    let masters = Masters::new(&authority, me, shutdown.clone())?;
    open(&mut parts, &config, &authority, listeners, &masters, store.clone(), roles, shutdown.clone())?;
    let (begun, has_begun) = oneshot::channel();
    let terms = Terms {
        config: config.clone(),
        store,
        authority,
        masters,
        standing: election.standing(),
        role,
        begun: Some(begun),
        shutdown: shutdown.clone(),
    };
    let terms = tokio::spawn(terms.run());
    tokio::select! {
        Ok(()) = has_begun => ready(),
        () = shutdown.cancelled() => {}
    }

    let served = supervise(parts, &shutdown).await;
    shutdown.cancel();
    let ended = terms.await.unwrap_or_else(|error| Err(RunError::Ended(error.to_string())));
    election.end().await;
    served.and(ended)
}

/// Open the doors.
fn open(
    parts: &mut JoinSet<Result<(), RunError>>,
    config: &Arc<Config>,
    authority: &Arc<Authority>,
    listeners: Listeners,
    masters: &Masters,
    store: Store,
    roles: Roles,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
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
    let gate = |door| Gate::new(roles.clone(), door).router();

    let (routes, over) = (gate(Door::Enroll), shutdown.clone());
    parts.spawn(async move { enroll::serve(routes, enroll, over).await.map_err(serve_error("enroll")) });
    let (routes, over) = (gate(Door::Node), shutdown.clone());
    parts.spawn(async move { session::serve(routes, node, over).await.map_err(serve_error("node")) });
    let (routes, over) = (health::api(roles.clone(), store), shutdown.clone());
    let (api, tls) = (listeners.api, api_tls.clone());
    parts.spawn(async move { api::serve(routes, api, tls, over).await.map_err(serve_error("api")) });
    if let Some(peer) = listeners.peer {
        let (peer, over) = (listener("peer", peer, &masters.tls)?, shutdown.clone());
        let beat = config.heartbeat();
        parts.spawn(async move {
            peers::serve(roles, peer, beat, over).await;
            Ok(())
        });
    }
    let (authority, config) = (authority.clone(), config.clone());
    let renewing = renew(server.expires_ms, shutdown, move || {
        let (key, issued) = authority.server(&config.server_names)?;
        for tls in [&node_tls, &enroll_tls, &api_tls] {
            tls.set_certificate(&issued.chain_pem, &key)?;
        }
        Ok(issued.expires_ms)
    });
    parts.spawn(renewing);
    Ok(())
}

/// What this master shows to others, and believes of them.
struct Masters {
    trust: Trust,
    identity: Arc<ClientIdentity>,
    tls: ServerTls,
}

impl Masters {
    fn new(authority: &Arc<Authority>, me: MasterId, shutdown: CancellationToken) -> Result<Self, RunError> {
        let (key, issued) = authority.peer(me)?;
        let authorities = [authority.der().clone()];
        let identity = ClientIdentity::new(&issued.chain_pem, &key)?;
        let tls =
            ServerTls::mutual(&issued.chain_pem, &key, &authorities, Arc::new(peers::MastersOnly), &["h2"])?;
        let renewed = (authority.clone(), identity.clone(), tls.clone());
        tokio::spawn(renew(issued.expires_ms, shutdown, move || {
            let (authority, identity, tls) = &renewed;
            let (key, issued) = authority.peer(me)?;
            identity.set(&issued.chain_pem, &key)?;
            tls.set_certificate(&issued.chain_pem, &key)?;
            Ok(issued.expires_ms)
        }));
        Ok(Masters { trust: Trust::Authorities(authorities.to_vec()), identity, tls })
    }
}

/// The terms of this process, one after the other: as leader, as follower, and in between.
struct Terms {
    config: Arc<Config>,
    store: Store,
    authority: Arc<Authority>,
    masters: Masters,
    standing: watch::Receiver<Standing>,
    role: watch::Sender<Role>,
    /// Told when requests are answered for the first time.
    begun: Option<oneshot::Sender<()>>,
    shutdown: CancellationToken,
}

impl Terms {
    async fn run(mut self) -> Result<(), RunError> {
        // Whatever ends the terms ends the master.
        let shutdown = self.shutdown.clone();
        let _guard = shutdown.clone().drop_guard();
        while !shutdown.is_cancelled() {
            let standing = self.standing.borrow_and_update().clone();
            match standing {
                // The election has not noticed its own end yet.
                Standing::Leading { over, .. } if over.is_cancelled() => self.next().await,
                Standing::Leading { epoch, over } => self.lead(epoch, over).await?,
                Standing::Following(leader) => self.follow(leader).await,
                Standing::Nobody(why) => {
                    self.role.send_replace(Role::Waiting(why));
                    self.next().await;
                }
                Standing::Refused(why) => return Err(RunError::Refused(why)),
            }
        }
        Ok(())
    }

    /// Wait until the standing changes, or the end.
    async fn next(&mut self) {
        // An error means that the election is over, which happens after us.
        let _ = self.shutdown.run_until_cancelled(self.standing.changed()).await;
    }

    fn begin(&mut self, role: Role) {
        self.role.send_replace(role);
        if let Some(begun) = self.begun.take() {
            let _ = begun.send(());
        }
    }

    async fn lead(&mut self, epoch: u64, over: CancellationToken) -> Result<(), RunError> {
        let (config, authority) = (self.config.clone(), self.authority.clone());
        let store = self.store.for_term(epoch);
        let leading = match Leading::begin(config, store, authority, epoch, &over).await {
            Ok(leading) => leading,
            // Lost before it had begun.
            Err(error) if over.is_cancelled() => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot lead");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        tracing::info!(epoch, "this master leads");
        self.begin(Role::Leading(leading.services.clone()));
        tokio::select! {
            () = over.cancelled() => tracing::warn!(epoch, "this master does not lead any more"),
            () = self.shutdown.cancelled() => {}
        }
        self.role.send_replace(Role::waiting("this master has just ended leading"));
        leading.end().await;
        Ok(())
    }

    async fn follow(&mut self, leader: Leader) {
        let Masters { trust, identity, .. } = &self.masters;
        match Link::new(leader, trust, identity.clone(), self.config.heartbeat()).await {
            Ok(link) => {
                let Leader { master, epoch, address } = &link.leader;
                tracing::info!(%master, epoch, address, "this master follows");
                self.begin(Role::Following(link.clone()));
                self.next().await;
                self.role.send_replace(Role::waiting("the leading master has changed"));
                link.end();
            }
            Err(error) => {
                let why = chain(&error);
                tracing::error!(error = why, "cannot follow the leading master");
                self.role.send_replace(Role::Waiting(why.into()));
                let _ = tokio::time::timeout(AGAIN, self.next()).await;
            }
        }
    }
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

/// Have a new certificate issued after two thirds of the old one's time.
async fn renew(
    mut expires_ms: i64,
    shutdown: CancellationToken,
    issue: impl Fn() -> Result<i64, RunError> + Send,
) -> Result<(), RunError> {
    loop {
        let left = u64::try_from(expires_ms - crate::now_ms()).unwrap_or(0);
        // Looked at each hour at least, for clocks that jump.
        let wait =
            Duration::from_millis(left / 3 * 2).clamp(Duration::from_secs(1), Duration::from_secs(3600));
        if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return Ok(());
        }
        if expires_ms - crate::now_ms() > crate::ca::SERVER_TTL_MS / 3 {
            continue;
        }
        match issue() {
            Ok(next_ms) => expires_ms = next_ms,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot renew a certificate");
            }
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
