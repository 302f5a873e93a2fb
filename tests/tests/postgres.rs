//! Masters on a real PostgreSQL server that dies, and the way there from a file.

use serde_json::Value;
use std::{path::PathBuf, process::Command};
use windlass_tests::{Binaries, Grid, GridOptions, Postgres, until};

/// A folder for the files of changes. Removed on drop.
struct Marks(PathBuf);

impl Marks {
    fn new(name: &str) -> Self {
        let marks = Marks(PathBuf::from(format!("/tmp/windlass-torture/{name}-{}", std::process::id())));
        std::fs::create_dir_all(&marks.0).unwrap();
        marks
    }

    /// How often each node made the change.
    fn lines(&self, nodes: &[String]) -> Vec<usize> {
        let file = |node: &String| self.0.join(format!("mark.{node}"));
        nodes
            .iter()
            .map(|node| std::fs::read_to_string(file(node)).unwrap_or_default().lines().count())
            .collect()
    }

    fn made(&self, nodes: &[String]) -> usize {
        self.lines(nodes).iter().filter(|lines| **lines > 0).count()
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn names(number: usize) -> Vec<String> {
    (1..=number).map(|number| format!("n{number}")).collect()
}

/// A change on all nodes; the id of its job.
fn submit(grid: &Grid, marks: &Marks, seconds: u32, more: &[&str]) -> String {
    let (path, seconds) = (format!("path={}", marks.0.join("mark").display()), format!("seconds={seconds}"));
    let mut args =
        vec!["run", "torture.act.mark", "--on", "*", &path, "line=x", &seconds, "--detach", "-o", "json"];
    args.extend(more);
    let job = grid.windlass(&args).expect(0).json();
    job["id"].as_str().or(job["job"]["id"].as_str()).expect("a job has an id").to_owned()
}

/// The outcomes of a job, once it has ended.
fn outcomes(grid: &Grid, master: usize, id: &str) -> Vec<String> {
    until("the job has ended", || {
        let output = grid.windlass_at(master, &["jobs", "show", id, "-o", "json"]);
        let job =
            (output.code == 0).then(|| output.json()).filter(|job| job["job"]["state"] == "finished")?;
        let word = |node: &Value| node["outcome"]["status"].as_str().unwrap_or_default().to_owned();
        Some(job["results"].as_array()?.iter().map(word).collect())
    })
}

#[test]
fn a_batch_of_thirty_nodes_goes_on_at_the_other_master_when_one_is_killed() {
    let postgres = Postgres::start().unwrap();
    let (dir, nodes) = (tempfile::tempdir().unwrap(), names(30));
    let options = GridOptions {
        hosts: nodes.clone(),
        plugins: vec!["torture".into()],
        masters: 2,
        store: Some(postgres.database("windlass").unwrap()),
        compile_cache: Some(dir.path().join("compiled")),
        ..GridOptions::default()
    };
    let mut grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    let marks = Marks::new("batch");
    let id = submit(&grid, &marks, 1, &["--batch", "5", "--max-failures", "30"]);
    until("the second batch is under way", || (marks.made(&nodes) > 5).then_some(()));
    grid.take_master().kill().unwrap();
    assert!(marks.made(&nodes) < 30, "it was killed in the middle");
    assert_eq!(outcomes(&grid, 1, &id), vec!["succeeded"; 30]);
    assert_eq!(marks.lines(&nodes), vec![1; 30], "each change was made once");
    grid.windlass_at(1, &["audit", "verify"]).expect(0);
    assert_eq!(postgres.query("windlass", "SELECT COUNT(*) FROM job_outcomes").unwrap(), "30");
}

#[test]
fn a_database_that_is_away_for_a_while_costs_nobody_an_outcome() {
    let mut postgres = Postgres::start().unwrap();
    let (dir, nodes) = (tempfile::tempdir().unwrap(), names(2));
    let options = GridOptions {
        hosts: nodes.clone(),
        plugins: vec!["torture".into()],
        store: Some(postgres.database("windlass").unwrap()),
        ..GridOptions::default()
    };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    let marks = Marks::new("away");
    let id = submit(&grid, &marks, 1, &[]);
    until("the change is under way", || (marks.lines(&nodes) == [1, 1]).then_some(()));
    postgres.stop().unwrap();
    // Nobody is told that something was taken that was not.
    let refused = grid.windlass(&["run", "torture.act.sleep", "--on", "*", "seconds=0"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let ready = || {
        let url = format!("{}/readyz", grid.url());
        let output =
            Command::new("curl").args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", &url]).output();
        String::from_utf8_lossy(&output.expect("`curl` is installed").stdout).into_owned()
    };
    assert_eq!(ready(), "503");
    postgres.restart().unwrap();
    until("the master is ready", || (ready() == "200").then_some(()));
    assert_eq!(outcomes(&grid, 0, &id), ["succeeded", "succeeded"], "hosts kept what they had");
    assert_eq!(marks.lines(&nodes), [1, 1], "each change was made once");
    grid.windlass(&["run", "torture.act.sleep", "--on", "*", "seconds=0"]).expect(0);
    grid.windlass(&["audit", "verify"]).expect(0);
}

#[test]
fn an_installation_moves_from_its_file_to_a_server() {
    let postgres = Postgres::start().unwrap();
    let (dir, url) = (tempfile::tempdir().unwrap(), postgres.database("windlass").unwrap());
    let options = GridOptions { plugins: vec!["torture".into()], ..GridOptions::default() };
    let mut grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    let marks = Marks::new("moved");
    let id = submit(&grid, &marks, 0, &[]);
    assert_eq!(outcomes(&grid, 0, &id), ["succeeded"]);
    let config = dir.path().join("master.toml");
    let migrate = || {
        let program = grid.binaries().program("windlass-master");
        Command::new(program).args(["migrate", "--to", &url, "--config"]).arg(&config).output().unwrap()
    };
    // While the master runs: it leads no more from then on.
    let moved = migrate();
    assert!(moved.status.success(), "{moved:?}");
    let text = String::from_utf8_lossy(&moved.stdout);
    assert!(text.contains("1 nodes") && text.contains("1 job_outcomes"), "{text}");
    let again = migrate();
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"), "{again:?}");

    let master = grid.take_master();
    assert!(!master.wait().unwrap().success(), "it must not go on with the file");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[store]\nurl = \"{url}\"\n")).unwrap();
    grid.restart_master().unwrap();
    grid.wait_online("n1");
    assert_eq!(outcomes(&grid, 0, &id), ["succeeded"], "what was is there");
    grid.windlass(&["run", "torture.act.sleep", "--on", "*", "seconds=0"]).expect(0);
    grid.windlass(&["audit", "verify"]).expect(0);
}
