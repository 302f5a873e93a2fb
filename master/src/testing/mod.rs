//! What the tests of this crate share: fleet, enrolment and sessions over real TLS on loopback, with
//! hosts that speak the real protocol and do exactly what a test tells them.

mod bundle;
mod database;
mod host;
mod managed;
mod recorder;

mod bundles;
mod catalog;
mod deployments;
mod enrolment;
mod fetching;
mod identity;
mod sessions;
mod store;
mod told;
mod wanted;

pub(crate) use bundle::{Key, Spec};
pub(crate) use database::{database, open};
pub(crate) use host::{Connection, FakeHost};
pub(crate) use managed::Managed;
pub(crate) use recorder::{Event, Recorder};

use crate::{
    bundles::{Bundles, Options},
    ca::Authority,
    catalog::Catalog,
    config::Config,
    enroll::{self, Enrollment, RateLimit},
    fleet::{Fleet, NodeRecord},
    session::{self, NodesOnly, Sessions},
    status::Statuses,
    store::Store,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use windlass_identity::{
    ChannelOptions, ClientIdentity, NodeKey, ServerTls, TlsListener, Trust, channel, client_config,
};
use windlass_proto::v1::{EnrollReply, EnrollRequest, enroll_client::EnrollClient};
use windlass_types::{Fingerprint, api::NewJoinToken};

/// No condition in a test takes longer, unless something is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Wait for something that has to happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen"),
    }
}

/// Everything of a master but jobs and API.
pub(crate) struct Rig {
    pub config: Arc<Config>,
    pub store: Store,
    pub fleet: Fleet,
    pub catalog: Catalog,
    pub bundles: Bundles,
    pub status: Statuses,
    pub authority: Arc<Authority>,
    pub events: Recorder,
    pub node: SocketAddr,
    pub enroll: SocketAddr,
    pub shutdown: CancellationToken,
    _stop: tokio_util::sync::DropGuard,
    pub dir: Arc<tempfile::TempDir>,
}

impl Rig {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        windlass_identity::install_provider();
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), Duration::ZERO, change).await
    }

    /// Ends this master as kill -9 would, and starts another one over what it left.
    pub async fn restart(self, reconnect: Duration) -> Self {
        self.shutdown.cancel();
        let dir = self.dir.clone();
        drop(self);
        Self::start_in(dir, reconnect, |_| ()).await
    }

    async fn start_in(
        dir: Arc<tempfile::TempDir>,
        reconnect: Duration,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::new(dir.path());
        // Long enough that a busy machine does not lose a session by itself.
        config.heartbeat_ms = 2000;
        change(&mut config);
        let config = Arc::new(config);
        let authority = Arc::new(match config.authority().exists() {
            true => Authority::load(&config.authority()).unwrap(),
            false => Authority::create(&config.authority()).unwrap(),
        });
        let store = open(&config.database()).await;
        let fleet = Fleet::open(store.clone()).await.unwrap();
        let catalog = Catalog::open(store.clone(), fleet.clone()).await.unwrap();
        let options = Options { reconnect };
        let bundles = Bundles::open_with(options, &config, store.clone(), fleet.clone(), catalog.clone())
            .await
            .unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(bundles.clone().drive(shutdown.clone()));
        let status = Statuses::open(store.clone(), fleet.clone()).await.unwrap();
        tokio::spawn(status.clone().tend(shutdown.clone()));
        let events = Recorder::default();

        let (key, server) = authority.server(&config.server_names).unwrap();
        let authorities = [authority.der().clone()];
        let node_tls =
            ServerTls::mutual(&server.chain_pem, &key, &authorities, Arc::new(NodesOnly), &["h2"]).unwrap();
        let enroll_tls = ServerTls::server_only(&server.chain_pem, &key, &["h2"]).unwrap();
        let bind = || TcpListener::bind("127.0.0.1:0");
        let node = TlsListener::new(bind().await.unwrap(), &node_tls).unwrap();
        let enroll = TlsListener::new(bind().await.unwrap(), &enroll_tls).unwrap();
        let (node_address, enroll_address) = (node.local_addr(), enroll.local_addr());
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
            status: status.clone(),
            authority: authority.clone(),
            events: Arc::new(events.clone()),
            epoch: 1,
            shutdown: shutdown.clone(),
            tasks: tokio_util::task::TaskTracker::new(),
        };
        tokio::spawn(enroll::serve(enrollment.routes(), enroll, shutdown.clone()));
        tokio::spawn(session::serve(sessions.routes(), node, shutdown.clone()));
        Rig {
            config,
            store,
            fleet,
            catalog,
            bundles,
            status,
            authority,
            events,
            node: node_address,
            enroll: enroll_address,
            _stop: shutdown.clone().drop_guard(),
            shutdown,
            dir,
        }
    }

    pub fn trust(&self) -> Trust {
        Trust::Pin(self.authority.fingerprint())
    }

    /// One enrolment request, from a host that pins `pin`.
    pub async fn request(&self, pin: Fingerprint, request: EnrollRequest) -> Result<EnrollReply, Status> {
        let tls = client_config(&Trust::Pin(pin), None, &["h2"]).unwrap();
        let channel = channel(&self.enroll.to_string(), Arc::new(tls), &ChannelOptions::default()).unwrap();
        let reply = soon("a reply", EnrollClient::new(channel).request(request)).await?;
        Ok(reply.into_inner())
    }

    /// Ask to join.
    pub async fn ask(
        &self,
        key: &NodeKey,
        name: &str,
        token: &str,
        wait_ms: u32,
    ) -> Result<EnrollReply, Status> {
        let request = EnrollRequest {
            csr_pem: key.csr_pem().unwrap(),
            name: name.into(),
            join_token: token.into(),
            facts_json: br#"{"os":"debian"}"#.to_vec().into(),
            wait_ms,
            host_version: "0.1.0".into(),
            nonce: b"nonce".to_vec().into(),
        };
        self.request(self.authority.fingerprint(), request).await
    }

    pub async fn token(&self) -> String {
        self.fleet.create_join_token(&NewJoinToken::default()).await.unwrap().token.unwrap()
    }

    /// A host that has joined.
    pub async fn join(&self, name: &str) -> FakeHost {
        let key = NodeKey::generate().unwrap();
        let token = self.token().await;
        let reply = self.ask(&key, name, &token, 0).await.unwrap();
        FakeHost::new(self.node, self.trust(), &key, &reply.certificate_pem)
    }

    /// The node of this name.
    pub fn named(&self, name: &str) -> Arc<NodeRecord> {
        self.fleet.find(name).unwrap()
    }

    /// The identity of a client with this certificate.
    pub fn identity(chain: &str, key: &NodeKey) -> Arc<ClientIdentity> {
        ClientIdentity::new(chain, key).unwrap()
    }
}
