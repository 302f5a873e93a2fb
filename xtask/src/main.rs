//! `cargo xtask`: everything that is more than one cargo command.

#[cfg(test)]
mod attacks;
mod bench;
mod build;
mod dev;
mod exec;
mod fuzz;
mod lab;
mod package;
mod plugins;
mod salt;
mod setup;
mod test;

use clap::{Parser, Subcommand};
use std::{io, process::ExitCode};

/// Build, run and check Windlass.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a master and hosts on loopback and run an operation on all of them.
    Dev(dev::Dev),
    /// Set up and run every check and every test.
    Test,
    /// Measure, and print the figures beside their targets.
    Bench(bench::Bench),
    /// Try what nobody would think of on all that reads what others wrote.
    Fuzz(fuzz::Fuzz),
    /// Build all programs and bundles.
    Build {
        /// With optimisation.
        #[arg(long)]
        release: bool,
    },
    Package(package::Arguments),
    Lab(lab::Arguments),
    /// Build all plugins and pack them into `target/bundles`.
    Plugins,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Dev(dev) => dev::run(dev),
        Command::Test => test::run(),
        Command::Bench(bench) => bench::run(bench),
        Command::Fuzz(fuzz) => fuzz::run(fuzz),
        Command::Build { release } => build::all(*release),
        Command::Package(package) => package::run(package),
        Command::Lab(lab) => lab::run(lab),
        Command::Plugins => {
            setup::wasm_target()?;
            plugins::build(&exec::root(), &mut io::stdout()).map(drop)
        }
    }
}
