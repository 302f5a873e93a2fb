//! Secrets with real programs: they reach the program that needs them, and nothing else keeps them.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;
use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};
use windlass_tests::{Binaries, Grid, GridOptions, Output, until};

/// A value that occurs nowhere else.
fn canary(test: &str) -> String {
    let random: u128 = rand::random();
    format!("canary {test} {random:032x}")
}

fn start(host_config: &str) -> (tempfile::TempDir, Grid) {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions {
        plugins: vec!["kit".into()],
        host_config: host_config.into(),
        ..GridOptions::default()
    };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    (dir, grid)
}

/// Run the command line with this on stdin.
fn given(grid: &Grid, args: &[&str], stdin: &str) -> Output {
    let mut command = grid.windlass_command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn set(grid: &Grid, name: &str, value: &str) {
    let stored = given(grid, &["secrets", "set", name], &format!("{value}\n")).expect(0);
    assert!(!stored.stdout.contains(value) && !stored.stderr.contains(value), "{stored:?}");
}

/// The outcome on the only node.
fn run(grid: &Grid, operation: &str, args: &[&str]) -> Value {
    let words = [&["run", operation, "--on", "n1", "-o", "json"], args].concat();
    grid.windlass(&words).json()["results"][0]["outcome"].clone()
}

/// All files of a folder in which this stands.
fn files_with(dir: &Path, text: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files_with(&path, text, found),
            // Some go while they are looked at.
            kind if kind.is_file() => {
                let bytes = std::fs::read(&path).unwrap_or_default();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    found.push(path.display().to_string());
                }
            }
            _ => {}
        }
    }
}

/// Neither the master nor the hosts have it on disk, in any of the forms it had on its way.
#[track_caller]
fn nowhere(dir: &Path, value: &str) {
    for form in [value.to_owned(), BASE64.encode(value), hex(value)] {
        let mut found = Vec::new();
        files_with(dir, &form, &mut found);
        assert!(found.is_empty(), "`{form}` stands in {found:?}");
    }
}

