//! Windlass: a master and hosts.

use super::{Answer, Network, Stop, System, process::Group};
use crate::api::Api;
use anyhow::{Context as _, Result};
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use windlass_tests::{Binaries, Grid, GridOptions, until};
use windlass_types::{Outcome, api::Job};

/// Takes and gives nothing.
const NOTHING: &str = "torture.echo.nothing";
/// How long the master may take beyond a time limit to tell what it knows.
const SLACK: Duration = Duration::from_secs(30);

/// See the module.
pub struct Windlass<'n> {
    network: &'n Network,
    // Agents end before the master.
    agents: BTreeMap<String, Group>,
    grid: Grid,
    api: Api,
}

impl<'n> Windlass<'n> {
    /// Start a master.
    pub fn start(binaries: Binaries, dir: &Path, network: &'n Network) -> Result<Self> {
        std::fs::create_dir(dir)?;
        let options = GridOptions {
            hosts: Vec::new(),
            // What a node would have, and the one with the operation that does nothing.
            plugins: ["monitor", "zfs", "torture"].map(str::to_owned).to_vec(),
            heartbeat_ms: 5000,
            address: network.address(),
            compile_cache: Some(dir.join("compiled")),
            ..GridOptions::default()
        };
        let grid = Grid::start_master(binaries, dir, options)?;
        let api = Api::new(&grid.url(), grid.fingerprint().parse()?, grid.token())?;
        Ok(Windlass { network, agents: BTreeMap::new(), grid, api })
    }

    fn run(&mut self, node: &str) -> Result<()> {
        let mut command = self.network.command(node, &self.grid.binaries().program("windlass-host"))?;
        command.arg("run").arg("--config").arg(self.grid.host_config(node));
        let agent = Group::start(command, &self.grid.host_dir(node).join("host.log"))?;
        self.agents.insert(node.to_owned(), agent);
        Ok(())
    }
}

impl System for Windlass<'_> {
    fn name(&self) -> String {
        format!("Windlass {}", env!("CARGO_PKG_VERSION"))
    }

    async fn join(&mut self, nodes: &[String]) -> Result<()> {
        for node in nodes {
            self.grid.prepare_host(node)?;
            self.run(node)?;
        }
        for node in nodes {
            self.grid.accept(node)?;
        }
        for node in nodes {
            self.grid.wait_online(node);
        }
        Ok(())
    }

    async fn ask(&mut self, limit: Duration) -> Result<(Duration, Vec<Answer>)> {
        let (took, job) = self.api.run_within(NOTHING, "*", Some(limit), limit + SLACK).await?;
        Ok((took, answers(&job)))
    }

    fn command(&self, limit: Duration) -> Command {
        let mut command = self.grid.windlass_command();
        command.args(["run", NOTHING, "--all", "--timeout", &format!("{}s", limit.as_secs())]);
        command
    }

    fn master(&mut self) -> Vec<u32> {
        vec![self.grid.master().pid()]
    }

    fn agent(&mut self, node: &str) -> Vec<u32> {
        self.agents.get(node).map(Group::pids).unwrap_or_default()
    }

    fn stop(&mut self, nodes: &[String], how: Stop) -> Result<()> {
        let stopped: Vec<Group> = nodes.iter().filter_map(|node| self.agents.remove(node)).collect();
        for agent in &stopped {
            if how == Stop::InOrder { agent.end()? } else { agent.signal(Signal::KILL)? }
        }
        stopped.into_iter().for_each(Group::wait);
        for node in nodes {
            self.grid.wait_offline(node);
        }
        Ok(())
    }

    async fn start(&mut self, nodes: &[String]) -> Result<Duration> {
        let start = Instant::now();
        for node in nodes {
            self.run(node)?;
        }
        let (_, job) = self.api.run_within(NOTHING, "*", Some(super::START), super::START).await?;
        let took = start.elapsed();
        let late = answers(&job).into_iter().find(|answer| !answer.ok);
        late.map_or(Ok(()), |late| Err(anyhow::anyhow!("not all started: {late:?}")))
            .context("starting hosts")?;
        until("all hosts are online", || {
            nodes
                .iter()
                .all(|node| self.grid.node(node).is_some_and(|node| node["online"] == true))
                .then_some(())
        });
        Ok(took)
    }
}

fn answers(job: &Job) -> Vec<Answer> {
    let results = job.results.as_deref().unwrap_or_default();
    let answer = |node: &windlass_types::api::JobNode| Answer {
        node: node.name.to_string(),
        says: node.outcome.as_ref().map_or_else(|| "nothing".into(), |outcome| outcome.kind().to_string()),
        ok: matches!(node.outcome, Some(Outcome::Succeeded { .. })),
    };
    results.iter().map(answer).collect()
}
