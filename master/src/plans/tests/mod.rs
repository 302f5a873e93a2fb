//! Runs over jobs in memory, with hosts that journal as real ones do.

mod crash;
mod hosts;
mod people;
mod rules;
mod unwind;

pub(super) use crash::Crash;

use super::{Options, Plans, RunError};
use crate::{
    access::{Permit, Role},
    config::Retention,
    jobs::testing::{Grid, OPERATION},
    testing::soon,
};
use futures_util::StreamExt as _;
use hosts::Hosts;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use windlass_types::{
    PlanId,
    api::{
        self,
        plans::{ApplyPlan, PlanRecord, PlanSource, Run, RunState, StepState},
    },
    plans::Plan,
};

/// Runs over a grid of three nodes.
pub(super) struct Rig {
    pub grid: Grid,
    pub plans: Plans,
    pub hosts: Hosts,
    pub shutdown: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.hosts.stop();
    }
}

pub(super) fn permit() -> Permit {
    Permit(Arc::new(Role::built_in(api::Role::Operator)))
}

async fn open(grid: &Grid, shutdown: &CancellationToken) -> Plans {
    let quick = Duration::from_millis(1);
    let options = Options { patience: Duration::from_millis(50), pause: quick, again: quick };
    let (store, jobs) = (grid.store.clone(), grid.jobs.clone());
    Plans::open(options, Retention::default(), store, jobs, shutdown.clone()).await.unwrap()
}

impl Rig {
    pub async fn new() -> Self {
        let (grid, shutdown) = (Grid::new(&["n1", "n2", "n3"]).await, CancellationToken::new());
        let mut hosts = Hosts::default();
        hosts.connect_all(&grid).await;
        hosts.serve(&grid);
        let plans = open(&grid, &shutdown).await;
        Rig { grid, plans, hosts, shutdown }
    }

    /// The master ends as by kill -9, and the next one goes on over what it left. All hosts come back.
    pub async fn restart(&mut self) {
        self.restart_without("").await;
    }

    /// The same, and one host does not come back.
    pub async fn restart_without(&mut self, gone: &str) {
        self.shutdown.cancel();
        self.hosts.stop();
        self.shutdown = CancellationToken::new();
        self.grid.restart().await;
        self.plans = open(&self.grid, &self.shutdown).await;
        self.hosts.serve(&self.grid);
        for name in ["n1", "n2", "n3"].into_iter().filter(|name| *name != gone) {
            self.hosts.connect(&self.grid, name).await;
        }
    }

    pub async fn make(&self, plan: &Value) -> PlanRecord {
        let plan: Plan = serde_json::from_value(plan.clone()).unwrap();
        self.plans.make(PlanId::new(), plan, PlanSource::Written, "ann", &permit()).await.unwrap()
    }

    pub async fn refused(&self, plan: &Value) -> String {
        let plan: Plan = serde_json::from_value(plan.clone()).unwrap();
        match self.plans.check(PlanId::new(), plan, &permit()).await.unwrap_err() {
            RunError::Bad(problems) => {
                let told =
                    |problem: &windlass_types::plans::PlanError| format!("{problem} ({})", problem.pointer);
                problems.iter().map(told).collect::<Vec<_>>().join("\n")
            }
            other => other.to_string(),
        }
    }

    pub async fn try_apply(&self, id: PlanId) -> Result<Run, RunError> {
        self.plans.apply(&id.to_string(), &ApplyPlan::default(), "ann", &permit()).await
    }

    /// Make a plan and apply it.
    pub async fn apply(&self, plan: &Value) -> PlanId {
        let id = self.make(plan).await.info.id;
        assert_eq!(self.try_apply(id).await.unwrap().info.state, RunState::Running);
        id
    }

    pub async fn run(&self, id: PlanId) -> Run {
        self.plans.run(&id.to_string()).await.unwrap()
    }

    /// Wait until a run stands as it should.
    pub async fn until(&self, id: PlanId, what: &str, holds: impl Fn(&Run) -> bool) -> Run {
        let text = id.to_string();
        let mut events = std::pin::pin!(self.plans.watch(&text, 0).await.unwrap());
        let waiting = async {
            loop {
                let run = self.run(id).await;
                if holds(&run) {
                    return run;
                }
                // Some of it is no event: a node that comes and goes.
                let _ = tokio::time::timeout(Duration::from_millis(20), events.next()).await;
            }
        };
        match tokio::time::timeout(crate::testing::LIMIT, waiting).await {
            Ok(run) => run,
            Err(_) => panic!("{what} did not happen: {:#?}", self.run(id).await),
        }
    }

    /// Wait until a run is over.
    pub async fn over(&self, id: PlanId) -> Run {
        self.until(id, "the end of the run", |run| run.info.state.is_over()).await
    }

