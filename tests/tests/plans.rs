//! Plans on a real grid: done as a whole, or undone, whoever is killed meanwhile.

use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use windlass_tests::{Binaries, Grid, GridOptions, Output, until};

const MARK: &str = "torture.act.mark";

fn start(hosts: &[&str]) -> (tempfile::TempDir, Grid) {
    let dir = tempfile::tempdir().unwrap();
    let options = GridOptions {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        plugins: vec!["torture".into()],
        ..GridOptions::default()
    };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    (dir, grid)
}

/// A file of each node, to which steps add lines. Removed on drop.
struct Marks(PathBuf);

impl Marks {
    fn new(name: &str) -> Self {
        std::fs::create_dir_all("/tmp/windlass-torture").unwrap();
        let marks = Marks(PathBuf::from(format!("/tmp/windlass-torture/{name}-{}", std::process::id())));
        marks.remove();
        marks
    }

    fn of(&self, node: &str) -> Vec<String> {
        let path = PathBuf::from(format!("{}.{node}", self.0.display()));
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// All of them, each with how often it is there.
    fn all(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for line in ["n1", "n2", "n3"].iter().flat_map(|node| self.of(node)) {
            *all.entry(line).or_default() += 1;
        }
        all
    }

    fn remove(&self) {
        for node in ["n1", "n2", "n3"] {
            let _ = std::fs::remove_file(format!("{}.{node}", self.0.display()));
        }
    }

    fn action(&self, node: &str, line: &str, seconds: u32) -> Value {
        json!({ "node": node, "operation": MARK, "args": { "path": self.0, "line": line, "seconds": seconds } })
    }

    /// A step that adds `+id` on a node, and whose undo adds `-id`.
    fn step(&self, id: &str, node: &str, after: &[&str], seconds: u32) -> Value {
        json!({
            "id": id, "title": format!("Mark {id}"), "after": after,
            "act": self.action(node, &format!("+{id}"), seconds),
            "undo": self.action(node, &format!("-{id}"), 0),
        })
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        self.remove();
    }
}

fn fails(id: &str, node: &str, after: &[&str]) -> Value {
    let act = json!({ "node": node, "operation": "torture.echo.fail", "args": { "message": "no luck" } });
    json!({ "id": id, "title": "Fail", "after": after, "act": act })
}

/// A plan in a file.
fn write(dir: &Path, steps: &[Value], more: Value) -> PathBuf {
    let mut plan = json!({ "title": "Mark the nodes", "steps": steps });
    plan.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let path = dir.join("plan.yaml");
    // JSON is YAML, too.
    std::fs::write(&path, plan.to_string()).unwrap();
    path
}

fn make(grid: &Grid, dir: &Path, steps: &[Value], more: Value) -> String {
    let file = write(dir, steps, more);
    let made = grid.windlass(&["plan", "make", "-f", file.to_str().unwrap(), "-o", "json"]).expect(0).json();
    made["id"].as_str().unwrap().to_owned()
}

fn begin(grid: &Grid, dir: &Path, steps: &[Value], more: Value) -> String {
    let id = make(grid, dir, steps, more);
    grid.windlass(&["apply", &id, "--detach"]).expect(0);
    id
}

fn run(grid: &Grid, id: &str) -> Value {
    grid.windlass(&["runs", "show", id, "-o", "json"]).expect(0).json()
}

fn step<'a>(run: &'a Value, id: &str) -> &'a Value {
    run["progress"].as_array().unwrap().iter().find(|step| step["id"] == id).unwrap()
}

fn over(grid: &Grid, id: &str) -> Value {
    until("the run is over", || {
        let shown = grid.windlass(&["runs", "show", id, "-o", "json"]);
        if shown.code != 0 {
            // The master is just being killed.
            return None;
        }
        let run = shown.json();
        ["done", "rolled_back", "abandoned"].iter().any(|state| run["state"] == *state).then_some(run)
    })
}

fn words(output: &Output) -> String {
    format!("{}{}", output.stdout, output.stderr)
}

