//! Plans and their runs.
//!
//! A plan is checked as a whole, stored, shown, and applied once at most: its run has its id. What holds
//! while it runs, whatever ends the master and whenever:
//!
//! * **Each action of an attempt runs once at most.** That it begins is written down, with the id of the job
//!   that is to do it, before that job is made. The next master finds the event, and finds the job by its id
//!   or makes it; and a job asks its node once.
//! * **A run is what its events tell.** [`machine`] decides by them alone. What is in memory is no more than
//!   the list, and when a write is in doubt it is read again.
//! * **Exactly what was done is undone, the last first**, and nothing is undone before it is known how its
//!   action ended. Where a node does not answer that is known once it has said, at the begin of a session,
//!   what runs there (`jobs/runs.rs`). Until then the undo is owed.
//! * **Nothing begins on a node that is not there.** An action that is due waits for its node for a while
//!   ([`Options::patience`]), and then has not run, for certain. An undo waits as long as it takes.
//! * **A run is judged once.** Whoever applies a plan, or takes it in hand later, has to be allowed all its
//!   operations on all their nodes, undos among them. From then on the master carries it out: an undo runs
//!   also when whoever applied the plan has lost the right since, because half a plan is what nobody
//!   wanted. Who wants it to end says `abandon`.
//!
//! Runs that could change the same are not under way at once: a run has the locks of the operations that it
//! may still call, on their nodes, and a plan that needs one of them is not applied meanwhile. Jobs by hand
//! go by the locks of what runs at the moment.
//!
//! Modules: `machine` decides, a pure function; `check` is what a plan has to be; `fleet` what it rests on;
//! `state` what the events of a run tell; `append` writes them; `drive` carries out; `follow` waits for a
//! job; `verbs` is what people do; `show` and `watch` are for those who look.

mod append;
mod check;
mod drive;
mod fleet;
mod follow;
pub(crate) mod machine;
mod show;
mod state;
#[cfg(test)]
mod tests;
mod verbs;
mod watch;

pub(crate) use fleet::Facts;
pub use verbs::Verb;

pub(crate) use follow::judged;

use crate::{
    access::{Denied, Permit},
    config::Retention,
    jobs::Jobs,
    store::{
        Store, StoreError,
        audit::{self, NewEntry},
        events::{self, NewEvent},
        plans as rows,
    },
};
use check::Checked;
use machine::{Order, Shape};
use serde_json::json;
use state::State;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, watch as channel};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use windlass_types::{
    NodeId, NodeName, PlanId, StepId,
    api::plans::{ApplyPlan, PlanInfo, PlanRecord, PlanReview, PlanSource, Run, RunState},
    plans::{MAX_AT_ONCE, OnFailure, Plan, PlanError},
};

/// What the names of those begin with who make the jobs of runs.
pub(crate) const ACTOR: &str = "run:";
/// A plan can be applied for so long: a day.
const GOOD_MS: i64 = 86_400_000;
/// Runs under way at most.
const MOST: usize = 1000;
/// Plans that wait to be applied at most.
const MOST_UNAPPLIED: i64 = 1000;
/// Runs that are over are kept up to this number.
const KEPT: u64 = 10_000;
/// How often what is old is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Why a plan can't be made or applied, or a run can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("there is no plan `{0}`")]
    UnknownPlan(String),
    #[error("there is no run `{0}`")]
    UnknownRun(String),
    #[error("run {run} has no step `{step}`")]
    UnknownStep { run: PlanId, step: String },
    /// It can't be right; what is wrong, the first thing first.
    #[error("{}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Bad(Vec<PlanError>),
    #[error("plan {0} has been applied")]
    Applied(PlanId),
    #[error("plan {0} is too old to be applied")]
    Expired(PlanId),
    /// What the plan rests on is not so any more; says what.
    #[error("the fleet moved since plan {plan} was made: {}", .moved.join("; "))]
    Moved { plan: PlanId, moved: Vec<String> },
    #[error("`fleet_version` is not that of plan {0}")]
    OtherVersion(PlanId),
    #[error("{} on node {node} is needed by run {run} until it is over", .lock.as_deref().unwrap_or("what it changes"))]
    Locked { run: PlanId, node: NodeName, lock: Option<String> },
    #[error("there are {0} runs under way, or plans that wait to be applied")]
    TooMany(usize),
    #[error("run {run} is over: {}", state.as_str())]
    Over { run: PlanId, state: RunState },
    /// The step does not stand so that this could be done; says how it stands.
    #[error("step `{step}`: {problem}")]
    WrongState { step: StepId, problem: String },
    /// The role of whoever asks does not allow it.
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A plan as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredPlan {
    pub info: PlanInfo,
    pub plan: Arc<Plan>,
    pub review: PlanReview,
    pub facts: Facts,
}

