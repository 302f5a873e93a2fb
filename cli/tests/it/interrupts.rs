//! Following a job: broken streams, and Ctrl-C.

use crate::fake::*;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

fn slow() -> Script {
    Script {
        outcomes: vec![
            ("n1", succeeded(json!("a"))),
            ("n2", succeeded(json!("b"))),
            ("n3", succeeded(json!("c"))),
        ],
        quick: false,
        ..Script::default()
    }
}

pub fn press_ctrl_c(child: &tokio::process::Child) {
    kill(Pid::from_raw(child.id().unwrap().cast_signed()), Signal::SIGINT).unwrap();
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_stopped() {
    let master = Master::start(Script { breaks_after: Some(2), ..slow() }).await;
    let run =
        master.run(&["run", "demo.item.list", "--all", "-v"]).await.expect(0).says("3 nodes, 3 succeeded");
    assert_eq!(run.stdout.lines().count(), 4, "all pages of results: {run:#?}");
    assert_eq!(run.stderr.matches(": succeeded").count(), 3, "each node is told once: {run:#?}");
    assert_eq!(master.fake.seen.lock().unwrap().last_event_ids, [None, Some("2".to_owned())]);
}

#[tokio::test]
async fn the_first_ctrl_c_cancels_and_waits() {
    let master = Master::start(Script { until_cancelled: true, ..slow() }).await;
    let child = master.command(&["run", "demo.item.list", "--all"]).spawn().unwrap();
    master.wait_for(1, 0).await;
    press_ctrl_c(&child);
    let run: Run = child.wait_with_output().await.unwrap().into();
    let run = run.expect(3).says("cancelling").says("3 cancelled");
    assert!(run.stdout.contains("while it ran"), "{run:#?}");
    assert_eq!(master.fake.seen.lock().unwrap().cancels, 1);
}

#[tokio::test]
async fn the_second_ctrl_c_leaves() {
    let master = Master::start(Script { until_cancelled: true, deaf: true, ..slow() }).await;
    let child = master.command(&["run", "demo.item.list", "--all"]).spawn().unwrap();
    master.wait_for(1, 0).await;
    press_ctrl_c(&child);
    master.wait_for(1, 1).await;
    press_ctrl_c(&child);
    let run: Run = child.wait_with_output().await.unwrap().into();
    let run = run.expect(130).says(&format!("windlass jobs watch {JOB}"));
    assert_eq!(run.stdout, "");
}

#[tokio::test]
async fn ctrl_c_leaves_a_watched_job_alone() {
    let master = Master::start(Script { until_cancelled: true, ..slow() }).await;
    let child = master.command(&["jobs", "watch", JOB]).spawn().unwrap();
    master.wait_for(1, 0).await;
    press_ctrl_c(&child);
    let run: Run = child.wait_with_output().await.unwrap().into();
    run.expect(130).says("it goes on");
    assert_eq!(master.fake.seen.lock().unwrap().cancels, 0);
}

#[tokio::test]
async fn a_detached_job_is_only_named() {
    let master = Master::start(slow()).await;
    let run = master
        .run(&["run", "demo.item.list", "--all", "--detach"])
        .await
        .expect(0)
        .says("windlass jobs watch");
    assert_eq!(run.stdout, format!("{JOB}\n"));
    assert!(master.fake.seen.lock().unwrap().last_event_ids.is_empty());
}
