//! Benchmarks against the targets of the design, and the fleet simulator.

mod api;
mod fleet;
mod grid;
mod report;
mod runtime;
mod salt;
mod simulator;
mod update;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::time::Duration;
use windlass_tests::Binaries;

/// Measure Windlass and print the figures beside their targets.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench --")]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Calls of a plugin within one process
    Runtime,
    /// Round trips through real processes, and what a host costs at rest
    Grid {
        /// How many hosts for the fan-out
        #[arg(long, default_value_t = 50)]
        hosts: usize,
        /// How long to watch a host at rest
        #[arg(long, default_value_t = 10)]
        rest_seconds: u64,
    },
    /// Roll-outs of bundles to simulated hosts and to a real one
    Update {
        /// How many simulated hosts
        #[arg(long, default_value_t = 100)]
        hosts: usize,
    },
    /// Simulated hosts in one process, real TLS and the real protocol
    Fleet {
        /// How many hosts
        #[arg(long, default_value_t = 1000)]
        hosts: usize,
        /// For how long to run operations on all of them while what the master holds is watched
        #[arg(long, default_value_t = 10)]
        soak_seconds: u64,
    },
    /// Windlass beside Salt
    Salt(salt::Options),
}

fn main() -> Result<()> {
    windlass_identity::install_provider();
    let binaries = Binaries::find()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        match Arguments::parse().what {
            Some(What::Runtime) => runtime::run(&binaries).await,
            Some(What::Grid { hosts, rest_seconds }) => {
                grid::run(&binaries, hosts, Duration::from_secs(rest_seconds)).await
            }
            Some(What::Update { hosts }) => update::run(&binaries, hosts).await,
            Some(What::Fleet { hosts, soak_seconds }) => {
                fleet::run(binaries, hosts, Duration::from_secs(soak_seconds)).await
            }
            Some(What::Salt(options)) => salt::run(&binaries, &options).await,
            None => {
                runtime::run(&binaries).await?;
                grid::run(&binaries, 50, Duration::from_secs(10)).await?;
                update::run(&binaries, 100).await?;
                fleet::run(binaries, 1000, Duration::from_secs(10)).await
            }
        }
    })
}
