//! What a run does next: the pure core of plans, without any IO.
//!
//! A run is its plan and the list of what has happened, in order. [`View`] is what the list tells, event by
//! event, and [`decide`] says what is to be done now. Whoever drives it writes down that something begins
//! before it begins, and how it ended once that is known; after a crash it reads the list and asks again. So
//! a view in memory is never more than the list. To decide takes a walk over the steps and their order.
//!
//! What has to hold, and how it does:
//!
//! * *Each thing begins once.* It has a name, of step, phase and attempt. What is written down as begun is
//!   never asked for again: the driver finds out what became of it, by that name.
//! * *Nothing is undone too early.* A step is undone only when it is known how its action ended, or, where
//!   nobody answered, when it is known that nothing of it runs any more (`Settled`): an action that timed
//!   out may still come to be. And only when no step behind it has anything left that could be undone.
//! * *Nothing is forgotten.* Who does not answer while it is undone is asked again once it is settled,
//!   for ever: the undo is owed. What refuses to be undone waits for a person.

pub use windlass_types::api::plans::{How, Phase};

/// An undo that ends without success is tried so often before it waits for a person.
pub const UNDO_TRIES: u32 = 3;

/// A plan as far as its order goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    pub steps: Vec<Step>,
    /// Steps under way at once; at least one.
    pub at_once: u32,
    /// When a step fails, wait for a person instead of rolling back.
    pub hold: bool,
}

/// A step as far as its order goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// The steps that have to be done before.
    pub after: Vec<u32>,
    /// It can be undone.
    pub undo: bool,
    /// A look afterwards decides whether it is done.
    pub verify: bool,
    /// Somebody has to agree first.
    pub approval: bool,
    /// So often more when it ends without success.
    pub retries: u32,
}

/// Why a shape is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("step {step} comes after a step {after} that is not there")]
    NoSuchStep { step: u32, after: u32 },
    #[error("step {0} would have to wait for itself")]
    Circle(u32),
}

/// Something that is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Written before it begins.
    Began {
        step: u32,
        phase: Phase,
        attempt: u32,
    },
    Ended {
        step: u32,
        phase: Phase,
        attempt: u32,
        how: How,
    },
    /// What was not answered does not run any more.
    Settled {
        step: u32,
    },
    Approved {
        step: u32,
    },
    Paused,
    Resumed,
    /// Roll back.
    Cancelled,
    /// Try a step that has failed, or its undo, once more.
    Retried {
        step: u32,
    },
    /// Go on as if a failed step were done; or, while it rolls back, leave a step as it is.
    Skipped {
        step: u32,
    },
    /// End the run as it is.
    Abandoned,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    Begin {
        step: u32,
        phase: Phase,
        attempt: u32,
    },
    /// Find out when nothing of it runs any more.
    Settle {
        step: u32,
    },
    /// Somebody has to agree to this step.
    Ask {
        step: u32,
    },
    /// Somebody has to say how to go on from this step.
    Stuck {
        step: u32,
    },
    Finish(End),
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Done,
    /// All that could be undone is, but for what somebody has left.
    RolledBack,
    Abandoned,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Has not begun.
    Waiting,
    /// Something of it is under way.
    Running(Phase),
    /// Nobody answered; it may still run.
    Unanswered(Phase),
    /// It ended without success, and will be tried again unless the run rolls back.
    Again,
    /// Its action succeeded, and has to be verified.
    Acted,
    Done,
    Failed,
    Skipped,
    /// To be undone once more.
    Owed,
    /// Can't be undone.
    Stuck,
    Undone,
    /// Somebody said to leave it as it is.
    Left,
}

/// What is known of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    /// Attempts of its action, of its verification and of its undo that have begun.
    pub attempts: [u32; 3],
    pub approved: bool,
    /// Some of its action may have been done.
    pub touched: bool,
    /// Further attempts that were allowed by hand.
    extra: u32,
    /// Undos that ended without success since somebody last looked at it.
    refused: u32,
}

