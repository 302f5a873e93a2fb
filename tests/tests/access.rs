//! What a role of one's own allows, from the command line to the audit log.

use serde_json::Value;
use windlass_tests::{Binaries, Grid, GridOptions};

const ROLE: &str = r#"
[[rules]]
permissions = ["nodes.read", "operations.read", "jobs.read"]

[[rules]]
operations = ["monitor.*"]
effect = "read"
target = { labels = { rack = "b" } }
"#;

#[test]
fn a_role_for_some_nodes_is_refused_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions { hosts: vec!["n1".into(), "n2".into()], ..GridOptions::default() };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    grid.windlass(&["nodes", "label", "n2", "rack=b"]).expect(0);
    let file = dir.path().join("role.toml");
    std::fs::write(&file, ROLE).unwrap();
    grid.windlass(&["roles", "set", "rack-b", file.to_str().unwrap()]).expect(0);
    grid.windlass(&["users", "add", "jane.doe", "--role", "rack-b"]).expect(0);
    let made = grid.windlass(&["tokens", "create", "laptop", "--user", "jane.doe"]).expect(0);
    let jane = made.stdout.trim().to_owned();
    let as_jane = |args: &[&str]| grid.windlass_as(&jane, args);

    let here = as_jane(&["run", "monitor.system.read", "--on", "n2", "-o", "json"]).expect(0).json();
    assert_eq!(here["results"][0]["outcome"]["status"], "succeeded", "{here}");
    let elsewhere = as_jane(&["run", "monitor.system.read", "--all"]).expect(4);
    assert!(
        elsewhere.stderr.contains("role `rack-b` does not allow `monitor.system.read` (read) on n1"),
        "{}",
        elsewhere.stderr
    );

    let log = grid.windlass(&["audit", "list", "-o", "json"]).expect(0).json();
    let denied: Vec<&Value> =
        log.as_array().unwrap().iter().filter(|entry| entry["verdict"] == "denied").collect();
    assert_eq!(denied.len(), 1, "{log}");
    assert_eq!(denied[0]["actor"], "jane.doe");
    let made = log.as_array().unwrap().iter().filter(|entry| entry["action"] == "job.create").count();
    assert_eq!(made, 1, "nothing ran on the node that was allowed: {log}");

    let check = ["roles", "check", "rack-b", "monitor.system.read", "--all"];
    assert!(grid.windlass(&check).expect(4).stdout.contains("rule 2"));
    grid.windlass(&["roles", "remove", "rack-b"]).expect(1);
    grid.windlass(&["users", "disable", "jane.doe"]).expect(0);
    as_jane(&["whoami"]).expect(4);
}