#[test]
fn a_plan_by_hand_is_checked_shown_applied_and_watched() {
    let (dir, grid) = start(&["n1", "n2"]);
    let marks = Marks::new("plan-done");
    let yaml = format!(
        r#"title: Mark both nodes
notes: [n1 goes first, because it is the first]
steps:
  - id: first
    title: Mark n1
    reason: somebody has to begin
    act: {{ node: n1, operation: {MARK}, args: {{ path: {path}, line: "+first ${{run}}", seconds: 0 }} }}
    undo: {{ node: n1, operation: {MARK}, args: {{ path: {path}, line: "-first", seconds: 0 }} }}
  - id: second
    title: Mark n2
    after: [first]
    act: {{ node: n2, operation: {MARK}, args: {{ path: {path}, line: "+second", seconds: 0 }} }}
    undo: {{ node: n2, operation: {MARK}, args: {{ path: {path}, line: "-second", seconds: 0 }} }}
    verify:
      action: {{ node: n2, operation: torture.act.read-file, args: {{ path: {path}.n2 }} }}
      expect: output.contains("+second")
"#,
        path = marks.0.display(),
    );
    let file = dir.path().join("plan.yaml");
    std::fs::write(&file, &yaml).unwrap();
    let file = file.to_str().unwrap();
    let checked = grid.windlass(&["plan", "check", file]).expect(0);
    assert!(checked.stdout.contains(MARK) && checked.stdout.contains("change"), "{}", checked.stdout);

    // What is wrong is told with its place, by the master and before.
    let wrong = dir.path().join("wrong.yaml");
    std::fs::write(
        &wrong,
        yaml.replace("node: n2, operation: torture.act.mark", "node: n9, operation: torture.act.mark"),
    )
    .unwrap();
    let told = grid.windlass(&["plan", "check", wrong.to_str().unwrap()]).expect(2);
    assert!(told.stderr.contains("step `second`: there is no accepted node `n9`"), "{}", told.stderr);
    std::fs::write(&wrong, yaml.replace("after: [first]", "afters: [first]")).unwrap();
    let told = grid.windlass(&["plan", "check", wrong.to_str().unwrap()]).expect(2);
    assert!(told.stderr.contains("unknown field `afters`"), "{}", told.stderr);

    let made = grid.windlass(&["plan", "make", "-f", file]).expect(0);
    for expected in
        ["somebody has to begin", "n1 goes first", "second  Mark n2", "undo torture.act.mark on n2"]
    {
        assert!(made.stdout.contains(expected), "`{expected}` is not in:\n{}", made.stdout);
    }
    let plans = grid.windlass(&["plan", "list", "-o", "json"]).expect(0).json();
    let id = plans[0]["id"].as_str().unwrap().to_owned();
    assert!(marks.all().is_empty(), "nothing is done yet");

    let applied = grid.windlass(&["apply", &id]).expect(0);
    assert!(words(&applied).contains("2 done of 2 steps"), "{}", words(&applied));
    assert_eq!(marks.of("n1"), [format!("+first {id}")]);
    assert_eq!(marks.of("n2"), ["+second"]);
    let again = grid.windlass(&["apply", &id]).expect(1);
    assert!(again.stderr.contains("has been applied"), "{}", again.stderr);
    let shown = grid.windlass(&["runs", "show", &id]).expect(0);
    assert!(shown.stdout.contains("✓ first") && shown.stdout.contains("done"), "{}", shown.stdout);
    grid.windlass(&["runs", "watch", &id]).expect(0);
    let events = grid.windlass(&["runs", "events", &id]).expect(0);
    assert!(events.stdout.contains("look at second done"), "{}", events.stdout);
    let log = grid.windlass(&["events", "--kind", "run.*", "-o", "json"]).expect(0).json();
    let kinds: Vec<&str> =
        log.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["run.began", "run.finished"]);
    let audit = grid.windlass(&["audit", "list", "-o", "json"]).expect(0).json();
    let applied = |entry: &&Value| entry["action"] == "run.apply" && entry["subject"] == id;
    assert!(audit.as_array().unwrap().iter().find(applied).is_some(), "{audit}");
}

#[test]
fn a_step_that_fails_undoes_exactly_what_was_done_the_last_first() {
    let (dir, grid) = start(&["n1", "n2"]);
    let marks = Marks::new("plan-fails");
    let steps = [
        marks.step("a", "n1", &[], 0),
        marks.step("b", "n1", &["a"], 0),
        marks.step("c", "n1", &["b"], 0),
        fails("bad", "n2", &["c"]),
        marks.step("never", "n1", &["bad"], 0),
    ];
    let id = make(&grid, dir.path(), &steps, json!({}));
    let applied = grid.windlass(&["apply", &id]).expect(3);
    let told = words(&applied);
    assert!(
        told.contains("rolled back") && told.contains("no luck") && told.contains("undone: a, b, c"),
        "{told}"
    );
    assert_eq!(marks.of("n1"), ["+a", "+b", "+c", "-c", "-b", "-a"]);
    assert!(marks.of("n2").is_empty());
}

