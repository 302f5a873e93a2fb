//! Chaos: while jobs run all the time, parts of a grid are killed, frozen, cut off and started again
//! at random. Afterwards everything is healed, and then has to hold:
//!
//! * every job that was answered with an id is there, and ends;
//! * each node of each job has exactly one outcome;
//! * no change was made twice: each leaves a line in a file of its own on each node;
//! * what is called a success was made, and what is called refused or denied was not;
//! * the chain of the audit log is whole.
//!
//! What happens is decided by a seed, which a failure names; when it happens is up to the machine.

use crate::{Grid, Output};
use anyhow::{Context as _, Result, bail, ensure};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a job may go on after everything was healed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long and how wild.
#[derive(Debug, Clone, Copy)]
pub struct Chaos {
    pub seed: u64,
    pub duration: Duration,
    /// Who submits jobs, one after the other, all at the same time.
    pub submitters: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    pub jobs: usize,
    /// Submissions without an answer: nobody knows whether there is a job.
    pub unanswered: usize,
    pub outcomes: BTreeMap<String, usize>,
    /// What was done to the grid, by kind.
    pub blows: BTreeMap<&'static str, usize>,
}

/// What was submitted, and the id if there was an answer.
#[derive(Debug)]
struct Submitted {
    mark: PathBuf,
    id: Option<String>,
}

/// What a host suffers at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    Dead,
    Frozen,
    CutOff,
}

impl Chaos {
    /// Do it to a grid that was made with [`lines`](crate::GridOptions::lines) and the torture plugin,
    /// with the files of the changes in `dir`, where that plugin may write.
    ///
    /// # Errors
    /// With what did not hold.
    pub fn run(&self, grid: &mut Grid, hosts: &[String], dir: &Path) -> Result<Report> {
        let mut report = Report::default();
        let stop = AtomicBool::new(false);
        let (submitted, next) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
        let commands: Vec<Caller> =
            (0..self.submitters).map(|number| Caller::of(grid, number % grid.masters())).collect();
        std::thread::scope(|scope| {
            for (number, caller) in commands.iter().enumerate() {
                let (stop, submitted, next) = (&stop, &submitted, &next);
                let mut random = StdRng::seed_from_u64(self.seed ^ (number as u64 + 1));
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let one = submit(caller, number, hosts, dir, &mut random);
                        submitted.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                    }
                });
            }
            let beaten = self.beat(grid, hosts, &mut report);
            stop.store(true, Ordering::Relaxed);
            beaten
        })?;
        let submitted = submitted.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.check(grid, &submitted, hosts, &mut report)
            .with_context(|| format!("after {report:?}, with the seed {}", self.seed))?;
        Ok(report)
    }

    /// One blow after the other, and healing in between; at the end all is well.
    fn beat(&self, grid: &mut Grid, hosts: &[String], report: &mut Report) -> Result<()> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut states: BTreeMap<&String, State> = hosts.iter().map(|host| (host, State::Well)).collect();
        let begun = Instant::now();
        while begun.elapsed() < self.duration {
            pause(Duration::from_millis(random.random_range(50..600)));
            let host = hosts.choose(&mut random).context("there are hosts")?;
            let state = states.get_mut(host).context("each has a state")?;
            let master = random.random_range(0..grid.masters());
            let blow = match (*state, random.random_range(0..100)) {
                (_, 0..8) => {
                    grid.take_master_at(master).kill()?;
                    pause(Duration::from_millis(random.random_range(0..1500)));
                    grid.restart_master_at(master)?;
                    "master killed"
                }
                (_, 8..12) => {
                    grid.master_at(master).signal(Signal::STOP)?;
                    pause(Duration::from_millis(random.random_range(100..3000)));
                    grid.master_at(master).signal(Signal::CONT)?;
                    "master frozen"
                }
                (_, 12..15) => {
                    let _ = grid.take_master_at(master).terminate()?;
                    grid.restart_master_at(master)?;
                    "master restarted"
                }
                (State::Well, 15..50) => {
                    grid.take_host(host).kill()?;
                    *state = State::Dead;
                    "host killed"
                }
                (State::Well, 50..65) => {
                    grid.host(host).signal(Signal::STOP)?;
                    *state = State::Frozen;
                    "host frozen"
                }
                (State::Well, _) => {
                    grid.cut_off(host);
                    *state = State::CutOff;
                    "host cut off"
                }
                (suffers, _) => {
                    heal(grid, host, suffers)?;
                    *state = State::Well;
                    "host healed"
                }
            };
            *report.blows.entry(blow).or_default() += 1;
        }
        for (host, state) in states {
            heal(grid, host, state)?;
        }
        Ok(())
    }

    fn check(
        &self,
        grid: &Grid,
        submitted: &[Submitted],
        hosts: &[String],
        report: &mut Report,
    ) -> Result<()> {
        for host in hosts {
            grid.wait_online(host);
        }
        report.jobs = submitted.iter().filter(|one| one.id.is_some()).count();
        report.unanswered = submitted.len() - report.jobs;
        for Submitted { mark, id } in submitted {
            let mut outcomes = BTreeMap::new();
            if let Some(id) = id {
                let job = ended(grid, id)?;
                let results = job["results"].as_array().cloned().unwrap_or_default();
                ensure!(job["job"]["nodes"].as_u64() == Some(results.len() as u64), "job {id}: {job}");
                for result in &results {
                    let outcome = &result["outcome"];
                    let (node, status) = (word(&result["name"]), word(&outcome["status"]));
                    ensure!(!status.is_empty(), "job {id} has ended, and {node} has no outcome: {job}");
                    let reason = outcome["reason"].as_str().map(|reason| format!(" ({reason})"));
                    *report.outcomes.entry(status.clone() + &reason.unwrap_or_default()).or_default() += 1;
                    ensure!(
                        outcomes.insert(node, status).is_none(),
                        "job {id}: a node is there twice: {job}"
                    );
                }
            }
            for host in hosts {
                let file = PathBuf::from(format!("{}.{host}", mark.display()));
                let times = std::fs::read_to_string(&file).unwrap_or_default().lines().count();
                let outcome = outcomes.get(host).map(String::as_str);
                let right = match outcome {
                    Some("succeeded") => times == 1,
                    Some("refused" | "denied") => times == 0,
                    _ => times <= 1,
                };
                ensure!(right, "job {id:?} on {host} ended as {outcome:?}, and was done {times} times");
                let _ = std::fs::remove_file(file);
            }
        }
        ensure!(report.jobs > 0, "no job was ever taken");
        let audit = grid.windlass(&["audit", "verify"]);
        ensure!(audit.code == 0, "{audit:#?}");
        Ok(())
    }
}

