//! What authors do, without a master.

pub mod local;

use crate::{cli::Plugin, commands::Context, exit::Exit};
use anyhow::Result;

pub async fn run(context: &Context, command: Plugin) -> Result<Exit> {
    match command {
        Plugin::Run(run) => Box::pin(local::run(context, *run)).await,
        Plugin::Test(test) => Box::pin(local::test(context, test)).await,
        Plugin::Record(record) => Box::pin(local::record(context, *record)).await,
    }
}
