//! What `windlass-sdk` promises the authors of plugins, with the real host on the other side. Its
//! functions are tested natively against a script; here the script is not there to be wrong.
//!
//! The plugin is `tests/plugins/kit`.

use crate::world::{SCRATCH, World, bundle, json_of};
use serde_json::{Value, json};
use windlass_bundle::NodePolicy;
use windlass_types::trace::TraceDetail;

async fn kit() -> World {
    World::of(&bundle("kit"), &NodePolicy::default()).await
}

/// The error that an operation returned, which is the whole outcome or stands beside a denial.
async fn error(world: &World, operation: &str, args: Value) -> Value {
    let outcome = world.outcome(operation, args).await;
    assert_ne!(outcome["status"], "succeeded", "{outcome}");
    outcome["error"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_run_and_their_output_is_read() {
    let world = kit().await;
    let run = |program: &str, args: Value, stdin: Option<&str>| json!({ "program": program, "args": args, "stdin": stdin });
    let report = world.call("command.run", run("printf", json!(["a b"]), None)).await;
    assert_eq!(json_of(&report)["value"], "a b");
    let TraceDetail::Command { program, .. } = &report.trace[0].detail else { panic!("{report:?}") };
    assert_eq!(program, "printf");
    let echoed = world.outcome("command.run", run("cat", json!([]), Some("línea"))).await;
    assert_eq!(echoed["value"], "línea");
    assert_eq!(world.outcome("command.json", json!({ "last": 100 })).await["value"], 5050);
    let xml = json!({ "text": "<r><a>1 &lt; 2</a><a>b</a></r>" });
    assert_eq!(world.outcome("command.xml", xml).await["value"], json!(["1 < 2", "b"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_commands_keep_their_kind() {
    let world = kit().await;
    let run = async |program: &str, args: Value| {
        error(&world, "command.run", json!({ "program": program, "args": args })).await
    };
    let denied = run("printf", json!(["a", "b"])).await;
    assert!(denied["denied"].as_str().unwrap().contains("commands.printf.allow"), "{denied}");
    let missing = run("nowhere", json!([])).await;
    assert!(missing["not_found"].as_str().unwrap().contains("/nonexistent/b"), "{missing}");
    let failed = run("sleep", json!(["18446744073709551615000000"])).await;
    assert!(failed["denied"].is_string(), "a number beyond 64 bits is none: {failed}");
    let failed = run("printf", json!(["%d%"])).await;
    assert_eq!(failed["exit"][0], 1, "{failed}");
    assert!(failed["exit"][1].as_str().unwrap().contains("printf"), "{failed}");
    assert_eq!(run("seq", json!(["100000"])).await, "truncated");
    assert!(run("printf", json!([r"\377"])).await["unexpected"].as_str().unwrap().contains("UTF-8"));
    let late = error(&world, "command.late", json!({ "limit_ms": 50 })).await;
    assert_eq!(late, json!({ "timed_out": 50 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_read_as_it_prints_and_is_ended_early() {
    let world = kit().await;
    let outcome = world.outcome("command.follow", json!({ "last": 1000 })).await;
    assert_eq!(outcome["value"], 500_500, "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_starts_nothing() {
    let world = kit().await;
    let path = format!("{SCRATCH}/kit-dry-{}", std::process::id());
    let mut call = world.request("command.change", json!({ "program": "touch", "args": [path] }));
    call.dry_run = true;
    let outcome = json_of(&world.run(call).await);
    assert_eq!(outcome["error"], "dry_run", "{outcome}");
    assert!(!std::path::Path::new(&path).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_probes_state_and_job_reach_the_host() {
    let world = kit().await;
    let dir = format!("{SCRATCH}/kit-{}", std::process::id());
    std::fs::create_dir_all(&dir).unwrap();
    let outcome = world.outcome("node.tree", json!({ "under": dir })).await;
    assert_eq!(outcome["value"], "1 entry, Kind::File, mode 600, 3456");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    let missing = error(&world, "node.read", json!({ "path": format!("{dir}/x") })).await;
    assert_eq!(missing, json!({ "not_found": format!("nothing stands at `{dir}/x`") }));
    std::fs::remove_dir(&dir).unwrap();
    assert!(error(&world, "node.read", json!({ "path": "/etc/passwd" })).await["denied"].is_string());

    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(world.outcome("node.probe", json!({ "granted": true })).await["value"], name.trim());
    let denied = error(&world, "node.probe", json!({ "granted": false })).await;
    assert!(denied["denied"].as_str().unwrap().contains("cpu"), "{denied}");

    for count in 1..3 {
        let outcome = world.outcome("node.count", json!({ "key": "k" })).await;
        assert_eq!(outcome["value"], json!([format!("k={count}"), "k"]));
    }

    let report = world.call("node.about", json!({})).await;
    assert_eq!(json_of(&report)["value"], json!(["n1", "kit.node.about", false, 42]));
    let trace = serde_json::to_string(&report.trace).unwrap();
    assert!(trace.contains("a-job asks"), "{trace}");
}
