//! Two masters on one database: whoever dies, the grid goes on, and nothing happens twice.

use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use windlass_tests::{Binaries, Grid, GridOptions, Output, Postgres, until};

/// Two masters, the first of which leads at the begin, with a host at each.
struct Pair {
    grid: Grid,
    _dir: tempfile::TempDir,
}

impl Pair {
    fn start() -> Self {
        Self::on(None)
    }

    /// On a database of a server, each with a folder of its own.
    fn on(postgres: Option<&Postgres>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = GridOptions {
            hosts: vec!["n1".into(), "n2".into()],
            plugins: vec!["torture".into(), "monitor".into()],
            masters: 2,
            store: postgres.map(|postgres| postgres.database("windlass").unwrap()),
            ..GridOptions::default()
        };
        let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
        let pair = Pair { grid, _dir: dir };
        let [_, node, _] = pair.grid.ports_at(1);
        assert!(pair.host_log("n2").contains(&format!("connected to 127.0.0.1:{node}")));
        pair
    }

    fn host_log(&self, name: &str) -> String {
        std::fs::read_to_string(self.grid.host_dir(name).join("host.log")).unwrap()
    }

    /// Stop the first master outside of a transaction. Within one it would keep the lock of a database file,
    /// and nobody else could write before it wakes up.
    fn pause_the_first(&mut self) {
        let master = self.grid.master();
        let process = PathBuf::from(format!("/proc/{}", master.pid()));
        until("it is stopped outside of a transaction", || {
            master.signal(Signal::STOP).unwrap();
            until("it is stopped", || threads(&process).iter().all(|state| *state == 'T').then_some(()));
            let writes = writes(master.pid());
            if writes {
                master.signal(Signal::CONT).unwrap();
            }
            (!writes).then_some(())
        });
    }

    /// The command line, at the second master.
    fn second(&self, args: &[&str]) -> Output {
        self.grid.windlass_at(1, args)
    }

    fn wait_online_at_second(&self, name: &str) {
        until(&format!("{name} is online for the second master"), || {
            let output = self.second(&["nodes", "show", name, "-o", "json"]);
            (output.code == 0 && output.json()["online"] == true).then_some(())
        });
    }

    /// The outcomes of a job as the second master tells them, once all are there.
    fn outcomes_at_second(&self, id: &str, nodes: usize) -> Vec<String> {
        until("the job has ended", || {
            let output = self.second(&["jobs", "show", id, "-o", "json"]);
            outcomes(&output, nodes)
        })
    }
}

fn outcomes(output: &Output, nodes: usize) -> Option<Vec<String>> {
    if output.code != 0 {
        return None;
    }
    let job = output.json();
    let results = job["results"].as_array().cloned().unwrap_or_default();
    let done = results.len() == nodes && results.iter().all(|node| node["state"] == "done");
    let word = |node: &Value| node["outcome"]["status"].as_str().unwrap_or_default().to_owned();
    done.then(|| results.iter().map(word).collect())
}

