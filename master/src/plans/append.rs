//! Adding to the events of a run: in one transaction with what it means for the store, the log and the audit.

use super::{
    Core, Inner, LiveRun, RunError,
    machine::{Command, View},
    state::{State, end_state, of_machine},
};
use crate::store::{
    StoreError,
    audit::{self, NewEntry},
    events::{self, NewEvent},
    plans as rows,
};
use serde_json::json;
use std::collections::BTreeSet;
use windlass_types::{
    JobId, NodeName, StepId,
    api::plans::{How, Phase, RunEvent, RunEventKind, RunState},
    plans::Action,
};

/// Somebody who wants something, with what goes into the audit log.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub actor: String,
    pub action: &'static str,
}

impl Inner {
    /// Add events to a run, and to its state once they are committed. What ends the run ends it in the same
    /// transaction.
    ///
    /// # Errors
    /// If they could not be written, or it is not known: then the state has to be read again.
    pub(super) async fn append(
        &self,
        run: &LiveRun,
        state: &mut State,
        wish: Option<Wish>,
        kinds: Vec<RunEventKind>,
    ) -> Result<(), StoreError> {
        let core = &run.core;
        let (time_ms, actor) = (crate::now_ms(), wish.as_ref().map(|wish| wish.actor.clone()));
        let mut added: Vec<RunEvent> = (state.seq + 1..)
            .zip(kinds)
            .map(|(seq, kind)| RunEvent { seq, time_ms, actor: actor.clone(), kind })
            .collect();
        let mut told: Vec<NewEvent> = Vec::new();
        let mut known: Vec<JobId> = Vec::new();
        let before = (state.view.rolls_back(&core.shape), asks(core, &state.view));
        let mut view = state.view.clone();
        for event in &added {
            if let Some(event) = of_machine(core, &event.kind) {
                view.apply(&core.shape, event);
            }
            told.extend(self.told(core, &event.kind));
            known.extend(known_now(core, state, &event.kind));
        }
        if !before.0 && view.rolls_back(&core.shape) {
            told.push(NewEvent::new("run.rolling_back", core.id, json!({ "title": core.plan.title })));
        }
        let now = asks(core, &view);
        for command in now.difference(&before.1) {
            told.extend(question(core, *command));
        }
        let end = now.iter().find_map(|command| match command {
            Command::Finish(end) => Some(end_state(*end)),
            _ => None,
        });
        let seq = added.last().map_or(state.seq, |event| event.seq) + 1;
        if let Some(end) = end {
            let kind = RunEventKind::Finished { state: end };
            added.push(RunEvent { seq, time_ms, actor: None, kind });
            let data = json!({ "title": core.plan.title, "state": end, "by": core.started_by });
            told.push(NewEvent::new("run.finished", core.id, data));
        }
        let stands = match end {
            Some(end) => end,
            None if view.rolls_back(&core.shape) => RunState::RollingBack,
            None => RunState::Running,
        };
        let counts = end.map(|end| {
            let after = State { view, over: Some(end), ..State::new(core) };
            after.counts(core, |_| true)
        });
        let entry = wish.map(|Wish { actor, action }| {
            let step = added.first().and_then(|event| step_of(&event.kind));
            NewEntry::allowed(&actor, action, core.id, json!({ "title": core.plan.title, "step": step }))
        });
        #[cfg(test)]
        self.crash.before(&self.shutdown)?;
        let (id, rows_added) = (core.id, added.clone());
        let write = self.store.write::<(), StoreError, _>(move |c| {
            Box::pin(async move {
                rows::append(c, id, &rows_added, stands, counts.as_ref()).await?;
                rows::known(c, &known).await?;
                events::append(c, &told).await?;
                if let Some(entry) = entry {
                    audit::append(c, &entry).await?;
                }
                Ok(())
            })
        });
        write.await?;
        #[cfg(test)]
        self.crash.after(&self.shutdown)?;
        for event in &added {
            state.apply(core, event);
        }
        run.newest.send_replace(state.seq);
        run.wake.notify_one();
        Ok(())
    }

