//! Building everything, in three groups.
//!
//! Cargo unites the features of all packages it builds together. Agent and command line run plugins
//! and must come without a compiler for them, which only `windlass-compile` brings; so that one is
//! built by itself, and so is the agent, which should have nothing that others need.

use crate::{
    exec::{cargo, root, run},
    plugins, setup,
};
use anyhow::Result;

/// What each group is made of.
const AGENT: &[&str] = &["--package", "windlass-host"];
const COMPILER: &[&str] = &["--package", "windlass-compile"];
const REST: &[&str] = &["--package", "windlass-master", "--package", "windlass"];
/// What watches over a lab.
const KEEPER: &[&str] = &["--package", "windlass-tests"];

/// Programs and bundles, ready to run.
pub fn all(release: bool) -> Result<()> {
    programs(release)?;
    bundles()
}

/// Programs without bundles.
pub fn programs(release: bool) -> Result<()> {
    let more: &[&str] = if release { &["--release"] } else { &[] };
    groups(&[AGENT, COMPILER, REST], more)
}

/// What a lab is made of.
pub fn for_lab() -> Result<()> {
    groups(&[AGENT, COMPILER, REST, KEEPER], &[])?;
    bundles()
}

/// The same, and the tests. They are built in two groups anyway, all but the agent with each other's
/// features, and with programs of their own: another set beside those would cost minutes. That the
/// command line comes without a compiler is checked by the list of what it depends on.
pub fn for_tests() -> Result<()> {
    groups(&[AGENT, &["--workspace", "--exclude", "windlass-host"]], &["--tests"])?;
    bundles()
}

fn groups(groups: &[&[&str]], more: &[&str]) -> Result<()> {
    for packages in groups {
        let mut command = cargo(&["build", "--quiet", "--bins"]);
        run(command.args(*packages).args(more))?;
    }
    Ok(())
}

fn bundles() -> Result<()> {
    setup::wasm_target()?;
    plugins::build(&root(), &mut std::io::stderr()).map(drop)
}
