//! `cargo xtask bench`: builds with optimisation and measures.

use crate::{
    build,
    exec::{cargo, root, run as run_program, step},
    salt,
};
use anyhow::Result;
use clap::Args;
use std::process::Command;

/// Measure, and print the figures beside their targets.
#[derive(Debug, Args)]
pub struct Bench {
    /// What to measure, with its options; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Run it.
pub fn run(bench: &Bench) -> Result<()> {
    eprintln!("==> build with optimisation (some minutes the first time)");
    build::all(true)?;
    run_program(&mut cargo(&["build", "--quiet", "--release", "--package", "windlass-bench"]))?;
    let mut command = Command::new(root().join("target/release/windlass-bench"));
    command.current_dir(root()).args(&bench.arguments);
    let asks = bench.arguments.iter().any(|word| word == "--help" || word == "-h");
    if bench.arguments.first().is_some_and(|word| word == "salt") && !asks {
        command = salt::wrapped(&command)?;
    }
    step("measure", &mut command)
}
