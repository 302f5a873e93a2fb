//! Windlass and Salt on the same machine, measured the same way.
//!
//! Both get a master and the same number of agents, each agent a process of its own, all on one
//! address of this machine. The grid grows from one node to the number asked for, and at each size
//! every node is asked to do nothing. Then the agents are weighed at rest, started again, and last
//! of all single nodes break in three ways while all are asked.
//!
//! What is the same and what is not:
//! * The no-op is `test.ping` there and `torture.echo.nothing` here, an operation that takes and
//!   gives nothing. Here it is checked against its type, written to the master's database and the
//!   host's journal, run in a fresh sandbox and kept with its outcome; there it is a function call.
//! * Through the API means a client that stays open: `salt.client.LocalClient`, and one HTTP
//!   connection. Through the command line means a process for each call.
//! * An agent counts as ready there when its start event reaches the master, here only when it has
//!   answered an operation.
//! * Settings are the defaults of both, except for addresses, folders and that Salt's master
//!   accepts keys by itself. A time limit is given to both where a node is broken.

mod faults;
mod figures;
mod network;
mod ours;
mod page;
mod process;
mod theirs;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use faults::Fault;
use figures::{Comparison, Figures, Machine, RoundTrip, Times, Usage};
use network::Network;
use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};
use windlass_tests::Binaries;

/// The time limit that is given to both where a node is broken: Salt's default.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Nodes where the faults are looked at: enough for others to answer, few enough to be quick.
const WITH_FAULTS: usize = 10;
/// Round trips of one kind stop after this many, or when they have taken this long.
const ROUNDS: usize = 50;
const BUDGET: Duration = Duration::from_secs(30);
/// Fewer would be no median.
const LEAST_ROUNDS: usize = 5;
/// How long all agents together may take to start.
const START: Duration = Duration::from_secs(300);

/// What to compare.
#[derive(Debug, Args)]
pub struct Options {
    /// How many nodes in the end
    #[arg(long, default_value_t = 50)]
    nodes: usize,
    /// How long to watch both at rest
    #[arg(long, default_value_t = 20)]
    rest_seconds: u64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Write the table in docs/salt-comparison.md
    #[arg(long)]
    update: bool,
    /// The virtual environment with Salt
    #[arg(long, hide = true)]
    salt: PathBuf,
    /// There is a network of our own around us
    #[arg(long, hide = true)]
    isolated: bool,
}

/// One of the two.
trait System {
    /// Its name and version.
    fn name(&self) -> String;
    /// Let these nodes join, and wait until they answer. One of them may live in a network that can
    /// be cut.
    async fn join(&mut self, nodes: &[String]) -> Result<()>;
    /// Ask all nodes to do nothing, through the API: the time, and what it says of each node.
    async fn ask(&mut self, limit: Duration) -> Result<(Duration, Vec<Answer>)>;
    /// The same as a command to be run.
    fn command(&self, limit: Duration) -> Command;
    /// All processes of the master.
    fn master(&mut self) -> Vec<u32>;
    /// All processes of an agent.
    fn agent(&mut self, node: &str) -> Vec<u32>;
    /// End agents: as a failure would, or in order.
    fn stop(&mut self, nodes: &[String], how: Stop) -> Result<()>;
    /// Start agents that were stopped, all at once, and wait until they are ready.
    async fn start(&mut self, nodes: &[String]) -> Result<Duration>;
}

/// How to end an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// KILL.
    AtOnce,
    /// TERM, and wait.
    InOrder,
}

/// What a system says of a node.
#[derive(Debug, Clone)]
struct Answer {
    node: String,
    /// In its own words.
    says: String,
    ok: bool,
}

/// Compare.
pub async fn run(binaries: &Binaries, options: &Options) -> Result<()> {
    ensure!(options.nodes >= 2, "a comparison takes two nodes or more");
    let network = Network::new(options.isolated)?;
    let comparison = tokio::select! {
        compared = compare(binaries, options, &network) => compared?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            bail!("interrupted");
        }
    };
    if options.json {
        let text = serde_json::to_string_pretty(&comparison)?;
        #[expect(clippy::print_stdout, reason = "figures are this program's data")]
        {
            println!("{text}");
        }
    } else {
        page::print(&comparison);
    }
    if options.update {
        page::write(&comparison)?;
    }
    Ok(())
}

