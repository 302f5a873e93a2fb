//! Host calls recorded and played, with a real plugin: the playback touches nothing.

use crate::world::{SCRATCH, World, bundle, json_of, with_manifest};
use serde_json::{Value, json};
use windlass_bundle::NodePolicy;
use windlass_runtime::{Cassette, Playback, Recording, Report, Tape, TapeError};
use windlass_types::{Outcome, TrapReason};

async fn record(world: &World, operation: &str, args: &Value) -> (Report, String) {
    let recording = Recording::new();
    let mut call = world.request(operation, args.clone());
    call.tape = Tape::Record(recording.clone());
    let report = world.run(call).await;
    (report, recording.cassette().unwrap().to_text())
}

async fn play(
    world: &World,
    operation: &str,
    args: &Value,
    cassette: &str,
) -> (Report, Result<(), TapeError>) {
    let playback = Playback::new(Cassette::parse(cassette).unwrap());
    let mut call = world.request(operation, args.clone());
    call.tape = Tape::Replay(playback.clone());
    let report = world.run(call).await;
    (report, playback.finish())
}

/// A manifest whose programs are on no machine.
async fn elsewhere() -> World {
    let bundle = with_manifest(&bundle("torture"), |text| text.replace("/usr/bin/", "/nowhere/"));
    World::of(&bundle, &NodePolicy::default()).await
}

