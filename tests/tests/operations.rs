//! The path an operator takes first: operations on several nodes from one command.

use serde_json::{Value, json};
use windlass_tests::{Binaries, Grid, GridOptions, until};

fn grid(hosts: &[&str]) -> (tempfile::TempDir, Grid) {
    let dir = tempfile::tempdir().unwrap();
    let options =
        GridOptions { hosts: hosts.iter().map(ToString::to_string).collect(), ..GridOptions::default() };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    (dir, grid)
}

fn by_name<'a>(run: &'a Value, name: &str) -> &'a Value {
    let results = run["results"].as_array().expect("a list of results");
    results.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("no {name} in {run}"))
}

#[test]
fn one_command_reads_every_node() {
    let (_dir, grid) = grid(&["n1", "n2", "n3"]);
    let run = grid.windlass(&["run", "monitor.system.read", "--on", "n*", "-o", "json"]).expect(0).json();
    for name in ["n1", "n2", "n3"] {
        let node = by_name(&run, name);
        assert_eq!(node["outcome"]["status"], "succeeded", "{node}");
        let value = &node["outcome"]["value"];
        assert!(value["memory_total_bytes"].as_u64().unwrap() > 1 << 20, "{value}");
        assert!(!value["hostname"].as_str().unwrap().is_empty(), "{value}");
    }
    let table = grid.windlass(&["run", "monitor.system.read", "--on", "n*"]).expect(0).stdout;
    for name in ["n1", "n2", "n3"] {
        assert!(table.contains(name), "{table}");
    }

    // The job is kept, with the trace of every host call.
    let jobs = grid.windlass(&["jobs", "list", "-o", "json"]).expect(0).json();
    let id = jobs[0]["id"].as_str().unwrap_or_else(|| panic!("no job in {jobs}"));
    let trace = grid.windlass(&["jobs", "trace", id, "n1", "-o", "json"]).expect(0).stdout;
    assert!(trace.contains("probes.system"), "{trace}");
}

