//! The one task of a run: it does what the machine says, and writes down what comes of it.

use super::{
    Inner, LiveRun,
    append::action,
    follow::Ended,
    machine::Command,
    state::{Doing, State},
};
use crate::store::StoreError;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::time::Instant;
use windlass_types::{
    JobId,
    api::plans::{How, Phase, RunEventKind, StepState},
};

/// What is kept of a run only while it is driven. Losing it costs time at most.
#[derive(Default)]
struct Driving {
    /// Jobs that are waited for.
    following: FuturesUnordered<BoxFuture<'static, Ended>>,
    followed: HashSet<JobId>,
    /// What has ended, and is not written down yet.
    ended: Vec<Ended>,
    /// Steps that are due and whose node is not there, since when.
    missing: HashMap<u32, Instant>,
    /// Steps that are tried again, and not before.
    again: HashMap<u32, Instant>,
    /// When to look again although nothing happens.
    next: Option<Instant>,
}

impl Inner {
    /// Carry out a run until it is over, or the master is.
    pub(super) async fn drive(self: Arc<Self>, run: Arc<LiveRun>) {
        let mut driving = Driving::default();
        let mut stirred = self.jobs.stirred();
        let mut doubt = false;
        while !self.shutdown.is_cancelled() {
            stirred.mark_unchanged();
            match self.turn(&run, &mut driving, doubt).await {
                Ok(true) => {
                    self.live().remove(&run.core.id);
                    // Whoever looked it up before knows by this that it is over.
                    run.newest.send_modify(|_| ());
                    return;
                }
                Ok(false) => doubt = false,
                Err(error) => {
                    if self.shutdown.is_cancelled() {
                        return;
                    }
                    tracing::error!(
                        error = &error as &dyn std::error::Error, run = %run.core.id, "cannot go on with a run"
                    );
                    doubt = true;
                    driving.next = Some(Instant::now() + self.options.again);
                }
            }
            let later = driving.next.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                Some(ended) = driving.following.next() => driving.ended.push(ended),
                () = run.wake.notified(), if !doubt => {}
                changed = stirred.changed(), if !doubt => if changed.is_err() { return },
                () = tokio::time::sleep_until(later), if driving.next.is_some() => {}
            }
            // What else has ended by now is written in one go.
            while let Some(Some(ended)) = driving.following.next().now_or_never() {
                driving.ended.push(ended);
            }
        }
    }

    /// Do all that is to be done now. True if the run is over.
    async fn turn(
        self: &Arc<Self>,
        run: &Arc<LiveRun>,
        driving: &mut Driving,
        doubt: bool,
    ) -> Result<bool, StoreError> {
        let core = &run.core;
        let mut state = run.state.lock().await;
        if doubt || state.doubt {
            *state = self.read(core).await?;
        }
        loop {
            if state.over.is_some() {
                return Ok(true);
            }
            driving.next = None;
            let mut kinds = driving.take_ended(&state, core, self.options.pause);
            if kinds.is_empty() {
                kinds = self.wanted(run, &state, driving).await?;
            }
            if kinds.is_empty() {
                break;
            }
            let added = self.append(run, &mut state, None, kinds).await;
            if added.is_err() {
                state.doubt = true;
            }
            added?;
            driving.ended.clear();
        }
        for doing in state.open().collect::<Vec<_>>() {
            if driving.followed.insert(doing.job) {
                driving.following.push(self.clone().follow(run.clone(), doing).boxed());
            }
        }
        Ok(false)
    }

    /// What is to be written down so that it may begin, and what was found out.
    async fn wanted(
        &self,
        run: &LiveRun,
        state: &State,
        driving: &mut Driving,
    ) -> Result<Vec<RunEventKind>, StoreError> {
        let core = &run.core;
        let now = Instant::now();
        let mut kinds = Vec::new();
        let commands = super::machine::decide(&core.shape, &core.order, &state.view);
        let due: HashSet<u32> = commands
            .iter()
            .filter_map(|command| match command {
                Command::Begin { step, .. } => Some(*step),
                _ => None,
            })
            .collect();
        driving.missing.retain(|step, _| due.contains(step));
        for command in commands {
            match command {
                Command::Begin { step, phase, attempt } => {
                    if let Some(until) = driving.again.get(&step).copied().filter(|until| *until > now) {
                        driving.look_at(until);
                        continue;
                    }
                    driving.again.remove(&step);
                    self.begin(run, state, driving, (step, phase, attempt), &mut kinds);
                }
                Command::Settle { step } => {
                    let Some(doing) = state.steps[step as usize].job else { continue };
                    let id = &core.plan.steps[step as usize].id;
                    if self.jobs.settled(doing.job).await? {
                        kinds.push(RunEventKind::Settled { step: id.clone() });
                    } else if !state.steps[step as usize].owed
                        && state.step(core, step, self.there(core, step)) == StepState::Owed
                    {
                        kinds.push(RunEventKind::Owed { step: id.clone() });
                    }
                }
                Command::Ask { .. } | Command::Stuck { .. } | Command::Finish(_) => {}
            }
        }
        Ok(kinds)
    }

    fn begin(
        &self,
        run: &LiveRun,
        state: &State,
        driving: &mut Driving,
        (step, phase, attempt): (u32, Phase, u32),
        kinds: &mut Vec<RunEventKind>,
    ) {
        let core = &run.core;
        let id = core.plan.steps[step as usize].id.clone();
        let began = RunEventKind::Began { step: id.clone(), phase, attempt, job: JobId::new() };
        let Some(action) = action(core, &id, phase) else { return };
        if core.nodes.get(&action.node).is_some_and(|node| self.jobs.online(*node)) {
            driving.missing.remove(&step);
            return kinds.push(began);
        }
        if phase == Phase::Undo {
            if !state.steps[step as usize].owed {
                kinds.push(RunEventKind::Owed { step: id });
            }
            return;
        }
        let now = Instant::now();
        let until = *driving.missing.entry(step).or_insert(now) + self.options.patience;
        if until > now {
            return driving.look_at(until);
        }
        driving.missing.remove(&step);
        // No job is made, so nothing of it can ever run.
        let problem = format!("node {} is not connected", action.node);
        kinds.push(began);
        kinds.push(RunEventKind::Ended {
            step: id,
            phase,
            attempt,
            how: How::NotRun,
            outcome: None,
            problem: Some(problem),
        });
    }
}

impl Driving {
    fn look_at(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// What has ended, as events. It stays here until these are written.
    fn take_ended(
        &mut self,
        state: &State,
        core: &super::Core,
        pause: std::time::Duration,
    ) -> Vec<RunEventKind> {
        let open: HashSet<Doing> = state.open().collect();
        // After a doubt it may be known already.
        self.ended.retain(|ended| open.contains(&ended.doing));
        let mut kinds = Vec::new();
        for Ended { doing, how, outcome, problem } in &self.ended {
            if *how != How::Done {
                self.again.insert(doing.step, Instant::now() + pause);
            }
            kinds.push(RunEventKind::Ended {
                step: core.plan.steps[doing.step as usize].id.clone(),
                phase: doing.phase,
                attempt: doing.attempt,
                how: *how,
                outcome: *outcome,
                problem: problem.clone(),
            });
        }
        kinds
    }
}
