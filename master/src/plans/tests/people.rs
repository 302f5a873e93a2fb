//! What people do to runs.

use super::{
    super::{RunError, Verb},
    Rig, RunState, StepState,
    hosts::Reply,
    permit, plan, step, step_of,
};
use serde_json::json;
use windlass_types::{
    PlanId,
    api::plans::{Run, WaitsFor},
};

impl Rig {
    async fn verb(&self, id: PlanId, verb: Verb) -> Result<Run, RunError> {
        self.plans.do_to(&id.to_string(), &verb, "bob", &permit()).await
    }
}

#[tokio::test]
async fn somebody_has_to_agree() {
    let rig = Rig::new().await;
    let mut asks = step("b", "n2", 2, &["a"]);
    asks["approval"] = json!("Really?");
    let id = rig.apply(&plan(&[step("a", "n1", 1, &[]), asks])).await;
    let run = rig.until(id, "the question", |run| !run.waits.is_empty()).await;
    assert_eq!((run.waits[0].r#for, run.waits[0].why.as_str()), (WaitsFor::Approval, "Really?"));
    let error = rig.verb(id, Verb::Approve("a".into())).await.unwrap_err();
    assert_eq!(error.to_string(), "step `a`: it needs no approval");
    let error = rig.verb(id, Verb::Approve("z".into())).await.unwrap_err();
    assert_eq!(error.to_string(), format!("run {id} has no step `z`"));
    rig.verb(id, Verb::Approve("b".into())).await.unwrap();
    assert_eq!(rig.over(id).await.info.state, RunState::Done);
    let events = rig.plans.run_events(&id.to_string(), 0, 100).await.unwrap();
    assert!(events.iter().any(|event| event.actor.as_deref() == Some("bob")));
    let error = rig.verb(id, Verb::Pause).await.unwrap_err();
    assert_eq!(error.to_string(), format!("run {id} is over: done"));
}

#[tokio::test]
async fn nothing_begins_while_it_is_paused() {
    let rig = Rig::new().await;
    rig.hosts.script(1, 0, &[Reply::Silent]);
    let id = rig.apply(&plan(&[step("a", "n1", 1, &[]), step("b", "n2", 2, &["a"])])).await;
    rig.step_is(id, "a", StepState::Running).await;
    assert!(rig.verb(id, Verb::Pause).await.unwrap().info.paused);
    assert!(rig.verb(id, Verb::Pause).await.unwrap().info.paused, "twice is as once");
    rig.hosts.tell(&rig.grid, "n1").await;
    rig.step_is(id, "a", StepState::Done).await;
    assert_eq!(step_of(&rig.run(id).await, "b"), StepState::Waiting);
    assert!(!rig.verb(id, Verb::Resume).await.unwrap().info.paused);
    assert_eq!(rig.over(id).await.info.state, RunState::Done);
}

#[tokio::test]
async fn a_run_that_holds_is_taken_in_hand_step_by_step() {
    let rig = Rig::new().await;
    let mut holds = plan(&[step("a", "n1", 1, &[]), step("b", "n2", 2, &["a"]), step("c", "n3", 3, &["b"])]);
    holds["on_failure"] = json!("hold");
    rig.hosts.script(2, 0, &[Reply::Fail, Reply::Fail]);
    let id = rig.apply(&holds).await;
    let failed = rig.step_is(id, "b", StepState::Failed).await;
    assert_eq!((failed.info.state, failed.waits[0].r#for), (RunState::Running, WaitsFor::Person));
    let error = rig.verb(id, Verb::Retry("a".into())).await.unwrap_err();
    assert_eq!(error.to_string(), "step `a`: it has not failed");
    rig.verb(id, Verb::Retry("b".into())).await.unwrap();
    rig.until(id, "the second failure", |run| {
        run.progress[1].attempts == 2 && step_of(run, "b") == StepState::Failed
    })
    .await;
    rig.verb(id, Verb::Skip("b".into())).await.unwrap();
    let run = rig.over(id).await;
    assert_eq!(run.info.state, RunState::Done);
    assert_eq!(run.info.steps, [(StepState::Done, 2), (StepState::Skipped, 1)].into());
    assert_eq!(rig.hosts.marks(), [1, 3].into());
}

#[tokio::test]
async fn a_run_is_cancelled_or_abandoned() {
    let rig = Rig::new().await;
    rig.hosts.script(2, 0, &[Reply::Silent, Reply::Silent]);
    let of = plan(&[step("a", "n1", 1, &[]), step("b", "n2", 2, &["a"])]);
    let id = rig.apply(&of).await;
    rig.step_is(id, "b", StepState::Running).await;
    let run = rig.verb(id, Verb::Cancel).await.unwrap();
    assert_eq!(run.info.state, RunState::RollingBack);
    assert!(rig.hosts.undone().is_empty(), "what runs comes to its end first");
    rig.hosts.tell(&rig.grid, "n2").await;
    assert_eq!(rig.over(id).await.info.state, RunState::RolledBack);
    assert_eq!(rig.hosts.undone(), [2, 1]);

    let id = rig.apply(&of).await;
    rig.hosts.silent(&rig.grid, "n2").await;
    let run = rig.verb(id, Verb::Abandon).await.unwrap();
    assert_eq!(run.info.state, RunState::Abandoned);
    assert_eq!(rig.over(id).await.info.state, RunState::Abandoned);
    assert_eq!(rig.hosts.undone(), [2, 1]);
    assert_eq!(rig.hosts.marks(), [1, 2].into());
}
