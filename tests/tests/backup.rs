//! A master that is lost and comes back from its backup.

use std::process::Command;
use windlass_tests::{Binaries, Grid, GridOptions, until};

fn backup(grid: &Grid, dir: &std::path::Path, to: &str) -> std::process::Output {
    let mut command = Command::new(grid.binaries().program("windlass-master"));
    command.args(["backup", "--config"]).arg(dir.join("master.toml")).arg(dir.join(to));
    command.output().unwrap()
}

#[test]
fn a_master_restored_from_a_backup_goes_on_with_its_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions { plugins: vec!["torture".into()], ..GridOptions::default() };
    let mut grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    let run = |grid: &Grid, node: &str| {
        let output = grid.windlass(&["run", "torture.echo.nothing", "--on", node, "-o", "json"]).expect(0);
        output.json()["job"]["id"].as_str().unwrap().to_owned()
    };
    let before = run(&grid, "n1");
    let saved = backup(&grid, dir.path(), "saved");
    assert!(saved.status.success(), "{saved:?}");
    assert!(String::from_utf8_lossy(&saved.stdout).contains("entries of the audit log"), "{saved:?}");
    let again = backup(&grid, dir.path(), "saved");
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"), "{again:?}");
    // Only its owner may look into it: it holds the key of the authority.
    for (path, mode) in [("saved", 0o700), ("saved/ca/ca.key", 0o600), ("saved/master.db", 0o600)] {
        let metadata = std::fs::metadata(dir.path().join(path)).unwrap();
        let found = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        assert_eq!(found, mode, "{path}");
    }

    // What the backup does not know: a job, and a node.
    let after = run(&grid, "n1");
    grid.start_host("n2").unwrap();
    grid.accept("n2").unwrap();
    grid.wait_online("n2");
    grid.take_master().kill().unwrap();
    std::fs::rename(dir.path().join("master"), dir.path().join("lost")).unwrap();
    std::fs::rename(dir.path().join("saved"), dir.path().join("master")).unwrap();
    grid.restart_master().unwrap();

    grid.wait_online("n1");
    run(&grid, "n1");
    grid.windlass(&["jobs", "show", &before]).expect(0);
    assert_ne!(grid.windlass(&["jobs", "show", &after]).code, 0);
    grid.windlass(&["audit", "verify"]).expect(0);
    // It asks again, with the key it has, and is let in again.
    until("n2 asks to join", || grid.node("n2").filter(|node| node["state"] == "pending"));
    grid.accept("n2").unwrap();
    grid.wait_online("n2");
    run(&grid, "n2");
}

#[test]
fn a_backup_that_can_not_be_whole_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions { hosts: Vec::new(), ..GridOptions::default() };
    let mut grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    let bundle = grid.binaries().bundle("torture").unwrap();
    let bundle = windlass_bundle::Bundle::read_dir(&bundle).unwrap();
    let package = windlass_bundle::Package::new(bundle, Vec::new()).unwrap();
    let file = dir.path().join("torture.tar");
    std::fs::write(&file, package.to_bytes()).unwrap();
    grid.windlass(&["plugins", "push", file.to_str().unwrap()]).expect(0);
    grid.take_master().kill().unwrap();
    assert!(backup(&grid, dir.path(), "whole").status.success());

    std::fs::remove_dir_all(dir.path().join("master/blobs")).unwrap();
    let lacking = backup(&grid, dir.path(), "lacking");
    assert_eq!(lacking.status.code(), Some(1), "{lacking:?}");
    assert!(String::from_utf8_lossy(&lacking.stderr).contains("is missing"), "{lacking:?}");
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("lacking")), "{left:?}");
}
