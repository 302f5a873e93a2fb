//! What operations write on their way, when the master or the host is killed meanwhile.

use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};
use windlass_tests::{Binaries, Grid, GridOptions, until};

fn grid(dir: &std::path::Path) -> Grid {
    let plugins = vec!["monitor".into(), "torture".into()];
    Grid::start(Binaries::find().unwrap(), dir, GridOptions { plugins, ..GridOptions::default() }).unwrap()
}

/// Begin to write, and leave it to itself; the id of the job.
fn tell(grid: &Grid, lines: u32, seconds: u32) -> String {
    let (lines, seconds) = (format!("lines={lines}"), format!("seconds={seconds}"));
    let words = ["run", "torture.act.tell", "--on", "n1", "--detach", "-o", "json", "width=999"];
    let made = grid.windlass(&[&words[..], &[&lines, &seconds]].concat()).expect(0).json();
    made["job"]["id"].as_str().unwrap().to_owned()
}

/// As `torture.act.tell` writes it.
fn told(lines: u32) -> String {
    (0..lines).map(|line| format!("{line:0999}\n")).collect()
}

fn node(grid: &Grid, job: &str) -> Value {
    let shown = grid.windlass(&["jobs", "show", job, "-o", "json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap_or(Value::Null);
    shown["results"][0].clone()
}

fn has_written(grid: &Grid, job: &str) -> u64 {
    node(grid, job)["output_bytes"].as_u64().unwrap_or(0)
}

#[test]
fn all_of_it_arrives_whatever_becomes_of_the_master() {
    const LINES: u32 = 12_000;
    let dir = tempfile::tempdir().unwrap();
    let mut grid = grid(dir.path());
    let job = tell(&grid, LINES, 0);
    let mut before = 0;
    for _ in 0..2 {
        until("more output", || (has_written(&grid, &job) > before).then_some(()));
        grid.take_master().kill().unwrap();
        grid.restart_master().unwrap();
        before = has_written(&grid, &job);
    }
    assert!(before < u64::from(LINES) * 1000, "the master was killed before it had all");
    let end = until("the end", || Some(node(&grid, &job)).filter(|node| node["state"] == "done"));
    assert_eq!(end["outcome"]["value"], u64::from(LINES) * 1000, "{end:#}");
    let printed = grid.windlass(&["jobs", "output", &job]).expect(0);
    assert!(
        printed.stdout == told(LINES),
        "{} bytes of other text: {}",
        printed.stdout.len(),
        printed.stderr
    );
    assert_eq!(printed.stderr, "");
}

#[test]
fn what_came_is_kept_when_the_host_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut grid = grid(dir.path());
    let job = tell(&grid, 100, 60);
    until("the output", || (has_written(&grid, &job) == 100_000).then_some(()));
    grid.take_host("n1").kill().unwrap();
    grid.restart_host("n1").unwrap();
    let end = until("the end", || Some(node(&grid, &job)).filter(|node| node["state"] == "done"));
    assert_eq!(end["outcome"]["status"], "indeterminate", "{end:#}");
    assert_eq!(grid.windlass(&["jobs", "output", &job, "n1"]).expect(0).stdout, told(100));
}

#[test]
fn it_can_be_watched_while_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let grid = grid(dir.path());
    let job = tell(&grid, 50, 60);
    let mut command = grid.windlass_command();
    command.args(["jobs", "output", &job, "--follow"]).stdout(Stdio::piped());
    let mut follower = command.spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for line in told(50).lines() {
        assert_eq!(lines.next().unwrap().unwrap(), line);
    }
    // It goes on, and so does who follows it.
    let so_far = grid.windlass(&["jobs", "output", &job]).expect(0);
    assert_eq!((so_far.stdout, so_far.stderr.contains("--follow")), (told(50), true));
    assert!(follower.try_wait().unwrap().is_none());
    grid.windlass(&["jobs", "cancel", &job]).expect(0);
    assert!(lines.next().is_none(), "nothing came after it");
    assert!(follower.wait().unwrap().success());

    let nothing = grid.windlass(&["run", "monitor.system.read", "--on", "n1", "--detach", "-o", "json"]);
    let nothing = nothing.expect(0).json()["job"]["id"].as_str().unwrap().to_owned();
    assert_eq!(grid.windlass(&["jobs", "output", &nothing, "--follow"]).expect(0).stdout, "");
    grid.windlass(&["jobs", "output", &nothing, "nobody"]).expect(1);
}
