//! Types, arguments, results, and what is refused before it begins.

use crate::world::{World, bundle, json_of, with_manifest};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;
use windlass_bundle::{Bundle, NodePolicy};
use windlass_runtime::{LoadError, ProgressReport};
use windlass_types::{Digest, Outcome, trace::TraceDetail};

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_what_their_wit_says() {
    for name in ["torture", "monitor", "zfs"] {
        let bundle = bundle(name);
        let world = World::of(&bundle, &NodePolicy::default()).await;
        let described = windlass_describe::operations(&bundle.manifest.name, &bundle.wit).unwrap();
        assert_eq!(world.plugin.operations().len(), described.len());
        for operation in described {
            let loaded = world.plugin.operation(operation.name.local()).unwrap();
            assert_eq!(loaded.type_digest, operation.signature.digest(), "{}", operation.name);
            assert_eq!(loaded.name, operation.name);
            assert_eq!(loaded.planned, operation.planned);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_keep_every_digit() {
    let world = World::new().await;
    for number in [0, (1 << 53) + 1, u64::MAX] {
        assert_eq!(world.outcome("echo.unsigned", json!({ "value": number })).await["value"], number);
    }
    assert_eq!(
        world.outcome("echo.unsigned", json!({ "value": "18446744073709551615" })).await["value"],
        u64::MAX
    );
    let everything = json!({
        "truth": true, "tiny": -128, "signed": i64::MIN, "unsigned": u64::MAX, "fraction": 0.1,
        "short_fraction": 0.1, "letter": "ß", "text": "línea\n\u{0}", "raw_bytes": "AP8=",
        "numbers": [1, u32::MAX], "maybe": null, "colour": "sky_blue", "rights": ["may_write"],
        "shape": { "polygon": ["hexagon", 6] },
    });
    let outcome = world.outcome("echo.values", json!({ "value": everything })).await;
    assert_eq!(outcome["value"], everything);
    let mut special = everything.clone();
    special["fraction"] = "-Infinity".into();
    special["short_fraction"] = "NaN".into();
    special["maybe"] = "".into();
    special["raw_bytes"] = "".into();
    special["numbers"] = json!([]);
    special["rights"] = json!([]);
    special["shape"] = "point".into();
    assert_eq!(world.outcome("echo.values", json!({ "value": special })).await["value"], special);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_operation_is_a_failure() {
    let world = World::new().await;
    assert_eq!(
        world.outcome("echo.fail", json!({ "message": "no" })).await,
        json!({ "status": "failed", "error": { "polygon": ["no", 3] } })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_do_not_fit_are_refused_with_their_place() {
    let world = World::new().await;
    for (operation, args, place) in [
        ("echo.unsigned", json!({ "value": 18_446_744_073_709_551_616_f64 }), "/value"),
        ("echo.unsigned", json!({ "valu": 1 }), "/valu"),
        ("echo.unsigned", json!({}), "value"),
        ("echo.unsigned", json!([1]), "an object"),
        ("echo.values", json!({ "value": { "truth": 1 } }), "/value/truth"),
        ("echo.nothing", json!({ "x": 1 }), "/x"),
    ] {
        let outcome = world.outcome(operation, args.clone()).await;
        assert_eq!((&outcome["status"], &outcome["reason"]), (&json!("refused"), &json!("bad_arguments")));
        assert!(outcome["message"].as_str().unwrap().contains(place), "{args}: {outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_of_another_type_is_refused() {
    let world = World::new().await;
    let mut call = world.request("echo.nothing", json!({}));
    call.type_digest = Some(Digest::of(b"another type"));
    let outcome = json_of(&world.run(call).await);
    assert_eq!((&outcome["status"], &outcome["reason"]), (&json!("refused"), &json!("type_changed")));
    let mut call = world.request("echo.nothing", json!({}));
    call.type_digest = Some(world.plugin.operation("echo.nothing").unwrap().type_digest);
    assert!(world.run(call).await.outcome.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_operation_is_refused_with_the_nearest_name() {
    let world = World::new().await;
    let outcome = world.outcome("echo.nothin", json!({})).await;
    assert_eq!((&outcome["status"], &outcome["reason"]), (&json!("refused"), &json!("unknown_operation")));
    assert!(outcome["message"].as_str().unwrap().contains("torture.echo.nothing"), "{outcome}");
    let mut foreign = world.request("echo.nothing", json!({}));
    foreign.operation = "other.echo.nothing".parse().unwrap();
    assert_eq!(json_of(&world.run(foreign).await)["reason"], "unknown_operation");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_merged_and_its_last_word_arrives() {
    let world = World::new().await;
    let (to, mut from) = mpsc::channel(16);
    let mut call = world.request("act.progress", json!({ "steps": 200 }));
    call.progress = Some(to);
    let report = world.run(call).await;
    assert!(report.outcome.is_success());
    let noted = report.trace.iter().filter(|entry| matches!(entry.detail, TraceDetail::Progress { .. }));
    assert_eq!(noted.count(), 200);
    let mut told = Vec::new();
    while let Some(report) = from.recv().await {
        told.push(report);
    }
    assert!(!told.is_empty() && told.len() < 20, "{told:?}");
    let last = ProgressReport { message: "step 200 of 200".into(), percent: Some(100) };
    assert_eq!(told.last(), Some(&last));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_needs_to_listen_to_progress() {
    let world = World::new().await;
    let (to, from) = mpsc::channel(1);
    let mut call = world.request("act.progress", json!({ "steps": 3 }));
    call.progress = Some(to);
    drop(from);
    assert!(world.run(call).await.outcome.is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_output_waits_for_who_takes_it() {
    let world = World::new().await;
    let (to, mut from) = mpsc::channel(1);
    let mut call = world.request("act.tell", json!({ "lines": 300, "width": 999, "seconds": 0 }));
    call.output = Some(to);
    let running = world.run(call);
    tokio::pin!(running);
    // Nobody takes any: it stands still.
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut running).await.is_err());
    let taken = async {
        let mut all = Vec::new();
        while let Some(piece) = from.recv().await {
            all.extend_from_slice(&piece);
        }
        all
    };
    let (report, all) = tokio::join!(running, taken);
    assert_eq!(report.outcome, Outcome::Succeeded { value: 300_000.into() });
    let expected: String = (0..300).map(|line| format!("{line:0999}\n")).collect();
    assert!(all == expected.as_bytes());

    // Told to end while it waits, it ends.
    let (to, _from) = mpsc::channel(1);
    let mut call = world.request("act.tell", json!({ "lines": 300, "width": 999, "seconds": 0 }));
    call.output = Some(to);
    call.time_limit = Duration::from_millis(200);
    let report = world.run(call).await;
    assert!(matches!(report.outcome, Outcome::TimedOut { .. }), "{:?}", report.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_has_a_limit() {
    let world = World::new().await;
    let most = json!({ "lines": 1100, "width": 65_000, "seconds": 0 });
    let report = world.run(world.request("act.tell", most)).await;
    assert_eq!(report.outcome, Outcome::Failed { error: format!("Error::Full({})", 64 << 20).into() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_speaks_of_another_plugin_is_refused() {
    let original = bundle("torture");
    let load = |bundle: Bundle| async move {
        let world = World::new().await;
        let compiled = crate::world::compiled(&bundle).await;
        world.runtime.load(&bundle, &compiled, &NodePolicy::default(), None, Value::Null).unwrap_err()
    };
    let stale = with_manifest(&original, |text| text.replace("\"echo.nothing\"", "\"echo.nothin\""));
    let error = load(stale).await;
    assert!(matches!(error, LoadError::Unfit(_)), "{error}");
    assert!(error.to_string().contains("echo.nothing"), "{error}");
    let other = with_manifest(&original, |text| text.replace("name = \"torture\"", "name = \"other\""));
    let error = load(other).await;
    assert!(matches!(error, LoadError::NoOperations(_)), "{error}");
}
