//! From a request to a job: checked, resolved, stored, and only then sent.

use super::{
    Engine, JobError,
    events::Events,
    live::{LiveJob, Part, Times},
    own_times,
    part::Input,
    roll::Roll,
};
use crate::{
    access::Permit,
    secrets::VaultError,
    store::{
        StoreError,
        audit::{self, NewEntry},
        events::{self, NewEvent},
        jobs::{self as rows, PartRow},
    },
    targets::{self, TargetError},
};
use rand::seq::SliceRandom as _;
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use windlass_types::{
    Effect, JobId, NodeId, OperationName, RequestId, SecretName,
    api::{Batch, Job, JobState, NewJob, OperationInfo, Target},
    json, secret,
};

/// The longest deadline: 30 days.
pub(super) const MAX_DEADLINE_MS: u64 = 30 * 86_400_000;
/// What a job gets beyond the time of its operation, for the way there and back.
const SLACK_MS: u64 = 10_000;
/// Retries at most.
const MAX_RETRIES: u32 = 100;
/// Running jobs at most.
const MAX_RUNNING: usize = 10_000;
/// Nodes of running jobs without an outcome at most; each takes some hundred bytes of memory.
const MAX_OPEN: usize = 1_000_000;

/// A job that was made.
#[derive(Debug)]
pub struct Created {
    pub job: Job,
    /// Holds the job once it is finished.
    pub finished: watch::Receiver<Option<Job>>,
}

impl Engine {
    /// The operation of a name.
    pub(super) fn operation(&self, name: &OperationName) -> Result<Arc<OperationInfo>, JobError> {
        self.operations.operation(name).ok_or_else(|| JobError::UnknownOperation {
            name: name.clone(),
            nearest: targets::nearest_names(
                name.as_str(),
                self.operations.names().iter().map(OperationName::as_str),
            ),
        })
    }

