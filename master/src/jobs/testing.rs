//! A fleet in memory for the tests of the jobs: it writes down what it is sent, and does what it is told.

use super::{Jobs, NodeEvents as _, Operations, Options, ResultRecord, live::Nodes};
use crate::{
    config::Retention,
    fleet::{Inventory, InventoryOperation, InventoryPlugin, NodeRecord, Offline, Presence},
    secrets::Vault,
    store::{Store, StoreError},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_proto::v1::{Run, master_message::Kind};
use windlass_types::{
    Digest, Effect, JobId, NodeId, OperationName, Outcome, RequestId,
    api::{Job, JobState, NewJob, NodeState, OperationInfo, Target},
    shape::{Field, Operation, Shape, Signature},
    trace::CallStats,
};

/// What every operation of the tests is called.
pub(crate) const OPERATION: &str = "monitor.system.read";
/// When a node that is down was last heard of.
pub(crate) const LAST_SEEN_MS: i64 = 1234;

/// An accepted node that has the operation.
pub(crate) fn node(name: &str) -> NodeRecord {
    let operation = InventoryOperation {
        type_digest: signature().digest(),
        effect: Effect::Read,
        timeout_ms: 1000,
        idempotent: true,
    };
    let plugin = InventoryPlugin {
        name: "monitor".parse().unwrap(),
        version: "1.0.0".into(),
        digest: Digest::of(b"bundle"),
        problem: None,
        previous: None,
        local: false,
        operations: [("system.read".to_owned(), operation)].into(),
    };
    NodeRecord {
        id: NodeId::new(),
        name: name.parse().unwrap(),
        state: NodeState::Accepted,
        fingerprint: Digest::of(name.as_bytes()),
        issued_generation: 1,
        seen_generation: 1,
        certificate_serial: None,
        certificate_expires_ms: None,
        labels: Arc::default(),
        flags: Arc::default(),
        facts: Arc::default(),
        inventory: Arc::new(Inventory { plugins: vec![plugin] }),
        progress: Arc::default(),
        sealing_key: None,
        host_version: None,
        address: None,
        created_ms: 0,
        presence: Arc::new(Presence::new(Some(LAST_SEEN_MS))),
    }
}

fn signature() -> Signature {
    let field = |name: &str, shape| Field { name: name.into(), shape, docs: String::new() };
    let optional = |shape| Shape::Option { item: Box::new(shape) };
    Signature {
        params: vec![field("limit", optional(Shape::U8)), field("big", optional(Shape::U64))],
        result: None,
    }
}

pub(crate) fn operation() -> OperationInfo {
    let name: OperationName = OPERATION.parse().unwrap();
    OperationInfo {
        name: name.clone(),
        effect: Effect::Read,
        timeout_ms: 1000,
        idempotent: true,
        locks: Vec::new(),
        plugin_version: "1.0.0".into(),
        plugin_digest: Digest::of(b"bundle"),
        type_digest: signature().digest(),
        operation: Operation { name, docs: String::new(), signature: signature(), planned: false },
        args_schema: Value::Null,
        nodes: 1,
        other_types: BTreeMap::new(),
    }
}

/// As a test wants it.
pub(crate) struct OneOperation(pub Mutex<OperationInfo>);

impl Operations for OneOperation {
    fn operation(&self, name: &OperationName) -> Option<Arc<OperationInfo>> {
        (name.as_str() == OPERATION).then(|| Arc::new(self.0.lock().unwrap().clone()))
    }
    fn names(&self) -> Vec<OperationName> {
        vec![OPERATION.parse().unwrap()]
    }
    fn version(&self, bundle: Digest) -> Option<String> {
        (bundle == Digest::of(b"bundle")).then(|| "1.0.0".to_owned())
    }
}

/// What a node was sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sent {
    Run(NodeId, RequestId),
    Cancel(NodeId, RequestId),
}

#[derive(Default)]
struct Nodes_ {
    records: BTreeMap<NodeId, Arc<NodeRecord>>,
    online: BTreeSet<NodeId>,
}

/// The fleet.
pub(crate) struct FakeFleet {
    nodes: Mutex<Nodes_>,
    sent: watch::Sender<Vec<Sent>>,
    /// Requests that came with secrets.
    secrets: Mutex<Vec<(NodeId, Run)>>,
}

