//! What the events of a run tell.

use super::{
    Core,
    machine::{self, Command, End, Event, Progress, Stage, View, decide},
};
use std::collections::BTreeMap;
use windlass_types::{
    JobId,
    api::plans::{How, Phase, RunEvent, RunEventKind, RunState, StepState},
    plans::Step,
};

/// A run as its events tell it.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub view: View,
    /// The number of the newest event.
    pub seq: u64,
    /// What is told of each step beside its place in the machine.
    pub steps: Vec<Told>,
    /// How it ended.
    pub over: Option<RunState>,
    pub finished_ms: Option<i64>,
    /// What the store has may be more than this: it has to be read again before anything is decided.
    pub doubt: bool,
}

/// What is told of a step.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// The newest job of it, with its phase and attempt.
    pub job: Option<Doing>,
    /// That one is under way.
    pub open: bool,
    /// Its undo is due, and it was noted that its node is not there.
    pub owed: bool,
    pub problem: Option<String>,
    pub undo_problem: Option<String>,
    pub started_ms: Option<i64>,
    pub finished_ms: Option<i64>,
}

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Doing {
    pub step: u32,
    pub phase: Phase,
    pub attempt: u32,
    pub job: JobId,
}

/// What an event is to the machine; none if it says nothing to it.
pub(super) fn of_machine(core: &Core, kind: &RunEventKind) -> Option<Event> {
    let step = |step| core.positions.get(step).copied();
    Some(match kind {
        RunEventKind::Began { step: id, phase, attempt, .. } => {
            Event::Began { step: step(id)?, phase: *phase, attempt: *attempt }
        }
        RunEventKind::Ended { step: id, phase, attempt, how, .. } => {
            Event::Ended { step: step(id)?, phase: *phase, attempt: *attempt, how: *how }
        }
        RunEventKind::Settled { step: id } => Event::Settled { step: step(id)? },
        RunEventKind::Approved { step: id } => Event::Approved { step: step(id)? },
        RunEventKind::Retried { step: id } => Event::Retried { step: step(id)? },
        RunEventKind::Skipped { step: id } => Event::Skipped { step: step(id)? },
        RunEventKind::Paused => Event::Paused,
        RunEventKind::Resumed => Event::Resumed,
        RunEventKind::Cancelled => Event::Cancelled,
        RunEventKind::Abandoned => Event::Abandoned,
        RunEventKind::Owed { .. } | RunEventKind::Finished { .. } => return None,
    })
}

/// How a run stands that has come to an end of the machine.
pub(super) fn end_state(end: End) -> RunState {
    match end {
        End::Done => RunState::Done,
        End::RolledBack => RunState::RolledBack,
        End::Abandoned => RunState::Abandoned,
    }
}

impl State {
    /// Of a run of which nothing has happened.
    pub fn new(core: &Core) -> Self {
        State {
            view: View::new(&core.shape),
            steps: vec![Told::default(); core.plan.steps.len()],
            ..State::default()
        }
    }

    /// Take in an event.
    pub fn apply(&mut self, core: &Core, event: &RunEvent) {
        self.seq = event.seq;
        if let Some(event) = of_machine(core, &event.kind) {
            self.view.apply(&core.shape, event);
        }
        let step = |step| core.positions.get(step).copied();
        match &event.kind {
            RunEventKind::Began { step: id, phase, attempt, job } => {
                let Some(step) = step(id) else { return };
                let told = &mut self.steps[step as usize];
                told.job = Some(Doing { step, phase: *phase, attempt: *attempt, job: *job });
                (told.open, told.owed) = (true, false);
                told.started_ms.get_or_insert(event.time_ms);
                told.finished_ms = None;
            }
            RunEventKind::Ended { step: id, phase, how, problem, .. } => {
                let Some(step) = step(id) else { return };
                let told = &mut self.steps[step as usize];
                told.open = false;
                told.finished_ms = Some(event.time_ms);
                match phase {
                    Phase::Undo => told.undo_problem.clone_from(problem),
                    Phase::Verify if *how == How::Done => {}
                    Phase::Act | Phase::Verify => told.problem.clone_from(problem),
                }
            }
            RunEventKind::Owed { step: id } => {
                if let Some(step) = step(id) {
                    self.steps[step as usize].owed = true;
                }
            }
            RunEventKind::Finished { state } => {
                self.over = Some(*state);
                self.finished_ms = Some(event.time_ms);
            }
            _ => {}
        }
    }

    /// Where the run stands.
    pub fn state(&self, core: &Core) -> RunState {
        match self.over {
            Some(state) => state,
            None if self.view.rolls_back(&core.shape) => RunState::RollingBack,
            None => RunState::Running,
        }
    }

    /// What is under way.
    pub fn open(&self) -> impl Iterator<Item = Doing> {
        self.steps.iter().filter(|told| told.open).filter_map(|told| told.job)
    }

    /// What would be to be done if it were not paused.
    pub fn wanted(&self, core: &Core) -> Vec<Command> {
        decide(&core.shape, &core.order, &self.view.resumed())
    }

    /// Steps of which an operation may still be called.
    pub fn needed<'a>(&'a self, core: &'a Core) -> impl Iterator<Item = &'a Step> {
        let back = self.view.rolls_back(&core.shape);
        let over = self.over.is_some();
        core.plan.steps.iter().zip(&core.shape.steps).zip(&self.view.steps).filter_map(
            move |((step, shape), progress)| (!over && (!back || progress.owes(shape))).then_some(step),
        )
    }

    /// Where a step stands. `there` says whether its node is.
    pub fn step(&self, core: &Core, step: u32, there: bool) -> StepState {
        let (progress, shape) = (&self.view.steps[step as usize], &core.shape.steps[step as usize]);
        let back = self.view.rolls_back(&core.shape) && self.over.is_none();
        let owed = |state| if back && !there && progress.owes(shape) { StepState::Owed } else { state };
        match progress.stage {
            Stage::Waiting => StepState::Waiting,
            Stage::Running(Phase::Act) => StepState::Running,
            Stage::Running(Phase::Verify) => StepState::Verifying,
            Stage::Running(Phase::Undo) => StepState::Undoing,
            Stage::Unanswered(Phase::Undo) | Stage::Owed => StepState::Owed,
            Stage::Unanswered(_) if back && !there && shape.undo => StepState::Owed,
            Stage::Unanswered(_) => StepState::Unanswered,
            Stage::Acted => owed(StepState::Verifying),
            // Nothing goes on any more that would try it again.
            Stage::Again if back || self.over.is_some() => owed(StepState::Failed),
            Stage::Again => StepState::Retrying,
            Stage::Done => owed(StepState::Done),
            Stage::Failed => owed(StepState::Failed),
            Stage::Skipped => owed(StepState::Skipped),
            Stage::Stuck => StepState::Stuck,
            Stage::Undone => StepState::Undone,
            Stage::Left => StepState::Left,
        }
    }

    /// How many steps stand how.
    pub fn counts(&self, core: &Core, there: impl Fn(u32) -> bool) -> BTreeMap<StepState, u32> {
        let mut counts = BTreeMap::new();
        for (step, _) in (0_u32..).zip(&self.steps) {
            *counts.entry(self.step(core, step, there(step))).or_default() += 1;
        }
        counts
    }

    pub fn progress(&self, step: u32) -> &Progress {
        &self.view.steps[step as usize]
    }
}

/// An attempt of a phase, as [`Progress`] counts them.
pub(super) fn attempts(progress: &Progress, phase: machine::Phase) -> u32 {
    progress.attempts[phase as usize]
}