impl Progress {
    const NEW: Progress = Progress {
        stage: Stage::Waiting,
        attempts: [0; 3],
        approved: false,
        touched: false,
        extra: 0,
        refused: 0,
    };

    fn attempt(&self, phase: Phase) -> u32 {
        self.attempts[phase as usize] + 1
    }

    fn busy(&self) -> bool {
        matches!(self.stage, Stage::Running(_) | Stage::Unanswered(_))
    }

    /// Its undo has begun.
    fn backward(&self) -> bool {
        use Stage::{Left, Owed, Running, Stuck, Unanswered, Undone};
        matches!(self.stage, Owed | Stuck | Undone | Left | Running(Phase::Undo) | Unanswered(Phase::Undo))
    }

    /// It did not succeed and is not tried again; also one that nobody answered, before that is settled:
    /// what does not come after it need not wait to be undone.
    fn fails(&self, step: &Step) -> bool {
        match self.stage {
            Stage::Failed => true,
            Stage::Unanswered(Phase::Act) => again(self, step) == Stage::Failed,
            _ => false,
        }
    }

    /// In a run that rolls back, somebody may say to leave it as it is: its node may never come back, and
    /// what is in front of it is not to wait for ever.
    pub fn can_be_left(&self, step: &Step) -> bool {
        match self.stage {
            Stage::Running(_) | Stage::Undone | Stage::Left => false,
            Stage::Unanswered(_) => true,
            _ => step.undo && self.touched,
        }
    }

    /// Something of it is there that has to be undone before what is in front of it.
    pub fn owes(&self, step: &Step) -> bool {
        self.busy() || (step.undo && self.touched && self.stage != Stage::Left)
    }
}

/// A run as its events tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    pub steps: Vec<Progress>,
    pub paused: bool,
    pub cancelled: bool,
    pub abandoned: bool,
    /// Steps whose undo has begun, that fail, and that are under way.
    backward: usize,
    failed: usize,
    running: usize,
}

/// Which steps come after which, found once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// For each step those that come right after it.
    behind: Vec<Vec<u32>>,
    /// All steps, each after all that it comes after.
    forward: Vec<u32>,
}

impl Shape {
    /// # Errors
    /// If its steps can't be put in an order.
    pub fn order(&self) -> Result<Order, ShapeError> {
        let mut behind = vec![Vec::new(); self.steps.len()];
        let mut open = Vec::with_capacity(self.steps.len());
        for (step, number) in self.steps.iter().zip(0..) {
            for after in &step.after {
                let Some(behind) = behind.get_mut(*after as usize) else {
                    return Err(ShapeError::NoSuchStep { step: number, after: *after });
                };
                behind.push(number);
            }
            open.push(step.after.len());
        }
        let mut forward: Vec<u32> =
            (0..).zip(&open).filter(|(_, open)| **open == 0).map(|(step, _)| step).collect();
        let mut next = 0;
        while let Some(step) = forward.get(next) {
            next += 1;
            for behind in &behind[*step as usize] {
                open[*behind as usize] -= 1;
                if open[*behind as usize] == 0 {
                    forward.push(*behind);
                }
            }
        }
        match (0..).zip(&open).find(|(_, open)| **open > 0) {
            Some((step, _)) => Err(ShapeError::Circle(step)),
            None => Ok(Order { behind, forward }),
        }
    }
}

impl View {
    /// Of a run of which nothing has happened.
    pub fn new(shape: &Shape) -> View {
        View {
            steps: vec![Progress::NEW; shape.steps.len()],
            paused: false,
            cancelled: false,
            abandoned: false,
            backward: 0,
            failed: 0,
            running: 0,
        }
    }

    /// The same, as if it were not paused.
    pub fn resumed(&self) -> View {
        View { paused: false, ..self.clone() }
    }

