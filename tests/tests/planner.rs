//! Operations that make plans, on a real master: what they are given, what they give, what they can't do.

use serde_json::Value;
use windlass_tests::{Binaries, Grid, GridOptions, Output, bundles::Signer};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn start(hosts: &[&str]) -> (tempfile::TempDir, Grid) {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        plugins: vec!["kit".into()],
        ..GridOptions::default()
    };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    (dir, grid)
}

/// Put the bundle, which the hosts have in a folder of theirs, into the store of the master.
fn push(grid: &Grid, dir: &tempfile::TempDir) {
    let folder = grid.binaries().bundle("kit").unwrap();
    let bundle = windlass_bundle::Bundle::read_dir(&folder).unwrap();
    let package = Signer::new().package(bundle, dir.path()).unwrap();
    grid.windlass(&["plugins", "push", package.to_str().unwrap()]).expect(0);
}

fn make(grid: &Grid, words: &[&str]) -> Output {
    grid.windlass(&[&["plan", "make", "-o", "json"], words].concat())
}

fn texts<'a>(plan: &'a Value, field: &'a str) -> Vec<&'a str> {
    plan["plan"]["steps"].as_array().unwrap().iter().map(|step| step[field].as_str().unwrap()).collect()
}

#[test]
fn an_operation_makes_a_plan_of_the_fleet() {
    let (dir, grid) = start(&NODES);
    let missing = make(&grid, &["kit.grid.count", "key=x"]);
    assert!(missing.code != 0 && missing.stderr.contains("windlass plugins push"), "{missing:?}");
    push(&grid, &dir);

    grid.windlass(&["nodes", "label", "n1", "zone=north"]).expect(0);
    let made = make(&grid, &["kit.grid.count", "key=x"]).expect(0).json();
    assert_eq!(texts(&made, "id"), NODES);
    let reasons = texts(&made, "reason");
    assert!(reasons[0].starts_with("in zone north, running "), "{reasons:?}");
    assert!(!reasons[0].ends_with("running "), "facts are given too: {reasons:?}");
    assert_eq!(made["source"]["operation"]["operation"], "kit.grid.count");
    assert_eq!(made["plan"]["steps"][1]["after"], serde_json::json!(["n1"]));

    // What the plan makes can carry the id of its run.
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["plan"]["steps"][0]["act"]["args"]["key"], format!("x.{id}"));
    let applied = grid.windlass(&["apply", id, "-o", "json"]).expect(0).json();
    assert_eq!(applied["state"], "done", "{applied}");
    let counted = grid.windlass(&["run", "kit.node.count", &format!("key=x.{id}"), "--all", "-o", "json"]);
    for result in counted.expect(0).json()["results"].as_array().unwrap() {
        assert_eq!(result["outcome"]["value"][0], format!("x.{id}=2"), "once before this one");
    }

    // Each plan looks anew.
    grid.windlass(&["nodes", "flag", "n2", "+maintenance"]).expect(0);
    let made = make(&grid, &["kit.grid.count", "key=x"]).expect(0).json();
    assert_eq!(texts(&made, "id"), ["n1", "n3"]);
    let notes = made["plan"]["notes"].to_string();
    assert!(notes.contains("n2 is left out"), "{notes}");
    let shown = grid.windlass(&["plan", "show", made["id"].as_str().unwrap()]).expect(0);
    assert!(shown.stdout.contains("n2 is left out") && shown.stdout.contains("in zone north"), "{shown:?}");
}

#[test]
fn what_makes_plans_can_touch_nothing() {
    let (dir, grid) = start(&["n1"]);
    push(&grid, &dir);
    for what in ["command", "file", "probe", "state"] {
        let refused = make(&grid, &["kit.grid.reach", &format!("what={what}")]);
        assert!(refused.code != 0, "{what}: {refused:?}");
        assert!(refused.stderr.contains("denied"), "{what}: {refused:?}");
    }
}

#[test]
fn a_plan_that_can_not_be_right_is_refused_with_its_place() {
    let (dir, grid) = start(&["n1"]);
    push(&grid, &dir);
    for (node, args, told) in [
        ("n1", "{", "/steps/0/act/args"),
        ("n1", "{\"kye\": \"x\"}", "kye"),
        ("n9", "{\"key\": \"x\"}", "n9"),
        ("../n1", "{\"key\": \"x\"}", "/steps/0"),
    ] {
        let refused = make(&grid, &["kit.grid.raw", &format!("node={node}"), &format!("args={args}")]);
        assert!(refused.code != 0 && refused.stderr.contains(told), "{node} {args}: {refused:?}");
    }
    for (words, told) in [
        (["plan", "make", "kit.node.count", "key=x"].as_slice(), "windlass run kit.node.count"),
        (&["run", "kit.grid.count", "key=x", "--all"], "plan"),
        (&["plan", "make", "kit.grid.count"], "key"),
        (&["plan", "make", "kit.grid.cuont", "key=x"], "kit.grid.count"),
    ] {
        let refused = grid.windlass(words);
        assert!(refused.code != 0 && refused.stderr.contains(told), "{words:?}: {refused:?}");
    }
    let plans = grid.windlass(&["plan", "list", "-o", "json"]).expect(0).json();
    assert_eq!(plans, serde_json::json!([]), "nothing was kept");
}
