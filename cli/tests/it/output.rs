//! What comes out: data on stdout in each form, the rest on stderr.

use crate::fake::*;
use serde_json::{Value, json};
use std::{os::unix::fs::PermissionsExt as _, process::Stdio};
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn json_and_yaml_hold_the_job_and_its_results() {
    let master = Master::start(Script::default()).await;
    let args = ["run", "demo.item.list", "--on", "n1", "-o", "json"];
    let run = master.run(&args).await.expect(0);
    let value: Value = run.json();
    assert_eq!(value["job"]["id"], JOB);
    assert_eq!(value["job"].get("results"), None);
    assert_eq!(value["results"][0]["name"], "n1");
    assert_eq!(value["results"][0]["outcome"], json!({ "status": "succeeded", "value": "done" }));
    assert_eq!(run.stderr, "");
    let with_trace: Value = master.run(&[&args[..], &["--trace"]].concat()).await.expect(0).json();
    assert_eq!(with_trace["traces"][0]["entries"][0]["argv"], json!(["list", "-H"]));
    let yaml = master.run(&["run", "demo.item.list", "--on", "n1", "--output", "yaml"]).await.expect(0);
    assert!(yaml.stdout.starts_with("job:\n  id: "), "{yaml:#?}");
    let nodes: Vec<Value> = master.run(&["nodes", "list", "-o", "json"]).await.expect(0).json();
    assert_eq!(nodes.len(), 3, "all pages");
    let pending: Vec<Value> =
        master.run(&["nodes", "list", "--state", "pending", "-o", "json"]).await.expect(0).json();
    assert_eq!((pending.len(), &pending[0]["name"]), (1, &json!("n3")));
}

#[tokio::test]
async fn a_dry_run_tells_what_it_would_do() {
    let master = Master::start(Script::default()).await;
    let run =
        master.run(&["run", "demo.item.wipe", "--on", "n1", "--dry-run"]).await.expect(0).says("(dry run)");
    assert!(run.stdout.ends_with("\nn1: would run /sbin/zpool list -H\n"), "{run:#?}");
    assert!(master.fake.seen.lock().unwrap().jobs[0].dry_run);
}

#[tokio::test]
async fn a_trace_tells_program_arguments_exit_and_time() {
    let master = Master::start(Script::default()).await;
    let run = master.run(&["jobs", "trace", JOB]).await.expect(0);
    for part in ["n1\n", "commands.run", "/sbin/zpool list -H", "exit 0", "2.5ms", "commands.zpool.allow[0]"]
    {
        assert!(run.stdout.contains(part), "no {part:?} in {run:#?}");
    }
}

#[tokio::test]
async fn operations_are_listed_and_explained() {
    let master = Master::start(Script::default()).await;
    let list = master.run(&["ops", "list", "demo"]).await.expect(0);
    assert!(list.stdout.contains("demo.item.list") && list.stdout.contains("destroy"), "{list:#?}");
    let none = master
        .run(&["ops", "list", "zfs"])
        .await
        .expect(0)
        .says("no node offers operations of a plugin `zfs`");
    assert_eq!(none.stdout, "");
    let page = master.run(&["ops", "show", "demo.item.list"]).await.expect(0);
    for part in [
        "read: only looks",
        "How many.",
        "example\n  windlass run demo.item.list --on n1 filter=FILTER count=1",
    ] {
        assert!(page.stdout.contains(part), "no {part:?} in {page:#?}");
    }
    let schema: Value = master.run(&["ops", "show", "demo.item.list", "--schema"]).await.expect(0).json();
    assert_eq!(schema["additionalProperties"], false);
}

#[tokio::test]
async fn nodes_are_accepted_by_fingerprint_and_changed() {
    let master = Master::start(Script::default()).await;
    let pin = windlass_types::Digest::of(b"n3").to_string();
    master.run(&["nodes", "accept", "n3"]).await.expect(2).says("hint: give `--fingerprint`");
    master.run(&["nodes", "accept", "n3", "--fingerprint", &pin]).await.expect(0).says("accepted `n3`");
    master.run(&["nodes", "accept", "--all-pending"]).await.expect(2).says(&pin);
    master.run(&["nodes", "accept", "--all-pending", "--yes"]).await.expect(0).says("accepted `n3`");
    master.run(&["nodes", "label", "n1", "rack=a1", "tier-"]).await.expect(0);
    master.run(&["nodes", "flag", "n1", "+maintenance", "-draining"]).await.expect(0);
    master.run(&["nodes", "delete", "n1"]).await.expect(2);
    master.run(&["nodes", "delete", "n1", "--yes"]).await.expect(0);
    let token = master.run(&["nodes", "join-token", "--ttl", "15m"]).await.expect(0).says("not shown again");
    assert_eq!(token.stdout, "wj_secret\n");
    let accept = json!({ "fingerprint": pin, "name": null });
    assert_eq!(
        master.fake.seen.lock().unwrap().changes,
        [
            ("n3".to_owned(), accept.clone()),
            ("n3".to_owned(), accept),
            ("n1".to_owned(), json!({ "labels": { "rack": "a1", "tier": null }, "flags": {} })),
            ("n1".to_owned(), json!({ "labels": {}, "flags": { "maintenance": true, "draining": false } })),
        ]
    );
}

#[tokio::test]
async fn a_login_is_tried_then_stored_then_used() {
    let master = Master::start(Script::default()).await;
    let url = master.url();
    let pin = master.pin.to_string();
    let login = async |more: &[&str]| Run::of(&mut master.bare(&[&["login", &url], more].concat())).await;
    let stored = master.home.path().join(".config/windlass/config.toml");

    login(&["--ca-fingerprint", &pin, "--token", "bad"]).await.expect(4).says("the token is not good");
    login(&["--token", TOKEN]).await.expect(2).says("hint: give `--ca-fingerprint");
    login(&["--ca-fingerprint", &pin]).await.expect(2).says("error: no token");
    Run::of(&mut master.bare(&["login", "http://127.0.0.1:1", "--token", "x"]))
        .await
        .expect(2)
        .says("not encrypted");
    assert!(!stored.exists());

    login(&["--ca-fingerprint", &pin, "--token", TOKEN])
        .await
        .expect(0)
        .says("logged in as `tester` (admin)");
    assert_eq!(std::fs::metadata(&stored).unwrap().permissions().mode() & 0o777, 0o600);
    let me = Run::of(&mut master.bare(&["whoami"])).await.expect(0);
    assert!(me.stdout.contains("tester"), "{me:#?}");

    // The second profile believes a file, and has its token from stdin.
    let ca = master.home.path().join("ca.pem");
    std::fs::write(&ca, &master.ca_pem).unwrap();
    let args = ["--profile", "lab", "login", &url, "--ca-file", ca.to_str().unwrap(), "--token-file", "-"];
    let mut child = master.bare(&args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{TOKEN}\n").as_bytes()).await.unwrap();
    Run::from(child.wait_with_output().await.unwrap()).expect(0).says("profile `lab`");
    std::fs::remove_file(&ca).unwrap();
    Run::of(&mut master.bare(&["--profile", "lab", "nodes", "list"])).await.expect(0);

    Run::of(&mut master.bare(&["logout"])).await.expect(0);
    Run::of(&mut master.bare(&["whoami"])).await.expect(1).says("`lab`");
}
