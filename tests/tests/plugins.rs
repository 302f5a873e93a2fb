//! Plugins that misbehave: the operation fails with the reason, the host and other jobs go on.

use serde_json::{Value, json};
use windlass_tests::{Binaries, Grid, GridOptions};

fn start() -> (tempfile::TempDir, Grid) {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions { plugins: vec!["torture".into(), "monitor".into()], ..GridOptions::default() };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    (dir, grid)
}

fn run(grid: &Grid, code: i32, args: &[&str]) -> (Value, String) {
    let args = [&["run"], args, &["--on", "n1", "-o", "json"]].concat();
    let run = grid.windlass(&args).expect(code).json();
    let id = run["job"]["id"].as_str().unwrap_or_else(|| panic!("no id in {run}")).to_owned();
    (run["results"][0]["outcome"].clone(), id)
}

#[test]
fn every_limit_ends_the_operation_and_nothing_else() {
    let (_dir, mut grid) = start();
    for (operation, argument, reason) in [
        ("torture.limits.spin", None, "cpu"),
        ("torture.limits.eat", Some("mebibytes=1000"), "memory"),
        ("torture.limits.recurse", Some("depth=4000000000"), "stack"),
        ("torture.limits.panic", Some("message=oh dear"), "crash"),
        ("torture.limits.large-result", Some("mebibytes=4"), "output"),
    ] {
        let args: Vec<&str> = [operation].into_iter().chain(argument).collect();
        let (outcome, _) = run(&grid, 3, &args);
        assert_eq!(outcome["status"], "trapped", "{operation}: {outcome}");
        assert_eq!(outcome["reason"], reason, "{operation}: {outcome}");
        assert!(!outcome["message"].as_str().unwrap().is_empty());
        run(&grid, 0, &["monitor.system.read"]);
    }
    // 100 MB on standard output end neither the operation nor the host.
    let (outcome, _) = run(&grid, 0, &["torture.limits.print", "mebibytes=100"]);
    assert_eq!(outcome["value"], 100 << 20);
    let (outcome, _) = run(&grid, 0, &["torture.act.spawn", "program=seq", "args=5000000"]);
    assert_eq!(outcome["value"][0], 0);
    assert!(grid.host("n1").is_running());
}

#[test]
fn values_keep_every_digit() {
    let (_dir, grid) = start();
    for number in ["0", "9007199254740993", "18446744073709551615"] {
        let output = grid.windlass(&[
            "run",
            "torture.echo.unsigned",
            &format!("value={number}"),
            "--on",
            "n1",
            "-o",
            "json",
        ]);
        assert!(output.clone().expect(0).stdout.contains(number), "{output:?}");
    }
    let output = grid
        .windlass(&["run", "torture.echo.unsigned", "value=18446744073709551616", "--on", "n1"])
        .expect(2);
    assert!(output.stderr.contains("/value"), "{}", output.stderr);
    let everything = json!({
        "truth": true, "tiny": -128, "signed": i64::MIN, "unsigned": u64::MAX, "fraction": 0.1, "short_fraction": 0.1,
        "letter": "ß", "text": "línea\n\u{0}", "raw_bytes": "AP8=", "numbers": [1, 4294967295_u32], "maybe": null,
        "colour": "sky_blue", "rights": ["may_write"], "shape": {"polygon": ["hexagon", 6]},
    });
    let args = json!({ "value": everything }).to_string();
    let (outcome, _) = run(&grid, 0, &["torture.echo.values", "--args", &args]);
    assert_eq!(outcome["value"], everything);
}

#[test]
fn what_is_not_granted_is_denied_and_the_trace_says_what_was_missing() {
    let (_dir, grid) = start();
    for args in [
        // Not in the manifest at all; no rule for the argument; a change within a read; an unknown probe; a path outside.
        ["torture.act.run", "program=rm", "args=/etc/passwd"].as_slice(),
        &["torture.act.run", "program=sleep", "args=--help"],
        &["torture.act.run", "program=touch", "args=/tmp/windlass-torture/never"],
        &["torture.act.probe", "granted=false"],
        &["torture.act.read-file", "path=/etc/passwd"],
        &["torture.act.read-file", "path=/tmp/windlass-torture/../../etc/passwd"],
    ] {
        let (outcome, id) = run(&grid, 4, args);
        assert_eq!(outcome["status"], "denied", "{args:?}: {outcome}");
        let missing = outcome["denial"]["missing"].as_str().unwrap();
        assert!(!missing.is_empty());
        let trace = grid.windlass(&["jobs", "trace", &id, "n1", "-o", "json"]).expect(0).stdout;
        assert!(trace.contains("\"denied\"") && trace.contains("missing"), "{args:?}: {trace}");
    }
    assert!(!std::path::Path::new("/tmp/windlass-torture/never").exists());
}

#[test]
fn a_dry_run_changes_nothing_and_tells_what_it_would_do() {
    let (_dir, grid) = start();
    std::fs::create_dir_all("/tmp/windlass-torture").unwrap();
    let path = format!("/tmp/windlass-torture/dry-{}", std::process::id());
    for args in [
        ["torture.act.change", "program=touch", &format!("args={path}"), "--dry-run"],
        ["torture.act.write-file", &format!("path={path}"), "content=x", "--dry-run"],
    ] {
        let (_, id) = run(&grid, 0, &args);
        assert!(!std::path::Path::new(&path).exists(), "{args:?}");
        let trace = grid.windlass(&["jobs", "trace", &id, "n1", "-o", "json"]).expect(0).stdout;
        assert!(trace.contains("would_run"), "{trace}");
    }
    // Without it the same arguments do change something.
    run(&grid, 0, &["torture.act.change", "program=touch", &format!("args={path}")]);
    std::fs::remove_file(&path).expect("the file was made");
}

#[test]
fn an_operation_returns_its_own_typed_error() {
    let (_dir, grid) = start();
    let (outcome, _) = run(&grid, 3, &["torture.echo.fail", "message=no"]);
    assert_eq!(outcome, json!({ "status": "failed", "error": { "polygon": ["no", 3] } }));
}

#[test]
fn state_stays_on_the_node() {
    let (_dir, mut grid) = start();
    assert_eq!(run(&grid, 0, &["torture.act.count", "key=a"]).0["value"], 1);
    assert_eq!(run(&grid, 0, &["torture.act.count", "key=a"]).0["value"], 2);
    grid.take_host("n1").kill().unwrap();
    grid.wait_offline("n1");
    grid.restart_host("n1").unwrap();
    grid.wait_online("n1");
    assert_eq!(run(&grid, 0, &["torture.act.count", "key=a"]).0["value"], 3);
    assert_eq!(run(&grid, 0, &["torture.act.count", "key=b"]).0["value"], 1);
}

#[test]
fn a_node_may_allow_less_than_the_manifest_asks() {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions {
        plugins: vec!["torture".into()],
        host_tables: "\n[plugins.torture.policy]\nmax_effect = \"read\"\n".into(),
        ..GridOptions::default()
    };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    run(&grid, 0, &["torture.act.sleep", "seconds=0"]);
    let (outcome, _) = run(&grid, 4, &["torture.act.count", "key=a"]);
    assert_eq!(outcome["status"], "denied", "{outcome}");
}
