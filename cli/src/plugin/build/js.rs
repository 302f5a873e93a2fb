//! JavaScript: componentize-js puts an engine (StarlingMonkey) and one module into a component.
//!
//! It is used as a library: the command line of jco does not find its own WIT. What it depends on
//! is fixed by a lock file, since much of it is native code that runs with the author's rights.

use super::{Job, read, resolve};
use anyhow::{Context as _, Result, anyhow};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The version whose components have been tried on the host. The lock file has it too.
const VERSION: &str = "0.23.0";
const HINT: &str = "Node.js 20 or newer with npm is needed: on Debian `apt-get install nodejs npm`";
/// It names what componentize-js and the script import beside it. componentize-js does not name all
/// of that itself, and where it lies otherwise depends on what npm makes of the tree.
const PACKAGE: &str = include_str!("js/package.json");
const LOCK: &str = include_str!("js/package-lock.json");
const SCRIPT: &str = include_str!("js/build.mjs");

pub fn build(job: &Job<'_>) -> Result<Vec<u8>> {
    let tool = componentizer(job)?;
    // Beside the packages, where node looks for them. Each version of this program has its own.
    let script = tool.join(format!("build-{}.mjs", env!("CARGO_PKG_VERSION")));
    std::fs::write(&script, SCRIPT).with_context(|| format!("cannot write `{}`", script.display()))?;
    let output = job.folder("js")?;
    let wit = output.join("plugin.wit");
    std::fs::write(&wit, wit_text(job)?).with_context(|| format!("cannot write `{}`", wit.display()))?;
    let mut node = Command::new("node");
    node.current_dir(&job.project.dir).arg(&script).arg("plugin.js");
    node.arg(job.wit()?).arg(&job.world).arg(&wit).arg(&output);
    job.tools.run(&mut node, HINT)?;
    read(&output.join("component.wasm"))
}

fn componentizer(job: &Job<'_>) -> Result<PathBuf> {
    job.tools.installed(&format!("componentize-js-{VERSION}"), |dir: &Path| {
        std::fs::write(dir.join("package.json"), PACKAGE)?;
        std::fs::write(dir.join("package-lock.json"), LOCK)?;
        let mut npm = Command::new("npm");
        // Takes what the lock file says and checks the sums. `npm ci` would refuse the file, since some
        // packages name others for platforms that were never published.
        npm.current_dir(dir).args(["install", "--no-save", "--no-audit", "--no-fund"]);
        job.tools.run(&mut npm, HINT).map(drop)
    })
}

/// All packages in one text, with their documentation.
fn wit_text(job: &Job<'_>) -> Result<String> {
    let (resolve, world) = resolve(job)?;
    let package = resolve.worlds[world].package.context("a world is in a package")?;
    let others: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != package).collect();
    let mut printer = wit_component::WitPrinter::default();
    printer.print(&resolve, package, &others).map_err(|error| anyhow!("{error:#}"))?;
    Ok(printer.output.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_has_the_version_and_no_addresses_of_packages() {
        let lock: serde_json::Value = serde_json::from_str(LOCK).unwrap();
        let packages = lock["packages"].as_object().unwrap();
        assert_eq!(packages["node_modules/@bytecodealliance/componentize-js"]["version"], VERSION);
        assert!(PACKAGE.contains(VERSION));
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            assert!(package["integrity"].is_string(), "{name} could be anything");
            // Each site has its own registry or mirror.
            assert!(package["resolved"].is_null(), "{name}");
            // It would not be installed: nothing says that it is needed.
            assert!(package["extraneous"].is_null(), "{name}");
        }
    }
}
