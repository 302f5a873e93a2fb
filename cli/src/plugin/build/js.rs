//! JavaScript: componentize-js puts an engine (StarlingMonkey) and one module into a component.
//!
//! It is used as a library: the command line of jco does not find its own WIT.

use super::{Job, read};
use anyhow::{Context as _, Result};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The version whose components have been tried on the host.
const VERSION: &str = "0.23.0";
const HINT: &str = "Node.js 20 or newer with npm is needed: on Debian `apt-get install nodejs npm`";
const SCRIPT: &str = include_str!("js.mjs");

pub fn build(job: &Job<'_>) -> Result<Vec<u8>> {
    let tool = componentizer(job)?;
    // Beside the packages, where node looks for them. Each version of this program has its own.
    let script = tool.join(format!("build-{}.mjs", env!("CARGO_PKG_VERSION")));
    std::fs::write(&script, SCRIPT).with_context(|| format!("cannot write `{}`", script.display()))?;
    let component = job.folder("js")?.join("component.wasm");
    let mut node = Command::new("node");
    node.current_dir(&job.project.dir).arg(&script).arg("plugin.js");
    node.arg(job.wit()?).arg(&job.world).arg(&component);
    job.tools.run(&mut node, HINT)?;
    read(&component)
}

fn componentizer(job: &Job<'_>) -> Result<PathBuf> {
    job.tools.installed(&format!("componentize-js-{VERSION}"), |dir: &Path| {
        std::fs::write(dir.join("package.json"), "{\"private\":true}\n")?;
        let mut npm = Command::new("npm");
        npm.current_dir(dir).args([
            "install",
            "--no-audit",
            "--no-fund",
            "--omit-lockfile-registry-resolved",
        ]);
        npm.arg(format!("@bytecodealliance/componentize-js@{VERSION}"));
        job.tools.run(&mut npm, HINT).map(drop)
    })
}
