//! Runs as the API shows them.

use super::{
    Core, Inner, Plans, RunError, StoredRun,
    machine::Command,
    state::{State, attempts},
};
use crate::store::plans as rows;
use windlass_types::{
    PlanId,
    api::plans::{Phase, Run, RunInfo, RunStep, RunWait, StepState, WaitsFor},
    plans::Plan,
};

impl Plans {
    /// One run.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn run(&self, id: &str) -> Result<Run, RunError> {
        let inner = &self.inner;
        let unknown = || RunError::UnknownRun(id.chars().take(80).collect());
        let id: PlanId = id.parse().map_err(|_| unknown())?;
        if let Some(run) = inner.find(id) {
            let mut state = run.state.lock().await;
            if state.doubt {
                *state = inner.read(&run.core).await?;
            }
            return Ok(inner.show(&run.core, &state));
        }
        let stored = rows::get(&inner.store, id).await?.ok_or_else(unknown)?;
        let info = rows::run_info(&inner.store, id).await?.ok_or_else(unknown)?;
        let run = StoredRun { id, started_by: info.started_by, started_ms: info.started_ms };
        let core = Core::new(&stored, &run)?;
        let state = inner.read(&core).await?;
        Ok(inner.show(&core, &state))
    }

    /// Runs before one, newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn runs(&self, before: Option<PlanId>, limit: u32) -> Result<Vec<RunInfo>, RunError> {
        let mut runs = rows::runs(&self.inner.store, before, limit).await?;
        for info in &mut runs {
            if let Some(run) = self.inner.find(info.id) {
                let state = run.state.lock().await;
                *info = self.inner.info(&run.core, &state);
            }
        }
        Ok(runs)
    }
}

impl Inner {
    /// Whether the node of a step, or of its undo, is there.
    pub(super) fn there(&self, core: &Core, step: u32) -> bool {
        let step = &core.plan.steps[step as usize];
        let node = step.undo.as_ref().map_or(&step.act.node, |undo| &undo.node);
        core.nodes.get(node).is_some_and(|node| self.jobs.online(*node))
    }

    fn info(&self, core: &Core, state: &State) -> RunInfo {
        RunInfo {
            id: core.id,
            title: core.plan.title.clone(),
            state: state.state(core),
            paused: state.view.paused && state.over.is_none(),
            steps: state.counts(core, |step| self.there(core, step)),
            started_by: core.started_by.clone(),
            started_ms: core.started_ms,
            finished_ms: state.finished_ms,
        }
    }

    pub(super) fn show(&self, core: &Core, state: &State) -> Run {
        let progress = (0..).zip(&core.plan.steps).zip(&state.steps).map(|((number, step), told)| {
            let progress = state.progress(number);
            RunStep {
                id: step.id.clone(),
                state: state.step(core, number, self.there(core, number)),
                touched: progress.touched,
                attempts: attempts(progress, Phase::Act),
                undos: Some(attempts(progress, Phase::Undo)).filter(|undos| *undos > 0),
                job: told.job.map(|doing| doing.job),
                problem: told.problem.clone(),
                undo_problem: told.undo_problem.clone(),
                started_ms: told.started_ms,
                finished_ms: told.finished_ms,
            }
        });
        Run {
            info: self.info(core, state),
            plan: Plan::clone(&core.plan),
            progress: progress.collect(),
            waits: self.waits(core, state),
            seq: state.seq,
        }
    }

    /// What holds it up.
    fn waits(&self, core: &Core, state: &State) -> Vec<RunWait> {
        if state.over.is_some() {
            return Vec::new();
        }
        let mut waits = Vec::new();
        for command in state.wanted(core) {
            let (number, r#for) = match command {
                Command::Ask { step } => (step, WaitsFor::Approval),
                Command::Stuck { step } => (step, WaitsFor::Person),
                Command::Settle { step } => (step, WaitsFor::Node),
                Command::Begin { step, .. } if !self.there(core, step) => (step, WaitsFor::Node),
                Command::Begin { .. } | Command::Finish(_) => continue,
            };
            let step = &core.plan.steps[number as usize];
            let told = &state.steps[number as usize];
            let stands = state.step(core, number, self.there(core, number));
            let node = match stands {
                StepState::Owed | StepState::Stuck => {
                    step.undo.as_ref().map_or(&step.act.node, |undo| &undo.node)
                }
                _ => &step.act.node,
            };
            let because =
                |problem: &Option<String>| problem.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
            let why = match (r#for, stands) {
                (WaitsFor::Approval, _) => step.approval.clone().unwrap_or_default(),
                (WaitsFor::Person, StepState::Stuck) => {
                    format!("it can't be undone{}", because(&told.undo_problem))
                }
                (WaitsFor::Person, _) => format!("it failed{}", because(&told.problem)),
                (WaitsFor::Node, StepState::Owed) => format!("its undo is owed until node {node} is back"),
                (WaitsFor::Node, StepState::Unanswered) => {
                    format!(
                        "node {node} has not said whether something of it still runs{}",
                        because(&told.problem)
                    )
                }
                (WaitsFor::Node, _) => format!("node {node} is not connected"),
            };
            waits.push(RunWait { step: step.id.clone(), node: node.clone(), r#for, why });
        }
        waits
    }
}
