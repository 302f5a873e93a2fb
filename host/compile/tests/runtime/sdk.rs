//! What `windlass-sdk` promises the authors of plugins, with the real host on the other side. Its
//! functions are tested natively against a script; here the script is not there to be wrong.
//!
//! The plugin is `tests/plugins/kit`.

use crate::world::{SCRATCH, Scratch, World, bundle, json_of};
use serde_json::{Value, json};
use windlass_bundle::NodePolicy;
use windlass_types::trace::{TraceDetail, Verdict};

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

/// A value that nothing else would be.
const CANARY: &str = "k9#canary/pässwörd";

fn with_secret(world: &World, operation: &str, args: Value) -> windlass_runtime::Call {
    let value = CANARY.as_bytes().to_vec().into();
    let secrets = [("nas".parse().unwrap(), value)].into_iter().collect();
    windlass_runtime::Call { secrets, ..world.request(operation, args) }
}

fn password() -> Value {
    json!({ "password": { "secret": "nas" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_the_secret_and_the_plugin_does_not() {
    let world = kit().await;
    let (progress, mut told) = tokio::sync::mpsc::channel(16);
    let call = with_secret(&world, "vault.repeat", password());
    let report = world.run(windlass_runtime::Call { progress: Some(progress), ..call }).await;
    assert_eq!(json_of(&report)["value"], "password: [secret nas]", "{report:?}");
    let TraceDetail::Command { program, secrets, .. } = &report.trace[0].detail else { panic!("{report:?}") };
    assert_eq!((&**program, &secrets[..]), ("tee", &["nas on standard input".to_owned()][..]));
    assert_eq!(told.recv().await.unwrap().message, "it said password: [secret nas]");
    assert!(!format!("{report:?}").contains(CANARY), "{report:?}");

    let digest = world.run(with_secret(&world, "vault.digest", password())).await;
    let expected = windlass_types::Digest::of(CANARY.as_bytes()).hex();
    assert_eq!(json_of(&digest)["value"], expected.as_str(), "the program read the value itself");

    let variable = world.run(with_secret(&world, "vault.variable", password())).await;
    assert_eq!(json_of(&variable)["value"], "[secret nas]", "{variable:?}");
}

/// A plugin that gets at a value by another way can't let it out as it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_a_call_holds_no_secret() {
    let world = kit().await;
    let file = Scratch::new("spill");
    std::fs::write(&file.0, format!("before {CANARY} after {}", &CANARY[..6])).unwrap();
    let (progress, mut told) = tokio::sync::mpsc::channel(16);
    let (output, mut written) = tokio::sync::mpsc::channel(1024);
    let mut args = password();
    args["path"] = file.0.to_str().unwrap().into();
    let call = with_secret(&world, "vault.spill", args);
    let call = windlass_runtime::Call { progress: Some(progress), output: Some(output), ..call };
    let report = world.run(call).await;
    let hidden = format!("before [secret nas] after {}", &CANARY[..6]);
    assert_eq!(json_of(&report)["value"], hidden.as_str());
    assert_eq!(told.recv().await.unwrap().message, hidden);
    let mut all = Vec::new();
    while let Some(piece) = written.recv().await {
        all.extend_from_slice(&piece);
    }
    assert_eq!(String::from_utf8_lossy(&all), hidden);
    assert!(!format!("{:?}", report.trace).contains(CANARY), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_go_only_where_a_rule_says_so() {
    let world = kit().await;
    let denied = async |operation: &str, args: Value| {
        let report = world.run(with_secret(&world, operation, args)).await;
        let outcome = json_of(&report);
        assert_eq!(outcome["status"], "denied", "{outcome}");
        outcome["denial"]["missing"].as_str().unwrap().to_owned()
    };
    let missing = denied("vault.misplaced", password()).await;
    assert!(
        missing.contains("`commands.cat.allow[0]` matches, but its `secrets` do not hold `stdin`"),
        "{missing}"
    );
    let missing = denied("vault.forged", json!({ "handle": "bmc" })).await;
    assert!(missing.contains("`bmc` is no secret of this call"), "{missing}");

    // What the arguments do not name, or the caller did not send.
    let none = world.outcome("vault.forged", json!({ "handle": "nas" })).await;
    assert_eq!(none["status"], "denied", "{none}");
    let unsent = world.outcome("vault.repeat", password()).await;
    assert_eq!((&unsent["status"], &unsent["reason"]), (&json!("refused"), &json!("secret")), "{unsent}");
    let plain = world.outcome("vault.repeat", json!({ "password": CANARY })).await;
    assert_eq!(plain["reason"], "bad_arguments", "{plain}");
    assert!(!plain.to_string().contains(CANARY), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_which_secret_goes_where() {
    let world = kit().await;
    let call = with_secret(&world, "vault.repeat", password());
    let report = world.run(windlass_runtime::Call { dry_run: true, ..call }).await;
    assert!(matches!(report.trace[0].verdict, Verdict::WouldRun { .. }), "{report:?}");
    let TraceDetail::Command { secrets, .. } = &report.trace[0].detail else { panic!("{report:?}") };
    assert_eq!(secrets[..], ["nas on standard input".to_owned()]);
}
