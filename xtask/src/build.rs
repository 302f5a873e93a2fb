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

/// Programs and bundles, ready to run.
pub fn all(release: bool) -> Result<()> {
    setup::wasm_target()?;
    for packages in [
        ["--package", "windlass-host"].as_slice(),
        &["--package", "windlass-compile"],
        &["--package", "windlass-master", "--package", "windlass"],
    ] {
        let mut command = cargo(&["build", "--quiet", "--bins"]);
        command.args(packages);
        if release {
            command.arg("--release");
        }
        run(&mut command)?;
    }
    plugins::build(&root(), &mut std::io::stderr()).map(drop)
}