    pub async fn step_is(&self, id: PlanId, step: &str, state: StepState) -> Run {
        self.until(id, &format!("{step} {state:?}"), |run| step_of(run, step) == state).await
    }
}

pub(super) fn step_of(run: &Run, step: &str) -> StepState {
    run.progress.iter().find(|told| told.id.as_str() == step).unwrap().state
}

/// An action: what it makes is `mark`.
pub(super) fn act(node: &str, mark: u8) -> Value {
    json!({ "node": node, "operation": OPERATION, "args": { "limit": mark } })
}

/// Its undo.
pub(super) fn undo(node: &str, mark: u8) -> Value {
    json!({ "node": node, "operation": OPERATION, "args": { "limit": mark, "big": 1 } })
}

/// A step that makes `mark` on a node, and unmakes it.
pub(super) fn step(id: &str, node: &str, mark: u8, after: &[&str]) -> Value {
    json!({ "id": id, "title": format!("make {mark}"), "after": after, "act": act(node, mark), "undo": undo(node, mark) })
}

pub(super) fn plan(steps: &[Value]) -> Value {
    json!({ "title": "try it", "steps": steps })
}

/// One in front, two beside each other, one behind both.
pub(super) fn diamond() -> Value {
    plan(&[
        step("first", "n1", 1, &[]),
        step("left", "n2", 2, &["first"]),
        step("right", "n3", 3, &["first"]),
        step("last", "n1", 4, &["left", "right"]),
    ])
}

#[tokio::test]
async fn a_plan_is_carried_out_in_its_order_and_says_so() {
    use windlass_types::api::plans::RunEventKind as Kind;
    let rig = Rig::new().await;
    let id = rig.apply(&diamond()).await;
    let run = rig.over(id).await;
    assert_eq!(run.info.state, RunState::Done);
    assert_eq!(run.info.steps, [(StepState::Done, 4)].into());
    let marks: Vec<u8> = rig.hosts.done().iter().map(|done| done.mark).collect();
    assert!(marks == [1, 2, 3, 4] || marks == [1, 3, 2, 4], "{marks:?}");
    let events = rig.plans.run_events(&id.to_string(), 0, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    assert!(matches!(&events[8].kind, Kind::Finished { state: RunState::Done }));
    let jobs = rig.grid.jobs.page(None, 100).await.unwrap().0;
    assert_eq!(jobs.len(), 4);
    assert!(jobs.iter().all(|job| job.created_by == format!("run:{id}")));
    // What the log of the grid tells.
    let filter = crate::store::events::Filter::new(Some("run.*"), None).unwrap();
    let told = crate::store::events::page(&rig.grid.store, &filter, 0, 100).await.unwrap();
    assert_eq!(
        told.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(),
        ["run.began", "run.finished"]
    );
    assert_eq!(told[1].data["state"], "done");
    // All is told by the store alone, too.
    assert_eq!(rig.run(id).await, run);
    assert_eq!(rig.plans.get(&id.to_string()).await.unwrap().info.run, Some(RunState::Done));
    assert_eq!(rig.plans.runs(None, 10).await.unwrap()[0].steps, run.info.steps);
}

#[tokio::test]
async fn a_look_decides_whether_a_step_is_done() {
    let rig = Rig::new().await;
    let look =
        |mark: u8| json!({ "node": "n1", "operation": OPERATION, "args": { "limit": mark, "big": 2 } });
    let mut good = step("good", "n1", 1, &[]);
    // What a look of these hosts finds is a record with the mark, if it is there.
    good["verify"] = json!({ "action": look(1), "expect": "output.there" });
    let mut bad = step("bad", "n1", 2, &["good"]);
    bad["verify"] = json!({ "action": look(3), "expect": "output.there" });
    let run = rig.over(rig.apply(&plan(&[good, bad])).await).await;
    assert_eq!(run.info.state, RunState::RolledBack);
    let problem = run.progress[1].problem.clone().unwrap();
    assert!(problem.starts_with("not so: `output.there`"), "{problem}");
    assert!(rig.hosts.marks().is_empty(), "{:?}", rig.hosts.marks());
}

#[tokio::test]
async fn the_run_is_named_in_its_arguments_and_watchers_see_all_of_it() {
    let rig = Rig::new().await;
    let made = rig.make(&diamond()).await;
    rig.try_apply(made.info.id).await.unwrap();
    let text = made.info.id.to_string();
    let events: Vec<_> =
        soon("all events", rig.plans.watch(&text, 0).await.unwrap().collect::<Vec<_>>()).await;
    assert_eq!(events.len(), 9);
    let rest: Vec<_> = soon("the rest", rig.plans.watch(&text, 7).await.unwrap().collect::<Vec<_>>()).await;
    assert_eq!(rest, events[7..]);
    assert!(soon("nothing", rig.plans.watch(&text, 9).await.unwrap().collect::<Vec<_>>()).await.is_empty());
}
