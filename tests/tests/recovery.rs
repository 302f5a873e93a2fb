//! An administrator who has lost every token.

use std::{
    path::Path,
    process::{Command, Output},
};
use windlass_tests::{Binaries, Grid, GridOptions, Postgres};

fn admin_token(grid: &Grid, config: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(grid.binaries().program("windlass-master"));
    command.args(["admin-token", "--config"]).arg(config).args(args).output().unwrap()
}

fn secret(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    made["token"].as_str().unwrap().to_owned()
}

fn lose_all(grid: &Grid) {
    let tokens = grid.windlass(&["tokens", "list", "-o", "json"]).expect(0).json();
    let tokens = tokens.as_array().unwrap();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    grid.windlass(&["tokens", "delete", tokens[0]["id"].as_str().unwrap()]).expect(0);
    assert_ne!(grid.windlass(&["nodes", "list"]).code, 0);
}

#[test]
fn who_lost_every_token_makes_one_on_the_masters_machine() {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions { hosts: Vec::new(), ..GridOptions::default() };
    let mut grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    let config = dir.path().join("master.toml");
    lose_all(&grid);

    // Beside a master that runs, which knows it at once.
    let first = secret(&admin_token(&grid, &config, &["-o", "json"]));
    grid.windlass_as(&first, &["nodes", "list"]).expect(0);
    // While none runs, for a user who was not there.
    grid.take_master().kill().unwrap();
    let second = admin_token(&grid, &config, &["--user", "jane", "--ttl", "1h", "-o", "json"]);
    grid.restart_master().unwrap();
    let second = secret(&second);
    let users = grid.windlass_as(&second, &["users", "list", "-o", "json"]).expect(0).json();
    assert_eq!((&users[0]["name"], &users[0]["role"]), (&"jane".into(), &"admin".into()), "{users}");

    grid.windlass_as(&second, &["audit", "verify"]).expect(0);
    let log = grid.windlass_as(&second, &["audit", "list", "-o", "json"]).expect(0).stdout;
    assert_eq!(log.matches("\"local:").count(), 3, "two tokens and a user: {log}");

    // Words for people.
    let text = admin_token(&grid, &config, &[]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("admin token: wl_") && text.contains("not shown again"), "{text}");
    grid.windlass_as(&second, &["users", "set-role", "jane", "viewer"]).expect(0);
    let refused = admin_token(&grid, &config, &["--user", "jane"]);
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(
        words.contains("error: user `jane` has the role `viewer`") && words.contains("\nhint: "),
        "{words}"
    );
}

#[test]
fn it_works_beside_several_masters_on_a_server() {
    let postgres = Postgres::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions {
        hosts: Vec::new(),
        masters: 2,
        store: Some(postgres.database("windlass").unwrap()),
        ..GridOptions::default()
    };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    lose_all(&grid);
    // On the machine of either.
    for config in ["master.toml", "master-2.toml"] {
        let token = secret(&admin_token(&grid, &dir.path().join(config), &["-o", "json"]));
        grid.windlass_as(&token, &["audit", "verify"]).expect(0);
    }
}