impl Nodes for FakeFleet {
    fn all(&self) -> Arc<Vec<Arc<NodeRecord>>> {
        let mut all: Vec<_> = self.nodes.lock().unwrap().records.values().cloned().collect();
        all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Arc::new(all)
    }
    fn node(&self, id: NodeId) -> Option<Arc<NodeRecord>> {
        self.nodes.lock().unwrap().records.get(&id).cloned()
    }
    fn online(&self, id: NodeId) -> bool {
        self.nodes.lock().unwrap().online.contains(&id)
    }
    fn send(&self, id: NodeId, message: Kind) -> Result<(), Offline> {
        if !self.online(id) {
            return Err(Offline);
        }
        let sent = match message {
            Kind::Run(run) => {
                let request = run.request_id.parse().unwrap();
                if !run.secrets.is_empty() {
                    self.secrets.lock().unwrap().push((id, run));
                }
                Sent::Run(id, request)
            }
            Kind::Cancel(cancel) => Sent::Cancel(id, cancel.request_id.parse().unwrap()),
            other => panic!("a job sends no {other:?}"),
        };
        self.sent.send_modify(|all| all.push(sent));
        Ok(())
    }
}

impl FakeFleet {
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.borrow().clone()
    }
    /// The requests with secrets, in order.
    pub(crate) fn secrets_sent(&self) -> Vec<(NodeId, Run)> {
        self.secrets.lock().unwrap().clone()
    }
    /// The requests that a node was sent, in order, each as often as it was sent.
    pub(crate) fn runs(&self, node: NodeId) -> Vec<RequestId> {
        let run = |sent: &Sent| match sent {
            Sent::Run(to, request) if *to == node => Some(*request),
            _ => None,
        };
        self.sent().iter().filter_map(run).collect()
    }
    /// Wait until a node was told to cancel.
    pub(crate) async fn cancel_of(&self, node: NodeId) -> RequestId {
        let find = |all: &[Sent]| {
            all.iter().find_map(|sent| match sent {
                Sent::Cancel(to, request) if *to == node => Some(*request),
                _ => None,
            })
        };
        let mut receiver = self.sent.subscribe();
        let found = crate::testing::soon("a cancel", receiver.wait_for(|all| find(all).is_some())).await;
        find(&found.unwrap()).unwrap()
    }
}

/// Jobs over a real store and a fleet in memory.
pub(crate) struct Grid {
    pub dir: tempfile::TempDir,
    pub options: Options,
    pub store: Store,
    pub fleet: Arc<FakeFleet>,
    pub operation: Arc<OneOperation>,
    pub jobs: Jobs,
    pub vault: Vault,
    shutdown: CancellationToken,
}

impl Grid {
    /// Nodes of these names, all online.
    pub(crate) async fn new(names: &[&str]) -> Self {
        let options = Options {
            grace: Duration::from_millis(100),
            reconnect: Duration::from_millis(100),
            pauses: super::Pauses { busy: Duration::from_millis(1), failed: Duration::from_millis(1) },
            retention: Retention::default(),
        };
        Self::with(options, names).await
    }

    pub(crate) async fn with(options: Options, names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::open(&dir.path().join("db")).await;
        let mut nodes = Nodes_::default();
        for name in names {
            let node = Arc::new(node(name));
            nodes.online.insert(node.id);
            nodes.records.insert(node.id, node);
        }
        let fleet = Arc::new(FakeFleet {
            nodes: Mutex::new(nodes),
            sent: watch::Sender::default(),
            secrets: Mutex::default(),
        });
        let shutdown = CancellationToken::new();
        let operation = Arc::new(OneOperation(Mutex::new(operation())));
        let vault = Vault::open_at(dir.path().join("secrets.key"), store.clone()).await.unwrap();
        let jobs = Jobs::start_with(
            options.clone(),
            store.clone(),
            fleet.clone(),
            operation.clone(),
            vault.clone(),
            shutdown.clone(),
        )
        .await
        .unwrap();
        Grid { dir, options, store, fleet, operation, jobs, vault, shutdown }
    }

