//! A master that says what a test tells it to, over TLS.

mod bundles;

pub use bundles::{DEPLOYMENT, Frame};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use futures_util::StreamExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, process::Command, sync::watch};
use windlass_identity::{Conn, NodeKey, ServerTls, TlsListener, certificates_from_pem, spki_fingerprint};
use windlass_types::{
    Digest, Fingerprint, JobId, NodeId, Outcome, OutcomeKind,
    api::*,
    schema,
    shape::{Operation, Signature},
};

pub const TOKEN: &str = "good";
pub const JOB: &str = "0199a1b2-c3d4-7000-8000-000000000001";
const TIME_MS: i64 = 1_772_366_400_000;

/// How a job goes.
#[derive(Clone)]
pub struct Script {
    /// Nodes and how each ends.
    pub outcomes: Vec<(&'static str, Value)>,
    /// The job has ended before the reply to its making.
    pub quick: bool,
    /// The job ends only once it is cancelled.
    pub until_cancelled: bool,
    /// Cancelling changes nothing.
    pub deaf: bool,
    /// The connection breaks before the reply to a new job.
    pub drops_new_jobs: bool,
    /// The stream of events breaks after so many events, the first time.
    pub breaks_after: Option<usize>,
    /// How a deployment goes.
    pub frames: &'static [Frame],
    /// The bundles ask for more than was approved.
    pub asks_for_more: bool,
    /// A deployment is under way.
    pub busy: bool,
}

/// What the program did.
#[derive(Default)]
pub struct Seen {
    pub jobs: Vec<NewJob>,
    pub changes: Vec<(String, Value)>,
    pub last_event_ids: Vec<Option<String>>,
    pub cancels: usize,
}

pub struct Fake {
    script: Script,
    pub seen: Mutex<Seen>,
    cancelled: watch::Sender<bool>,
    /// Uploaded, in order.
    pub packages: Mutex<Vec<Vec<u8>>>,
    /// Of every connection so far.
    cuts: Mutex<Vec<windlass_identity::CutHandle>>,
    /// How many streams of events were begun, and jobs cancelled.
    pub steps: watch::Sender<(usize, usize)>,
}

/// A running fake, and a home for the program.
pub struct Master {
    pub fake: Arc<Fake>,
    pub address: SocketAddr,
    pub pin: Fingerprint,
    pub ca_pem: String,
    pub home: tempfile::TempDir,
}

pub fn succeeded(value: Value) -> Value {
    json!({ "status": "succeeded", "value": value })
}

impl Default for Script {
    fn default() -> Self {
        Script {
            outcomes: vec![("n1", succeeded(json!("done")))],
            quick: true,
            until_cancelled: false,
            deaf: false,
            drops_new_jobs: false,
            breaks_after: None,
            frames: &[
                ("running", &["installing", "waiting"]),
                ("running", &["active", "sent"]),
                ("succeeded", &["active", "active"]),
            ],
            asks_for_more: false,
            busy: false,
        }
    }
}

struct Listener(TlsListener, Arc<Fake>);
impl axum::serve::Listener for Listener {
    type Io = Conn;
    type Addr = SocketAddr;
    async fn accept(&mut self) -> (Conn, SocketAddr) {
        let conn = self.0.accept().await;
        let address = conn.peer().address;
        self.1.cuts.lock().unwrap().push(conn.peer().cut.clone());
        (conn, address)
    }
    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.0.local_addr())
    }
}

impl Master {
    pub async fn start(script: Script) -> Master {
        windlass_identity::install_provider();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = NodeKey::generate().unwrap();
        let mut request = CertificateSigningRequestParams::from_pem(&key.csr_pem().unwrap()).unwrap();
        request.params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let chain = request.signed_by(&issuer).unwrap().pem() + &ca_pem;
        let tls = ServerTls::server_only(&chain, &key, &["http/1.1"]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = TlsListener::new(listener, &tls).unwrap();
        let address = listener.local_addr();
        let pin = spki_fingerprint(&certificates_from_pem(&ca_pem).unwrap()[0]).unwrap();
        let fake = Arc::new(Fake {
            script,
            seen: Mutex::default(),
            packages: Mutex::default(),
            cancelled: watch::Sender::new(false),
            cuts: Mutex::default(),
            steps: watch::Sender::new((0, 0)),
        });
        tokio::spawn(axum::serve(Listener(listener, fake.clone()), router(fake.clone())).into_future());
        Master { fake, address, pin, ca_pem, home: tempfile::tempdir().unwrap() }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The program, with nothing of this process's environment.
    pub fn bare(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// The program, knowing this master.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare(args);
        command
            .env("WINDLASS_URL", self.url())
            .env("WINDLASS_TOKEN", TOKEN)
            .env("WINDLASS_CA_FINGERPRINT", self.pin.to_string());
        command
    }

    pub async fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args)).await
    }

    /// Wait until the program has begun so many streams of events and cancels.
    pub async fn wait_for(&self, streams: usize, cancels: usize) {
        let mut steps = self.fake.steps.subscribe();
        let reached = steps.wait_for(|(begun, cancelled)| *begun >= streams && *cancelled >= cancels);
        tokio::time::timeout(std::time::Duration::from_secs(20), reached)
            .await
            .expect("the program got there")
            .unwrap();
    }
}