/// A run as it begins.
#[derive(Debug, Clone)]
pub(crate) struct StoredRun {
    pub id: PlanId,
    pub started_by: String,
    pub started_ms: i64,
}

/// Times.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long an action waits for a node that is not there.
    pub patience: Duration,
    /// Before what ended without success is tried again.
    pub pause: Duration,
    /// After a failure of the store.
    pub again: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            // A host tries to reach a master at least every 30 s.
            patience: Duration::from_secs(60),
            pause: Duration::from_secs(2),
            again: Duration::from_secs(1),
        }
    }
}

/// What never moves of a run.
#[derive(Debug)]
struct Core {
    id: PlanId,
    plan: Arc<Plan>,
    shape: Shape,
    order: Order,
    positions: HashMap<StepId, u32>,
    /// The nodes that its names meant when it was made.
    nodes: HashMap<NodeName, NodeId>,
    started_by: String,
    started_ms: i64,
}

impl Core {
    fn new(stored: &StoredPlan, run: &StoredRun) -> Result<Self, StoreError> {
        let plan = stored.plan.clone();
        let corrupt = |problem: String| StoreError::corrupt("plan", problem);
        let before = plan.order().map_err(|error| corrupt(error.to_string()))?;
        let steps = plan.steps.iter().zip(before).map(|(step, after)| machine::Step {
            after,
            undo: step.undo.is_some(),
            verify: step.verify.is_some(),
            approval: step.approval.is_some(),
            retries: step.retries,
        });
        let shape = Shape {
            steps: steps.collect(),
            at_once: plan.at_once.unwrap_or(MAX_AT_ONCE),
            hold: plan.on_failure == OnFailure::Hold,
        };
        let order = shape.order().map_err(|error| corrupt(error.to_string()))?;
        let positions = plan.steps.iter().map(|step| step.id.clone()).zip(0..).collect();
        let nodes = stored.facts.0.iter().map(|(name, facts)| (name.clone(), facts.id)).collect();
        let StoredRun { id, started_by, started_ms } = run.clone();
        Ok(Core { id, plan, shape, order, positions, nodes, started_by, started_ms })
    }
}

/// A run that is not over.
#[derive(Debug)]
struct LiveRun {
    core: Core,
    /// Held by whoever adds to its events, so that memory and store say the same.
    state: tokio::sync::Mutex<State>,
    /// The number of its newest event.
    newest: channel::Sender<u64>,
    /// There may be something to do.
    wake: Notify,
}

impl LiveRun {
    fn new(core: Core, state: State) -> Arc<Self> {
        let newest = channel::Sender::new(state.seq);
        Arc::new(LiveRun { core, state: tokio::sync::Mutex::new(state), newest, wake: Notify::new() })
    }
}

/// The plans. Clones share them.
#[derive(Clone)]
pub struct Plans {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Plans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plans")
    }
}

struct Inner {
    options: Options,
    retention: Retention,
    store: Store,
    jobs: Jobs,
    /// Held by whoever makes or applies a plan, so that two that need the same do not both begin.
    changing: tokio::sync::Mutex<()>,
    live: Mutex<HashMap<PlanId, Arc<LiveRun>>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Tests end a master before or after an event is written.
    #[cfg(test)]
    crash: tests::Crash,
}

impl Inner {
    fn live(&self) -> MutexGuard<'_, HashMap<PlanId, Arc<LiveRun>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: PlanId) -> Option<Arc<LiveRun>> {
        self.live().get(&id).cloned()
    }

    /// What the events in the store tell of a run.
    async fn read(&self, core: &Core) -> Result<State, StoreError> {
        const PAGE: u32 = 5000;
        let mut state = State::new(core);
        loop {
            let page = rows::events(&self.store, core.id, state.seq, PAGE).await?;
            let more = page.len() >= PAGE as usize;
            for event in &page {
                state.apply(core, event);
            }
            if !more {
                return Ok(state);
            }
        }
    }

    async fn plan(&self, id: &str) -> Result<StoredPlan, RunError> {
        let unknown = || RunError::UnknownPlan(id.chars().take(80).collect());
        let id: PlanId = id.parse().map_err(|_| unknown())?;
        rows::get(&self.store, id).await?.ok_or_else(unknown)
    }
}