/// So many seconds that no other process sleeps.
fn seconds(test: u32) -> u32 {
    test * 10_000_000 + std::process::id()
}

#[test]
fn an_undo_on_a_node_that_is_killed_is_owed_and_paid_when_it_is_back() {
    let (dir, mut grid) = start(&["n1", "n2", "n3"]);
    let marks = Marks::new("plan-owed");
    let steps = [
        marks.step("before", "n1", &[], 0),
        marks.step("beside", "n3", &[], 0),
        // It has done its work, and does not come back.
        marks.step("lost", "n2", &["before"], seconds(6)),
    ];
    let mut steps = steps.to_vec();
    steps[2]["timeout_ms"] = json!(4000);
    let id = begin(&grid, dir.path(), &steps, json!({}));
    until("it is marked", || (marks.of("n2") == ["+lost"]).then_some(()));
    grid.take_host("n2").kill().unwrap();
    let owed = until("the undo is owed", || {
        let run = run(&grid, &id);
        (step(&run, "lost")["state"] == "owed" && step(&run, "beside")["state"] == "undone").then_some(run)
    });
    assert_eq!(owed["state"], "rolling_back");
    assert_eq!(owed["waits"][0]["for"], "node", "{owed:#}");
    assert_eq!(marks.of("n1"), ["+before"], "what is in front of it waits");
    let shown = grid.windlass(&["runs", "show", &id]).expect(0);
    assert!(shown.stdout.contains("its undo is owed until node n2 is back"), "{}", shown.stdout);
    let log = grid.windlass(&["events", "--kind", "run.owed", "-o", "json"]).expect(0).json();
    assert_eq!(log[0]["data"]["step"], "lost", "{log}");

    // It stays owed with the next master, and is paid once the node is back.
    grid.take_master().kill().unwrap();
    grid.restart_master().unwrap();
    assert_eq!(run(&grid, &id)["state"], "rolling_back");
    grid.restart_host("n2").unwrap();
    assert_eq!(over(&grid, &id)["state"], "rolled_back");
    assert_eq!(marks.of("n2"), ["+lost", "-lost"]);
    assert_eq!(marks.of("n1"), ["+before", "-before"]);
    assert_eq!(marks.of("n3"), ["+beside", "-beside"]);
}

/// Numbers that differ from run to run.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let seed = u64::try_from(seed & 0xffff_ffff).unwrap();
        Dice(seed)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Until a time that was chosen by chance, when the master is to be killed.
