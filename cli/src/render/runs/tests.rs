use super::*;
use crate::render::fixtures::look;
use serde_json::{Value, json};

const RUN: &str = "0199a1b2-c3d4-7000-8000-000000000001";

fn action(node: &str, operation: &str) -> Value {
    json!({ "node": node, "operation": format!("zfs.dataset.{operation}"), "args": { "name": "tank/media", "tag": RUN } })
}

fn the_plan() -> Value {
    let step = |id: &str, node: &str, after: &[&str]| {
        json!({
            "id": id, "title": format!("Make a dataset on {node}"), "after": after,
            "act": action(node, "create"), "undo": action(node, "destroy"),
        })
    };
    let mut last = json!({
        "id": "check", "title": "Look at both", "after": ["n1", "n2"], "act": action("n3", "list"),
        "approval": "Is the window open?",
        "verify": { "action": action("n3", "list"), "expect": "size(output) == 2" },
    });
    last["reason"] = json!("n3 has the client");
    json!({
        "title": "Two datasets", "notes": ["n1 and n2 have the most room"],
        "steps": [step("first", "n3", &[]), step("n1", "n1", &["first"]), step("n2", "n2", &["first"]), last],
    })
}

fn record() -> PlanRecord {
    let made = 1_795_426_800_000_i64;
    serde_json::from_value(json!({
        "id": RUN, "title": "Two datasets", "source": "written", "steps": 4, "created_by": "ann",
        "created_ms": made, "expires_ms": made + 86_400_000, "plan": the_plan(),
        "review": {
            "effect": "change", "nodes": ["n1", "n2", "n3"],
            "operations": [{ "name": "zfs.dataset.create", "effect": "change", "uses": 3 }],
            "warnings": ["node n2 is not connected: the plan can't be applied before it is"],
            "fleet_version": format!("sha256:{}", "0".repeat(64)),
        },
    }))
    .unwrap()
}

fn the_run(state: &str, progress: Value, waits: Value) -> Run {
    let mut steps = std::collections::BTreeMap::<String, u32>::new();
    for step in progress.as_array().unwrap() {
        *steps.entry(step["state"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    serde_json::from_value(json!({
        "id": RUN, "title": "Two datasets", "state": state, "paused": false, "steps": steps, "started_by": "ann",
        "started_ms": 1_795_426_800_000_i64, "finished_ms": null, "plan": the_plan(), "progress": progress,
        "waits": waits, "seq": 9,
    }))
    .unwrap()
}

#[test]
fn a_plan_shows_its_steps_with_their_reasons() {
    insta::assert_snapshot!(plan(&record(), &look(None)));
}

#[test]
fn a_run_shows_what_failed_what_was_undone_and_what_is_owed() {
    let told = |id: &str, state: &str, problem: Value| {
        json!({
            "id": id, "state": state, "touched": true, "attempts": 1, "problem": problem,
            "started_ms": 1_795_426_800_000_i64, "finished_ms": 1_795_426_801_500_i64,
        })
    };
    let progress = json!([
        told("first", "done", Value::Null),
        told("n1", "undone", json!("no space left")),
        told("n2", "owed", Value::Null),
        json!({ "id": "check", "state": "waiting", "touched": false, "attempts": 0 }),
    ]);
    let waits = json!([{
        "step": "n2", "node": "n2", "for": "node", "why": "its undo is owed until node n2 is back",
    }]);
    insta::assert_snapshot!(run(&the_run("rolling_back", progress, waits), &look(None)));
}

#[test]
fn what_waits_for_somebody_says_what_to_type() {
    let progress = json!([
        { "id": "first", "state": "done", "touched": true, "attempts": 1 },
        { "id": "n1", "state": "done", "touched": true, "attempts": 2 },
        { "id": "n2", "state": "failed", "touched": true, "attempts": 1, "problem": "exists" },
        { "id": "check", "state": "waiting", "touched": false, "attempts": 0 },
    ]);
    let waits = json!([
        { "step": "n2", "node": "n2", "for": "person", "why": "it failed: exists" },
        { "step": "check", "node": "n3", "for": "approval", "why": "Is the window open?" },
    ]);
    insta::assert_snapshot!(told(&the_run("running", progress, waits)).join("\n"));
}