fn names(cassette: &str) -> Vec<String> {
    let cassette: Value = serde_json::from_str(cassette).unwrap();
    let calls = cassette["calls"].as_array().unwrap();
    calls.iter().map(|call| call["call"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_interface_is_recorded_and_played_where_nothing_of_it_is() {
    std::fs::create_dir_all(SCRATCH).unwrap();
    let folder = format!("{SCRATCH}/tour-{}", std::process::id());
    let args = json!({ "dir": folder });
    let (live, cassette) = record(&World::new().await, "act.tour", &args).await;
    assert!(live.outcome.is_success(), "{:?}", live.outcome);
    let mut made = names(&cassette);
    made.dedup();
    assert_eq!(
        made,
        [
            "job.get-context",
            "job.is-cancelled",
            "commands.run",
            "commands.spawn",
            "process.read",
            "process.wait",
            "commands.spawn",
            "process.kill",
            "process.wait",
            "files.make-dir",
            "files.write",
            "files.stat",
            "files.list",
            "files.read-range",
            "files.read",
            "files.remove",
            "files.stat",
            "files.remove",
            "probes.system",
            "state.set",
            "state.get",
            "state.keys",
            "state.remove"
        ]
    );
    let there = elsewhere().await;
    let (played, finished) = play(&there, "act.tour", &args, &cassette).await;
    finished.unwrap();
    assert_eq!(played.outcome, live.outcome);
    assert!(!std::path::Path::new(&folder).exists());
    assert!(!there.dir.path().join("state").exists(), "the store was not even opened");
    let functions = |report: &Report| -> Vec<String> {
        report.trace.iter().map(|entry| entry.function.clone()).collect()
    };
    assert_eq!(functions(&played), functions(&live), "the trace tells the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_recorded_and_played() {
    for plugin_and_operation in ["system.read", "disk.list", "network.list"] {
        let world = World::of(&bundle("monitor"), &NodePolicy::default()).await;
        let (live, cassette) = record(&world, plugin_and_operation, &json!({})).await;
        let (played, finished) = play(&world, plugin_and_operation, &json!({}), &cassette).await;
        finished.unwrap();
        assert_eq!(played.outcome, live.outcome);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_call_ends_the_operation_and_shows_both() {
    let world = elsewhere().await;
    let cassette = r#"{ "cassette": 1, "calls": [
        { "call": "commands.run", "program": "printf", "args": ["one"], "returns": { "code": 0, "stdout": "1" } },
        { "call": "commands.run", "program": "printf", "args": ["two"], "returns": { "code": 0, "stdout": "2" } }
    ] }"#;
    let run = |text: &str| json!({ "program": "printf", "args": [text] });
    let (report, finished) = play(&world, "act.run", &run("two"), cassette).await;
    let error = finished.unwrap_err();
    assert!(
        matches!(&error, TapeError::Different { number: 1, recorded, made }
        if recorded.contains("\"one\"") && made.contains("\"two\"")),
        "{error}"
    );
    assert!(
        matches!(&report.outcome, Outcome::Trapped { reason: TrapReason::Contract, message } if message.contains("call 1")),
        "{:?}",
        report.outcome
    );
    // The right call, and one is left.
    let (report, finished) = play(&world, "act.run", &run("one"), cassette).await;
    assert_eq!(json_of(&report), json!({ "status": "succeeded", "value": [0, "1"] }));
    assert!(matches!(finished.unwrap_err(), TapeError::Left { played: 1, total: 2, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_decide_in_a_playback_too() {
    let world = World::new().await;
    let args = json!({ "program": "rm", "args": ["-rf", "/"] });
    let (live, cassette) = record(&world, "act.run", &args).await;
    assert!(matches!(live.outcome, Outcome::Denied { .. }), "{:?}", live.outcome);
    let (played, finished) = play(&world, "act.run", &args, &cassette).await;
    finished.unwrap();
    assert_eq!(played.outcome, live.outcome);

    // An answer in the cassette is no grant.
    let answered = r#"{ "cassette": 1, "calls": [
        { "call": "commands.run", "program": "rm", "args": ["-rf", "/"], "returns": { "code": 0, "stdout": "gone" } }
    ] }"#;
    let (_, finished) = play(&world, "act.run", &args, answered).await;
    assert!(matches!(finished.unwrap_err(), TapeError::Denied { .. }));

    // A denial in the cassette is none either, once the manifest allows the call.
    let printf = json!({ "program": "printf", "args": ["x"] });
    let denied = r#"{ "cassette": 1, "calls": [
        { "call": "commands.run", "program": "printf", "args": ["x"], "denied": "at that time" }
    ] }"#;
    let (_, finished) = play(&world, "act.run", &printf, denied).await;
    assert!(matches!(finished.unwrap_err(), TapeError::Allowed { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_recorded_and_played() {
    let world = World::new().await;
    let path = format!("{SCRATCH}/never-{}", std::process::id());
    for (operation, args) in [
        ("act.change", json!({ "program": "touch", "args": [path] })),
        ("act.write-file", json!({ "path": path, "content": "x" })),
    ] {
        let recording = Recording::new();
        let mut call = world.request(operation, args.clone());
        (call.dry_run, call.tape) = (true, Tape::Record(recording.clone()));
        let live = world.run(call).await;
        let playback = Playback::new(recording.cassette().unwrap());
        let mut call = world.request(operation, args);
        (call.dry_run, call.tape) = (true, Tape::Replay(playback.clone()));
        assert_eq!(world.run(call).await.outcome, live.outcome);
        playback.finish().unwrap();
        assert!(!std::path::Path::new(&path).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cassette_can_cancel_an_operation() {
    let world = World::new().await;
    let printed = r#"{ "call": "commands.run", "program": "printf", "args": ["x"], "returns": { "code": 0, "stdout": "x" } }"#;
    let asked = |cancelled: bool| format!(r#"{{ "call": "job.is-cancelled", "returns": {cancelled} }}"#);
    let calls = [asked(false), printed.to_owned(), asked(false), printed.to_owned(), asked(true)].join(",");
    let cassette = format!(r#"{{ "cassette": 1, "calls": [{calls}] }}"#);
    let (report, finished) = play(&world, "act.wait-cancelled", &json!({}), &cassette).await;
    finished.unwrap();
    assert_eq!(json_of(&report)["value"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_and_chance_are_the_same_in_each_playback() {
    let world = World::new().await;
    let cassette = r#"{ "cassette": 1, "clock_ms": 1767225600123, "calls": [] }"#;
    let chance = async || json_of(&play(&world, "act.chance", &json!({}), cassette).await.0)["value"].clone();
    let first = chance().await;
    assert_eq!(first[0], 1_767_225_600_123_u64);
    assert_eq!(chance().await, first);
    // Without a tape they are what they are.
    let live = || async { world.outcome("act.chance", json!({})).await["value"].clone() };
    assert_ne!(live().await[1], live().await[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_in_a_playback() {
    let world = World::new().await;
    let empty = r#"{ "cassette": 1, "calls": [] }"#;
    let (report, finished) = play(&world, "limits.eat", &json!({ "mebibytes": 1000 }), empty).await;
    assert!(
        matches!(report.outcome, Outcome::Trapped { reason: TrapReason::Memory, .. }),
        "{:?}",
        report.outcome
    );
    finished.unwrap();
    assert!(
        report.stats.memory_peak_bytes > 16 << 20 && report.stats.memory_peak_bytes <= 32 << 20,
        "{:?}",
        report.stats
    );
}
