//! An operation that is told to end does end, with everything it started.

use crate::world::{Scratch, World, bundle, json_of, sleepers, until, with_manifest};
use serde_json::json;
use std::time::{Duration, Instant};
use windlass_bundle::NodePolicy;
use windlass_runtime::GRACE;
use windlass_types::{Outcome, trace::TraceDetail};

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_program_too() {
    let world = World::new().await;
    for operation in ["act.sleep", "act.spawn"] {
        let args = match operation {
            "act.sleep" => json!({ "seconds": 4001 }),
            _ => json!({ "program": "sleep", "args": ["4001"] }),
        };
        let call = world.request(operation, args);
        let cancel = call.cancel.clone();
        let (runtime, plugin) = (world.runtime.clone(), world.plugin.clone());
        let running = tokio::spawn(async move { runtime.call(&plugin, call).await });
        until("the program sleeps", || (sleepers("4001") == 1).then_some(())).await;
        cancel.cancel();
        let report = running.await.unwrap();
        assert_eq!(report.outcome, Outcome::Cancelled { started: true });
        assert_eq!(report.trace[0].error.as_deref(), Some("cancelled"));
        until("nothing is left behind", || (sleepers("4001") == 0).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_asks_may_clean_up_and_succeed() {
    let world = World::new().await;
    let mut call = world.request("act.wait-cancelled", json!({}));
    let (progress, mut reports) = tokio::sync::mpsc::channel(16);
    call.progress = Some(progress);
    let cancel = call.cancel.clone();
    let (runtime, plugin) = (world.runtime.clone(), world.plugin.clone());
    let running = tokio::spawn(async move { runtime.call(&plugin, call).await });
    reports.recv().await.expect("the guest reports that it is under way");
    cancel.cancel();
    let report = running.await.unwrap();
    assert!(json_of(&report)["value"].as_u64().unwrap() > 0, "{:?}", report.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_ask_is_ended_after_the_grace() {
    let patient = with_manifest(&bundle("torture"), |text| text.replace("cpu = \"1s\"", "cpu = \"1h\""));
    let world = World::of(&patient, &NodePolicy::default()).await;
    let call = world.request("limits.spin", json!({}));
    call.cancel.cancel();
    let report = world.run(call).await;
    assert_eq!(report.outcome, Outcome::Cancelled { started: false });

    let mut call = world.request("limits.spin", json!({}));
    call.time_limit = Duration::from_millis(200);
    let began = Instant::now();
    let Outcome::TimedOut { after_ms } = world.run(call).await.outcome else { panic!("timed out") };
    assert!(after_ms >= 200);
    assert!(began.elapsed() < Duration::from_millis(200) + GRACE + Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_program_and_names_itself() {
    let world = World::new().await;
    let mut call = world.request("act.sleep", json!({ "seconds": 4002 }));
    call.time_limit = Duration::from_millis(300);
    let report = world.run(call).await;
    assert!(matches!(report.outcome, Outcome::TimedOut { after_ms: 300.. }), "{:?}", report.outcome);
    assert!(report.trace[0].error.as_deref().unwrap().contains("timed out"), "{:?}", report.trace);
    until("nothing is left behind", || (sleepers("4002") == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_of_the_operation_holds_as_well() {
    let hasty = with_manifest(&bundle("torture"), |text| {
        text.replace(
            "\"act.sleep\" = { effect = \"read\", timeout = \"2m\" }",
            "\"act.sleep\" = { effect = \"read\", timeout = \"100ms\" }",
        )
    });
    let world = World::of(&hasty, &NodePolicy::default()).await;
    let report = world.call("act.sleep", json!({ "seconds": 4003 })).await;
    assert!(matches!(report.outcome, Outcome::TimedOut { .. }), "{:?}", report.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_call_ends_the_program() {
    let world = World::new().await;
    let call = world.request("act.sleep", json!({ "seconds": 4004 }));
    let (runtime, plugin) = (world.runtime.clone(), world.plugin.clone());
    let running = tokio::spawn(async move { runtime.call(&plugin, call).await });
    until("the program sleeps", || (sleepers("4004") == 1).then_some(())).await;
    running.abort();
    until("nothing is left behind", || (sleepers("4004") == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_made_is_in_the_trace_of_a_cancelled_job() {
    let world = World::new().await;
    let file = Scratch::new("cancelled");
    let args = json!({ "path": file.text(), "line": "once", "seconds": 4005 });
    let call = world.request("act.append", args);
    let cancel = call.cancel.clone();
    let (runtime, plugin) = (world.runtime.clone(), world.plugin.clone());
    let running = tokio::spawn(async move { runtime.call(&plugin, call).await });
    until("the program sleeps", || (sleepers("4005") == 1).then_some(())).await;
    cancel.cancel();
    let report = running.await.unwrap();
    assert_eq!(report.outcome, Outcome::Cancelled { started: true });
    let wrote = |detail: &TraceDetail| *detail == TraceDetail::File { path: file.text(), bytes: 5 };
    assert!(report.trace.iter().any(|entry| entry.function == "files.write" && wrote(&entry.detail)));
    assert_eq!(file.content().as_deref(), Some("once\n"));
}
