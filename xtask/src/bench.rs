//! `cargo xtask bench`: builds with optimisation and measures.

use crate::{
    build,
    exec::{cargo, step},
};
use anyhow::Result;
use clap::Args;

/// Measure, and print the figures beside their targets.
#[derive(Debug, Args)]
pub struct Bench {
    /// Arguments of the benchmark program; `-- --help` lists them
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Run it.
pub fn run(bench: &Bench) -> Result<()> {
    eprintln!("==> build with optimisation (some minutes the first time)");
    build::all(true)?;
    let mut command = cargo(&["run", "--quiet", "--release", "--package", "windlass-bench", "--"]);
    command.args(&bench.arguments);
    step("measure", &mut command)
}