/// How the program ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub async fn of(command: &mut Command) -> Run {
        command.spawn().unwrap().wait_with_output().await.unwrap().into()
    }

    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Run {
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

type Shared = State<Arc<Fake>>;

struct Refusal(StatusCode, &'static str, String, Option<&'static str>);
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error =
            ApiError { code: self.1.into(), message: self.2, hint: self.3.map(Into::into), pointer: None };
        (self.0, Json(error)).into_response()
    }
}

fn not_found(what: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "not_found", format!("there is no {what}"), None)
}

fn router(fake: Arc<Fake>) -> Router {
    let api = Router::new()
        .route(
            "/whoami",
            get(async || {
                Json(WhoAmI {
                    name: "tester".into(),
                    role: Role::Admin.into(),
                    master_version: "0.1.0".into(),
                })
            }),
        )
        .route("/nodes", get(nodes))
        .route("/nodes/{node}", get(node).patch(change).delete(async || StatusCode::NO_CONTENT))
        .route("/nodes/{node}/accept", post(change))
        .route("/join-tokens", post(join_token))
        .route("/operations", get(async || Json(Page { items: operations(), next: None })))
        .route("/operations/{name}", get(operation))
        .route("/targets/resolve", post(resolve))
        .route("/jobs", get(jobs).post(new_job))
        .route("/jobs/{id}", get(job))
        .route("/jobs/{id}/nodes", get(job_nodes))
        .route("/jobs/{id}/events", get(events))
        .route("/jobs/{id}/cancel", post(cancel))
        .route("/jobs/{id}/nodes/{node}/trace", get(trace))
        .route(
            "/tokens/{id}",
            delete(async || Refusal(StatusCode::FORBIDDEN, "forbidden", "role admin is needed".into(), None)),
        )
        .merge(bundles::router())
        .layer(middleware::from_fn(authorise))
        .with_state(fake);
    Router::new().nest("/api/v1", api)
}

async fn authorise(headers: HeaderMap, request: Request, next: Next) -> Response {
    if headers.get(header::AUTHORIZATION).is_some_and(|value| value == format!("Bearer {TOKEN}").as_str()) {
        return next.run(request).await;
    }
    Refusal(StatusCode::UNAUTHORIZED, "unauthenticated", "the token is not good".into(), None).into_response()
}

fn node_id(index: usize) -> NodeId {
    format!("00000000-0000-4000-8000-{index:012}").parse().unwrap()
}

fn all_nodes() -> Vec<Node> {
    let node = |index: usize, name: &str, state| Node {
        id: node_id(index),
        name: name.parse().unwrap(),
        state,
        fingerprint: Digest::of(name.as_bytes()),
        online: state == NodeState::Accepted,
        last_seen_ms: None,
        address: None,
        host_version: Some("0.1.0".into()),
        facts: BTreeMap::new(),
        labels: BTreeMap::new(),
        flags: Default::default(),
        plugins: Vec::new(),
        created_ms: TIME_MS,
        certificate_expires_ms: None,
    };
    vec![
        node(0, "n1", NodeState::Accepted),
        node(1, "n2", NodeState::Accepted),
        node(2, "n3", NodeState::Pending),
    ]
}

/// Two items a page, whatever is asked for.
fn page<T>(all: Vec<T>, after: Option<&String>) -> Page<T> {
    let from: usize = after.map_or(0, |after| after.parse().unwrap());
    let next = (from + 2 < all.len()).then(|| (from + 2).to_string());
    Page { items: all.into_iter().skip(from).take(2).collect(), next }
}

type Params = Query<BTreeMap<String, String>>;

async fn nodes(Query(params): Params) -> Json<Page<Node>> {
    let mut all = all_nodes();
    if let Some(state) = params.get("state") {
        all.retain(|node| serde_json::to_value(node.state).unwrap() == **state);
    }
    Json(page(all, params.get("after")))
}

fn find(name: &str) -> Result<Node, Refusal> {
    let found =
        all_nodes().into_iter().find(|node| node.name.as_str() == name || node.id.to_string() == name);
    found.ok_or_else(|| not_found(&format!("node `{name}`")))
}

