//! What is killed in the middle: nothing is lost, nothing runs twice, nothing is called success.

use serde_json::{Value, json};
use std::{path::PathBuf, process::Stdio};
use windlass_tests::{Binaries, Grid, GridOptions, until};

fn start(hosts: &[&str]) -> (tempfile::TempDir, Grid) {
    start_with(hosts, "")
}

fn start_with(hosts: &[&str], host_config: &str) -> (tempfile::TempDir, Grid) {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        plugins: vec!["torture".into(), "monitor".into()],
        host_config: host_config.into(),
        ..GridOptions::default()
    };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    (dir, grid)
}

/// A file in the folder that the torture plugin may write to. Removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        std::fs::create_dir_all("/tmp/windlass-torture").unwrap();
        let path = PathBuf::from(format!("/tmp/windlass-torture/{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Scratch(path)
    }
    fn lines(&self) -> usize {
        std::fs::read_to_string(&self.0).unwrap_or_default().lines().count()
    }
    fn argument(&self) -> String {
        format!("path={}", self.0.display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Submit and leave; returns the id of the job.
fn submit(grid: &Grid, args: &[&str]) -> String {
    let args = [&["run"], args, &["--detach", "-o", "json"]].concat();
    let job = grid.windlass(&args).expect(0).json();
    job["id"].as_str().or(job["job"]["id"].as_str()).unwrap_or_else(|| panic!("no id in {job}")).to_owned()
}

fn job(grid: &Grid, id: &str) -> Value {
    grid.windlass(&["jobs", "show", id, "-o", "json"]).expect(0).json()
}

/// The outcome of the only node of a job, once it is there.
fn outcome(grid: &Grid, id: &str) -> Value {
    until("the job has ended", || {
        let job = job(grid, id);
        let results = job["results"].as_array().cloned().unwrap_or_default();
        (!results.is_empty() && results.iter().all(|node| node["state"] == "done"))
            .then(|| results[0]["outcome"].clone())
    })
}

/// So many seconds that no other process sleeps: the mark of what this test started.
fn seconds(test: u32) -> String {
    (test * 10_000_000 + std::process::id()).to_string()
}

/// How many programs sleep for so long.
fn sleepers(seconds: &str) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        if words.first().is_some_and(|word| word.ends_with(b"sleep"))
            && words.get(1) == Some(&seconds.as_bytes())
        {
            count += 1;
        }
    }
    count
}

#[test]
fn a_host_killed_during_a_change_reports_indeterminate_and_never_runs_it_again() {
    let (_dir, mut grid) = start(&["n1"]);
    let file = Scratch::new("host-kill");
    let id = submit(
        &grid,
        &[
            "torture.act.append",
            "--on",
            "n1",
            &file.argument(),
            "line=once",
            &format!("seconds={}", seconds(1)),
        ],
    );
    until("the change is made", || (file.lines() == 1).then_some(()));
    until("the program sleeps", || (sleepers(&seconds(1)) == 1).then_some(()));
    grid.take_host("n1").kill().unwrap();
    grid.wait_offline("n1");
    grid.restart_host("n1").unwrap();
    let outcome = outcome(&grid, &id);
    assert_eq!(outcome["status"], "indeterminate", "{outcome}");
    assert_eq!(file.lines(), 1, "the change was made once");
    // What the dead host had started is gone once its successor is up.
    until("nothing is left behind", || (sleepers(&seconds(1)) == 0).then_some(()));
    grid.windlass(&["run", "monitor.system.read", "--on", "n1"]).expect(0);
}

#[test]
fn a_master_killed_during_a_job_ends_it_right() {
    let (_dir, mut grid) = start(&["n1", "n2"]);
    let file = Scratch::new("master-kill");
    let id = submit(&grid, &["torture.act.append", "--on", "n1", &file.argument(), "line=once", "seconds=2"]);
    until("the change is made", || (file.lines() == 1).then_some(()));
    grid.take_master().kill().unwrap();
    grid.restart_master().unwrap();
    let outcome = outcome(&grid, &id);
    assert_eq!(outcome, json!({ "status": "succeeded", "value": null }));
    assert_eq!(file.lines(), 1, "the change was made once");
    grid.wait_online("n2");
    grid.windlass(&["run", "monitor.system.read", "--on", "n*"]).expect(0);
}

#[test]
fn a_result_made_while_the_master_is_away_arrives_later() {
    let (_dir, mut grid) = start(&["n1"]);
    let file = Scratch::new("master-away");
    let id = submit(&grid, &["torture.act.append", "--on", "n1", &file.argument(), "line=once", "seconds=1"]);
    until("the change is made", || (file.lines() == 1).then_some(()));
    grid.take_master().kill().unwrap();
    until("the program has ended", || (sleepers("1") == 0).then_some(()));
    // The host is killed too: its journal holds the result, or that it had started.
    grid.take_host("n1").kill().unwrap();
    grid.restart_master().unwrap();
    grid.restart_host("n1").unwrap();
    let outcome = outcome(&grid, &id);
    let status = outcome["status"].as_str().unwrap();
    assert!(["succeeded", "indeterminate"].contains(&status), "{outcome}");
    assert_eq!(file.lines(), 1, "the change was made once");
}

#[test]
fn cancelling_leaves_no_process_behind() {
    let (_dir, grid) = start(&["n1"]);
    let id = submit(&grid, &["torture.act.sleep", "--on", "n1", &format!("seconds={}", seconds(2))]);
    until("the program sleeps", || (sleepers(&seconds(2)) == 1).then_some(()));
    grid.windlass(&["jobs", "cancel", &id]).expect(0);
    assert_eq!(outcome(&grid, &id), json!({ "status": "cancelled", "started": true }));
    until("nothing is left behind", || (sleepers(&seconds(2)) == 0).then_some(()));
}

#[test]
fn ctrl_c_cancels_the_job() {
    let (_dir, grid) = start(&["n1"]);
    let mut child = grid
        .windlass_command()
        .args(["run", "torture.act.sleep", "--on", "n1", &format!("seconds={}", seconds(3))])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the program sleeps", || (sleepers(&seconds(3)) == 1).then_some(()));
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    until("nothing is left behind", || (sleepers(&seconds(3)) == 0).then_some(()));
}

#[test]
fn a_host_that_is_told_to_stop_lets_running_jobs_end() {
    let (_dir, mut grid) = start(&["n1"]);
    let file = Scratch::new("drain");
    let id = submit(&grid, &["torture.act.append", "--on", "n1", &file.argument(), "line=once", "seconds=2"]);
    until("the change is made", || (file.lines() == 1).then_some(()));
    let status = grid.take_host("n1").terminate().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(outcome(&grid, &id)["status"], "succeeded");
}

#[test]
fn a_full_host_says_busy() {
    let (_dir, grid) = start_with(&["n1"], "workers = 1\nqueue = 0\n");
    let id = submit(&grid, &["torture.act.sleep", "--on", "n1", &format!("seconds={}", seconds(4))]);
    until("the program sleeps", || (sleepers(&seconds(4)) == 1).then_some(()));
    let run = grid.windlass(&["run", "torture.echo.nothing", "--on", "n1", "-o", "json"]).expect(3).json();
    let outcome = &run["results"][0]["outcome"];
    assert_eq!((&outcome["status"], &outcome["reason"]), (&json!("refused"), &json!("busy")), "{outcome}");
    grid.windlass(&["jobs", "cancel", &id]).expect(0);
}

#[test]
fn a_job_past_its_deadline_ends() {
    let (_dir, grid) = start(&["n1"]);
    let args = [
        "run",
        "torture.act.sleep",
        "--on",
        "n1",
        &format!("seconds={}", seconds(5)),
        "--timeout",
        "1s",
        "-o",
        "json",
    ];
    let run = grid.windlass(&args).expect(3).json();
    assert_eq!(run["results"][0]["outcome"]["status"], "timed_out", "{run}");
    until("nothing is left behind", || (sleepers(&seconds(5)) == 0).then_some(()));
}