    /// As after kill -9: nothing is written any more, and a new master reads what is there.
    pub(crate) async fn restart(&mut self) {
        self.shutdown.cancel();
        self.shutdown = CancellationToken::new();
        self.store = crate::testing::open(&self.dir.path().join("db")).await;
        self.fleet.nodes.lock().unwrap().online.clear();
        self.vault = Vault::open_at(self.dir.path().join("secrets.key"), self.store.clone()).await.unwrap();
        self.jobs = Jobs::start_with(
            self.options.clone(),
            self.store.clone(),
            self.fleet.clone(),
            self.operation.clone(),
            self.vault.clone(),
            self.shutdown.clone(),
        )
        .await
        .unwrap();
    }

    pub(crate) fn id(&self, name: &str) -> NodeId {
        self.fleet.all().iter().find(|node| node.name.as_str() == name).unwrap().id
    }
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut NodeRecord)) {
        let id = self.id(name);
        let mut nodes = self.fleet.nodes.lock().unwrap();
        let mut record = NodeRecord::clone(&nodes.records[&id]);
        change(&mut record);
        nodes.records.insert(id, Arc::new(record));
    }
    pub(crate) fn offline(&self, name: &str) {
        let id = self.id(name);
        self.fleet.nodes.lock().unwrap().online.remove(&id);
    }
    pub(crate) async fn connect(&self, name: &str, running: &[RequestId], finished: &[RequestId]) {
        let id = self.id(name);
        self.fleet.nodes.lock().unwrap().online.insert(id);
        self.jobs.connected(id, running.to_vec(), finished.to_vec()).await;
    }
    /// The only request that a node was sent.
    pub(crate) fn request(&self, name: &str) -> RequestId {
        let mut runs = self.fleet.runs(self.id(name));
        runs.dedup();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs[0]
    }
    pub(crate) async fn accept(&self, name: &str) {
        self.jobs.accepted(self.id(name), self.request(name)).await;
    }
    pub(crate) async fn succeed(&self, name: &str) -> Result<(), StoreError> {
        self.jobs.result(self.id(name), self.request(name), success()).await
    }
    pub(crate) async fn finished(&self, id: JobId) -> Job {
        use futures_util::StreamExt as _;
        let events = self.jobs.watch(id, None).await.unwrap();
        crate::testing::soon("the end of the job", events.for_each(async |_| ())).await;
        let job = self.jobs.get(id).await.unwrap().unwrap();
        assert_eq!(job.state, JobState::Finished);
        job
    }
    /// The outcomes by name of the node.
    pub(crate) async fn outcomes(&self, id: JobId) -> BTreeMap<String, Outcome> {
        let (nodes, more) = self.jobs.nodes(id, -1, 1000).await.unwrap();
        assert!(!more);
        nodes
            .into_iter()
            .filter_map(|(_, node)| node.outcome.map(|outcome| (node.name.to_string(), outcome)))
            .collect()
    }
}

impl Drop for Grid {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn new_job(on: &[&str]) -> NewJob {
    NewJob {
        operation: OPERATION.parse().unwrap(),
        args: json!({}),
        target: Target { on: on.iter().map(|text| (*text).to_owned()).collect(), ..Target::default() },
        dry_run: false,
        deadline_ms: None,
        pick: None,
        batch: None,
        max_failures: None,
        retries: None,
        wait_offline_ms: None,
    }
}

pub(crate) fn success() -> ResultRecord {
    ResultRecord {
        output_bytes: 0,
        outcome: Outcome::Succeeded { value: json!({ "big": u64::MAX }) },
        trace: Vec::new(),
        stats: CallStats { wall_us: 5, ..CallStats::default() },
        plugin_digest: Some(Digest::of(b"bundle")),
    }
}

impl Jobs {
    /// The job that an open request is of, with its arguments.
    pub(crate) fn asked(&self, request: RequestId) -> Option<(JobId, Value)> {
        let live = self.engine.live();
        let (id, _) = live.find(request)?;
        live.jobs.get(&id).map(|job| (id, job.made.args.clone()))
    }
}

impl FakeFleet {
    /// Tells of each message that is sent.
    pub(crate) fn sending(&self) -> watch::Receiver<Vec<Sent>> {
        self.sent.subscribe()
    }
}
