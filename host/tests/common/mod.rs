//! A master for tests: real TLS, the real protocol, and what it says is up to the test.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod blobs;
pub mod plugin;
pub mod site;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::{
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use windlass_host::{
    bundles::{BundlesError, Interrupted, Source},
    config::Config,
    engine::{Catalogue, Engine},
    jobs::{Admission, Call, Executor, Finished, Progress, Refused, Work},
    service::Host,
    session::State as HostState,
};
use windlass_identity::{
    CertificateFacts, NodeIdentity, NodeKey, PeerCheck, PeerInfo, PeerRefused, ServerTls, TlsListener,
    certificates_from_pem, spki_fingerprint,
};
use windlass_proto::v1::{
    self, EnrollReply, EnrollRequest, HostMessage, MasterMessage, RenewReply, RenewRequest,
    enroll_reply::State,
    enroll_server::{Enroll, EnrollServer},
    host_message, master_message,
    node_server::{Node, NodeServer},
};
use windlass_types::{
    Digest, Effect, Fingerprint, JobId, NodeId, OperationName, Outcome, Refusal, RequestId,
};

/// Nothing in these tests takes this long.
pub const LIMIT: Duration = Duration::from_secs(30);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: took too long"))
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let certificate = params.self_signed(&key).unwrap();
        Authority { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// Certificate for a request; valid from ten seconds ago for `seconds`.
    pub fn sign(&self, csr: &str, name: SanType, usage: ExtendedKeyUsagePurpose, seconds: i64) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        params.not_before = OffsetDateTime::now_utc() - time::Duration::seconds(10);
        params.not_after = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        request.params = params;
        request.signed_by(&self.issuer).unwrap().pem()
    }

    pub fn node(&self, csr: &str, node: NodeIdentity, seconds: i64) -> String {
        let name = SanType::URI(node.uri().try_into().unwrap());
        self.sign(csr, name, ExtendedKeyUsagePurpose::ClientAuth, seconds)
    }

    fn server(&self) -> (NodeKey, String) {
        let key = NodeKey::generate().unwrap();
        let name = SanType::DnsName("localhost".try_into().unwrap());
        let chain = self.sign(&key.csr_pem().unwrap(), name, ExtendedKeyUsagePurpose::ServerAuth, 86_400);
        (key, chain + &self.pem)
    }

    pub fn fingerprint(&self) -> Fingerprint {
        spki_fingerprint(&certificates_from_pem(&self.pem).unwrap()[0]).unwrap()
    }
}

/// What the master does; tests change it at any time.
pub struct Behaviour {
    pub enroll: State,
    /// Lifetime of node certificates.
    pub seconds: i64,
    /// Refuse sessions with this.
    pub refuse: Option<Status>,
    /// Turn peers away in the handshake.
    pub peer: Option<PeerRefused>,
    /// Certificates come from this authority instead.
    pub signer: Option<Arc<Authority>>,
    /// Answer with another nonce.
    pub wrong_nonce: bool,
    /// Answer heartbeats.
    pub beats: bool,
    pub heartbeat_ms: u32,
    pub epoch: u64,
}

pub struct Shared {
    pub authority: Arc<Authority>,
    pub behaviour: Mutex<Behaviour>,
    pub node: NodeId,
    pub generation: AtomicU64,
    pub asked: watch::Sender<Vec<EnrollRequest>>,
    sessions: mpsc::Sender<Session>,
    pub count: AtomicUsize,
    pub blobs: Arc<blobs::Blobs>,
}

/// The master's end of one session.
pub struct Session {
    pub hello: v1::Hello,
    pub generation: u64,
    /// What the host was welcomed with.
    pub epoch: u64,
    pub tx: mpsc::Sender<Result<MasterMessage, Status>>,
    pub rx: mpsc::Receiver<HostMessage>,
    pub cut: windlass_identity::CutHandle,
    /// Results that came while something else was waited for.
    pub results: Vec<v1::Result>,
}

#[derive(Clone)]
struct Service(Arc<Shared>);

