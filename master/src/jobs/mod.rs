//! Jobs: one operation, one set of arguments, a list of nodes; one outcome per node.
//!
//! The engine runs in the master; whoever made a job may leave. What it guarantees, and how, stands
//! in [`part`], the state machine of one node. Around it:
//!
//! * `create`: checks, resolves and stores a job before anything is sent.
//! * `live`: the running jobs in memory; carries out what the state machine says.
//! * `incoming`: what nodes say, each only about its own requests.
//! * `settle`: the way of outcomes into the store, many in one transaction.
//! * `roll`: jobs that go over their nodes a few at a time.
//! * `clock`: deadlines with one timer for all jobs, and forgetting old jobs.
//! * `runs`: what the runs of plans ask.
//! * [`events`]: what watchers see.
//! * `output`: what operations write on their way.
//!
//! A master that starts loads what is unfinished and goes on. It can't know which requests its
//! predecessor had sent, so all count as sent: hosts tell what they have when they connect, and get
//! time to do so before the deadline is held against them.

mod again;
mod clock;
mod create;
pub mod error;
pub mod events;
mod incoming;
mod live;
mod locks;
mod output;
pub mod part;
mod roll;
mod runs;
mod settle;
mod watching;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_again;
#[cfg(test)]
mod tests_secrets;

pub use create::Created;
pub use error::JobError;
pub use live::Nodes;
pub(crate) use runs::locks;

use crate::{
    access::Permit,
    catalog::Catalog,
    config::{Config, Retention},
    fleet::{Fleet, NodeRecord},
    metrics::Metrics,
    secrets::Vault,
    store::{
        Store, StoreError,
        audit::{self, NewEntry},
        jobs as rows, outputs,
    },
    targets::TargetError,
};
use events::Events;
use live::{Live, LiveJob, Part, Times};
use part::{Input, Stage};
use roll::Roll;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use windlass_types::{
    Digest, Effect, JobId, NodeId, OperationName, Outcome, RequestId,
    api::{Job, JobNode, JobNodeState, JobTrace, NewJob, OperationInfo, Resolved, ResolvedNode, Target},
    trace::{CallStats, TraceEntry},
};

/// A result from the wire, parsed.
#[derive(Debug, Clone)]
pub struct ResultRecord {
    pub outcome: Outcome,
    pub trace: Vec<TraceEntry>,
    pub stats: CallStats,
    /// Of the bundle that ran.
    pub plugin_digest: Option<Digest>,
    /// How much it has written on its way.
    pub output_bytes: u64,
}

/// What sessions tell the jobs: for each node in the order in which the node said it, one call at
/// a time. Implementations check that the request belongs to that node; one that does not is logged
/// and dropped (and `Ok`, so that the host forgets it).
#[tonic::async_trait]
pub trait NodeEvents: Send + Sync + 'static {
    /// A node has a new session; its fleet record is already online, and messages can be sent to it.
    /// `running` and `finished` are the requests in its journal without and with a result.
    async fn connected(&self, node: NodeId, running: Vec<RequestId>, finished: Vec<RequestId>);
    /// The request is in the journal of the node.
    async fn accepted(&self, node: NodeId, request: RequestId);
    /// It runs.
    async fn started(&self, node: NodeId, request: RequestId);
    /// Progress; not kept.
    async fn progress(&self, node: NodeId, request: RequestId, message: String, percent: Option<u8>);
    /// Some of what it writes on its way. Gives back up to where the node need not send it again; after an
    /// error it sends it once more.
    async fn output(
        &self,
        node: NodeId,
        request: RequestId,
        offset: u64,
        data: bytes::Bytes,
    ) -> Result<u64, StoreError>;
    /// The result. After `Ok` the session acknowledges, and the host forgets it: return only when it
    /// is committed. After an error the host keeps it and sends it again with its next session.
    async fn result(&self, node: NodeId, request: RequestId, result: ResultRecord) -> Result<(), StoreError>;
    /// The session is over, and no other one has taken its place.
    async fn disconnected(&self, node: NodeId);
}

/// The operations as the jobs see them.
pub trait Operations: Send + Sync + 'static {
    fn operation(&self, name: &OperationName) -> Option<Arc<OperationInfo>>;
    fn names(&self) -> Vec<OperationName>;
    /// The version of a bundle, if it is known.
    fn version(&self, bundle: Digest) -> Option<String>;
}