#[expect(clippy::disallowed_methods, reason = "the moment of a kill is random by intent, and no condition")]
fn wait(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_master_killed_again_and_again_carries_out_each_step_once() {
    let (dir, mut grid) = start(&["n1", "n2", "n3"]);
    let mut dice = Dice::new();
    let seed = dice.0;
    for round in 0..4 {
        let marks = Marks::new(&format!("plan-kill-{round}"));
        let mut steps = vec![
            marks.step("first", "n1", &[], 0),
            marks.step("left", "n2", &["first"], 0),
            marks.step("right", "n3", &["first"], 1),
            marks.step("last", "n1", &["left", "right"], 0),
        ];
        let bad = round % 2 == 1;
        if bad {
            steps.push(fails("bad", "n2", &["last"]));
        }
        // The masters of the round before were killed while nodes came back.
        let file = write(dir.path(), &steps, json!({}));
        let check = ["plan", "check", file.to_str().unwrap()];
        ["n1", "n2", "n3"].iter().for_each(|node| grid.wait_online(node));
        until("all nodes offer it", || (grid.windlass(&check).code == 0).then_some(()));
        let id = begin(&grid, dir.path(), &steps, json!({}));
        for _ in 0..3 {
            wait(Duration::from_millis(dice.below(700)));
            grid.take_master().kill().unwrap();
            grid.restart_master().unwrap();
        }
        let run = over(&grid, &id);
        assert_eq!(run["state"], if bad { "rolled_back" } else { "done" }, "seed {seed}: {run:#}");
        let mut expected: Vec<&str> = vec!["+first", "+last", "+left", "+right"];
        if bad {
            expected.extend(["-first", "-last", "-left", "-right"]);
        }
        let expected: BTreeMap<String, usize> =
            expected.into_iter().map(|line| (line.to_owned(), 1)).collect();
        assert_eq!(marks.all(), expected, "seed {seed}, each once: {run:#}");
    }
    grid.windlass(&["audit", "verify"]).expect(0);
}

#[test]
fn people_pause_approve_retry_skip_and_abandon() {
    let (dir, grid) = start(&["n1", "n2"]);
    let marks = Marks::new("plan-people");
    let mut asks = marks.step("asks", "n1", &["a"], 0);
    asks["approval"] = json!("Is it time?");
    let missing = format!("{}.there", marks.0.display());
    let look = json!({ "node": "n2", "operation": "torture.act.read-file", "args": { "path": missing } });
    let looks = json!({ "id": "looks", "title": "Look", "after": ["asks"], "act": look });
    let steps = [
        marks.step("a", "n1", &[], 0),
        asks,
        looks,
        fails("bad", "n2", &["looks"]),
        marks.step("end", "n2", &["bad"], 0),
    ];
    let id = begin(&grid, dir.path(), &steps, json!({ "on_failure": "hold" }));
    let waits = |what: &str, step: &str| {
        until(what, || {
            run(&grid, &id)["waits"].as_array()?.iter().any(|wait| wait["step"] == step).then_some(())
        });
    };
    waits("it asks", "asks");
    let shown = grid.windlass(&["runs", "show", &id]).expect(0);
    assert!(
        shown.stdout.contains("Is it time?") && shown.stdout.contains("windlass runs approve"),
        "{}",
        shown.stdout
    );
    grid.windlass(&["runs", "pause", &id]).expect(0);
    grid.windlass(&["runs", "approve", &id, "asks"]).expect(0);
    assert_eq!(run(&grid, &id)["paused"], true);
    assert_eq!(marks.of("n1"), ["+a"]);
    grid.windlass(&["runs", "resume", &id]).expect(0);
    waits("it failed", "looks");
    assert_eq!(marks.of("n1"), ["+a", "+asks"]);
    std::fs::write(&missing, "there").unwrap();
    grid.windlass(&["runs", "retry-step", &id, "looks"]).expect(0);
    waits("the next failed", "bad");
    let wrong = grid.windlass(&["runs", "retry-step", &id, "a"]).expect(1);
    assert!(wrong.stderr.contains("it has not failed"), "{}", wrong.stderr);
    grid.windlass(&["runs", "skip-step", &id, "bad"]).expect(2);
    grid.windlass(&["runs", "skip-step", &id, "bad", "--yes"]).expect(0);
    grid.windlass(&["runs", "watch", &id]).expect(0);
    assert_eq!(marks.of("n2"), ["+end"]);
    std::fs::remove_file(&missing).unwrap();

    let id = begin(&grid, dir.path(), &steps[..3], json!({ "on_failure": "hold" }));
    until("it asks", || (!run(&grid, &id)["waits"].as_array()?.is_empty()).then_some(()));
    grid.windlass(&["runs", "abandon", &id, "--yes"]).expect(0);
    assert_eq!(over(&grid, &id)["state"], "abandoned");
    grid.windlass(&["runs", "watch", &id]).expect(3);
    let error = grid.windlass(&["runs", "cancel", &id]).expect(1);
    assert!(error.stderr.contains("is over: abandoned"), "{}", error.stderr);

    let id = begin(&grid, dir.path(), &steps[..3], json!({}));
    until("it asks", || (!run(&grid, &id)["waits"].as_array()?.is_empty()).then_some(()));
    grid.windlass(&["runs", "cancel", &id]).expect(0);
    assert_eq!(over(&grid, &id)["state"], "rolled_back");
    assert_eq!(marks.of("n1").last().unwrap(), "-a");
}

#[test]
fn a_plan_is_not_applied_when_the_fleet_has_moved() {
    let (dir, grid) = start(&["n1", "n2"]);
    let marks = Marks::new("plan-moved");
    let steps = [marks.step("a", "n1", &[], 0)];
    let id = make(&grid, dir.path(), &steps, json!({}));
    grid.windlass(&["nodes", "flag", "n2", "+maintenance"]).expect(0);
    grid.windlass(&["nodes", "flag", "n1", "+draining"]).expect(0);
    let refused = grid.windlass(&["apply", &id]).expect(1);
    assert!(
        refused.stderr.contains("the fleet moved")
            && refused.stderr.contains("node n1 has the flag `draining`"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("n2"), "what is not its business does not matter: {}", refused.stderr);
    assert!(marks.all().is_empty());
    grid.windlass(&["nodes", "flag", "n1", "-draining"]).expect(0);
    grid.windlass(&["apply", &id]).expect(0);
    assert_eq!(marks.of("n1"), ["+a"]);
}