async fn node(Path(name): Path<String>) -> Result<Json<Node>, Refusal> {
    find(&name).map(Json)
}

async fn change(
    State(fake): Shared,
    Path(name): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Node>, Refusal> {
    let node = find(&name)?;
    fake.seen.lock().unwrap().changes.push((node.name.to_string(), body));
    Ok(Json(node))
}

async fn join_token() -> Json<JoinToken> {
    Json(JoinToken {
        id: "j1".into(),
        token: Some("wj_secret".into()),
        labels: BTreeMap::new(),
        created_ms: TIME_MS,
        expires_ms: TIME_MS,
        used_by: None,
    })
}

pub fn operations() -> Vec<OperationInfo> {
    let operation = |name: &str, effect: &str| {
        let signature: Signature = serde_json::from_value(json!({
            "params": [
                { "name": "filter", "shape": { "type": "option", "item": { "type": "string" } }, "docs": "Which items." },
                { "name": "count", "shape": { "type": "option", "item": { "type": "u32" } }, "docs": "How many." }
            ],
            "result": { "type": "result", "ok": { "type": "string" }, "err": { "type": "string" } }
        }))
        .unwrap();
        OperationInfo {
            name: name.parse().unwrap(),
            effect: serde_json::from_value(json!(effect)).unwrap(),
            timeout_ms: 30_000,
            idempotent: true,
            locks: Vec::new(),
            plugin_version: "0.1.0".into(),
            plugin_digest: Digest::of(b"demo"),
            type_digest: signature.digest(),
            args_schema: schema::of_params(&signature),
            operation: Operation {
                name: name.parse().unwrap(),
                docs: "Do something with items.".into(),
                signature,
                planned: false,
            },
            nodes: 2,
            other_types: BTreeMap::new(),
        }
    };
    vec![operation("demo.item.list", "read"), operation("demo.item.wipe", "destroy")]
}

async fn operation(Path(name): Path<String>) -> Result<Json<OperationInfo>, Refusal> {
    operations().into_iter().find(|info| info.name.as_str() == name).map(Json).ok_or_else(|| {
        let message = format!("no node offers an operation `{name}`");
        Refusal(
            StatusCode::NOT_FOUND,
            "unknown_operation",
            message,
            Some(if name.starts_with("demo") {
                "did you mean `demo.item.list`?"
            } else {
                "`GET /operations` lists what the nodes offer"
            }),
        )
    })
}

async fn resolve(Json(_): Json<Target>) -> Json<Resolved> {
    let node = |node: Node| ResolvedNode { id: node.id, name: node.name, online: node.online };
    Json(Resolved { nodes: all_nodes().into_iter().take(2).map(node).collect() })
}

impl Fake {
    fn results(&self) -> Vec<JobNode> {
        let cancelled = *self.cancelled.borrow();
        let outcome = |value: &Value| -> Outcome {
            let value =
                if cancelled { json!({ "status": "cancelled", "started": true }) } else { value.clone() };
            serde_json::from_value(value).unwrap()
        };
        self.script
            .outcomes
            .iter()
            .enumerate()
            .map(|(index, (name, value))| JobNode {
                node: node_id(index),
                name: name.parse().unwrap(),
                state: JobNodeState::Done,
                outcome: Some(outcome(value)),
                stats: None,
                plugin_digest: None,
                plugin_version: None,
                started_ms: Some(TIME_MS),
                finished_ms: Some(TIME_MS + 40),
                attempts: None,
                output_bytes: None,
            })
            .collect()
    }

    fn job(&self, ended: bool) -> Job {
        let new = self.seen.lock().unwrap().jobs.last().cloned();
        let mut outcomes: BTreeMap<OutcomeKind, u32> = BTreeMap::new();
        for node in self.results().iter().filter(|_| ended) {
            *outcomes.entry(node.outcome.as_ref().unwrap().kind()).or_default() += 1;
        }
        Job {
            id: JOB.parse().unwrap(),
            operation: new
                .as_ref()
                .map_or_else(|| "demo.item.list".parse().unwrap(), |new| new.operation.clone()),
            args: new.as_ref().map_or_else(|| json!({}), |new| new.args.clone()),
            effect: windlass_types::Effect::Read,
            dry_run: new.as_ref().is_some_and(|new| new.dry_run),
            target: Target { on: vec!["n*".into()], ..Target::default() },
            state: if ended { JobState::Finished } else { JobState::Running },
            cancel_requested: *self.cancelled.borrow(),
            created_by: "tester".into(),
            created_ms: TIME_MS,
            deadline_ms: TIME_MS + 40_000,
            finished_ms: ended.then_some(TIME_MS + 50),
            nodes: u32::try_from(self.script.outcomes.len()).unwrap(),
            batch: None,
            max_failures: None,
            retries: None,
            wait_offline_ms: None,
            locks: Vec::new(),
            outcomes,
            results: None,
        }
    }
}

#[derive(Deserialize)]
struct Wait {
    wait_ms: u64,
}

async fn new_job(
    State(fake): Shared,
    Query(wait): Query<Wait>,
    Json(new): Json<NewJob>,
) -> Result<(StatusCode, Json<Job>), Refusal> {
    if new.target.on == ["nothing*"] {
        return Err(Refusal(
            StatusCode::UNPROCESSABLE_ENTITY,
            "empty_target",
            "no node fits the target".into(),
            None,
        ));
    }
    fake.seen.lock().unwrap().jobs.push(new);
    if fake.script.drops_new_jobs {
        fake.cuts.lock().unwrap().iter().for_each(windlass_identity::CutHandle::cut);
        return std::future::pending().await;
    }
    let ended = fake.script.quick && wait.wait_ms > 0;
    let mut job = fake.job(ended);
    job.results = ended.then(|| fake.results());
    Ok((StatusCode::CREATED, Json(job)))
}

async fn jobs(State(fake): Shared) -> Json<Page<Job>> {
    let mut second = fake.job(true);
    second.id = "0199a1b2-c3d4-7000-8000-000000000002".parse().unwrap();
    let mut third = fake.job(true);
    third.id = "0199a1b2-c3d5-7000-8000-000000000001".parse().unwrap();
    Json(Page { items: vec![third, second, fake.job(true)], next: None })
}

async fn job(State(fake): Shared, Path(id): Path<JobId>) -> Result<Json<Job>, Refusal> {
    if id.to_string() == JOB {
        Ok(Json(fake.job(fake.script.quick)))
    } else {
        Err(not_found(&format!("job `{id}`")))
    }
}

async fn job_nodes(State(fake): Shared, Path(_): Path<JobId>, Query(params): Params) -> Json<Page<JobNode>> {
    Json(page(fake.results(), params.get("after")))
}

async fn events(State(fake): Shared, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
    let first = {
        let mut seen = fake.seen.lock().unwrap();
        seen.last_event_ids.push(last.clone());
        seen.last_event_ids.len() == 1
    };
    fake.steps.send_modify(|steps| steps.0 += 1);
    let after: u64 = last.map_or(0, |id| id.parse().unwrap());
    let begin = vec![JobEventKind::Snapshot { job: fake.job(false) }];
    let limit = if first { fake.script.breaks_after.unwrap_or(usize::MAX) } else { usize::MAX };
    let waiting = fake.script.until_cancelled;
    let mut cancelled = fake.cancelled.subscribe();
    let rest = futures_util::stream::once(async move {
        if waiting {
            cancelled.wait_for(|cancelled| *cancelled).await.unwrap();
        }
        let mut rest: Vec<JobEventKind> =
            fake.results().into_iter().map(|node| JobEventKind::Node { node }).collect();
        rest.push(JobEventKind::Finished { job: fake.job(true) });
        futures_util::stream::iter(rest)
    })
    .flatten();
    let lines = futures_util::stream::iter(begin)
        .chain(rest)
        .enumerate()
        .map(|(index, kind)| JobEvent { seq: index as u64 + 1, kind })
        .filter(move |event| std::future::ready(event.seq > after))
        .take(limit)
        .map(|event| {
            let data = serde_json::to_string(&event).unwrap();
            Ok::<_, std::convert::Infallible>(format!(
                ": alive\n\nid: {}\nevent: job\ndata: {data}\n\n",
                event.seq
            ))
        });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(lines)).into_response()
}

async fn cancel(State(fake): Shared, Path(_): Path<JobId>) -> Json<Job> {
    fake.seen.lock().unwrap().cancels += 1;
    if !fake.script.deaf {
        fake.cancelled.send_replace(true);
    }
    fake.steps.send_modify(|steps| steps.1 += 1);
    Json(fake.job(false))
}

async fn trace(Path((job, node)): Path<(JobId, String)>) -> Json<JobTrace> {
    let entries = json!([{ "seq": 0, "at_us": 10, "duration_us": 2_500, "function": "commands.run", "kind": "command",
        "program": "zpool", "path": "/sbin/zpool", "argv": ["list", "-H"], "exit": 0,
        "stdin_bytes": 0, "stdout_bytes": 10, "stderr_bytes": 0,
        "verdict": { "verdict": "would_run", "rule": "commands.zpool.allow[0]" } }]);
    let entries = serde_json::from_value(entries).unwrap();
    let id = node.parse().unwrap_or_else(|_| node_id(0));
    Json(JobTrace { job, node: id, name: "n1".parse().unwrap(), entries })
}
