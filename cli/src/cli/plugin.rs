//! The surface of `windlass plugin`: what an author does. No master is needed for any of it.

pub mod local;
pub mod project;
pub mod registry;
pub mod signing;

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum Plugin {
    New(project::New),
    Check(project::Check),
    Build(project::Build),
    Run(Box<local::Run>),
    Test(local::Test),
    Record(Box<local::Record>),
    Pack(project::Pack),
    Keygen(signing::Keygen),
    Sign(signing::Sign),
    Verify(signing::Verify),
    /// Show what a package holds: operations with their types, what it asks for, signatures.
    #[command(after_help = "\
Examples:
  windlass plugin inspect zfs-0.2.0.tar
  windlass plugin inspect zfs-0.2.0.tar -o json | jq -r .digest")]
    Inspect {
        #[command(flatten)]
        package: PackageArg,
    },
    Push(registry::Push),
    Pull(registry::Pull),
}

/// A package.
#[derive(Debug, clap::Args)]
pub struct PackageArg {
    /// The package, as `windlass plugin pack` makes it.
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub package: PathBuf,
}