/// The job once it has ended.
fn ended(grid: &Grid, id: &str) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let output = grid.windlass(&["jobs", "show", id, "-o", "json"]);
        ensure!(output.code == 0, "job {id} was taken, and is gone: {output:#?}");
        let job = output.json();
        if job["job"]["state"] == "finished" {
            return Ok(job);
        }
        ensure!(begun.elapsed() < PATIENCE, "job {id} does not end, although all is well: {job:#}");
        pause(Duration::from_millis(20));
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn heal(grid: &mut Grid, host: &str, state: State) -> Result<()> {
    match state {
        State::Well => Ok(()),
        State::Dead => grid.restart_host(host),
        State::Frozen => grid.host(host).signal(Signal::CONT),
        State::CutOff => {
            grid.mend(host);
            Ok(())
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time between two blows is what chaos is made of")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Calls the command line from a thread of its own.
struct Caller {
    program: PathBuf,
    environment: Vec<(String, String)>,
}

impl Caller {
    /// At one of the masters.
    fn of(grid: &Grid, master: usize) -> Self {
        let environment = grid.environment_at(master).map(|(name, value)| (name.to_owned(), value)).into();
        Caller { program: grid.binaries().program("windlass"), environment }
    }

    fn call(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(args).env_clear().envs(self.environment.iter().cloned());
        let output = command.output().context("starting `windlass`")?;
        Ok(Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

fn submit(caller: &Caller, number: usize, hosts: &[String], dir: &Path, random: &mut StdRng) -> Submitted {
    let mark = dir.join(format!("{number}"));
    let on = match random.random_range(0..4) {
        0 => "*".to_owned(),
        _ => hosts.choose(random).cloned().unwrap_or_default(),
    };
    let seconds = u8::from(random.random_ratio(1, 10));
    let (path, seconds) = (format!("path={}", mark.display()), format!("seconds={seconds}"));
    let args =
        ["run", "torture.act.mark", "--on", &on, &path, "line=done", &seconds, "--detach", "-o", "json"];
    let id = caller.call(&args).and_then(|output| match output.code {
        0 => Ok(output.json()),
        code => bail!("exit code {code}: {}", output.stderr),
    });
    let id = id.ok().map(|job| word(if job["id"].is_null() { &job["job"]["id"] } else { &job["id"] }));
    // What piles up for a host that is away is more than it takes at once when it returns, and then it
    // refuses the rest: right, but no test of anything.
    pause(Duration::from_millis(random.random_range(50..400)));
    Submitted { mark, id: id.filter(|id| !id.is_empty()) }
}
