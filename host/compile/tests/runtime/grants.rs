//! What is not granted is denied before anything happens; a dry run changes nothing.

use crate::world::{SCRATCH, Scratch, World, bundle, json_of, verdicts, with_manifest};
use serde_json::json;
use windlass_bundle::NodePolicy;
use windlass_types::{
    Effect, Outcome,
    trace::{TraceDetail, Verdict},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_names_what_was_missing_and_is_in_the_trace() {
    let world = World::new().await;
    let never = format!("{SCRATCH}/never");
    for (operation, args, capability, missing) in [
        ("act.run", json!({ "program": "rm", "args": ["x"] }), "commands.run", "[commands.rm]"),
        (
            "act.run",
            json!({ "program": "sleep", "args": ["--help"] }),
            "commands.run",
            "commands.sleep.allow",
        ),
        ("act.spawn", json!({ "program": "rm", "args": ["x"] }), "commands.spawn", "[commands.rm]"),
        // An option where an operand was promised, one more than that, and what ends a line or a string.
        ("act.run", json!({ "program": "sleep", "args": ["1", "--help"] }), "commands.run", "`end`"),
        ("act.run", json!({ "program": "printf", "args": ["-v"] }), "commands.run", "{text}"),
        ("act.run", json!({ "program": "printf", "args": ["a\nb"] }), "commands.run", "{text}"),
        ("act.run", json!({ "program": "printf", "args": ["a\0b"] }), "commands.run", "NUL"),
        ("act.run", json!({ "program": "printf\0x", "args": ["a"] }), "commands.run", "[commands."),
        ("act.run", json!({ "program": "../bin/sh", "args": ["a"] }), "commands.run", "[commands."),
        ("act.run", json!({ "program": "/bin/sh", "args": ["a"] }), "commands.run", "[commands."),
        // A change within an operation that only reads.
        ("act.run", json!({ "program": "touch", "args": [never] }), "commands.run", "effect"),
        ("act.probe", json!({ "granted": false }), "probes.memory", "probes"),
        ("act.read-file", json!({ "path": "/etc/passwd" }), "files.read", "[[files]]"),
        ("act.read-file", json!({ "path": format!("{SCRATCH}/../../etc/passwd") }), "files.read", ".."),
        ("act.read-file", json!({ "path": "/proc/self/root/etc/passwd" }), "files.read", "[[files]]"),
        (
            "act.read-file",
            json!({ "path": format!("{SCRATCH}/x\0/../../etc/passwd") }),
            "files.read",
            "control",
        ),
        ("act.write-file", json!({ "path": "/etc/never", "content": "x" }), "files.write", "[[files]]"),
    ] {
        let report = world.call(operation, args.clone()).await;
        let Outcome::Denied { denial, error } = &report.outcome else {
            panic!("{operation} {args}: {:?}", report.outcome);
        };
        assert_eq!(denial.capability, capability);
        assert!(denial.missing.contains(missing), "{args}: {denial}");
        assert!(error.is_some(), "the operation returned its own error, too");
        let noted = Verdict::Denied { missing: denial.missing.clone() };
        assert_eq!(verdicts(&report.trace), [&noted], "{args}");
        assert_eq!(report.trace[0].function, capability);
    }
    assert!(!std::path::Path::new(&never).exists());
}

/// A plugin has no way to give a program an environment; what the agent has is not handed on.
#[tokio::test(flavor = "multi_thread")]
async fn programs_get_no_environment_of_anybody() {
    let world = World::new().await;
    let value = world.outcome("act.run", json!({ "program": "sh", "args": ["-c", "env | sort"] })).await;
    let printed = value["value"][1].as_str().unwrap_or_default();
    let names: Vec<&str> = printed.lines().filter_map(|line| line.split('=').next()).collect();
    // The shell itself adds PWD, and some `_`.
    assert_eq!(
        names.iter().filter(|name| **name != "_").collect::<Vec<_>>(),
        [&"LC_ALL", &"PATH", &"PWD"],
        "{value}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_works_and_is_in_the_trace() {
    let world = World::new().await;
    let file = Scratch::new("granted");
    let report = world.call("act.append", json!({ "path": file.text(), "line": "once", "seconds": 0 })).await;
    assert!(report.outcome.is_success(), "{:?}", report.outcome);
    assert_eq!(file.content().as_deref(), Some("once\n"));
    let functions: Vec<&str> = report.trace.iter().map(|entry| entry.function.as_str()).collect();
    assert_eq!(functions, ["files.read", "files.write"]);
    assert_eq!(report.trace[1].verdict, Verdict::Allowed { rule: "files[1]".into() });
    assert_eq!(report.trace[1].detail, TraceDetail::File { path: file.text(), bytes: 5 });
    let read = world.outcome("act.read-file", json!({ "path": file.text() })).await;
    assert_eq!(read["value"], "once\n");

    let report = world.call("act.run", json!({ "program": "printf", "args": ["hello"] })).await;
    assert_eq!(json_of(&report)["value"], json!([0, "hello"]));
    let TraceDetail::Command { program, path, argv, exit, stdout_bytes, .. } = &report.trace[0].detail else {
        panic!("{:?}", report.trace);
    };
    assert_eq!((program.as_str(), path.as_deref()), ("printf", Some("/usr/bin/printf")));
    assert_eq!((argv.as_slice(), *exit, *stdout_bytes), (["hello".to_owned()].as_slice(), Some(0), 5));

    let host = world.outcome("act.probe", json!({ "granted": true })).await;
    assert!(!host["value"].as_str().unwrap().is_empty(), "{host}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_out_of_the_granted_paths_is_denied() {
    let world = World::new().await;
    let link = Scratch::new("link");
    std::os::unix::fs::symlink("/etc/passwd", &link.0).unwrap();
    let report = world.call("act.read-file", json!({ "path": link.text() })).await;
    assert!(matches!(report.outcome, Outcome::Denied { .. }), "{:?}", report.outcome);
    assert!(matches!(report.trace[0].verdict, Verdict::Denied { .. }), "{:?}", report.trace);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_and_does_nothing() {
    let world = World::new().await;
    let file = Scratch::new("dry");
    for (operation, args, rule) in [
        ("act.change", json!({ "program": "touch", "args": [file.text()] }), "commands.touch.allow[0]"),
        ("act.write-file", json!({ "path": file.text(), "content": "x" }), "files[1]"),
        ("act.count", json!({ "key": "a" }), "state"),
    ] {
        let mut call = world.request(operation, args.clone());
        call.dry_run = true;
        let report = world.run(call).await;
        assert!(report.outcome.is_success(), "{operation}: {:?}", report.outcome);
        let last = report.trace.last().unwrap();
        assert_eq!(last.verdict, Verdict::WouldRun { rule: rule.into() });
        assert_eq!(file.content(), None);
        // Without it the same does change something.
        assert!(world.call(operation, args).await.outcome.is_success());
        if operation != "act.count" {
            std::fs::remove_file(&file.0).expect("the file was made");
        }
    }
    // The dry run did not count.
    assert_eq!(world.outcome("act.count", json!({ "key": "a" })).await["value"], 2);
    // What only reads runs.
    let mut call = world.request("act.run", json!({ "program": "printf", "args": ["hello"] }));
    call.dry_run = true;
    assert_eq!(json_of(&world.run(call).await)["value"], json!([0, "hello"]));
    // What is not granted is denied all the same.
    let mut call = world.request("act.write-file", json!({ "path": "/etc/never", "content": "x" }));
    call.dry_run = true;
    assert_eq!(json_of(&world.run(call).await)["status"], "denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_would_change_something_is_not_spawned_in_a_dry_run() {
    let changing = with_manifest(&bundle("torture"), |text| {
        text.replace("\"act.spawn\" = { effect = \"read\"", "\"act.spawn\" = { effect = \"change\"")
    });
    let world = World::of(&changing, &NodePolicy::default()).await;
    let file = Scratch::new("spawn");
    let mut call = world.request("act.spawn", json!({ "program": "touch", "args": [file.text()] }));
    call.dry_run = true;
    let report = world.run(call).await;
    assert_eq!(json_of(&report), json!({ "status": "failed", "error": "Error::DryRun" }));
    assert!(matches!(report.trace[0].verdict, Verdict::WouldRun { .. }));
    assert_eq!(file.content(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_allow_less_than_the_manifest_asks() {
    let policy = NodePolicy { max_effect: Effect::Read, ..NodePolicy::default() };
    let world = World::of(&bundle("torture"), &policy).await;
    assert!(world.call("echo.nothing", json!({})).await.outcome.is_success());
    let report = world.call("act.count", json!({ "key": "a" })).await;
    let Outcome::Denied { denial, error: None } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(denial.capability, "operation");
    assert!(report.trace.is_empty(), "it never began");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_panics_on_a_denial_was_denied() {
    let stateless = with_manifest(&bundle("torture"), |text| text.replace("state = true", "state = false"));
    let world = World::of(&stateless, &NodePolicy::default()).await;
    let outcome = world.outcome("act.count", json!({ "key": "a" })).await;
    assert_eq!(outcome["status"], "denied");
    assert_eq!(outcome["denial"]["capability"], "state.get");
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_kept_for_each_plugin_alone_and_over_restarts() {
    let torture = bundle("torture");
    let world = World::new().await;
    let count = |world| {
        let call = |world: &World| world.request("act.count", json!({ "key": "a" }));
        (call)(world)
    };
    assert_eq!(json_of(&world.run(count(&world)).await)["value"], 1);
    assert_eq!(json_of(&world.run(count(&world)).await)["value"], 2);
    // A newer version of the same plugin goes on with it.
    let newer = with_manifest(&torture, |text| text.replace("version = \"0.1.0\"", "version = \"0.2.0\""));
    let compiled = crate::world::compiled(&newer).await;
    let policy = NodePolicy::default();
    let plugin = world.runtime.load(&newer, &compiled, &policy, None, serde_json::Value::Null).unwrap();
    let report = world.runtime.call(&plugin, count(&world)).await;
    assert_eq!(json_of(&report)["value"], 3);
    // Its file has its name; nobody else's is opened.
    let files: Vec<_> = std::fs::read_dir(world.dir.path().join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, ["torture.redb"]);
}