#[tonic::async_trait]
impl Enroll for Service {
    async fn request(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollReply>, Status> {
        let request = request.into_inner();
        self.0.asked.send_modify(|asked| asked.push(request.clone()));
        let behaviour = self.0.behaviour.lock().unwrap();
        let mut reply = EnrollReply { nonce: request.nonce.clone(), ..EnrollReply::default() };
        if behaviour.wrong_nonce {
            reply.nonce = vec![0; 32].into();
        }
        reply.set_state(behaviour.enroll);
        if behaviour.enroll == State::Accepted {
            let generation = self.0.generation.fetch_add(1, Ordering::SeqCst) + 1;
            let authority = behaviour.signer.as_ref().unwrap_or(&self.0.authority);
            let node = NodeIdentity { id: self.0.node, generation };
            reply.certificate_pem = authority.node(&request.csr_pem, node, behaviour.seconds);
            reply.ca_pem = authority.pem.clone();
        }
        Ok(Response::new(reply))
    }
}

#[tonic::async_trait]
impl Node for Service {
    type ConnectStream = ReceiverStream<Result<MasterMessage, Status>>;
    type FetchStream = ReceiverStream<Result<v1::Chunk, Status>>;

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        self.0.blobs.fetch(request.into_inner())
    }

    async fn connect(
        &self,
        request: Request<Streaming<HostMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = request.extensions().get::<PeerInfo>().unwrap().clone();
        let node = peer.certificate.as_ref().unwrap().node.unwrap();
        let (refuse, beats, heartbeat_ms, epoch) = {
            let behaviour = self.0.behaviour.lock().unwrap();
            (behaviour.refuse.clone(), behaviour.beats, behaviour.heartbeat_ms, behaviour.epoch)
        };
        self.0.count.fetch_add(1, Ordering::SeqCst);
        if let Some(status) = refuse {
            return Err(status);
        }
        let mut stream = request.into_inner();
        let (tx, out) = mpsc::channel(64);
        let (forward, rx) = mpsc::channel(1024);
        let shared = Arc::clone(&self.0);
        let answers = tx.clone();
        tokio::spawn(async move {
            let Ok(Some(HostMessage { kind: Some(host_message::Kind::Hello(hello)) })) =
                stream.message().await
            else {
                panic!("the first message must be a hello");
            };
            let welcome = v1::Welcome {
                node_id: node.id.to_string(),
                node_name: "n1".into(),
                heartbeat_ms,
                time_ms: windlass_host::journal::now_ms(),
                master_version: "test".into(),
                epoch,
                // What these tests are about is said one by one.
                takes_watch_reports: false,
            };
            let _ =
                answers.send(Ok(MasterMessage { kind: Some(master_message::Kind::Welcome(welcome)) })).await;
            let session = Session {
                hello,
                generation: node.generation,
                epoch,
                tx: answers.clone(),
                rx,
                cut: peer.cut.clone(),
                results: Vec::new(),
            };
            if shared.sessions.send(session).await.is_err() {
                return;
            }
            while let Ok(Some(message)) = stream.message().await {
                if let Some(host_message::Kind::Heartbeat(beat)) = &message.kind
                    && beats
                    && beat.answers == 0
                {
                    let beat = v1::Heartbeat { sequence: 0, answers: beat.sequence, running_jobs: 0 };
                    let _ = answers
                        .try_send(Ok(MasterMessage { kind: Some(master_message::Kind::Heartbeat(beat)) }));
                }
                if forward.send(message).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(out)))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        let generation = self.0.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let seconds = self.0.behaviour.lock().unwrap().seconds;
        let node = NodeIdentity { id: self.0.node, generation };
        let certificate_pem = self.0.authority.node(&request.into_inner().csr_pem, node, seconds);
        Ok(Response::new(RenewReply { certificate_pem, ca_pem: self.0.authority.pem.clone() }))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl PeerCheck for Shared {
    fn check(&self, _: &CertificateFacts) -> Result<(), PeerRefused> {
        match self.behaviour.lock().unwrap().peer {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }
}

pub struct FakeMaster {
    pub shared: Arc<Shared>,
    sessions: tokio::sync::Mutex<mpsc::Receiver<Session>>,
    pub nodes: String,
    pub enroll: String,
    stop: CancellationToken,
}

impl Drop for FakeMaster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl FakeMaster {
    pub async fn start() -> Self {
        Self::start_with(Arc::new(Authority::new())).await
    }

    pub async fn start_with(authority: Arc<Authority>) -> Self {
        windlass_identity::install_provider();
        let (sender, sessions) = mpsc::channel(16);
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour {
                enroll: State::Accepted,
                seconds: 3600,
                refuse: None,
                peer: None,
                signer: None,
                wrong_nonce: false,
                beats: true,
                heartbeat_ms: 200,
                epoch: 1,
            }),
            node: NodeId::new(),
            generation: AtomicU64::new(0),
            asked: watch::channel(Vec::new()).0,
            sessions: sender,
            count: AtomicUsize::new(0),
            blobs: Arc::default(),
            authority,
        });
        let (key, chain) = shared.authority.server();
        let roots = certificates_from_pem(&shared.authority.pem).unwrap();
        let mutual = ServerTls::mutual(&chain, &key, &roots, Arc::<Shared>::clone(&shared), &["h2"]).unwrap();
        let one_sided = ServerTls::server_only(&chain, &key, &["h2"]).unwrap();
        let stop = CancellationToken::new();
        let listen = async |tls: &ServerTls| {
            let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = tcp.local_addr().unwrap().port();
            (TlsListener::new(tcp, tls).unwrap(), format!("localhost:{port}"))
        };
        let (node_listener, nodes) = listen(&mutual).await;
        let (enroll_listener, enroll) = listen(&one_sided).await;
        let service = Service(Arc::clone(&shared));
        let node_server = tonic::transport::Server::builder().add_service(
            NodeServer::new(service.clone())
                .max_decoding_message_size(windlass_proto::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(windlass_proto::MAX_MESSAGE_BYTES),
        );
        let token = stop.clone();
        tokio::spawn(async move {
            let ended = token.cancelled_owned();
            tokio::select! {
                _ = node_server.serve_with_incoming(node_listener.incoming()) => {}
                () = ended => {}
            }
        });
        let token = stop.clone();
        tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(EnrollServer::new(service));
            tokio::select! {
                _ = server.serve_with_incoming(enroll_listener.incoming()) => {}
                () = token.cancelled_owned() => {}
            }
        });
        FakeMaster { shared, sessions: tokio::sync::Mutex::new(sessions), nodes, enroll, stop }
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour.lock().unwrap());
    }

    pub async fn session(&self) -> Session {
        within("a session", async { self.sessions.lock().await.recv().await.unwrap() }).await
    }

    pub async fn asked(&self, times: usize) -> EnrollRequest {
        let mut asked = self.shared.asked.subscribe();
        within("a request to enrol", async {
            asked.wait_for(|asked| asked.len() >= times).await.unwrap()[times - 1].clone()
        })
        .await
    }

    pub fn config(&self, dir: &Path, more: &str) -> Config {
        Config::parse(&self.config_text(dir, more), &dir.join("host.toml")).unwrap()
    }

    pub fn config_text(&self, dir: &Path, more: &str) -> String {
        format!(
            "name = \"n1\"\nca_fingerprint = \"{}\"\nstate_dir = \"{}\"\ndrain_seconds = 5\n{more}\n\
             [[masters]]\nnodes = \"{}\"\nenroll = \"{}\"\n",
            self.shared.authority.fingerprint(),
            dir.display(),
            self.nodes,
            self.enroll
        )
    }
}

