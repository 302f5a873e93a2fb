//! Every limit ends the operation that passed it, says which one it was, and harms nothing else.

use crate::world::{World, bundle, json_of, sleepers, until, with_manifest};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use windlass_bundle::NodePolicy;
use windlass_runtime::Report;
use windlass_types::{
    Outcome, TrapReason,
    trace::{TraceDetail, TraceEntry},
};

#[track_caller]
fn trapped(report: &Report, expected: TrapReason, words: &str) {
    match &report.outcome {
        Outcome::Trapped { reason, message } => {
            assert_eq!(*reason, expected, "{message}");
            assert!(message.contains(words), "no `{words}` in: {message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn computing_without_end() {
    let world = World::new().await;
    let began = Instant::now();
    let report = world.call("limits.spin", json!({})).await;
    trapped(&report, TrapReason::Cpu, "1000 ms");
    assert!(report.stats.cpu_ms >= 1000, "{:?}", report.stats);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(
        world.outcome("echo.nothing", json!({})).await,
        json!({ "status": "succeeded", "value": null })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_not_computing() {
    let short = with_manifest(&bundle("torture"), |text| text.replace("cpu = \"1s\"", "cpu = \"200ms\""));
    let world = World::of(&short, &NodePolicy::default()).await;
    let report = world.call("act.sleep", json!({ "seconds": 1 })).await;
    assert!(report.outcome.is_success(), "{:?}", report.outcome);
    assert!(report.stats.wall_us >= 1_000_000 && report.stats.cpu_ms < 200, "{:?}", report.stats);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    let world = World::new().await;
    let report = world.call("limits.eat", json!({ "mebibytes": 1000 })).await;
    trapped(&report, TrapReason::Memory, "limits.memory");
    let peak = report.stats.memory_peak_bytes;
    assert!(peak > 16 << 20 && peak <= 32 << 20, "{peak}");
    let fits = world.call("limits.eat", json!({ "mebibytes": 8 })).await;
    assert_eq!(json_of(&fits)["value"], 8 << 20);
    assert!(fits.stats.memory_peak_bytes >= 8 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_needs_more_than_its_limit_to_begin_with() {
    let small = with_manifest(&bundle("torture"), |text| text.replace("32MiB", "1MiB"));
    let world = World::of(&small, &NodePolicy::default()).await;
    trapped(&world.call("echo.nothing", json!({})).await, TrapReason::Memory, "limits.memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn recursion() {
    let world = World::new().await;
    let deep = world.call("limits.recurse", json!({ "depth": 4_000_000_000_u32 })).await;
    trapped(&deep, TrapReason::Stack, "stack");
    assert_eq!(world.outcome("limits.recurse", json!({ "depth": 100 })).await["value"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_tells_its_message() {
    let world = World::new().await;
    let report = world.call("limits.panic", json!({ "message": "oh dear" })).await;
    trapped(&report, TrapReason::Crash, "oh dear");
    let printed = |entry: &TraceEntry| {
        entry.function == "stderr"
            && matches!(&entry.detail, TraceDetail::Log { message, .. } if message.contains("oh dear"))
    };
    assert!(report.trace.iter().any(printed), "{:?}", report.trace);
}

#[tokio::test(flavor = "multi_thread")]
async fn printing_without_end() {
    let world = World::new().await;
    let report = world.call("limits.print", json!({ "mebibytes": 100 })).await;
    assert_eq!(json_of(&report), json!({ "status": "succeeded", "value": 100 << 20 }), "{:?}", report.stats);
    // Some lines are kept; all others are counted.
    let kept = report.trace.len() as u64 - 1;
    assert!((100..=1000).contains(&kept), "{kept}");
    assert_eq!(report.trace.last().unwrap().detail, TraceDetail::Dropped { entries: (100 << 7) - kept });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result() {
    let world = World::new().await;
    // One within the room for values and past the limit of JSON, and one past both.
    for mebibytes in [2, 8] {
        let report = world.call("limits.large-result", json!({ "mebibytes": mebibytes })).await;
        trapped(&report, TrapReason::Output, "limits.output");
    }
    let fits =
        with_manifest(&bundle("torture"), |text| text.replace("output = \"1MiB\"", "output = \"3MiB\""));
    let world = World::of(&fits, &NodePolicy::default()).await;
    let value = world.outcome("limits.large-result", json!({ "mebibytes": 2 })).await;
    assert_eq!(value["value"].as_str().map(str::len), Some(2 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_prints_without_end() {
    let world = World::new().await;
    // About 38 MB; a megabyte is kept, and the result would be larger than its limit.
    let report = world.call("act.spawn", json!({ "program": "seq", "args": ["5000000"] })).await;
    let value: Value = json_of(&report);
    assert_eq!(value["value"], json!([0, 38_888_896]), "{value}");
    let TraceDetail::Command { stdout_bytes, exit, path, .. } = &report.trace[0].detail else {
        panic!("{:?}", report.trace);
    };
    assert_eq!((*stdout_bytes, *exit), (38_888_896, Some(0)), "{path:?}");
}

/// Each would stop by itself, at a thousand sleepers.
#[tokio::test(flavor = "multi_thread")]
async fn a_granted_command_that_forks_without_end() {
    let world = World::new().await;
    let nap = format!("4321.{}", std::process::id());
    for start in ["sleep", "setsid sleep", "env -i setsid sleep"] {
        let bomb = format!("i=0; while [ $i -lt 1000 ]; do {start} {nap} & i=$((i+1)); done; wait");
        let report = world.call("act.run", json!({ "program": "sh", "args": ["-c", bomb] })).await;
        let value = json_of(&report);
        assert_eq!(value["status"], "failed", "{value}");
        let error = value["error"].as_str().unwrap_or_default();
        assert!(error.contains("more than 64 processes") && error.contains("limits.processes"), "{value}");
        assert_eq!(sleepers(&nap), 0, "{start}");
    }
    // The plugin goes on to be good for what it is.
    assert!(world.call("act.run", json!({ "program": "printf", "args": ["x"] })).await.outcome.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_programs_without_end() {
    let world = World::new().await;
    let report =
        world.call("act.spawn-many", json!({ "program": "sleep", "args": ["5432"], "count": 1000 })).await;
    let value = json_of(&report);
    assert_eq!(value["value"][0], 32, "{value}");
    assert!(value["value"][1].as_str().is_some_and(|why| why.contains("32 programs at a time")), "{value}");
    until("all are ended", || (sleepers("5432") == 0).then_some(())).await;
}

#[tokio::test]
async fn guests_that_compute_hold_up_nobody() {
    let world = World::new().await;
    // More of them than threads, each with a second of processor time.
    let spinning: Vec<_> = (0..6)
        .map(|_| {
            let (runtime, plugin) = (world.runtime.clone(), world.plugin.clone());
            let call = world.request("limits.spin", json!({}));
            tokio::spawn(async move { runtime.call(&plugin, call).await })
        })
        .collect();
    // This runtime has one thread, and it must be on time all along.
    let mut worst = Duration::ZERO;
    for _ in 0..40 {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(20)).await;
        worst = worst.max(began.elapsed());
    }
    assert!(worst < Duration::from_millis(400), "a timer of 20 ms took {worst:?}");
    // Another guest has its turn between them.
    let began = Instant::now();
    let report = world.call("echo.unsigned", json!({ "value": 7 })).await;
    assert!(report.outcome.is_success());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    for task in spinning {
        trapped(&task.await.unwrap(), TrapReason::Cpu, "limits.cpu");
    }
}
