//! What people do to runs.

use super::{
    Inner, LiveRun, Plans, RunError,
    append::Wish,
    machine::{Command, Stage},
    state::State,
};
use crate::{
    access::{Denied, Need, On, Permit, decide},
    fleet::NodeRecord,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use windlass_types::{
    Effect, NodeName, OperationName, PlanId, StepId,
    api::plans::{Run, RunEventKind},
    plans::Step,
};

/// What somebody wants of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    Pause,
    Resume,
    Cancel,
    Abandon,
    /// Of a step.
    Approve(String),
    Retry(String),
    Skip(String),
}

impl Verb {
    fn action(&self) -> &'static str {
        match self {
            Verb::Pause => "run.pause",
            Verb::Resume => "run.resume",
            Verb::Cancel => "run.cancel",
            Verb::Abandon => "run.abandon",
            Verb::Approve(_) => "run.approve",
            Verb::Retry(_) => "run.retry_step",
            Verb::Skip(_) => "run.skip_step",
        }
    }
}

impl Plans {
    /// Do something to a run, for somebody who may do what the permit says.
    ///
    /// # Errors
    /// If there is no such run or step, it does not stand so that this could be done, or it is not allowed.
    pub async fn do_to(&self, id: &str, verb: &Verb, actor: &str, permit: &Permit) -> Result<Run, RunError> {
        let inner = &self.inner;
        let run = inner.under_way(id).await?;
        inner.permitted(&run, permit).await?;
        let mut state = run.state.lock().await;
        if state.doubt {
            *state = inner.read(&run.core).await?;
        }
        if let Some(over) = state.over {
            return Err(RunError::Over { run: run.core.id, state: over });
        }
        if let Some(kind) = wanted(&run, &state, verb)? {
            let wish = Wish { actor: actor.to_owned(), action: verb.action() };
            inner.wish(&run, &mut state, wish, kind).await?;
        }
        Ok(inner.show(&run.core, &state))
    }
}

/// The event that a verb is; none if it is so already.
fn wanted(run: &LiveRun, state: &State, verb: &Verb) -> Result<Option<RunEventKind>, RunError> {
    let back = state.view.rolls_back(&run.core.shape);
    Ok(match verb {
        Verb::Pause => (!state.view.paused).then_some(RunEventKind::Paused),
        Verb::Resume => state.view.paused.then_some(RunEventKind::Resumed),
        Verb::Cancel => (!state.view.cancelled).then_some(RunEventKind::Cancelled),
        Verb::Abandon => Some(RunEventKind::Abandoned),
        Verb::Approve(step) => {
            let (id, number) = position(run, step)?;
            if state.progress(number).approved {
                return Ok(None);
            }
            let asks = state.wanted(&run.core).contains(&Command::Ask { step: number });
            if !asks {
                let problem = match run.core.shape.steps[number as usize].approval {
                    true => "nobody is asked about it now",
                    false => "it needs no approval",
                };
                return Err(wrong(&id, problem));
            }
            Some(RunEventKind::Approved { step: id })
        }
        Verb::Retry(step) => {
            let (id, number) = position(run, step)?;
            match state.progress(number).stage {
                Stage::Stuck => {}
                Stage::Failed if !back => {}
                Stage::Failed => return Err(wrong(&id, "the run rolls back: it is not tried again")),
                _ => return Err(wrong(&id, "it has not failed")),
            }
            Some(RunEventKind::Retried { step: id })
        }
        Verb::Skip(step) => {
            let (id, number) = position(run, step)?;
            let progress = state.progress(number);
            let can = match progress.stage {
                Stage::Failed if !back => true,
                _ => back && progress.can_be_left(&run.core.shape.steps[number as usize]),
            };
            if !can {
                return Err(wrong(&id, "it has not failed, and there is nothing of it to be undone"));
            }
            Some(RunEventKind::Skipped { step: id })
        }
    })
}

fn wrong(step: &StepId, problem: &str) -> RunError {
    RunError::WrongState { step: step.clone(), problem: problem.into() }
}

fn position(run: &LiveRun, step: &str) -> Result<(StepId, u32), RunError> {
    let unknown = || RunError::UnknownStep { run: run.core.id, step: step.chars().take(80).collect() };
    let id: StepId = step.parse().map_err(|_| unknown())?;
    let number = *run.core.positions.get(&id).ok_or_else(unknown)?;
    Ok((id, number))
}

impl Inner {
    /// A run that is not over.
    async fn under_way(&self, id: &str) -> Result<Arc<LiveRun>, RunError> {
        let unknown = || RunError::UnknownRun(id.chars().take(80).collect());
        let id: PlanId = id.parse().map_err(|_| unknown())?;
        if let Some(run) = self.find(id) {
            return Ok(run);
        }
        let info = crate::store::plans::run_info(&self.store, id).await?.ok_or_else(unknown)?;
        Err(RunError::Over { run: id, state: info.state })
    }

    /// Whoever takes a run in hand has to be allowed all of it, on the nodes that it means.
    async fn permitted(&self, run: &LiveRun, permit: &Permit) -> Result<(), Denied> {
        let mut uses: BTreeMap<&OperationName, BTreeSet<&NodeName>> = BTreeMap::new();
        for (_, action) in run.core.plan.steps.iter().flat_map(Step::actions) {
            uses.entry(&action.operation).or_default().insert(&action.node);
        }
        for (name, on) in uses {
            // One that no node offers any more may do anything.
            let effect = self.jobs.effect(name).unwrap_or(Effect::Destroy);
            let need = Need::Operation { name, effect };
            if decide(&permit.0, need, On::Everywhere).is_ok() {
                continue;
            }
            let (mut nodes, mut gone): (Vec<Arc<NodeRecord>>, Vec<NodeName>) = (Vec::new(), Vec::new());
            for node in on {
                match run.core.nodes.get(node).and_then(|id| self.jobs.node(*id)) {
                    Some(record) => nodes.push(record),
                    // What labels it had is not known any more.
                    None => gone.push(node.clone()),
                }
            }
            if !gone.is_empty() {
                let what = format!("`{name}` ({effect})");
                return Err(Denied::Nodes { role: permit.0.name.clone(), what, nodes: gone });
            }
            permit.operation(name, effect, &nodes).await?;
        }
        Ok(())
    }
}
