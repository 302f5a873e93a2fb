//! Nodes that are asked again, waited for, or have to wait for each other.

use super::{
    testing::{Grid, new_job, success},
    *,
};
use crate::testing::soon;
use serde_json::json;
use windlass_types::{Effect, OutcomeKind, Refusal};

fn failed() -> ResultRecord {
    let outcome = Outcome::TimedOut { after_ms: 1 };
    ResultRecord { outcome, ..success() }
}

fn busy() -> ResultRecord {
    ResultRecord {
        output_bytes: 0,
        outcome: Outcome::Refused { reason: Refusal::Busy, message: "no room".into() },
        ..success()
    }
}

async fn count(grid: &Grid, sql: &'static str) -> i64 {
    let count = crate::store::sql::query(sql).fetch_scalar(grid.store.readers()).await.unwrap();
    count.unwrap()
}

/// The request of this number (from 1) that a node was sent.
async fn asked(grid: &Grid, name: &str, number: usize) -> RequestId {
    let node = grid.id(name);
    soon("a request", async {
        while grid.fleet.runs(node).len() < number {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    grid.fleet.runs(node)[number - 1]
}

#[tokio::test]
async fn a_node_without_room_is_asked_again_under_another_id() {
    let mut grid = Grid::new(&["n1", "n2"]).await;
    // That it may not run twice is no reason not to: it has not begun.
    grid.operation.0.lock().unwrap().idempotent = false;
    let id = grid.jobs.create(new_job(&["*"]), "ann").await.unwrap().job.id;
    let (n1, first) = (grid.id("n1"), grid.request("n1"));
    grid.jobs.result(n1, first, busy()).await.unwrap();
    // A host may tell it twice, and has nothing left of it afterwards.
    grid.jobs.result(n1, first, busy()).await.unwrap();
    let second = asked(&grid, "n1", 2).await;
    assert_ne!(first, second, "the host remembers what it has refused");
    assert_eq!(grid.jobs.nodes(id, -1, 9).await.unwrap().0[0].1.attempts, None, "nothing was tried");
    grid.restart().await;
    grid.connect("n1", &[], &[]).await;
    assert_eq!(asked(&grid, "n1", 3).await, second, "the next master knows the new id");
    grid.jobs.result(n1, second, success()).await.unwrap();
    grid.connect("n2", &[grid.request("n2")], &[]).await;
    grid.succeed("n2").await.unwrap();
    assert_eq!(grid.finished(id).await.outcomes, [(OutcomeKind::Succeeded, 2)].into());

    // No room until the deadline, and then it is not there.
    let new = NewJob { deadline_ms: Some(60), ..new_job(&["n2"]) };
    let id = grid.jobs.create(new, "ann").await.unwrap().job.id;
    let request = *grid.fleet.runs(grid.id("n2")).last().unwrap();
    grid.offline("n2");
    grid.jobs.result(grid.id("n2"), request, busy()).await.unwrap();
    grid.finished(id).await;
    assert_eq!(grid.outcomes(id).await["n2"], busy().outcome);
}

#[tokio::test]
async fn a_node_that_fails_is_asked_as_often_as_the_job_says() {
    let mut grid = Grid::new(&["n1"]).await;
    let new = NewJob { retries: Some(2), ..new_job(&["n1"]) };
    let job = grid.jobs.create(new, "ann").await.unwrap().job;
    assert!(job.deadline_ms - job.created_ms > 3 * 11_000, "each attempt has its time");
    let n1 = grid.id("n1");
    for attempt in 1..=2 {
        let request = asked(&grid, "n1", attempt).await;
        grid.jobs.result(n1, request, failed()).await.unwrap();
    }
    asked(&grid, "n1", 3).await;
    grid.restart().await;
    grid.connect("n1", &[], &[]).await;
    let last = asked(&grid, "n1", 4).await;
    grid.jobs.result(n1, last, failed()).await.unwrap();
    let job = grid.finished(job.id).await;
    assert_eq!(job.outcomes, [(OutcomeKind::TimedOut, 1)].into(), "the last word is the last attempt's");
    assert_eq!(grid.jobs.nodes(job.id, -1, 9).await.unwrap().0[0].1.attempts, Some(3));
    assert_eq!(grid.fleet.runs(n1).len(), 4);

    // What will be the same each time is not tried again.
    let new = NewJob { retries: Some(2), ..new_job(&["n1"]) };
    let id = grid.jobs.create(new, "ann").await.unwrap().job.id;
    let outcome = Outcome::Refused { reason: Refusal::PluginUnusable, message: "no".into() };
    let request = *grid.fleet.runs(n1).last().unwrap();
    grid.jobs.result(n1, request, ResultRecord { outcome: outcome.clone(), ..success() }).await.unwrap();
    grid.finished(id).await;
    assert_eq!(grid.outcomes(id).await["n1"], outcome);
}

#[tokio::test]
async fn what_may_do_harm_is_not_run_twice() {
    let grid = Grid::new(&["n1"]).await;
    for (effect, idempotent, allowed) in
        [(Effect::Change, false, false), (Effect::Change, true, true), (Effect::Read, false, true)]
    {
        {
            let mut operation = grid.operation.0.lock().unwrap();
            (operation.effect, operation.idempotent) = (effect, idempotent);
        }
        let new = NewJob { retries: Some(1), ..new_job(&["n1"]) };
        let made = grid.jobs.create(new, "ann").await;
        assert_eq!(made.is_ok(), allowed, "{effect:?} {idempotent}");
        assert!(allowed || matches!(made, Err(JobError::NotIdempotent { .. })));
    }
}

#[tokio::test]
async fn a_job_that_was_cancelled_is_not_tried_again() {
    let grid = Grid::new(&["n1"]).await;
    let new = NewJob { retries: Some(2), ..new_job(&["n1"]) };
    let id = grid.jobs.create(new, "ann").await.unwrap().job.id;
    grid.jobs.cancel(id, "ann").await.unwrap();
    grid.jobs.result(grid.id("n1"), grid.request("n1"), failed()).await.unwrap();
    grid.finished(id).await;
    assert_eq!(grid.outcomes(id).await["n1"].kind(), OutcomeKind::TimedOut);
    assert_eq!(grid.fleet.runs(grid.id("n1")).len(), 1);
}

#[tokio::test]
async fn a_node_that_is_not_there_is_waited_for() {
    let mut grid = Grid::new(&["n1", "n2", "n3"]).await;
    grid.offline("n2");
    grid.offline("n3");
    // Longer than the operation may take.
    let new = NewJob { wait_offline_ms: Some(30_000), deadline_ms: Some(1), ..new_job(&["*"]) };
    let new = NewJob { deadline_ms: Some(20_000), ..new };
    let id = grid.jobs.create(new, "ann").await.unwrap().job.id;
    grid.succeed("n1").await.unwrap();
    grid.restart().await;
    grid.connect("n2", &[], &[]).await;
    let request = asked(&grid, "n2", 1).await;
    grid.jobs.result(grid.id("n2"), request, success()).await.unwrap();
    grid.connect("n3", &[], &[]).await;
    asked(&grid, "n3", 1).await;
    grid.succeed("n3").await.unwrap();
    assert_eq!(grid.finished(id).await.outcomes, [(OutcomeKind::Succeeded, 3)].into());

    grid.offline("n2");
    let new = NewJob { wait_offline_ms: Some(30), ..new_job(&["n2"]) };
    let id = grid.jobs.create(new, "ann").await.unwrap().job.id;
    grid.finished(id).await;
    assert_eq!(grid.outcomes(id).await["n2"].kind(), OutcomeKind::NoAnswer, "it did not come");
}

/// Of two jobs that need the same thing, the second runs when the first has ended.
#[tokio::test]
async fn what_one_operation_has_for_itself_another_waits_for() {
    let mut grid = Grid::new(&["n1", "n2"]).await;
    grid.operation.0.lock().unwrap().locks = vec!["thing:{limit}".into()];
    let thing = |on: &str, limit: u8| NewJob { args: json!({ "limit": limit }), ..new_job(&[on]) };
    let first = grid.jobs.create(thing("n1", 1), "ann").await.unwrap().job;
    assert_eq!(first.locks, ["thing:1"]);
    asked(&grid, "n1", 1).await;
    // It did not arrive: it is sent again, and not in its own way.
    grid.connect("n1", &[], &[]).await;
    let a = asked(&grid, "n1", 2).await;
    let second = grid.jobs.create(thing("n1", 1), "ann").await.unwrap().job.id;
    // Another thing, another node, and nothing that would change: none of them waits.
    let other = grid.jobs.create(thing("n1", 2), "ann").await.unwrap().job.id;
    let b = asked(&grid, "n1", 3).await;
    let elsewhere = grid.jobs.create(thing("n2", 1), "ann").await.unwrap().job.id;
    asked(&grid, "n2", 1).await;
    let dry = grid.jobs.create(NewJob { dry_run: true, ..thing("n1", 1) }, "ann").await.unwrap().job.id;
    let c = asked(&grid, "n1", 4).await;
    assert_eq!(grid.jobs.nodes(second, -1, 9).await.unwrap().0[0].1.state, JobNodeState::Waiting);
    let n1 = grid.id("n1");
    for (job, request) in [(other, b), (dry, c)] {
        grid.jobs.result(n1, request, success()).await.unwrap();
        grid.finished(job).await;
    }
    grid.succeed("n2").await.unwrap();
    grid.finished(elsewhere).await;

    // The next master knows what runs from the node, and no less if it knew it from the store.
    grid.jobs.started(n1, a).await;
    soon("the stage is noted", async {
        while count(&grid, "SELECT COUNT(*) AS number FROM job_nodes WHERE stage = 'running'").await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    grid.restart().await;
    grid.connect("n1", &[a], &[]).await;
    assert_eq!(grid.fleet.runs(n1).len(), 4, "the first one still runs");
    grid.jobs.result(n1, a, success()).await.unwrap();
    grid.finished(first.id).await;
    let d = asked(&grid, "n1", 5).await;
    grid.jobs.result(n1, d, success()).await.unwrap();
    assert_eq!(grid.finished(second).await.outcomes, [(OutcomeKind::Succeeded, 1)].into());
}

#[tokio::test]
async fn what_a_node_does_not_have_locks_nothing() {
    let grid = Grid::new(&["n1"]).await;
    grid.operation.0.lock().unwrap().locks = vec!["thing".into()];
    let first = grid.jobs.create(new_job(&["n1"]), "ann").await.unwrap().job.id;
    asked(&grid, "n1", 1).await;
    grid.accept("n1").await;
    // It has lost its journal.
    grid.connect("n1", &[], &[]).await;
    grid.finished(first).await;
    assert_eq!(grid.outcomes(first).await["n1"].kind(), OutcomeKind::Indeterminate);
    let next = grid.jobs.create(new_job(&["n1"]), "ann").await.unwrap().job.id;
    let request = asked(&grid, "n1", 2).await;
    grid.jobs.result(grid.id("n1"), request, success()).await.unwrap();
    grid.finished(next).await;
}

#[tokio::test]
async fn what_may_still_run_keeps_what_it_has() {
    let grid = Grid::new(&["n1"]).await;
    grid.operation.0.lock().unwrap().locks = vec!["thing".into()];
    let n1 = grid.id("n1");
    let first = grid.jobs.create(NewJob { deadline_ms: Some(20), ..new_job(&["n1"]) }, "ann").await.unwrap();
    let a = asked(&grid, "n1", 1).await;
    grid.accept("n1").await;
    grid.finished(first.job.id).await;
    assert_eq!(grid.outcomes(first.job.id).await["n1"].kind(), OutcomeKind::Indeterminate, "it went silent");

    let late = grid.jobs.create(NewJob { deadline_ms: Some(20), ..new_job(&["n1"]) }, "ann").await.unwrap();
    grid.finished(late.job.id).await;
    let outcome = grid.outcomes(late.job.id).await["n1"].clone();
    assert!(matches!(&outcome, Outcome::Refused { reason: Refusal::Locked, .. }), "{outcome:?}");

    let next = grid.jobs.create(new_job(&["n1"]), "ann").await.unwrap().job.id;
    grid.connect("n1", &[a], &[]).await;
    assert_eq!(grid.fleet.runs(n1).len(), 1, "it runs there to this moment");
    grid.jobs.result(n1, a, success()).await.unwrap();
    let b = asked(&grid, "n1", 2).await;
    grid.jobs.result(n1, b, success()).await.unwrap();
    assert_eq!(grid.finished(next).await.outcomes, [(OutcomeKind::Succeeded, 1)].into());
}
