//! The surface of `windlass plugin`: what an author does. No master is needed for any of it.

pub mod local;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Plugin {
    Run(Box<local::Run>),
    Test(local::Test),
    Record(Box<local::Record>),
}