    /// No step begins any more that has not; what has is undone.
    pub fn rolls_back(&self, shape: &Shape) -> bool {
        self.cancelled || self.backward > 0 || (!shape.hold && self.failed > 0)
    }

    /// What an event tells. One that makes no sense where it stands changes nothing.
    pub fn apply(&mut self, shape: &Shape, event: Event) {
        let back = self.rolls_back(shape);
        let number = match event {
            Event::Paused => return self.paused = true,
            Event::Resumed => return self.paused = false,
            Event::Cancelled => return self.cancelled = true,
            Event::Abandoned => return self.abandoned = true,
            Event::Began { step, .. }
            | Event::Ended { step, .. }
            | Event::Settled { step }
            | Event::Approved { step }
            | Event::Retried { step }
            | Event::Skipped { step } => step as usize,
        };
        let (Some(progress), Some(step)) = (self.steps.get_mut(number), shape.steps.get(number)) else {
            return;
        };
        let counts = |progress: &Progress| {
            let running = matches!(progress.stage, Stage::Running(_));
            [progress.backward(), progress.fails(step), running].map(usize::from)
        };
        let before = counts(progress);
        match event {
            Event::Began { phase, .. } => began(progress, phase),
            Event::Ended { phase, how, .. } => ended(progress, step, phase, how),
            Event::Settled { .. } => settled(progress, step),
            Event::Approved { .. } => progress.approved = true,
            Event::Retried { .. } => retried(progress, back),
            Event::Skipped { .. } => skipped(progress, step, back),
            Event::Paused | Event::Resumed | Event::Cancelled | Event::Abandoned => {}
        }
        let after = counts(progress);
        let counters = [&mut self.backward, &mut self.failed, &mut self.running];
        for (counter, (before, after)) in counters.into_iter().zip(before.into_iter().zip(after)) {
            *counter = *counter + after - before;
        }
    }
}

fn began(progress: &mut Progress, phase: Phase) {
    progress.attempts[phase as usize] += 1;
    progress.stage = Stage::Running(phase);
}

fn ended(progress: &mut Progress, step: &Step, phase: Phase, how: How) {
    // Whoever answered late is heard as well.
    if !matches!(progress.stage, Stage::Running(now) | Stage::Unanswered(now) if now == phase) {
        return;
    }
    if how == How::Unanswered {
        progress.touched |= phase == Phase::Act;
        progress.stage = Stage::Unanswered(phase);
        return;
    }
    progress.stage = match (phase, how) {
        (Phase::Act, How::Done) => {
            progress.touched = true;
            if step.verify { Stage::Acted } else { Stage::Done }
        }
        (Phase::Verify, How::Done) => Stage::Done,
        (Phase::Act | Phase::Verify, _) => {
            progress.touched |= how == How::Failed;
            again(progress, step)
        }
        (Phase::Undo, How::Done) => {
            progress.touched = false;
            Stage::Undone
        }
        (Phase::Undo, _) => {
            progress.refused += 1;
            if progress.refused < UNDO_TRIES { Stage::Owed } else { Stage::Stuck }
        }
    };
}

fn again(progress: &Progress, step: &Step) -> Stage {
    let most = step.retries.saturating_add(progress.extra);
    if progress.attempts[Phase::Act as usize] <= most { Stage::Again } else { Stage::Failed }
}

fn settled(progress: &mut Progress, step: &Step) {
    match progress.stage {
        Stage::Unanswered(Phase::Undo) => progress.stage = Stage::Owed,
        // It only looks: it may look again.
        Stage::Unanswered(Phase::Verify) => progress.stage = Stage::Acted,
        Stage::Unanswered(Phase::Act) => progress.stage = again(progress, step),
        _ => {}
    }
}

