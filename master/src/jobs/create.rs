//! From a request to a job: checked, resolved, stored, and only then sent.

use super::{
    Engine, JobError,
    events::Events,
    live::{LiveJob, Part},
    part::Input,
};
use crate::{
    store::{
        StoreError,
        audit::{self, NewEntry},
        jobs::{self as rows, PartRow},
    },
    targets::{self, TargetError},
};
use serde_json::json;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use windlass_types::{
    JobId, OperationName, RequestId,
    api::{Job, JobState, NewJob, OperationInfo, Target},
    json,
};

/// The longest deadline: 30 days.
pub(super) const MAX_DEADLINE_MS: u64 = 30 * 86_400_000;
/// What a job gets beyond the time of its operation, for the way there and back.
const SLACK_MS: u64 = 10_000;
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

    pub(super) async fn create(&self, new: NewJob, actor: &str) -> Result<Created, JobError> {
        let operation = self.operation(&new.operation)?;
        if operation.operation.planned {
            return Err(JobError::Planned { name: new.operation });
        }
        json::check(&operation.operation.signature.params_shape(), &new.args)
            .map_err(JobError::BadArguments)?;
        let deadline = new
            .deadline_ms
            .unwrap_or_else(|| operation.timeout_ms.saturating_add(SLACK_MS).min(MAX_DEADLINE_MS));
        if deadline == 0 || deadline > MAX_DEADLINE_MS {
            return Err(JobError::BadDeadline { given_ms: deadline, max_ms: MAX_DEADLINE_MS });
        }
        let nodes = self.resolve(&new.target).await?;
        let (running, open) = {
            let live = self.live();
            (live.jobs.len(), live.open())
        };
        if running >= MAX_RUNNING || open + nodes.len() > MAX_OPEN {
            return Err(JobError::TooManyJobs { running });
        }

        let created_ms = crate::now_ms();
        let deadline_at = Instant::now() + Duration::from_millis(deadline);
        let job = Job {
            id: JobId::new(),
            operation: new.operation,
            args: new.args,
            effect: operation.effect,
            dry_run: new.dry_run,
            target: new.target,
            state: JobState::Running,
            cancel_requested: false,
            created_by: actor.to_owned(),
            created_ms,
            deadline_ms: created_ms.saturating_add(i64::try_from(deadline).unwrap_or(i64::MAX)),
            finished_ms: None,
            nodes: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
            outcomes: std::collections::BTreeMap::new(),
            results: None,
        };
        let parts: Vec<PartRow> = nodes
            .iter()
            .map(|node| PartRow { request: RequestId::new(), node: node.id, name: node.name.clone() })
            .collect();
        let (row, part_rows, type_digest) = (job.clone(), parts.clone(), operation.type_digest);
        let entry = NewEntry {
            actor: actor.to_owned(),
            action: "job.create",
            subject: job.id.to_string(),
            detail: json!({
                "operation": job.operation, "effect": job.effect, "dry_run": job.dry_run, "nodes": job.nodes,
            }),
            allowed: true,
        };
        self.store
            .write::<(), StoreError, _>(move |c| {
                Box::pin(async move {
                    rows::insert(c, &row, type_digest, &part_rows).await?;
                    audit::append(c, &entry).await
                })
            })
            .await?;
        self.metrics.job_created();

        let (finished, receiver) = watch::channel(None);
        let live_job = LiveJob {
            args_json: job.args.to_string().into(),
            type_digest,
            cancel_requested: false,
            deadline: deadline_at,
            grace: deadline_at + self.options.grace,
            open: parts.len(),
            parts: parts.into_iter().map(|part| Part::new(part.request, part.node, part.name)).collect(),
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
        self.timer.notify_one();
        // Nothing takes a job out but the commit of its last outcome, and then the channel has it.
        let job = job.or_else(|| receiver.borrow().clone()).ok_or(JobError::UnknownJob(id))?;
        Ok(Created { job, finished: receiver })
    }
}
