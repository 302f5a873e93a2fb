//! `windlass plugins`: what is asked of the master, what is shown, how it ends.

use crate::{fake::*, interrupts::press_ctrl_c};
use serde_json::{Value, json};
use windlass_bundle::{Bundle, Package};

const DEPLOY: [&str; 4] = ["plugins", "deploy", "demo@0.2.0", "--yes"];

fn script(frames: &'static [Frame]) -> Script {
    Script { frames, ..Script::default() }
}

/// In form a package; there is nothing to run in it.
pub fn package(version: &str) -> Package {
    let component = b"\0asm\x0d\0\x01\0".to_vec();
    // The same with an empty custom section.
    let wit = b"\0asm\x0d\0\x01\0\0\x02\x01x".to_vec();
    let manifest = format!("name = \"demo\"\nversion = \"{version}\"\n");
    Package::new(Bundle::from_parts(manifest.into_bytes(), component, wit).unwrap(), vec![]).unwrap()
}

#[tokio::test]
async fn a_deployment_is_shown_made_and_followed() {
    let master = Master::start(Script::default()).await;
    let args = ["--canary", "2", "--batch", "50%", "--soak", "0", "--on-failure", "pause", "-v"];
    let run = master.run(&[&DEPLOY[..], &args].concat()).await.expect(0);
    for part in [
        "deploy      demo 0.2.0",
        "nodes       2: 2 from 0.1.0",
        "steps       2 first, then 1 at a time",
        "signed by   nobody",
        "asks for    nothing beyond what was approved",
        "n1: installing\n",
        "n1: active\n",
        "n2: active\n",
        &format!("deployment {DEPLOYMENT}: demo 0.2.0, succeeded: 2 active"),
    ] {
        assert!(run.stderr.contains(part), "no {part:?} in {run:#?}");
    }
    assert!(run.stdout.starts_with("NODE  STEP"), "{run:#?}");
    let seen = master.fake.seen.lock().unwrap();
    let digest = windlass_types::Digest::of(b"0.2.0");
    let strategy = json!({ "canary": 2, "batch": 1, "soak_ms": 0, "node_timeout_ms": 300_000, "max_failures": 0, "on_failure": "pause" });
    let wanted = json!({ "plugin": "demo", "bundle": digest, "strategy": strategy, "approve": false, "allow_downgrade": false, "replace": false });
    assert_eq!(seen.changes, [("deploy".to_owned(), wanted)]);
}

#[tokio::test]
async fn a_deployment_wants_consent() {
    let master = Master::start(Script::default()).await;
    master
        .run(&DEPLOY[..3])
        .await
        .expect(2)
        .says("deploy      demo 0.2.0")
        .says("this needs consent: deploy demo@0.2.0 to 2 nodes")
        .says("hint: there is no terminal to ask on; give `--yes`");
    for args in [
        &["rollback", "demo"][..],
        &["remove", "demo"],
        &["delete", "demo@0.1.0"],
        &["approve", "demo@0.2.0"],
    ] {
        master.run(&[&["plugins"], args].concat()).await.expect(2).says("this needs consent");
    }
    assert!(master.fake.seen.lock().unwrap().changes.is_empty());
}

#[tokio::test]
async fn the_exit_code_tells_how_a_deployment_ended() {
    const ENDS: [(&[Frame], i32, &str); 6] = [
        (&[("succeeded", &["active", "offline"])], 3, "succeeded: 1 active, 1 offline"),
        (&[("succeeded", &["active", "skipped"])], 0, "1 skipped"),
        (&[("rolled_back", &["rolled_back", "failed"])], 3, "n2: failed: the key is unknown"),
        (&[("failed", &["failed", "waiting"])], 3, "failed: 1 waiting, 1 failed"),
        (&[("running", &["sent"]), ("paused", &["failed"])], 3, "rollouts resume|rollback|abort"),
        (&[("waiting_approval", &["waiting"])], 4, "windlass plugins approve demo@0.2.0"),
    ];
    for (frames, code, says) in ENDS {
        let master = Master::start(script(frames)).await;
        master.run(&DEPLOY).await.expect(code).says(says);
        master.run(&["plugins", "rollouts", "watch", DEPLOYMENT]).await.expect(code).says(says);
    }
}

