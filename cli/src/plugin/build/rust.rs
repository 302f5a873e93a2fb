//! Rust: cargo makes a component for `wasm32-wasip2` by itself.

use super::{Job, read};
use crate::exit::Problem;
use anyhow::Result;
use serde_json::Value;
use std::{path::PathBuf, process::Command};

const TARGET: &str = "wasm32-wasip2";

pub fn build(job: &Job<'_>) -> Result<Vec<u8>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&job.project.dir).args(["build", "--release", "--target", TARGET]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let messages =
        job.tools.run(&mut cargo, "install Rust with rustup, then `rustup target add wasm32-wasip2`");
    let messages = messages.map_err(|error| {
        let problem = Problem::failed("the plugin does not build").because(error);
        if lacks_target() { problem.hint(format!("`rustup target add {TARGET}`")) } else { problem }
    })?;
    let manifest = std::fs::canonicalize(job.project.dir.join("Cargo.toml"))?;
    let component = messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["manifest_path"].as_str().is_some_and(|path| manifest == *path))
        .filter_map(|message| {
            let files = message["filenames"].as_array()?;
            let mut wasm = files.iter().filter_map(Value::as_str).filter(|file| file.ends_with(".wasm"));
            wasm.next().map(PathBuf::from)
        })
        .next_back();
    match component {
        Some(component) => read(&component),
        None => Err(Problem::failed("cargo made no component")
            .hint("in Cargo.toml: `[lib]` with `crate-type = [\"cdylib\"]`")
            .into()),
    }
}

/// Whether the toolchain lacks the target; false where that can't be told.
fn lacks_target() -> bool {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    output.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && !PathBuf::from(sysroot).join("lib/rustlib").join(TARGET).is_dir()
    })
}