async fn compare(binaries: &Binaries, options: &Options, network: &Network) -> Result<Comparison> {
    let dir = tempfile::tempdir()?;
    let ours = {
        let mut system = ours::Windlass::start(binaries.clone(), &dir.path().join("windlass"), network)?;
        measure(&mut system, options, network).await.context("measuring Windlass")?
    };
    let theirs = {
        let mut system = theirs::Salt::start(&options.salt, &dir.path().join("salt"), network).await?;
        measure(&mut system, options, network).await.context("measuring Salt")?
    };
    Ok(Comparison {
        nodes: options.nodes,
        isolated: network.is_own(),
        machine: Machine::this(),
        windlass: ours,
        salt: theirs,
    })
}

/// The node whose network can be cut.
const APART: &str = "n2";

/// Names of nodes.
fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("n{number}")).collect()
}

async fn measure(system: &mut impl System, options: &Options, network: &Network) -> Result<Figures> {
    let name = system.name();
    tell(&format!("{name}: round trips"));
    let names = names(options.nodes);
    let mut sizes = vec![1, WITH_FAULTS.min(options.nodes), options.nodes];
    sizes.dedup();
    let (mut joined, mut round_trips, mut faults) = (0, Vec::new(), Vec::new());
    for size in sizes {
        system.join(&names[joined..size]).await?;
        joined = size;
        let api = through_api(system, size).await?;
        let command = through_command(system, size).await?;
        tell(&format!("{name}: no-op on {size} of {}: {:.1} ms", names.len(), api.median_ms));
        round_trips.push(RoundTrip { nodes: size, api, command });
        if size == WITH_FAULTS.min(options.nodes) {
            for fault in Fault::ALL {
                tell(&format!("{name}: {}", fault.words()));
                faults.push(faults::look(system, fault, &names[..size], network).await?);
            }
        }
    }
    tell(&format!("{name}: at rest for {} s", options.rest_seconds));
    let (agent, master) = at_rest(system, &names, options.rest_seconds).await?;
    tell(&format!("{name}: starts"));
    let first = names[..1].to_vec();
    let mut starts = Vec::new();
    for _ in 0..3 {
        system.stop(&first, Stop::InOrder)?;
        starts.push(system.start(&first).await?);
    }
    system.stop(&names, Stop::InOrder)?;
    let start_all = system.start(&names).await?;
    Ok(Figures {
        name,
        round_trips,
        agent,
        master,
        start_one_ms: Times::of(&mut starts).median_ms,
        start_all_ms: figures::ms(start_all),
        faults,
    })
}

fn tell(what: &str) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("    {what}\n"));
}

async fn through_api(system: &mut impl System, nodes: usize) -> Result<Times> {
    let mut times = Vec::new();
    let began = Instant::now();
    // The first rounds open connections and warm caches.
    for round in 0..ROUNDS + 3 {
        let (took, answers) = system.ask(TIME_LIMIT * 6).await?;
        let ok = answers.iter().filter(|answer| answer.ok).count();
        ensure!(ok == nodes, "{ok} of {nodes} nodes answered: {answers:?}");
        if round >= 3 {
            times.push(took);
        }
        if times.len() >= LEAST_ROUNDS && began.elapsed() > BUDGET {
            break;
        }
    }
    Ok(Times::of(&mut times))
}

async fn through_command(system: &mut impl System, nodes: usize) -> Result<Times> {
    let mut times = Vec::new();
    let began = Instant::now();
    for _ in 0..ROUNDS / 5 {
        let (took, output) = process::output(system.command(TIME_LIMIT * 6)).await?;
        ensure!(output.status.success(), "the command on {nodes} nodes failed: {output:?}");
        times.push(took);
        if times.len() >= LEAST_ROUNDS && began.elapsed() > BUDGET {
            break;
        }
    }
    Ok(Times::of(&mut times))
}

async fn at_rest(system: &mut impl System, names: &[String], seconds: u64) -> Result<(Usage, Usage)> {
    let master = system.master();
    let agents: Vec<Vec<u32>> = names.iter().map(|node| system.agent(node)).collect();
    let before = (process::ticks(&master), agents.iter().map(|pids| process::ticks(pids)).sum::<u64>());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let ticks = (process::ticks(&master), agents.iter().map(|pids| process::ticks(pids)).sum::<u64>());
    let all: Vec<u32> = agents.concat();
    let count = names.len() as u64;
    let agent = Usage::of(&all, ticks.1.saturating_sub(before.1), seconds).divided_by(count);
    Ok((agent, Usage::of(&master, ticks.0.saturating_sub(before.0), seconds)))
}