    /// Add what somebody wants.
    ///
    /// # Errors
    /// If it could not be written.
    pub(super) async fn wish(
        &self,
        run: &LiveRun,
        state: &mut State,
        wish: Wish,
        kind: RunEventKind,
    ) -> Result<(), RunError> {
        let added = self.append(run, state, Some(wish), vec![kind]).await;
        if added.is_err() {
            // Whether it was written may not be known. Who drives reads it again.
            state.doubt = true;
            run.wake.notify_one();
        }
        Ok(added?)
    }

    /// What the log of the grid says of an event.
    fn told(&self, core: &Core, kind: &RunEventKind) -> Option<NewEvent> {
        let plain =
            |kind: &'static str| Some(NewEvent::new(kind, core.id, json!({ "title": core.plan.title })));
        match kind {
            RunEventKind::Ended { step, phase, attempt, how, outcome, problem } if *how != How::Done => {
                let action = action(core, step, *phase)?;
                let kind = if *phase == Phase::Undo { "run.undo_failed" } else { "run.step_failed" };
                let data = json!({
                    "step": step, "phase": phase, "attempt": attempt, "operation": action.operation,
                    "how": how, "outcome": outcome, "problem": problem,
                });
                Some(of_node(core, kind, &action.node, data))
            }
            RunEventKind::Owed { step } => {
                let action = action(core, step, Phase::Undo)?;
                let data = json!({ "step": step, "operation": action.operation });
                Some(of_node(core, "run.owed", &action.node, data))
            }
            RunEventKind::Paused => plain("run.paused"),
            RunEventKind::Resumed => plain("run.resumed"),
            RunEventKind::Cancelled => plain("run.cancelled"),
            _ => None,
        }
    }
}

fn of_node(core: &Core, kind: &'static str, node: &NodeName, data: serde_json::Value) -> NewEvent {
    let id = core.nodes.get(node).map(|id| (*id, node.clone()));
    NewEvent { node: id, ..NewEvent::new(kind, core.id, data) }
}

/// What a step does in a phase.
pub(super) fn action<'a>(core: &'a Core, step: &StepId, phase: Phase) -> Option<&'a Action> {
    let step = core.plan.steps.get(*core.positions.get(step)? as usize)?;
    match phase {
        Phase::Act => Some(&step.act),
        Phase::Verify => step.verify.as_ref().map(|verify| &verify.action),
        Phase::Undo => step.undo.as_ref(),
    }
}

/// The jobs of which it is known with an event how they ended, and that nothing of them runs any more.
fn known_now(core: &Core, state: &State, kind: &RunEventKind) -> Option<JobId> {
    let step = match kind {
        RunEventKind::Ended { step, how, .. } if rows::settles(*how) => step,
        RunEventKind::Settled { step } => step,
        _ => return None,
    };
    let told = state.steps.get(*core.positions.get(step)? as usize)?;
    told.job.map(|doing| doing.job)
}

fn step_of(kind: &RunEventKind) -> Option<&StepId> {
    match kind {
        RunEventKind::Approved { step } | RunEventKind::Retried { step } | RunEventKind::Skipped { step } => {
            Some(step)
        }
        _ => None,
    }
}

/// What waits for a person, and the end.
fn asks(core: &Core, view: &View) -> BTreeSet<Command> {
    let commands = super::machine::decide(&core.shape, &core.order, &view.resumed());
    commands
        .into_iter()
        .filter(|command| matches!(command, Command::Ask { .. } | Command::Stuck { .. } | Command::Finish(_)))
        .collect()
}

fn question(core: &Core, command: Command) -> Option<NewEvent> {
    let (kind, step) = match command {
        Command::Ask { step } => ("run.asks", step),
        Command::Stuck { step } => ("run.stuck", step),
        _ => return None,
    };
    let step = core.plan.steps.get(step as usize)?;
    let data = json!({ "step": step.id, "title": step.title, "question": step.approval });
    Some(of_node(core, kind, &step.act.node, data))
}