    /// The nodes that a target means now.
    pub(super) async fn resolve(
        &self,
        target: &Target,
    ) -> Result<Vec<Arc<crate::fleet::NodeRecord>>, TargetError> {
        let nodes = self.nodes.all();
        if target.r#where.is_none() {
            return targets::resolve(target, &nodes);
        }
        // An expression may take a while: not on a thread that serves everybody.
        let target = target.clone();
        let late = TargetError::Where { place: None, message: "takes too long".into() };
        let _turn = self.expressions.acquire().await.map_err(|_| late.clone())?;
        tokio::task::spawn_blocking(move || targets::resolve(&target, &nodes)).await.unwrap_or(Err(late))
    }

    /// Whether this job could be made: its operation, and how long each node may take.
    fn check(&self, new: &NewJob) -> Result<(Arc<OperationInfo>, u64, BTreeSet<SecretName>), JobError> {
        let operation = self.operation(&new.operation)?;
        if operation.operation.planned {
            return Err(JobError::Planned { name: new.operation.clone() });
        }
        let params = operation.operation.signature.params_shape();
        json::check(&params, &new.args).map_err(JobError::BadArguments)?;
        let secrets = secret::names(&params, &new.args).map_err(JobError::BadArguments)?;
        if secrets.len() > secret::MAX_IN_CALL {
            return Err(VaultError::TooMany.into());
        }
        let deadline = new
            .deadline_ms
            .unwrap_or_else(|| operation.timeout_ms.saturating_add(SLACK_MS).min(MAX_DEADLINE_MS));
        if deadline == 0 || deadline > MAX_DEADLINE_MS {
            return Err(JobError::BadDeadline { given_ms: deadline, max_ms: MAX_DEADLINE_MS });
        }
        if new.retries.is_some_and(|retries| retries > 0)
            && !operation.idempotent
            && operation.effect != Effect::Read
        {
            return Err(JobError::NotIdempotent { name: new.operation.clone() });
        }
        let bad = |problem: &'static str| Err(JobError::BadBatch(problem));
        if new.retries.is_some_and(|retries| retries > MAX_RETRIES) {
            return bad("more than 100 `retries`");
        }
        if new.wait_offline_ms.is_some_and(|wait| wait == 0 || wait > MAX_DEADLINE_MS) {
            return bad("`wait_offline_ms` is from 1 to 30 days");
        }
        if new.wait_offline_ms.is_some() && new.batch.is_some() {
            return bad(
                "with `batch`, a node that is waited for would hold up the others: `wait_offline_ms` has no place there",
            );
        }
        match (new.pick, new.batch, new.max_failures) {
            (Some(0), ..) => return bad("`pick` is 0: no node would be left"),
            (_, Some(Batch::Count(0)), _) => return bad("a batch of 0 nodes never ends"),
            (_, Some(Batch::Percent(percent)), _) if !(1..=100).contains(&percent) => {
                return bad("a share of the nodes is from 1 to 100 percent");
            }
            (_, None, Some(_)) => {
                return bad("without `batch` all nodes begin at once, so `max_failures` could stop none");
            }
            _ => {}
        }
        Ok((operation, deadline, secrets))
    }

    /// Whether the master could make this job by itself, whatever the target.
    pub(super) fn check_unattended(&self, new: &NewJob) -> Result<(), JobError> {
        let (_, _, secrets) = self.check(new)?;
        if secrets.is_empty() { Ok(()) } else { Err(JobError::SecretUnattended) }
    }

    /// Whether the master could make this job, but for a target that means nobody at this moment.
    pub(super) async fn check_all(&self, new: &NewJob) -> Result<(), JobError> {
        self.check_unattended(new)?;
        match self.resolve(&new.target).await {
            Err(TargetError::Empty { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Make the job of this id, which no job may have. Without a permit it is the master that asks.
    pub(super) async fn create(
        &self,
        id: JobId,
        new: NewJob,
        actor: &str,
        permit: Option<&Permit>,
    ) -> Result<Created, JobError> {
        let (operation, deadline, secrets) = self.check(&new)?;
        let mut nodes = self.resolve(&new.target).await?;
        match permit {
            Some(permit) => {
                // Of all of them, also where some are picked: the answer must not hang on chance.
                let asked = permit.operation_with(&new.operation, operation.effect, &secrets, &nodes).await;
                asked.map_err(JobError::Denied)?;
            }
            None if !secrets.is_empty() => return Err(JobError::SecretUnattended),
            None => {}
        }
        // After the permission, which is not asked for names in vain.
        let pins = self.vault.pins(&secrets)?;
        if let Some(pick) = new.pick {
            nodes = picked(nodes, pick as usize, |node| self.nodes.online(node));
        }
        let (running, open) = {
            let live = self.live();
            (live.jobs.len(), live.open())
        };
        if running >= MAX_RUNNING || open + nodes.len() > MAX_OPEN {
            return Err(JobError::TooManyJobs { running });
        }

        let (created_ms, begun) = (crate::now_ms(), Instant::now());
        let batch = new.batch.map(|batch| batch.of(nodes.len()));
        // With batches, how long it takes if every node takes all its time.
        let rounds = batch.map_or(1, |batch| nodes.len().div_ceil(batch as usize).max(1) as u64);
        let grace_ms = u64::try_from(self.options.grace.as_millis()).unwrap_or(u64::MAX);
        let retries = new.retries.filter(|retries| *retries > 0);
        let whole = match rounds.saturating_mul(1 + u64::from(retries.unwrap_or_default())) {
            1 => deadline,
            times => deadline.saturating_add(grace_ms).saturating_mul(times),
        };
        let whole = whole.saturating_add(new.wait_offline_ms.unwrap_or_default());
        let max_failures = batch.map(|_| new.max_failures.unwrap_or_default());
        let locks = operation.locks.iter().map(|lock| rendered(lock, &new.args)).collect();
        let job = Job {
            id,
            operation: new.operation,
            args: new.args,
            effect: operation.effect,
            dry_run: new.dry_run,
            target: new.target,
            state: JobState::Running,
            cancel_requested: false,
            created_by: actor.to_owned(),
            created_ms,
            deadline_ms: created_ms.saturating_add(i64::try_from(whole).unwrap_or(i64::MAX)),
            finished_ms: None,
            nodes: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
            batch,
            max_failures,
            retries,
            wait_offline_ms: new.wait_offline_ms,
            locks,
            outcomes: std::collections::BTreeMap::new(),
            results: None,
        };
        let parts: Vec<PartRow> = nodes
            .iter()
            .map(|node| PartRow { request: RequestId::new(), node: node.id, name: node.name.clone() })
            .collect();
        let (row, part_rows, type_digest) = (job.clone(), parts.clone(), operation.type_digest);
        let mut detail = json!({
            "operation": job.operation, "effect": job.effect, "dry_run": job.dry_run, "nodes": job.nodes,
        });
        if !secrets.is_empty() {
            detail["secrets"] = json!(secrets);
        }
        let stored_pins = pins.clone();
        let entry = NewEntry::allowed(actor, "job.create", job.id, detail);
        let event = NewEvent::new(
            "job.created",
            job.id,
            json!({
                "operation": job.operation, "effect": job.effect, "dry_run": job.dry_run, "nodes": job.nodes,
                "by": job.created_by,
            }),
        );
        self.store
            .write::<(), StoreError, _>(move |c| {
                Box::pin(async move {
                    rows::insert(c, &row, type_digest, deadline, &stored_pins, &part_rows).await?;
                    events::append(c, &[event]).await?;
                    audit::append(c, &entry).await
                })
            })
            .await?;
        self.metrics.job_created();

        let (finished, receiver) = watch::channel(None);
        let node_time = Duration::from_millis(deadline);
        let deadline_at = begun + node_time;
        let roll = batch
            .map(|window| Roll { window: window as usize, max_failures: max_failures.unwrap_or_default() });
        let until = |deadline: Instant| Some(Times { deadline, grace: deadline + self.options.grace });
        let times = match (roll, job.wait_offline_ms) {
            (Some(_), _) => None,
            (None, Some(wait)) => until(begun + Duration::from_millis(wait)),
            (None, None) => until(deadline_at),
        };
        let live_job = LiveJob {
            args_json: job.args.to_string().into(),
            type_digest,
            secrets: pins,
            cancel_requested: false,
            node_time,
            grace: self.options.grace,
            roll,
            own_times: own_times(&job),
            timer: None,
            open: parts.len(),
            parts: parts
                .into_iter()
                .map(|part| Part::new(part.request, part.node, part.name, times))
                .collect(),
            counts: HashMap::new(),
            events: Arc::new(Events::new(1)),
            finished,
            made: job,
        };
        let id = live_job.made.id;
        let mut live = self.live();
        live.insert(live_job);
        live.step_all(id, Input::Deliver);
        let job = live.jobs.get(&id).map(LiveJob::to_api);
        drop(live);
        // Nothing takes a job out but the commit of its last outcome, and then the channel has it.
        let job = job.or_else(|| receiver.borrow().clone()).ok_or(JobError::UnknownJob(id))?;
        Ok(Created { job, finished: receiver })
    }
}

/// A lock with the values of the parameters that it names; they have been checked to be there.
pub(super) fn rendered(lock: &str, args: &Value) -> String {
    let mut rendered = String::with_capacity(lock.len());
    let mut rest = lock;
    while let Some((before, (param, after))) =
        rest.split_once('{').and_then(|(before, inner)| Some((before, inner.split_once('}')?)))
    {
        rendered.push_str(before);
        match &args[param] {
            Value::String(text) => rendered.push_str(text),
            other => rendered.push_str(&other.to_string()),
        }
        rest = after;
    }
    rendered + rest
}

/// So many of the nodes at random, those that are online first; in the order they had.
fn picked(
    mut nodes: Vec<Arc<crate::fleet::NodeRecord>>,
    pick: usize,
    online: impl Fn(NodeId) -> bool,
) -> Vec<Arc<crate::fleet::NodeRecord>> {
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.shuffle(&mut rand::rng());
    order.sort_by_key(|index| !online(nodes[*index].id));
    order.truncate(pick);
    order.sort_unstable();
    let mut index = 0;
    nodes.retain(|_| {
        index += 1;
        order.binary_search(&(index - 1)).is_ok()
    });
    nodes
}