impl Operations for Catalog {
    fn operation(&self, name: &OperationName) -> Option<Arc<OperationInfo>> {
        Catalog::operation(self, name)
    }
    fn names(&self) -> Vec<OperationName> {
        self.operations().keys().cloned().collect()
    }
    fn version(&self, bundle: Digest) -> Option<String> {
        Catalog::version(self, bundle)
    }
}

/// Times and limits.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long after its deadline a node that has a request may still tell what became of it. The
    /// host keeps the deadline itself.
    pub grace: Duration,
    /// How long after its start a master waits for hosts to come back before it holds a deadline
    /// against them.
    pub reconnect: Duration,
    /// Shortest pauses before a node is asked again.
    pub pauses: Pauses,
    pub retention: Retention,
}

/// Shortest pauses before a node is asked again.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// That had no room.
    pub busy: Duration,
    /// That has answered without success.
    pub failed: Duration,
}

impl Options {
    fn new(config: &Config) -> Self {
        Options {
            grace: Duration::from_secs(5),
            reconnect: Duration::from_secs(30),
            pauses: Pauses { busy: Duration::from_millis(200), failed: Duration::from_secs(2) },
            retention: config.retention.clone(),
        }
    }
}

/// How often to see whether a node knows an operation by now.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Expressions of targets evaluated at once.
const EXPRESSIONS: usize = 2;
/// Nodes of which the reply to a waiting caller tells the outcomes.
const RESULTS: u32 = 1000;
/// Bytes of outcomes in one reply, beyond which the caller has to page.
const RESULT_BYTES: usize = 16 << 20;

/// Whether each node's time begins when it is asked. Else all have the deadline of the job.
fn own_times(job: &Job) -> bool {
    job.batch.is_some() || job.retries.is_some() || job.wait_offline_ms.is_some()
}

struct Engine {
    options: Options,
    started: Instant,
    store: Store,
    nodes: Arc<dyn Nodes>,
    operations: Arc<dyn Operations>,
    metrics: Arc<Metrics>,
    live: Mutex<Live>,
    /// There are stages to note.
    dirty: Notify,
    expressions: Semaphore,
    vault: Vault,
}

impl Engine {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take in what an earlier master left unfinished.
    async fn load(&self) -> Result<(), StoreError> {
        let now = Instant::now();
        let now_ms = crate::now_ms();
        // A transaction: as of one moment, in which this master leads.
        let unfinished = self.store.write(|c| Box::pin(rows::unfinished(c))).await?;
        for stored in unfinished {
            let rows::StoredJob { job, type_digest, node_ms, secrets, parts } = stored;
            let until = |deadline_ms: i64| {
                let left = u64::try_from(deadline_ms.saturating_sub(now_ms)).unwrap_or(0);
                // No clock is trusted to more than the longest deadline.
                let deadline = now + Duration::from_millis(left.min(create::MAX_DEADLINE_MS));
                let grace = deadline.max(now + self.options.reconnect) + self.options.grace;
                Times { deadline, grace }
            };
            let roll = job.batch.map(|window| Roll {
                window: window as usize,
                max_failures: job.max_failures.unwrap_or_default(),
            });
            let own_times = own_times(&job);
            let after = |begun_ms: i64, span_ms: u64| {
                until(begun_ms.saturating_add(i64::try_from(span_ms).unwrap_or(i64::MAX)))
            };
            let times = |part: &rows::StoredPart| {
                let asked = !matches!(part.stage, JobNodeState::Waiting | JobNodeState::Sent);
                match (part.released_ms, job.wait_offline_ms) {
                    _ if !own_times => Some(until(job.deadline_ms)),
                    // It has begun at a time that nobody noted.
                    (_, Some(_)) if asked => Some(after(now_ms, node_ms)),
                    (begun, Some(wait_ms)) => Some(after(begun.unwrap_or(job.created_ms), wait_ms)),
                    (Some(begun), None) => Some(after(begun, node_ms)),
                    // It had no turn, and yet the node has it.
                    (None, None) if roll.is_some() && asked => Some(after(now_ms, node_ms)),
                    (None, None) if roll.is_some() => None,
                    (None, None) => Some(after(job.created_ms, node_ms)),
                }
            };
            let parts: Vec<Part> = parts
                .into_iter()
                .map(|stored| {
                    let times = times(&stored);
                    let part = Part::new(stored.row.request, stored.row.node, stored.row.name, times);
                    let stage = match stored.stage {
                        // Its turn may have been committed and its request sent.
                        JobNodeState::Waiting | JobNodeState::Sent if part.times.is_none() => Stage::Held,
                        JobNodeState::Waiting | JobNodeState::Sent => Stage::Sent,
                        JobNodeState::Accepted => Stage::Accepted,
                        JobNodeState::Running | JobNodeState::Done => Stage::Running,
                    };
                    Part {
                        stage,
                        before: stage,
                        done: stored.done,
                        started_ms: stored.started_ms,
                        attempt: stored.attempt,
                        last: stored.last,
                        ..part
                    }
                })
                .collect();
            let age_ms = u64::try_from(now_ms.saturating_sub(job.created_ms)).unwrap_or(0).max(1);
            let live_job = LiveJob {
                args_json: job.args.to_string().into(),
                type_digest,
                secrets,
                cancel_requested: job.cancel_requested,
                node_time: Duration::from_millis(node_ms.min(create::MAX_DEADLINE_MS)),
                grace: self.options.grace,
                roll,
                own_times,
                timer: None,
                open: parts.iter().filter(|part| !part.done).count(),
                parts,
                counts: job.outcomes.clone().into_iter().collect::<HashMap<_, _>>(),
                // More than a thousand events a millisecond is more than there can have been.
                events: Arc::new(Events::new(age_ms.saturating_mul(1000))),
                finished: watch::channel(None).0,
                made: job,
            };
            self.live().insert(live_job);
        }
        Ok(())
    }