impl Session {
    pub async fn say(&self, kind: master_message::Kind) {
        let _ = self.tx.send(Ok(MasterMessage { kind: Some(kind) })).await;
    }
    pub async fn run(&self, id: RequestId, operation: &str) {
        self.say(master_message::Kind::Run(v1::Run {
            request_id: id.to_string(),
            job_id: JobId::new().to_string(),
            operation: operation.into(),
            args_json: "{\"n\":18446744073709551615}".into(),
            remaining_ms: 60_000,
            ..v1::Run::default()
        }))
        .await;
    }
    pub async fn acknowledge(&self, id: RequestId) {
        self.say(master_message::Kind::Acknowledge(v1::Acknowledge { request_id: id.to_string() })).await;
    }
    pub async fn next(&mut self) -> host_message::Kind {
        within("a message of the host", self.rx.recv()).await.expect("the session ended").kind.unwrap()
    }
    /// The next message but heartbeats.
    pub async fn said(&mut self) -> host_message::Kind {
        loop {
            match self.next().await {
                host_message::Kind::Heartbeat(_) => {}
                other => return other,
            }
        }
    }
    /// The next result.
    pub async fn result(&mut self) -> (RequestId, Outcome) {
        loop {
            if let host_message::Kind::Result(result) = self.said().await {
                return (
                    result.request_id.parse().unwrap(),
                    serde_json::from_slice(&result.outcome_json).unwrap(),
                );
            }
        }
    }
    pub async fn started(&mut self, id: RequestId) {
        loop {
            if let host_message::Kind::Started(started) = self.said().await
                && started.request_id == id.to_string()
            {
                return;
            }
        }
    }
    /// Until the host ended the session.
    pub async fn ended(&mut self) {
        within("the end of the session", async { while self.rx.recv().await.is_some() {} }).await;
    }
}

/// Plugins that are not there: `demo.op.*` ends with a permit of `go`, or when it is cancelled.
pub struct FakeEngine {
    pub go: Arc<Semaphore>,
    pub runs: Arc<AtomicUsize>,
    pub running: watch::Sender<usize>,
    pub changes: watch::Sender<u64>,
    pub interrupted: Mutex<Vec<Interrupted>>,
}