#[tokio::test]
async fn what_it_asks_for_beyond_the_approval_is_shown() {
    let frames: &[Frame] = &[("waiting_approval", &["waiting"])];
    let master = Master::start(Script { asks_for_more: true, ..script(frames) }).await;
    let beyond = "+ zpool replace {pool} (change; {pool} is a word)";
    master.run(&DEPLOY).await.expect(4).says("1 thing beyond what was approved, so it waits").says(beyond);
    let run = master.run(&[&DEPLOY[..], &["--detach"]].concat()).await.expect(4);
    assert_eq!(run.stdout, format!("{DEPLOYMENT}\n"));
    let approve = ["plugins", "approve", "demo@0.2.0"];
    master.run(&approve).await.expect(2).says(beyond);
    let less = ["--yes", "--max-effect", "read", "--deny", "item.list"];
    master
        .run(&[&approve[..], &less].concat())
        .await
        .expect(0)
        .says("approved demo@0.2.0, up to `read` only, without item.list");
    master
        .run(&[&approve[..], &["--yes", "--deny", "item.lits"]].concat())
        .await
        .expect(2)
        .says("has no operation `item.lits`");
    let seen = master.fake.seen.lock().unwrap();
    let body = json!({ "bundle": windlass_types::Digest::of(b"0.2.0"), "max_effect": "read", "deny_operations": ["item.list"] });
    assert_eq!(seen.changes.last().unwrap(), &("approve".to_owned(), body));
}

#[tokio::test]
async fn ctrl_c_leaves_a_deployment_to_itself() {
    let master = Master::start(script(&[("running", &["installing"])])).await;
    let child = master.command(&DEPLOY).spawn().unwrap();
    master.wait_for(2, 0).await;
    press_ctrl_c(&child);
    let run: Run = child.wait_with_output().await.unwrap().into();
    run.expect(130).says(&format!("it goes on: `windlass plugins rollouts watch {DEPLOYMENT}`"));
    let seen = master.fake.seen.lock().unwrap();
    assert_eq!(seen.changes.len(), 1, "nothing was asked of it");
}

#[tokio::test]
async fn one_deployment_at_a_time() {
    let master = Master::start(Script { busy: true, ..Script::default() }).await;
    master.run(&DEPLOY).await.expect(1).says("is under way").says("`--replace` takes its place");
    master.run(&[&DEPLOY[..], &["--replace"]].concat()).await.expect(0);
}

#[tokio::test]
async fn deployments_are_steered_by_the_beginning_of_their_id() {
    let master = Master::start(Script::default()).await;
    for (what, says) in
        [("pause", "no further node gets it"), ("resume", "it goes on"), ("abort", "nodes stay as they are")]
    {
        master.run(&["plugins", "rollouts", what, "0199a1b2"]).await.expect(0).says(says);
    }
    master
        .run(&["plugins", "rollouts", "pause", "ffff"])
        .await
        .expect(1)
        .says("there is no deployment `ffff`");
    let back =
        master.run(&["plugins", "rollback", "demo", "--yes", "--reason", "wrong times"]).await.expect(0);
    assert!(back.stdout.contains("active"), "{back:#?}");
    let changes = master.fake.seen.lock().unwrap().changes.clone();
    let names: Vec<&str> = changes.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(names, ["pause", "resume", "abort", "rollback"]);
    assert_eq!(changes[3].1, json!({ "reason": "wrong times" }));
}