    /// Say which version ran, where the bundle is known.
    fn name_versions(&self, nodes: &mut [(u32, JobNode)]) {
        let mut known: HashMap<Digest, Option<String>> = HashMap::new();
        for (_, node) in nodes {
            let Some(digest) = node.plugin_digest else { continue };
            let version = known.entry(digest).or_insert_with(|| self.operations.version(digest));
            node.plugin_version.clone_from(version);
        }
    }

    async fn sweep_now(&self, shutdown: &CancellationToken) -> Result<u64, StoreError> {
        let Retention { jobs, max_jobs, max_output_mib, .. } = self.options.retention.clone();
        let age = i64::try_from(jobs.0.as_millis()).unwrap_or(i64::MAX);
        let before_ms = crate::now_ms().saturating_sub(age);
        let mut swept = 0;
        while !shutdown.is_cancelled() {
            let number = self
                .store
                .write(move |c| Box::pin(async move { rows::sweep(c, before_ms, max_jobs).await }))
                .await?;
            if number == 0 {
                break;
            }
            swept += number;
        }
        let keep = max_output_mib.saturating_mul(1 << 20);
        while !shutdown.is_cancelled()
            && self.store.write(move |c| Box::pin(async move { outputs::sweep(c, keep).await })).await? > 0
        {
        }
        Ok(swept)
    }
}

/// The jobs. Clones share them.
#[derive(Clone)]
pub struct Jobs {
    engine: Arc<Engine>,
    shutdown: CancellationToken,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jobs")
    }
}

