//! What is undone, when, and what is owed.

use super::{Rig, RunState, StepState, hosts::Reply, plan, step, step_of};
use windlass_types::api::plans::{RunEventKind, WaitsFor};

fn chain() -> serde_json::Value {
    plan(&[step("a", "n1", 1, &[]), step("b", "n2", 2, &["a"]), step("c", "n3", 3, &["b"])])
}

#[tokio::test]
async fn exactly_what_was_done_is_undone_the_last_first() {
    let rig = Rig::new().await;
    // It says at once that it failed, and did nothing; its undo finds nothing, and is content.
    rig.hosts.script(3, 0, &[Reply::Fail]);
    let run = rig.over(rig.apply(&chain()).await).await;
    assert_eq!(run.info.state, RunState::RolledBack);
    assert_eq!(rig.hosts.undone(), [3, 2, 1]);
    assert!(rig.hosts.marks().is_empty());
    assert_eq!(run.progress[2].problem.as_deref(), Some("other: no luck"));
    assert_eq!(run.info.steps, [(StepState::Undone, 3)].into());
}

#[tokio::test]
async fn nothing_is_made_for_a_node_that_is_not_there_and_nothing_of_it_is_undone() {
    let rig = Rig::new().await;
    rig.hosts.script(2, 0, &[Reply::Silent]);
    let id = rig.apply(&chain()).await;
    rig.until(id, "b asked", |_| rig.hosts.done().len() == 2).await;
    rig.grid.offline("n3");
    rig.hosts.forget_silent(&rig.grid, "n2").await;
    // It is not known what became of b: it is undone as well.
    rig.hosts.connect(&rig.grid, "n2").await;
    let run = rig.over(id).await;
    assert_eq!(run.info.state, RunState::RolledBack);
    assert_eq!(rig.hosts.undone(), [2, 1]);
    assert_eq!(step_of(&run, "c"), StepState::Waiting);

    let id = rig.make(&chain()).await;
    assert!(id.review.warnings[0].contains("n3 is not connected"), "{:?}", id.review.warnings);
    let error = rig.try_apply(id.info.id).await.unwrap_err();
    assert!(error.to_string().contains("node n3 is not connected"), "{error}");
}

#[tokio::test]
async fn a_node_that_goes_before_its_step_has_patience_and_then_nothing_of_it_ran() {
    let rig = Rig::new().await;
    rig.hosts.script(1, 0, &[Reply::Silent]);
    let id = rig.apply(&plan(&[step("a", "n1", 1, &[]), step("b", "n2", 2, &["a"])])).await;
    rig.until(id, "a asked", |_| rig.hosts.done().len() == 1).await;
    rig.grid.offline("n2");
    rig.hosts.tell(&rig.grid, "n1").await;
    let run = rig.over(id).await;
    assert_eq!(run.info.state, RunState::RolledBack);
    assert_eq!(run.progress[1].problem.as_deref(), Some("node n2 is not connected"));
    assert_eq!(rig.hosts.undone(), [1]);
    assert!(rig.hosts.done().iter().all(|done| done.mark != 2));
}

#[tokio::test]
async fn an_undo_of_a_node_that_is_gone_is_owed_and_paid_when_it_returns() {
    let mut rig = Rig::new().await;
    rig.hosts.script(2, 0, &[Reply::Silent]);
    let id = rig.apply(&chain()).await;
    rig.until(id, "b asked", |_| rig.hosts.done().len() == 2).await;
    rig.grid.offline("n2");
    // Its time passes, and nobody knows what became of it.
    let run = rig.step_is(id, "b", StepState::Owed).await;
    assert_eq!(run.info.state, RunState::RollingBack);
    assert_eq!((run.waits[0].step.as_str(), run.waits[0].r#for), ("b", WaitsFor::Node));
    assert!(rig.hosts.undone().is_empty(), "what is before it waits");

    // The next master does not know either.
    rig.restart_without("n2").await;
    let run = rig.step_is(id, "b", StepState::Owed).await;
    assert_eq!(rig.hosts.undone(), [0_u8; 0], "{run:#?}");

    // It is back, and it still runs there: not yet.
    rig.hosts.connect(&rig.grid, "n2").await;
    rig.step_is(id, "b", StepState::Unanswered).await;
    // It ends.
    rig.hosts.forget_silent(&rig.grid, "n2").await;
    rig.hosts.connect(&rig.grid, "n2").await;
    let run = rig.over(id).await;
    assert_eq!(run.info.state, RunState::RolledBack);
    assert_eq!(rig.hosts.undone(), [2, 1]);
    assert!(rig.hosts.marks().is_empty());
    rig.hosts.assert_once();
}

#[tokio::test]
async fn what_was_done_on_a_node_that_is_gone_is_owed_and_can_be_left() {
    let rig = Rig::new().await;
    rig.hosts.script(3, 0, &[Reply::Silent, Reply::Silent]);
    for left in [false, true] {
        let id = rig.apply(&chain()).await;
        rig.hosts.silent(&rig.grid, "n3").await;
        rig.grid.offline("n2");
        rig.hosts.forget_silent(&rig.grid, "n3").await;
        rig.hosts.connect(&rig.grid, "n3").await;
        let run = rig.until(id, "what it waits for", |run| !run.waits.is_empty()).await;
        assert_eq!(step_of(&run, "b"), StepState::Owed);
        assert_eq!(run.waits[0].why, "its undo is owed until node n2 is back");
        let owed = |run: &RunEventKind| matches!(run, RunEventKind::Owed { step } if step.as_str() == "b");
        let text = id.to_string();
        rig.until(id, "it is told", |run| run.seq > 0).await;
        let events = crate::testing::soon("owed", async {
            loop {
                let events = rig.plans.run_events(&text, 0, 100).await.unwrap();
                if events.iter().any(|event| owed(&event.kind)) {
                    return events;
                }
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(events.await.iter().filter(|event| owed(&event.kind)).count(), 1);
        if left {
            rig.plans
                .do_to(&text, &super::super::Verb::Skip("b".into()), "ann", &super::permit())
                .await
                .unwrap();
        } else {
            rig.hosts.connect(&rig.grid, "n2").await;
        }
        let run = rig.over(id).await;
        assert_eq!(run.info.state, RunState::RolledBack);
        assert_eq!(step_of(&run, "b"), if left { StepState::Left } else { StepState::Undone });
        assert_eq!(rig.hosts.marks(), if left { [2].into() } else { [].into() });
        rig.hosts.connect(&rig.grid, "n2").await;
    }
    assert_eq!(rig.hosts.undone(), [3, 2, 1, 3, 1]);
}

#[tokio::test]
async fn an_undo_that_fails_is_tried_again_and_then_waits_for_a_person() {
    use super::super::{Verb, machine::UNDO_TRIES};
    let rig = Rig::new().await;
    rig.hosts.script(3, 0, &[Reply::Fail]);
    rig.hosts.script(2, 1, &[Reply::Fail; UNDO_TRIES as usize]);
    let id = rig.apply(&chain()).await;
    let run = rig.step_is(id, "b", StepState::Stuck).await;
    assert_eq!(run.waits[0].why, "it can't be undone: other: no luck");
    assert_eq!(rig.hosts.marks(), [1, 2].into(), "what is before it is not undone");
    let text = id.to_string();
    rig.plans.do_to(&text, &Verb::Retry("b".into()), "ann", &super::permit()).await.unwrap();
    assert_eq!(rig.over(id).await.info.state, RunState::RolledBack);
    assert!(rig.hosts.marks().is_empty());
}