#[tokio::test]
async fn plugins_are_listed_and_shown() {
    let master = Master::start(Script::default()).await;
    let list = master.run(&["plugins", "list"]).await.expect(0);
    assert_eq!(
        list.stdout,
        "PLUGIN  RUNNING   NEW NODES GET  BEHIND  DEPLOYMENT\ndemo    0.1.0 ×2  0.1.0          -       -\n"
    );
    let show = master.run(&["plugins", "show", "demo"]).await.expect(0);
    for part in ["versions\n", "may touch\n", "probes  cpu\n", "n2    0.1.0  0.1.0"] {
        assert!(show.stdout.contains(part), "no {part:?} in {show:#?}");
    }
    let bundle = master.run(&["plugins", "show", "demo@0.2.0"]).await.expect(0);
    assert!(bundle.stdout.contains("item.list  read    func() -> list<string>  All items."), "{bundle:#?}");
    master.run(&["plugins", "show", "zfs"]).await.expect(1).says("there is no plugin `zfs`");
    master.run(&["plugins", "show", "demo@new"]).await.expect(2).says("neither a version");
    let events = master.run(&["plugins", "events", "demo"]).await.expect(0);
    assert!(events.stdout.contains("rolled back") && events.stdout.contains("it trapped"), "{events:#?}");
    for args in [
        &["list"][..],
        &["show", "demo"],
        &["show", "demo@0.1.0"],
        &["rollouts", "list"],
        &["events", "demo"],
    ] {
        let run = master.run(&[&["plugins"], args, &["-o", "json"]].concat()).await.expect(0);
        assert!(!run.json::<Value>().is_null(), "{run:#?}");
    }
}

#[tokio::test]
async fn nodes_are_pinned() {
    let master = Master::start(Script::default()).await;
    master.run(&["plugins", "pin", "demo"]).await.expect(2).says("error: on which nodes?");
    master
        .run(&["plugins", "pin", "demo@0.1.0", "--on", "n1"])
        .await
        .expect(0)
        .says("pinned `demo` at `0.1.0`");
    master.run(&["plugins", "unpin", "demo", "--all"]).await.expect(0);
    let seen = master.fake.seen.lock().unwrap();
    assert_eq!(seen.changes[0].1, json!({ "target": { "on": ["n1"] }, "bundle": "0.1.0" }));
    assert_eq!(seen.changes[1].1, json!({ "target": { "on": ["*"] } }));
}

#[tokio::test]
async fn a_difference_of_stored_bundles_is_the_masters() {
    let master = Master::start(Script::default()).await;
    let args = ["plugins", "diff", "demo@0.1.0", "demo@0.2.0"];
    let run = master.run(&args).await.expect(0);
    assert_eq!(
        run.stdout,
        "demo@0.1.0 → demo@0.2.0\n\noperations\n  + item.add (change)  func()\n  ~ item.list\n      was func() -> u8\n      \
         is  func() -> u16\n\nmay no longer\n  probes  - cpu\n\nlimits\n  ~ memory raised to 128MiB\n"
    );
    let json: Value = master.run(&[&args[..], &["-o", "json"]].concat()).await.expect(0).json();
    assert_eq!(json["retyped"][0]["to"], "func() -> u16");
    master
        .run(&["plugins", "diff", "./nowhere.tar", "demo@0.2.0"])
        .await
        .expect(1)
        .says("is no good package");
}

#[tokio::test]
async fn packages_go_to_the_master_and_come_back() {
    let master = Master::start(Script::default()).await;
    let file = master.home.path().join("demo.tar");
    let bytes = package("0.2.0").to_bytes();
    std::fs::write(&file, &bytes).unwrap();
    let push = ["plugins", "push", file.to_str().unwrap()];
    let run = master.run(&push).await.expect(0).says("pushed demo 0.2.0").says("deploy demo@0.2.0");
    assert_eq!(run.stdout, format!("{}\n", package("0.2.0").bundle.digest));
    master.run(&push).await.expect(0).says("the master has demo 0.2.0");

    let back = master.home.path().join("back.tar");
    master
        .run(&["plugins", "export", "demo@0.2.0", back.to_str().unwrap()])
        .await
        .expect(0)
        .says("wrote demo 0.2.0");
    assert_eq!(std::fs::read(&back).unwrap(), bytes);
    // What comes must be what was asked for.
    master
        .run(&["plugins", "export", "demo@0.1.0", back.to_str().unwrap()])
        .await
        .expect(1)
        .says("the master sent another bundle for `demo@0.1.0`");

    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    master.run(&push).await.expect(1).says("is no good package");
    assert_eq!(master.fake.packages.lock().unwrap().len(), 2);
}