/// A path in the folder that the torture plugin may write to; each node adds its name. Removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        std::fs::create_dir_all("/tmp/windlass-torture").unwrap();
        let scratch = Scratch(PathBuf::from(format!("/tmp/windlass-torture/{name}-{}", std::process::id())));
        scratch.remove();
        scratch
    }
    fn files(&self) -> [PathBuf; 2] {
        ["n1", "n2"].map(|node| PathBuf::from(format!("{}.{node}", self.0.display())))
    }
    /// How often each node made the change.
    fn lines(&self) -> [usize; 2] {
        self.files().map(|file| std::fs::read_to_string(file).unwrap_or_default().lines().count())
    }
    fn remove(&self) {
        for file in self.files() {
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Submit a change of some seconds on all nodes, and leave. It is under way when this returns.
fn append(pair: &Pair, file: &Scratch, seconds: u32, at: impl Fn(&Pair, &[&str]) -> Output) -> String {
    let (path, seconds) = (format!("path={}", file.0.display()), format!("seconds={seconds}"));
    let args = ["run", "torture.act.mark", "--on", "n*", &path, "line=x", &seconds, "--detach", "-o", "json"];
    let job = at(pair, &args).expect(0).json();
    let id = job["id"].as_str().or(job["job"]["id"].as_str()).expect("a job has an id").to_owned();
    until("the change is made on both nodes", || (file.lines() == [1, 1]).then_some(()));
    id
}

#[test]
fn a_job_reaches_the_hosts_of_both_masters_from_either() {
    let pair = Pair::start();
    for output in [
        pair.grid.windlass(&["run", "monitor.system.read", "--on", "n*", "-o", "json"]),
        pair.second(&["run", "monitor.system.read", "--on", "n*", "-o", "json"]),
    ] {
        output.expect(0);
    }
    // A stream of events, too, whichever door it takes.
    let args = ["run", "torture.act.sleep", "--on", "n*", "seconds=1", "--detach", "-o", "json"];
    let job = pair.grid.windlass(&args).expect(0).json();
    let id = job["id"].as_str().or(job["job"]["id"].as_str()).expect("a job has an id");
    pair.second(&["jobs", "watch", id]).expect(0);
    // Whoever follows gives the lead back in order: nobody has to wait for a lease to end.
    let mut pair = pair;
    assert!(pair.grid.take_master().terminate().unwrap().success());
    pair.wait_online_at_second("n1");
    pair.wait_online_at_second("n2");
    pair.second(&["run", "monitor.system.read", "--on", "n*"]).expect(0);
    pair.second(&["audit", "verify"]).expect(0);
}

/// What happens when the leader is killed in the middle of a job, whatever the database.
fn the_leader_is_killed(mut pair: Pair, name: &str) {
    let file = Scratch::new(name);
    let id = append(&pair, &file, 3, |pair, args| pair.grid.windlass(args));
    pair.grid.take_master().kill().unwrap();
    assert_eq!(pair.outcomes_at_second(&id, 2), ["succeeded", "succeeded"]);
    assert_eq!(file.lines(), [1, 1], "each change was made once");
    pair.wait_online_at_second("n1");
    // The dead one comes back as a follower, and its hosts need not move.
    pair.grid.restart_master().unwrap();
    pair.grid.windlass(&["run", "monitor.system.read", "--on", "n*"]).expect(0);
    assert!(pair.grid.master().log().contains("this master follows"));
}

#[test]
fn the_leader_killed_in_the_middle_of_a_job_costs_nobody_an_outcome() {
    the_leader_is_killed(Pair::start(), "leader-kill");
}

#[test]
fn the_leader_killed_on_a_database_server_costs_nobody_an_outcome() {
    let postgres = Postgres::start().unwrap();
    the_leader_is_killed(Pair::on(Some(&postgres)), "leader-kill-server");
}

#[test]
fn a_follower_killed_in_the_middle_of_a_job_costs_nobody_an_outcome() {
    let mut pair = Pair::start();
    let file = Scratch::new("follower-kill");
    let id = append(&pair, &file, 2, Pair::second);
    pair.grid.take_master_at(1).kill().unwrap();
    let ended =
        until("the job has ended", || outcomes(&pair.grid.windlass(&["jobs", "show", &id, "-o", "json"]), 2));
    assert_eq!(ended, ["succeeded", "succeeded"]);
    assert_eq!(file.lines(), [1, 1], "each change was made once");
    pair.grid.wait_online("n2");
    let [_, node, _] = pair.grid.ports();
    assert!(pair.host_log("n2").contains(&format!("connected to 127.0.0.1:{node}")), "it has moved");
}

#[test]
fn a_leader_that_was_paused_can_write_nothing_when_it_wakes_up() {
    the_leader_is_paused(Pair::start(), "leader-pause");
}

#[test]
fn a_leader_that_was_paused_can_write_nothing_to_a_server_when_it_wakes_up() {
    let postgres = Postgres::start().unwrap();
    the_leader_is_paused(Pair::on(Some(&postgres)), "leader-pause-server");
}

/// The states of the threads of a process, as proc(5) has them.
fn threads(process: &Path) -> Vec<char> {
    let stats = process.join("task").read_dir().unwrap().flatten();
    let stats = stats.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    // Behind the name, which is in parentheses and may hold anything.
    stats.map(|stat| stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()).collect()
}

/// Whether a process holds a lock for writing on any file: SQLite takes one for each transaction.
fn writes(pid: u32) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let pid = pid.to_string();
    locks.lines().any(|lock| {
        let words: Vec<&str> = lock.split_whitespace().collect();
        words.get(1..5) == Some(&["POSIX", "ADVISORY", "WRITE", pid.as_str()])
    })
}

/// What a paused leader may do when it wakes up, whatever the database.
fn the_leader_is_paused(mut pair: Pair, name: &str) {
    let file = Scratch::new(name);
    let id = append(&pair, &file, 3, |pair, args| pair.grid.windlass(args));
    pair.pause_the_first();
    // Its host leaves it, and the job ends elsewhere.
    assert_eq!(pair.outcomes_at_second(&id, 2), ["succeeded", "succeeded"]);
    pair.wait_online_at_second("n1");
    assert!(pair.host_log("n1").contains("has been silent for 1500 ms"), "three heartbeats of 500 ms");
    // While it sleeps somebody asks it for a change, and its clients wait.
    let path = format!("path={}", file.0.display());
    let mut asked = pair.grid.windlass_command();
    asked.args(["run", "torture.act.mark", "--on", "n*", &path, "line=x", "seconds=0", "-o", "json"]);
    let asked = asked.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
    let mut asked = asked.unwrap();
    pair.grid.master().signal(Signal::CONT).unwrap();
    let status = asked.wait().unwrap();
    until("it knows", || pair.grid.master().log().contains("this master follows").then_some(()));
    // Either it was refused or the new leader did it: never half, and never twice.
    let lines = file.lines();
    assert_eq!(lines, if status.success() { [2, 2] } else { [1, 1] }, "{status}");
    pair.grid.windlass(&["run", "monitor.system.read", "--on", "n*"]).expect(0);
    assert_eq!(pair.outcomes_at_second(&id, 2), ["succeeded", "succeeded"], "nobody wrote over them");
    pair.second(&["audit", "verify"]).expect(0);
}