fn retried(progress: &mut Progress, back: bool) {
    match progress.stage {
        Stage::Failed if !back => {
            progress.extra = progress.extra.saturating_add(1);
            progress.stage = Stage::Again;
        }
        Stage::Stuck => {
            progress.refused = 0;
            progress.stage = Stage::Owed;
        }
        _ => {}
    }
}

fn skipped(progress: &mut Progress, step: &Step, back: bool) {
    match progress.stage {
        Stage::Failed if !back => progress.stage = Stage::Skipped,
        _ if back && progress.can_be_left(step) => progress.stage = Stage::Left,
        _ => {}
    }
}

/// What is to be done now, by step. Empty while the run waits for what is under way.
pub fn decide(shape: &Shape, order: &Order, view: &View) -> Vec<Command> {
    if view.abandoned {
        return vec![Command::Finish(End::Abandoned)];
    }
    let back = view.rolls_back(shape);
    let mut commands = Vec::new();
    for (progress, step) in view.steps.iter().zip(0..) {
        match progress.stage {
            Stage::Unanswered(_) => commands.push(Command::Settle { step }),
            Stage::Stuck => commands.push(Command::Stuck { step }),
            Stage::Failed if !back => commands.push(Command::Stuck { step }),
            _ => {}
        }
    }
    let begin = if back { undo(shape, order, view) } else { act(shape, view) };
    let end = if begin.is_empty() && commands.is_empty() { finished(view, back) } else { None };
    if !view.paused {
        commands.extend(begin);
    }
    commands.extend(end.map(Command::Finish));
    commands
}

fn finished(view: &View, back: bool) -> Option<End> {
    if view.steps.iter().any(Progress::busy) {
        return None;
    }
    if back {
        return Some(End::RolledBack);
    }
    let through = |step: &Progress| matches!(step.stage, Stage::Done | Stage::Skipped);
    view.steps.iter().all(through).then_some(End::Done)
}

/// Forward: what all before is done of.
fn act(shape: &Shape, view: &View) -> Vec<Command> {
    // A failed step holds all others up, until somebody has looked at it.
    if view.failed > 0 {
        return Vec::new();
    }
    let mut room = room(shape, view);
    let mut commands = Vec::new();
    for ((progress, step), number) in view.steps.iter().zip(&shape.steps).zip(0..) {
        let phase = match progress.stage {
            Stage::Waiting | Stage::Again => Phase::Act,
            Stage::Acted => Phase::Verify,
            _ => continue,
        };
        let before = |after: &u32| matches!(view.steps[*after as usize].stage, Stage::Done | Stage::Skipped);
        if !step.after.iter().all(before) {
            continue;
        }
        if step.approval && !progress.approved {
            commands.push(Command::Ask { step: number });
        } else if room > 0 {
            room -= 1;
            commands.push(Command::Begin { step: number, phase, attempt: progress.attempt(phase) });
        }
    }
    commands
}

/// Backward: what nothing is left of behind it.
fn undo(shape: &Shape, order: &Order, view: &View) -> Vec<Command> {
    let mut room = room(shape, view);
    let mut commands = Vec::new();
    // From the last: whether it, or anything behind it, owes something.
    let mut held = vec![false; view.steps.len()];
    for number in order.forward.iter().rev() {
        let index = *number as usize;
        let progress = &view.steps[index];
        let behind = order.behind[index].iter().any(|behind| held[*behind as usize]);
        let owes = progress.owes(&shape.steps[index]);
        held[index] = behind || owes;
        let can = owes && !progress.busy() && progress.stage != Stage::Stuck;
        if can && !behind && room > 0 {
            room -= 1;
            let attempt = progress.attempt(Phase::Undo);
            commands.push(Command::Begin { step: *number, phase: Phase::Undo, attempt });
        }
    }
    commands
}

/// How many may begin. What nobody answers takes no room: it may stay so for days.
fn room(shape: &Shape, view: &View) -> usize {
    (shape.at_once.max(1) as usize).saturating_sub(view.running)
}

#[cfg(test)]
mod tests;