#[test]
fn targets_are_resolved_by_the_master() {
    let (_dir, grid) = grid(&["n1", "n2"]);
    grid.windlass(&["nodes", "label", "n2", "rack=b"]).expect(0);
    let names = |args: &[&str]| {
        let args: Vec<&str> = [&["run", "monitor.system.read", "-o", "json"], args].concat();
        let run = grid.windlass(&args).expect(0).json();
        let mut names: Vec<String> = run["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&["--on", "n1"]), ["n1"]);
    assert_eq!(names(&["--label", "rack=b"]), ["n2"]);
    assert_eq!(names(&["--where", "node.labels.rack == 'b'"]), ["n2"]);
    assert_eq!(names(&["--where", "node.facts.cpu_count > 0"]), ["n1", "n2"]);
    assert_eq!(names(&["--all"]), ["n1", "n2"]);

    // A target that matches nothing is an error, never success.
    let nothing = grid.windlass(&["run", "monitor.system.read", "--label", "rack=z"]);
    assert_ne!(nothing.code, 0, "{nothing:?}");
    assert!(nothing.stderr.contains("no accepted node"), "{}", nothing.stderr);
    let unknown = grid.windlass(&["run", "monitor.system.read", "--on", "n3"]);
    assert_ne!(unknown.code, 0);
    assert!(unknown.stderr.contains("n3"), "{}", unknown.stderr);
    let broken = grid.windlass(&["run", "monitor.system.read", "--where", "node.labels.rack =="]);
    assert_ne!(broken.code, 0, "{broken:?}");
}

#[test]
fn what_is_wrong_is_named_before_a_node_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions { plugins: vec!["zfs".into(), "monitor".into()], ..GridOptions::default() };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    let unknown = grid.windlass(&["run", "zfs.pool.lst", "--on", "n1"]).expect(2);
    assert!(unknown.stderr.contains("zfs.pool.list"), "the nearest name: {}", unknown.stderr);
    let wrong =
        grid.windlass(&["run", "zfs.pool.status", "--args", r#"{"pool": 7}"#, "--on", "n1"]).expect(2);
    assert!(wrong.stderr.contains("/pool") && wrong.stderr.contains("string"), "{}", wrong.stderr);
    let key = grid.windlass(&["run", "zfs.pool.status", "pool=tank", "colour=red", "--on", "n1"]).expect(2);
    assert!(key.stderr.contains("colour"), "{}", key.stderr);
    let jobs = grid.windlass(&["jobs", "list", "-o", "json"]).expect(0).json();
    assert_eq!(jobs, json!([]), "no job was made");
}

#[test]
fn a_node_that_is_down_is_never_a_success() {
    let (_dir, mut grid) = grid(&["n1", "n2"]);
    grid.take_host("n2").kill().unwrap();
    grid.wait_offline("n2");
    let args = ["run", "monitor.system.read", "--on", "n*", "--timeout", "2s"];
    let table = grid.windlass(&args).expect(3);
    assert!(table.stdout.contains("no answer, last seen"), "{}", table.stdout);
    let run = grid.windlass(&[args.as_slice(), &["-o", "json"]].concat()).expect(3).json();
    assert_eq!(by_name(&run, "n1")["outcome"]["status"], "succeeded");
    assert_eq!(by_name(&run, "n2")["outcome"]["status"], "no_answer");
    assert!(by_name(&run, "n2")["outcome"]["last_seen_ms"].is_i64());
    // It comes back by itself, and works again.
    grid.restart_host("n2").unwrap();
    grid.wait_online("n2");
    grid.windlass(&["run", "monitor.system.read", "--on", "n*"]).expect(0);
}

#[test]
fn a_batch_ends_where_too_many_have_failed() {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions {
        hosts: ["n1", "n2", "n3"].map(str::to_owned).into(),
        plugins: vec!["torture".into()],
        ..GridOptions::default()
    };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    // It fails on every node, so only the first one is touched.
    let run = ["run", "torture.echo.fail", "message=no", "--all", "--batch", "1", "-o", "json"];
    let stopped = grid.windlass(&run).expect(3).json();
    assert_eq!(by_name(&stopped, "n1")["outcome"]["status"], "failed", "{stopped}");
    for name in ["n2", "n3"] {
        let outcome = &by_name(&stopped, name)["outcome"];
        assert_eq!((&outcome["status"], &outcome["reason"]), (&"refused".into(), &"stopped".into()));
    }
    let more = grid.windlass(&[&run[..], &["--max-failures", "9"]].concat()).expect(3).json();
    assert_eq!(more["job"]["outcomes"], serde_json::json!({ "failed": 3 }), "{more}");
    let all = ["run", "torture.echo.nothing", "--all", "--batch", "50%", "-o", "json"];
    let all = grid.windlass(&all).expect(0).json();
    assert_eq!((&all["job"]["batch"], &all["job"]["outcomes"]["succeeded"]), (&2.into(), &3.into()));
    let one =
        grid.windlass(&["run", "torture.echo.nothing", "--all", "--one", "-o", "json"]).expect(0).json();
    assert_eq!(one["results"].as_array().map(Vec::len), Some(1), "{one}");
    let alone = grid.windlass(&["run", "torture.echo.nothing", "--all", "--max-failures", "1"]);
    assert!(alone.code == 2 && alone.stderr.contains("--batch"), "{alone:#?}");
}

/// The job once it has ended, with its only node.
fn ended(grid: &Grid, id: &str) -> (Value, Value) {
    let job = until("the job has ended", || {
        let job = grid.windlass(&["jobs", "show", id, "-o", "json"]).expect(0).json();
        (job["job"]["state"] == "finished").then_some(job)
    });
    (job["job"].clone(), job["results"][0].clone())
}

fn submit(grid: &Grid, args: &[&str]) -> String {
    let job = grid.windlass(&[&["run"], args, &["--detach", "-o", "json"]].concat()).expect(0).json();
    job["id"].as_str().or(job["job"]["id"].as_str()).expect("a job has an id").to_owned()
}

#[test]
fn what_one_operation_has_for_itself_another_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions { plugins: vec!["torture".into()], ..GridOptions::default() };
    let mut grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    std::fs::create_dir_all("/tmp/windlass-torture").unwrap();
    let file = format!("/tmp/windlass-torture/locked-{}", std::process::id());
    let path = format!("path={file}");
    let marks = || std::fs::read_to_string(format!("{file}.n1")).unwrap_or_default().lines().count();
    let mark = ["torture.act.mark", "--on", "n1", &path, "line=x", "seconds=2"];
    let first = submit(&grid, &mark);
    until("the first one has begun", || (marks() == 1).then_some(()));
    let second = submit(&grid, &mark);
    // The next master has to ask the node who runs there.
    grid.take_master().kill().unwrap();
    grid.restart_master().unwrap();
    grid.wait_online("n1");
    let ((job, first), (_, second)) = (ended(&grid, &first), ended(&grid, &second));
    assert_eq!(job["locks"], serde_json::json!([format!("mark:{file}")]));
    for node in [&first, &second] {
        assert_eq!(node["outcome"]["status"], "succeeded", "{node}");
    }
    assert_eq!(marks(), 2);
    // What a node tells of its begin comes a moment later than what it tells of an end.
    let (end, begin) = (first["finished_ms"].as_i64().unwrap(), second["started_ms"].as_i64().unwrap());
    assert!(begin >= end, "the second began at {begin}, the first ended at {end}");

    // A node that is away runs it when it comes.
    grid.take_host("n1").kill().unwrap();
    grid.wait_offline("n1");
    let late = ["torture.echo.nothing", "--on", "n1", "--timeout", "5s", "--wait-offline", "10m"];
    let waited = submit(&grid, &late);
    grid.restart_host("n1").unwrap();
    assert_eq!(ended(&grid, &waited).1["outcome"]["status"], "succeeded");
    let failing = ["torture.echo.fail", "--on", "n1", "message=no", "--retries", "1"];
    let retried = submit(&grid, &failing);
    assert_eq!(ended(&grid, &retried).1["attempts"], 2);
    let never = [&["run"], &mark[..], &["--retries", "1"]].concat();
    assert!(grid.windlass(&never).expect(1).stderr.contains("not idempotent"));
    let _ = std::fs::remove_file(format!("{file}.n1"));
}

#[test]
fn operations_describe_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions { plugins: vec!["zfs".into()], ..GridOptions::default() };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    let shown = grid.windlass(&["ops", "show", "zfs.pool.status"]).expect(0).stdout;
    for part in ["pool", "string", "read", "windlass run zfs.pool.status"] {
        assert!(shown.contains(part), "no `{part}` in:\n{shown}");
    }
    let schema = grid.windlass(&["ops", "show", "zfs.pool.status", "--schema"]).expect(0).json();
    assert_eq!(schema["properties"]["pool"]["anyOf"][0]["type"], "string", "{schema}");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn roles_are_enforced_and_written_down() {
    let (_dir, grid) = grid(&["n1"]);
    let made = grid.windlass(&["tokens", "create", "eve", "--role", "viewer", "-o", "json"]).expect(0).json();
    let token = made["token"].as_str().unwrap();
    let as_eve = |args: &[&str]| {
        let output = grid.windlass_command().env("WINDLASS_TOKEN", token).args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(as_eve(&["nodes", "list"]).0, 0);
    let (code, error) = as_eve(&["run", "monitor.system.read", "--on", "n1"]);
    assert_eq!(code, 4, "{error}");
    let audit = grid.windlass(&["audit", "list", "-o", "json"]).expect(0).stdout;
    assert!(audit.contains("eve") && audit.contains("denied"), "{audit}");
    let stranger =
        grid.windlass_command().env("WINDLASS_TOKEN", "wl_wrong").args(["nodes", "list"]).output().unwrap();
    assert_eq!(stranger.status.code(), Some(4));
}
