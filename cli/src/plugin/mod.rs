//! What authors do, without a master.

mod build;
mod check;
pub mod file;
mod inspect;
mod keys;
pub mod local;
mod new;
pub mod project;
pub mod registry;
mod tool;
mod verify;

use crate::{cli::Plugin, commands::Context, exit::Exit};
use anyhow::Result;

pub async fn run(context: &Context, command: Plugin) -> Result<Exit> {
    match command {
        Plugin::New(new) => new::new(context, &new),
        Plugin::Check(check) => check::check(context, &check),
        Plugin::Build(build) => build::build(context, &build),
        Plugin::Run(run) => Box::pin(local::run(context, *run)).await,
        Plugin::Test(test) => Box::pin(local::test(context, test)).await,
        Plugin::Record(record) => Box::pin(local::record(context, *record)).await,
        Plugin::Pack(pack) => check::pack(context, &pack),
        Plugin::Keygen(keygen) => keys::keygen(context, &keygen),
        Plugin::Sign(sign) => keys::sign(context, &sign),
        Plugin::Verify(verify) => verify::verify(context, &verify),
        Plugin::Inspect { package } => inspect::inspect(context, &package.package),
        Plugin::Push(push) => registry::push(context, push).await,
        Plugin::Pull(pull) => registry::pull_to_file(context, pull).await,
    }
}