fn hex(value: &str) -> String {
    value.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_program_gets_it_and_nothing_keeps_it() {
    let (dir, grid) = start("");
    let value = canary("way");
    set(&grid, "nas", &value);

    let digest = run(&grid, "kit.vault.digest", &["password=secret:nas"]);
    assert_eq!(digest["value"], windlass_types::Digest::of(value.as_bytes()).hex(), "{digest}");
    let repeated = run(&grid, "kit.vault.repeat", &["password=secret:nas"]);
    assert_eq!(repeated["value"], "password: [secret nas]", "{repeated}");
    let variable = run(&grid, "kit.vault.variable", &["password=secret:nas"]);
    assert_eq!(variable["value"], "[secret nas]", "{variable}");
    let misplaced = run(&grid, "kit.vault.misplaced", &["password=secret:nas"]);
    assert_eq!(misplaced["status"], "denied", "{misplaced}");

    // What everybody who reads jobs is shown.
    let jobs = grid.windlass(&["jobs", "list", "-o", "json"]).expect(0).json();
    let mut shown = jobs.to_string();
    for job in jobs.as_array().unwrap() {
        let id = job["id"].as_str().unwrap();
        shown += &grid.windlass(&["jobs", "show", id, "-o", "json"]).expect(0).stdout;
        shown += &grid.windlass(&["jobs", "trace", id, "n1", "-o", "json"]).expect(0).stdout;
    }
    assert!(shown.contains("nas on standard input") && shown.contains("nas in KIT_PASSWORD"), "{shown}");
    assert!(shown.contains("[secret nas]"), "{shown}");
    for list in [
        &["audit", "list", "-o", "json"][..],
        &["secrets", "show", "nas", "-o", "json"],
        &["secrets", "list"],
    ] {
        shown += &grid.windlass(list).expect(0).stdout;
    }
    assert!(shown.contains("secret.set") && shown.contains("\"secrets\""), "{shown}");
    assert!(!shown.contains(&value) && !shown.contains(&BASE64.encode(&value)), "{shown}");
    nowhere(dir.path(), &value);

    let dry = grid.windlass(&["run", "kit.vault.repeat", "password=secret:nas", "--on", "n1", "--dry-run"]);
    assert!(dry.stdout.contains("with secret nas on standard input"), "{dry:?}");

    // In the place of a name, a value goes no farther than the command line.
    let typed = grid.windlass(&["run", "kit.vault.digest", &format!("password={value}"), "--on", "n1"]);
    assert_eq!(typed.code, 2, "{typed:?}");
    assert!(!typed.stderr.contains(&value) && typed.stderr.contains("secrets set"), "{typed:?}");
    given(&grid, &["secrets", "set", "short"], "12345\n").expect(1);
    nowhere(dir.path(), &value);
}

#[test]
fn who_may_not_give_it_is_refused_and_noted() {
    let (dir, grid) = start("");
    set(&grid, "nas", &canary("role"));
    let made = grid.windlass(&["tokens", "create", "shift", "--role", "operator"]).expect(0);
    let operator = made.stdout.trim().to_owned();
    let words = ["run", "kit.vault.digest", "password=secret:nas", "--on", "n1"];
    let refused = grid.windlass_as(&operator, &words).expect(4);
    assert!(refused.stderr.contains("does not allow secret `nas` for `kit.vault.digest`"), "{refused:?}");
    grid.windlass_as(&operator, &["secrets", "list"]).expect(4);
    let log = grid.windlass(&["audit", "list", "-o", "json"]).expect(0).json();
    let noted = log.as_array().unwrap().iter().any(|entry| {
        entry["verdict"] == "denied"
            && entry["actor"] == "shift"
            && entry.to_string().contains("secret `nas`")
    });
    assert!(noted, "{log}");

    let role = dir.path().join("role.toml");
    let rules = "[[rules]]\npermissions = [\"nodes.read\", \"operations.read\", \"jobs.read\"]\n\
                 [[rules]]\noperations = [\"kit.vault.*\"]\nsecrets = [\"nas\"]\n";
    std::fs::write(&role, rules).unwrap();
    grid.windlass(&["roles", "set", "vault", role.to_str().unwrap()]).expect(0);
    let made = grid.windlass(&["tokens", "create", "keeper", "--role", "vault"]).expect(0);
    grid.windlass_as(made.stdout.trim(), &words).expect(0);
    let shown = grid.windlass(&["secrets", "show", "nas"]).expect(0);
    assert!(shown.stdout.contains("vault (rule 2: kit.vault.*)"), "{shown:?}");
    grid.windlass(&["secrets", "remove", "nas"]).expect(0);
    grid.windlass(&words).expect(1);
}

/// The host has accepted the request and is killed before it begins: the next one opens what the journal
/// has of the secret, which nobody else can.
#[test]
fn a_host_killed_before_it_begins_has_it_sealed_only() {
    let (dir, mut grid) = start("workers = 1\n");
    let value = canary("kill");
    set(&grid, "nas", &value);
    let submit = |words: &[&str]| {
        let words = [&["run", "--on", "n1", "--detach", "-o", "json"], words].concat();
        let made = grid.windlass(&words).expect(0).json();
        made["id"].as_str().or(made["job"]["id"].as_str()).unwrap().to_owned()
    };
    let state = |id: &str| {
        let job = grid.windlass(&["jobs", "show", id, "-o", "json"]).expect(0).json();
        job["results"][0].clone()
    };
    let sleeps = submit(&["kit.command.run", "program=sleep", "args=600"]);
    until("the only worker is taken", || (state(&sleeps)["state"] == "running").then_some(()));
    let waits = submit(&["kit.vault.repeat", "password=secret:nas"]);
    until("the host has it", || (state(&waits)["state"] == "accepted").then_some(()));
    nowhere(dir.path(), &value);
    grid.take_host("n1").kill().unwrap();
    nowhere(dir.path(), &value);
    let mut sealed = Vec::new();
    files_with(&dir.path().join("n1/state"), "\"secrets\":[{\"name\":\"nas\"", &mut sealed);
    assert!(!sealed.is_empty(), "the journal has it sealed");

    grid.restart_host("n1").unwrap();
    let done = until("it has run", || {
        let job = grid.windlass(&["jobs", "show", &waits, "-o", "json"]).expect(0).json();
        Some(job["results"][0].clone()).filter(|node| node["state"] == "done")
    });
    assert_eq!(done["outcome"]["value"], "password: [secret nas]", "{done}");
    nowhere(dir.path(), &value);
}

#[test]
fn a_restored_backup_has_them() {
    let (dir, mut grid) = start("");
    let value = canary("backup");
    set(&grid, "nas", &value);
    let mut backup = Command::new(grid.binaries().program("windlass-master"));
    backup.args(["backup", "--config"]).arg(dir.path().join("master.toml")).arg(dir.path().join("saved"));
    assert!(backup.output().unwrap().status.success());
    grid.windlass(&["secrets", "remove", "nas"]).expect(0);
    grid.take_master().kill().unwrap();
    nowhere(dir.path(), &value);
    std::fs::rename(dir.path().join("master"), dir.path().join("lost")).unwrap();
    std::fs::rename(dir.path().join("saved"), dir.path().join("master")).unwrap();
    grid.restart_master().unwrap();
    grid.wait_online("n1");
    let digest = run(&grid, "kit.vault.digest", &["password=secret:nas"]);
    assert_eq!(digest["value"], windlass_types::Digest::of(value.as_bytes()).hex(), "{digest}");
}