impl Plans {
    /// Load the runs that are not over, and go on with them.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn open(
        options: Options,
        retention: Retention,
        store: Store,
        jobs: Jobs,
        shutdown: CancellationToken,
    ) -> Result<Self, StoreError> {
        let inner = Inner {
            options,
            retention,
            store,
            jobs,
            changing: tokio::sync::Mutex::default(),
            live: Mutex::default(),
            tasks: TaskTracker::new(),
            shutdown,
            #[cfg(test)]
            crash: tests::Crash::default(),
        };
        let plans = Plans { inner: Arc::new(inner) };
        let inner = &plans.inner;
        for id in rows::open(&inner.store).await? {
            let stored = rows::get(&inner.store, id).await?;
            let (Some(stored), Some(info)) = (stored, rows::run_info(&inner.store, id).await?) else {
                continue;
            };
            let run = StoredRun { id, started_by: info.started_by, started_ms: info.started_ms };
            let core = Core::new(&stored, &run)?;
            let state = inner.read(&core).await?;
            plans.carry_out(LiveRun::new(core, state));
        }
        Ok(plans)
    }

    fn carry_out(&self, run: Arc<LiveRun>) {
        let inner = &self.inner;
        inner.live().insert(run.core.id, run.clone());
        inner.tasks.spawn(inner.clone().drive(run));
    }

    /// Forget what is old, and wait for the runs, until the master shuts down.
    pub async fn tend(self) {
        let inner = self.inner;
        while !inner.shutdown.is_cancelled() {
            if let Err(error) = inner.sweep().await
                && !inner.shutdown.is_cancelled()
            {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot forget old runs");
            }
            tokio::select! {
                () = inner.shutdown.cancelled() => {}
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
        inner.tasks.close();
        inner.tasks.wait().await;
    }

    /// Look at a plan as if it were to be made, for somebody who may do what the permit says.
    ///
    /// # Errors
    /// If it can't be right, or is not allowed.
    pub async fn check(&self, id: PlanId, plan: Plan, permit: &Permit) -> Result<PlanReview, RunError> {
        Ok(self.checked(id, plan, permit).await?.review)
    }

    async fn checked(&self, id: PlanId, mut plan: Plan, permit: &Permit) -> Result<Checked, RunError> {
        plan.name_run(id);
        let checked = check::check(&self.inner.jobs, plan).await.map_err(RunError::Bad)?;
        checked.permitted(permit).await?;
        Ok(checked)
    }

    /// Check a plan and keep it under an id that no plan has.
    ///
    /// # Errors
    /// As [`Plans::check`], or if the store fails.
    pub async fn make(
        &self,
        id: PlanId,
        plan: Plan,
        source: PlanSource,
        actor: &str,
        permit: &Permit,
    ) -> Result<PlanRecord, RunError> {
        let inner = &self.inner;
        let Checked { plan, review, facts, .. } = self.checked(id, plan, permit).await?;
        let created_ms = crate::now_ms();
        let info = PlanInfo {
            id,
            title: plan.title.clone(),
            source,
            steps: u32::try_from(plan.steps.len()).unwrap_or(u32::MAX),
            created_by: actor.to_owned(),
            created_ms,
            expires_ms: created_ms.saturating_add(GOOD_MS),
            run: None,
        };
        let detail = json!({
            "title": info.title, "source": info.source, "steps": info.steps, "effect": review.effect,
            "nodes": review.nodes.len(),
        });
        let entry = NewEntry::allowed(actor, "plan.make", id, detail);
        let event = NewEvent::new(
            "plan.made",
            id,
            json!({ "title": info.title, "by": actor, "steps": info.steps, "effect": review.effect }),
        );
        let stored = StoredPlan { info: info.clone(), plan: plan.clone(), review: review.clone(), facts };
        let write = inner.store.write::<(), RunError, _>(move |c| {
            Box::pin(async move {
                let unapplied = rows::unapplied(c).await?;
                if unapplied >= MOST_UNAPPLIED {
                    return Err(RunError::TooMany(usize::try_from(unapplied).unwrap_or(usize::MAX)));
                }
                rows::insert(c, &stored).await?;
                events::append(c, &[event]).await?;
                Ok(audit::append(c, &entry).await?)
            })
        });
        write.await?;
        Ok(PlanRecord { info, plan: Plan::clone(&plan), review })
    }

    /// One plan.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn get(&self, id: &str) -> Result<PlanRecord, RunError> {
        let stored = self.inner.plan(id).await?;
        Ok(PlanRecord { info: stored.info, plan: Plan::clone(&stored.plan), review: stored.review })
    }

    /// Plans before one, newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn page(&self, before: Option<PlanId>, limit: u32) -> Result<Vec<PlanInfo>, RunError> {
        Ok(rows::page(&self.inner.store, before, limit).await?)
    }

    /// Apply a plan, for somebody who may do what the permit says.
    ///
    /// # Errors
    /// If there is none, it was applied or is too old, the fleet moved, another run needs the same, or it is
    /// not allowed.
    pub async fn apply(
        &self,
        id: &str,
        asked: &ApplyPlan,
        actor: &str,
        permit: &Permit,
    ) -> Result<Run, RunError> {
        let inner = &self.inner;
        let stored = inner.plan(id).await?;
        let id = stored.info.id;
        let _changing = inner.changing.lock().await;
        let started_ms = crate::now_ms();
        if rows::run_info(&inner.store, id).await?.is_some() {
            return Err(RunError::Applied(id));
        }
        if stored.info.expires_ms <= started_ms {
            return Err(RunError::Expired(id));
        }
        if asked.fleet_version.is_some_and(|version| version != stored.review.fleet_version) {
            return Err(RunError::OtherVersion(id));
        }
        let moved = stored.facts.moved(&inner.jobs);
        if !moved.is_empty() {
            return Err(RunError::Moved { plan: id, moved });
        }
        // Operations may be others by now, and so may what the caller may do.
        let checked = check::check(&inner.jobs, Plan::clone(&stored.plan)).await.map_err(RunError::Bad)?;
        checked.permitted(permit).await?;
        inner.free(&stored).await?;
        let running = inner.live().len();
        if running >= MOST {
            return Err(RunError::TooMany(running));
        }
        let run = StoredRun { id, started_by: actor.to_owned(), started_ms };
        let core = Core::new(&stored, &run)?;
        let detail = json!({
            "title": stored.info.title, "steps": stored.info.steps, "effect": checked.review.effect,
            "fleet_version": stored.review.fleet_version,
        });
        let entry = NewEntry::allowed(actor, "run.apply", id, detail);
        let data = json!({ "title": stored.info.title, "by": actor, "steps": stored.info.steps });
        let event = NewEvent::new("run.began", id, data);
        let write = inner.store.write::<(), StoreError, _>(move |c| {
            Box::pin(async move {
                rows::begin(c, &run).await?;
                events::append(c, &[event]).await?;
                audit::append(c, &entry).await
            })
        });
        write.await?;
        let live = LiveRun::new(core, State::default());
        *live.state.lock().await = State::new(&live.core);
        let shown = {
            let state = live.state.lock().await;
            inner.show(&live.core, &state)
        };
        self.carry_out(live);
        Ok(shown)
    }
}