impl Jobs {
    /// Load what is running from the store and start. Start this before hosts can connect.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn start(
        config: Arc<Config>,
        store: Store,
        fleet: Fleet,
        catalog: Catalog,
        vault: Vault,
        shutdown: CancellationToken,
    ) -> Result<Self, StoreError> {
        let (nodes, operations) = (Arc::new(fleet), Arc::new(catalog));
        Self::start_with(Options::new(&config), store, nodes, operations, vault, shutdown).await
    }

    /// As [`Jobs::start`], over any nodes and operations.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn start_with(
        options: Options,
        store: Store,
        nodes: Arc<dyn Nodes>,
        operations: Arc<dyn Operations>,
        vault: Vault,
        shutdown: CancellationToken,
    ) -> Result<Self, StoreError> {
        let (settle, queue) = mpsc::unbounded_channel();
        let engine = Arc::new(Engine {
            live: Mutex::new(Live::new(nodes.clone(), settle, options.pauses, vault.clone())),
            options,
            started: Instant::now(),
            store,
            nodes,
            operations,
            metrics: Arc::default(),
            dirty: Notify::new(),
            expressions: Semaphore::new(EXPRESSIONS),
            vault,
        });
        engine.load().await?;
        tokio::spawn(settle::run(engine.clone(), queue, shutdown.clone()));
        tokio::spawn(settle::note_stages(engine.clone(), shutdown.clone()));
        tokio::spawn(clock::run(engine.clone(), shutdown.clone()));
        tokio::spawn(roll::run(engine.clone(), shutdown.clone()));
        tokio::spawn(clock::sweep(engine.clone(), shutdown.clone()));
        Ok(Jobs { engine, shutdown })
    }

    /// Figures; the API adds its own.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.engine.metrics
    }

    /// Jobs that run.
    pub fn running(&self) -> usize {
        self.engine.live().jobs.len()
    }

    /// The nodes that a target means now.
    ///
    /// # Errors
    /// If the target can't be right or means nobody.
    pub async fn resolve(&self, target: &Target) -> Result<Resolved, TargetError> {
        let nodes = self.engine.resolve(target).await?;
        let nodes = nodes
            .iter()
            .map(|node| ResolvedNode { id: node.id, name: node.name.clone(), online: node.online() })
            .collect();
        Ok(Resolved { nodes })
    }

    /// The same, with all that is known about them.
    ///
    /// # Errors
    /// As [`Jobs::resolve`].
    pub async fn resolve_records(&self, target: &Target) -> Result<Vec<Arc<NodeRecord>>, TargetError> {
        self.engine.resolve(target).await
    }

    /// What is known about a node, while it is there.
    pub fn node(&self, id: NodeId) -> Option<Arc<NodeRecord>> {
        self.engine.nodes.node(id)
    }

    /// What an operation may do to a node, as the nodes offer it now.
    pub fn effect(&self, name: &OperationName) -> Option<Effect> {
        self.engine.operations.operation(name).map(|info| info.effect)
    }

    /// Make a job. It is stored, and sent to the nodes that are there, when this returns.
    ///
    /// # Errors
    /// If the operation, its arguments or the target are no good, or the store fails.
    pub async fn create(&self, new: NewJob, actor: &str) -> Result<Created, JobError> {
        self.engine.create(JobId::new(), new, actor, None).await
    }

    /// Make a job for somebody who may do what the permit says.
    ///
    /// # Errors
    /// As [`Jobs::create`]; also if it is not allowed on all of the nodes.
    pub async fn create_permitted(
        &self,
        new: NewJob,
        actor: &str,
        permit: &Permit,
    ) -> Result<Created, JobError> {
        self.engine.create(JobId::new(), new, actor, Some(permit)).await
    }

    /// Make a job whose id was chosen before, so that it is made once whoever tries again. Nobody stands
    /// by to try again when the nodes are back after a restart of the master: it waits for one that knows
    /// the operation.
    ///
    /// # Errors
    /// As [`Jobs::create`]; also if there is a job of that id.
    pub async fn create_as(&self, id: JobId, new: NewJob, actor: &str) -> Result<Created, JobError> {
        let back = self.engine.started + self.engine.options.reconnect;
        while Instant::now() < back && self.engine.operation(&new.operation).is_err() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.engine.create(id, new, actor, None).await
    }

    /// Whether a job could be made so. That its target means nobody at this moment does not matter.
    ///
    /// # Errors
    /// As [`Jobs::create`].
    pub async fn check(&self, new: &NewJob) -> Result<(), JobError> {
        self.engine.check_all(new).await
    }

    /// The same whatever the target.
    ///
    /// # Errors
    /// If its operation or arguments are no good.
    pub fn check_but_target(&self, new: &NewJob) -> Result<(), JobError> {
        self.engine.check_unattended(new)
    }

    /// Make a job and wait for its end, as [`Jobs::wait`].
    ///
    /// # Errors
    /// As [`Jobs::create`].
    pub async fn create_and_wait(&self, new: NewJob, actor: &str, wait: Duration) -> Result<Job, JobError> {
        self.wait(self.create(new, actor).await?, wait).await
    }

    /// Wait for the end of a job that was made, `wait` at most. With an end in time and not too much of it
    /// the reply holds the results.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn wait(&self, created: Created, wait: Duration) -> Result<Job, JobError> {
        let Created { job, mut finished } = created;
        let end = async {
            // The sender is dropped only after the job is in the channel.
            finished.wait_for(Option::is_some).await.ok().and_then(|job| job.clone())
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(wait, end) => ended.ok().flatten(),
            () = self.shutdown.cancelled() => None,
        };
        let Some(mut ended) = ended else { return Ok(self.get(job.id).await?.unwrap_or(job)) };
        if ended.nodes <= RESULTS {
            let (mut nodes, more) =
                rows::nodes(&self.engine.store, ended.id, -1, RESULTS, RESULT_BYTES).await?;
            self.engine.name_versions(&mut nodes);
            ended.results = (!more).then(|| nodes.into_iter().map(|(_, node)| node).collect());
        }
        Ok(ended)
    }

    /// One job.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let running = self.engine.live().jobs.get(&id).map(LiveJob::to_api);
        match running {
            Some(job) => Ok(Some(job)),
            None => rows::get(&self.engine.store, id).await,
        }
    }

    /// A page of jobs, newest first, and whether there are more.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn page(&self, before: Option<JobId>, limit: u32) -> Result<(Vec<Job>, bool), StoreError> {
        rows::page(&self.engine.store, before, limit, RESULT_BYTES).await
    }

    /// A page of the nodes of a job, after a position (from -1), and whether there are more.
    ///
    /// # Errors
    /// If there is no such job, or the store fails.
    pub async fn nodes(
        &self,
        id: JobId,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<(u32, JobNode)>, bool), JobError> {
        if self.get(id).await?.is_none() {
            return Err(JobError::UnknownJob(id));
        }
        let (mut nodes, more) = rows::nodes(&self.engine.store, id, after, limit, RESULT_BYTES).await?;
        self.engine.name_versions(&mut nodes);
        // The store hears of stages late.
        let live = self.engine.live();
        for (position, node) in nodes.iter_mut().filter(|(_, node)| node.outcome.is_none()) {
            if let Some(part) = live.part((id, *position)).filter(|part| !part.done) {
                *node = JobNode { output_bytes: node.output_bytes, ..part.to_api() };
            }
        }
        Ok((nodes, more))
    }

    /// All nodes of a job.
    ///
    /// # Errors
    /// If there is no such job, or the store fails.
    pub async fn all_nodes(&self, id: JobId) -> Result<Vec<(NodeId, windlass_types::NodeName)>, JobError> {
        let mut all = Vec::new();
        let mut after = -1;
        loop {
            let (nodes, more) = self.nodes(id, after, RESULTS).await?;
            after = nodes.last().map_or(after, |(position, _)| i64::from(*position));
            all.extend(nodes.into_iter().map(|(_, node)| (node.node, node.name)));
            if !more {
                return Ok(all);
            }
        }
    }

    /// The trace of a node (id or name) of a job; none if the job has no such node.
    ///
    /// # Errors
    /// If there is no such job, or the store fails.
    pub async fn trace(&self, id: JobId, node: &str) -> Result<Option<JobTrace>, JobError> {
        match rows::trace(&self.engine.store, id, node).await? {
            Some(trace) => Ok(Some(trace)),
            None if self.get(id).await?.is_some() => Ok(None),
            None => Err(JobError::UnknownJob(id)),
        }
    }

    /// Cancel a job: nodes that do not have it yet never get it, the others are told to stop.
    ///
    /// # Errors
    /// If there is no such job, or it is finished.
    pub async fn cancel(&self, id: JobId, actor: &str) -> Result<Job, JobError> {
        let entry = NewEntry::allowed(actor, "job.cancel", id, serde_json::Value::Null);
        let open = self
            .engine
            .store
            .write::<bool, StoreError, _>(move |c| {
                Box::pin(async move {
                    let open = rows::request_cancel(c, id).await?;
                    if open {
                        audit::append(c, &entry).await?;
                    }
                    Ok(open)
                })
            })
            .await?;
        if open {
            let mut live = self.engine.live();
            if let Some(job) = live.jobs.get_mut(&id) {
                job.cancel_requested = true;
                live.step_all(id, Input::Cancel);
            }
        }
        match self.get(id).await? {
            None => Err(JobError::UnknownJob(id)),
            Some(_) if !open => Err(JobError::Finished(id)),
            Some(job) => Ok(job),
        }
    }

    /// Forget finished jobs that need not be kept any more; gives back how many.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        self.engine.sweep_now(&self.shutdown).await
    }
}