impl FakeEngine {
    pub fn new() -> Arc<Self> {
        Arc::new(FakeEngine {
            go: Arc::new(Semaphore::new(0)),
            runs: Arc::default(),
            running: watch::channel(0).0,
            changes: watch::channel(0).0,
            interrupted: Mutex::default(),
        })
    }
    pub async fn running(&self, count: usize) {
        let mut running = self.running.subscribe();
        within("operations at work", running.wait_for(|now| *now == count)).await.unwrap();
    }
}

struct FakeWork {
    go: Arc<Semaphore>,
    runs: Arc<AtomicUsize>,
    running: watch::Sender<usize>,
}

impl Executor for FakeEngine {
    fn admit(&self, operation: &OperationName, _: Option<Digest>) -> Result<Admission, Refused> {
        if operation.plugin().as_str() != "demo" {
            return Err(Refused::new(Refusal::UnknownOperation, "this node has no such plugin"));
        }
        Ok(Admission {
            effect: if operation.function() == "read" { Effect::Read } else { Effect::Change },
            timeout: Duration::from_secs(60),
            concurrency: 8,
            plugin_digest: Some(Digest::of(b"demo")),
            work: Box::new(FakeWork {
                go: Arc::clone(&self.go),
                runs: Arc::clone(&self.runs),
                running: self.running.clone(),
            }),
        })
    }
}

impl Work for FakeWork {
    fn run(self: Box<Self>, call: Call) -> Pin<Box<dyn Future<Output = Finished> + Send>> {
        Box::pin(async move {
            self.runs.fetch_add(1, Ordering::SeqCst);
            self.running.send_modify(|count| *count += 1);
            let _ = call.progress.send(Progress { message: "half".into(), percent: Some(50) }).await;
            let outcome = tokio::select! {
                permit = self.go.acquire() => {
                    permit.unwrap().forget();
                    Outcome::Succeeded { value: call.args }
                }
                () = call.cancel.cancelled() => Outcome::Cancelled { started: true },
            };
            self.running.send_modify(|count| *count -= 1);
            outcome.into()
        })
    }
}

impl Catalogue for FakeEngine {
    fn inventory(&self) -> v1::Inventory {
        v1::Inventory {
            plugins: vec![v1::Plugin {
                name: "demo".into(),
                version: format!("1.0.{}", *self.changes.borrow()),
                digest: Digest::of(b"demo").to_string(),
                ..v1::Plugin::default()
            }],
            ..v1::Inventory::default()
        }
    }
    fn source(&self, digest: Digest) -> Option<v1::PluginSource> {
        (digest == Digest::of(b"demo")).then(|| v1::PluginSource {
            digest: digest.to_string(),
            wit: "wit".into(),
            manifest: "manifest".into(),
            image: "image".into(),
        })
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Engine for FakeEngine {
    fn node_is(&self, _: NodeId, name: &str) {
        assert_eq!(name, "n1");
    }
    fn begin(
        &self,
        interrupted: Vec<Interrupted>,
    ) -> Pin<Box<dyn Future<Output = Result<(), BundlesError>> + Send + '_>> {
        self.interrupted.lock().unwrap().extend(interrupted);
        Box::pin(async { Ok(()) })
    }
    fn desired(&self, _: v1::Desired) {}
    fn blobs(&self, _: Option<Arc<dyn Source>>) {}
    fn reload(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async { self.changes.send_modify(|version| *version += 1) })
    }
}

/// A host that runs in this process.
pub struct Running {
    pub state: watch::Receiver<HostState>,
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<Result<(), windlass_host::service::HostError>>,
}

impl Running {
    pub async fn start(config: Config, engine: &Arc<FakeEngine>) -> Self {
        Self::with(config, engine.clone()).await
    }
    pub async fn with(config: Config, engine: Arc<dyn Engine>) -> Self {
        let host = Host::open(config, engine).await.unwrap().with_resend(Duration::from_millis(100));
        let stop = CancellationToken::new();
        Running { state: host.state(), task: tokio::spawn(host.run(stop.clone())), stop }
    }
    /// Until the host is in a state whose words contain `part`.
    pub async fn says(&mut self, part: &str) -> HostState {
        let found = within(part, self.state.wait_for(|state| state.to_string().contains(part))).await;
        found.unwrap().clone()
    }
    pub async fn stop(self) {
        self.stop.cancel();
        within("the host to stop", self.task).await.unwrap().unwrap();
    }
    /// Without a chance to say or write anything more.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}