impl Inner {
    /// Whether no other run needs for itself what this plan would. The caller holds `changing`.
    async fn free(&self, stored: &StoredPlan) -> Result<(), RunError> {
        let needed: BTreeSet<(NodeId, String)> = stored
            .plan
            .steps
            .iter()
            .flat_map(windlass_types::plans::Step::actions)
            .filter_map(|(_, action)| Some((stored.facts.0.get(&action.node)?.id, action)))
            .flat_map(|(node, action)| self.locks(action).into_iter().map(move |lock| (node, lock)))
            .collect();
        if needed.is_empty() {
            return Ok(());
        }
        let runs: Vec<Arc<LiveRun>> = self.live().values().cloned().collect();
        for run in runs {
            let state = run.state.lock().await;
            for step in state.needed(&run.core) {
                for (_, action) in step.actions() {
                    let Some(node) = run.core.nodes.get(&action.node) else { continue };
                    let mut locks = self.locks(action).into_iter().map(|lock| (*node, lock));
                    if let Some((_, lock)) = locks.find(|lock| needed.contains(lock)) {
                        let (run, node) = (run.core.id, action.node.clone());
                        return Err(RunError::Locked { run, node, lock: Some(format!("`{lock}`")) });
                    }
                }
            }
        }
        Ok(())
    }

    fn locks(&self, action: &windlass_types::plans::Action) -> Vec<String> {
        self.jobs
            .info(&action.operation)
            .map(|info| crate::jobs::locks(&info, &action.args))
            .unwrap_or_default()
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let age = i64::try_from(self.retention.jobs.0.as_millis()).unwrap_or(i64::MAX);
        while !self.shutdown.is_cancelled() {
            let now_ms = crate::now_ms();
            let before_ms = now_ms.saturating_sub(age);
            let sweep = self
                .store
                .write(move |c| Box::pin(async move { rows::sweep(c, now_ms, before_ms, KEPT).await }));
            if sweep.await? == 0 {
                break;
            }
        }
        Ok(())
    }
}
