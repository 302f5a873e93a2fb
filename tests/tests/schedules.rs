//! Operations that run by the clock, and the log that tells of them, when the master is killed.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};
use windlass_tests::{Binaries, Grid, GridOptions, until};

/// `windlass events --follow -o json` with what it has printed. Killed on drop.
struct Follower {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
}

impl Follower {
    fn start(grid: &Grid, args: &[&str]) -> Self {
        let mut command = grid.windlass_command();
        command.args(["events", "--follow", "-o", "json"]).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Follower { child, lines, seen: Vec::new() }
    }

    /// Wait until an event has come.
    fn wait(&mut self, what: &str, fits: impl Fn(&[Value]) -> bool) {
        while !fits(&self.seen) {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(event) => self.seen.push(event),
                Err(error) => panic!("{what}: {error} after {:#?}", self.seen),
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn runs(grid: &Grid) -> Vec<Value> {
    let shown = grid.windlass(&["schedule", "show", "tick", "-n", "1000", "-o", "json"]);
    if shown.code != 0 {
        return Vec::new();
    }
    shown.json()["runs"].as_array().unwrap().clone()
}

fn fired(runs: &[Value]) -> usize {
    runs.iter().filter(|run| run["state"] == "fired").count()
}

#[test]
fn a_master_that_is_killed_again_and_again_makes_one_job_for_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut grid = Grid::start(Binaries::find().unwrap(), dir.path(), GridOptions::default()).unwrap();
    let add = ["schedule", "add", "tick", "monitor.system.read", "--on", "n1", "--every", "1s"];
    let rest = ["--missed", "all", "--max-running", "20"];
    grid.windlass(&[&add[..], &rest[..]].concat()).expect(0);
    let mut follower = Follower::start(&grid, &["--after", "0"]);
    for round in 1..=4 {
        let before = fired(&runs(&grid));
        until(&format!("runs of round {round}"), || (fired(&runs(&grid)) >= before + 2).then_some(()));
        grid.take_master().kill().unwrap();
        grid.restart_master().unwrap();
    }
    let before = fired(&runs(&grid));
    until("runs after all of it", || (fired(&runs(&grid)) >= before + 2).then_some(()));
    grid.windlass(&["schedule", "pause", "tick"]).expect(0);
    until("each run has its job", || runs(&grid).iter().all(|run| run["state"] == "fired").then_some(()));

    // No time twice, none left out, and each has a job of its own.
    let runs = runs(&grid);
    let mut times: Vec<i64> = runs.iter().map(|run| run["fire_ms"].as_i64().unwrap()).collect();
    times.reverse();
    assert!(times.windows(2).all(|two| two[1] - two[0] == 1000), "{times:?}");
    let of_runs: BTreeSet<&str> = runs.iter().map(|run| run["job"].as_str().unwrap()).collect();
    assert_eq!(of_runs.len(), runs.len());
    let jobs = grid.windlass(&["jobs", "list", "-n", "1000", "-o", "json"]).expect(0).json();
    let jobs = jobs.as_array().unwrap();
    assert!(jobs.iter().all(|job| job["created_by"] == "schedule:tick"), "{jobs:#?}");
    let all: BTreeSet<&str> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!((all.len(), &all), (jobs.len(), &of_runs));

    // The follower was there all the time, over every master: no number is missing, and none came twice.
    let wanted = |kind: &'static str| move |event: &&Value| event["kind"] == *kind;
    follower.wait("all runs", |seen| seen.iter().filter(wanted("schedule.fired")).count() >= runs.len());
    let numbers: Vec<i64> = follower.seen.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as i64), "{numbers:?}");
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    for event in follower.seen.iter().filter(wanted("schedule.fired")) {
        *told.entry(event["data"]["job"].as_str().unwrap()).or_default() += 1;
    }
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    assert_eq!(told.keys().copied().collect::<BTreeSet<_>>(), of_runs);
    let accepted = follower.seen.iter().find(wanted("node.accepted")).expect("the node was accepted");
    assert_eq!(accepted["node_name"], "n1");
}

#[test]
fn who_comes_and_goes_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut grid = Grid::start(Binaries::find().unwrap(), dir.path(), GridOptions::default()).unwrap();
    let mut follower = Follower::start(&grid, &["--kind", "node.*", "--node", "n1"]);
    // Not before the stream has begun: what is told from now on is what it shows.
    until("the follower follows", || {
        grid.windlass(&["nodes", "label", "n1", "round=1"]).expect(0);
        grid.windlass(&["nodes", "label", "n1", "round-"]).expect(0);
        follower.lines.try_recv().ok()
    });
    grid.take_host("n1").kill().unwrap();
    follower.wait("it goes", |seen| seen.iter().any(|event| event["kind"] == "node.disconnected"));
    grid.restart_host("n1").unwrap();
    follower.wait("it comes back", |seen| seen.last().is_some_and(|event| event["kind"] == "node.connected"));
    let since = ["events", "--since", "1h", "--kind", "node.disconnected", "-o", "json"];
    let listed = grid.windlass(&since).expect(0).json();
    assert_eq!(listed[0]["node_name"], "n1", "{listed}");
    let wrong = grid.windlass(&["events", "--kind", "Node"]).expect(1);
    assert!(wrong.stderr.contains("`node.*`"), "{}", wrong.stderr);
}
