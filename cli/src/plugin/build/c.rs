//! C: clang and wasi-libc make a core module, which becomes a component with an adapter for what
//! libc asks of the system.

use super::{Job, read, resolve};
use crate::exit::Problem;
use anyhow::{Context as _, Result, anyhow};
use std::{path::PathBuf, process::Command};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_bindgen_core::Files;

const HINT: &str = "clang 14 or newer with lld and wasi-libc is needed: on Debian \
    `apt-get install clang lld wasi-libc libclang-rt-dev-wasm32`";

pub fn build(job: &Job<'_>) -> Result<Vec<u8>> {
    let generated = job.folder("c")?;
    let mut sources = Vec::new();
    bindings(job, &generated, &mut sources)?;
    for entry in std::fs::read_dir(&job.project.dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "c") {
            sources.push(std::path::absolute(path)?);
        }
    }
    // What is linked does not depend on the order in which a folder is listed.
    sources.sort();
    let module = generated.join("module.wasm");
    let mut clang = Command::new("clang");
    clang.current_dir(&job.project.dir);
    clang.args([
        "--target=wasm32-wasi",
        "-mexec-model=reactor",
        "-Os",
        "-Wall",
        "-Wextra",
        "-Wl,--strip-all",
    ]);
    clang.arg("-I").arg(&generated).args(&sources).arg("-o").arg(&module);
    job.tools.run(&mut clang, HINT)?;
    componentize(&read(&module)?)
        .map_err(|error| Problem::failed("the module can not become a component").because(error).into())
}

/// Write the header, the code and the object that tells the types, and name what is to be linked.
fn bindings(job: &Job<'_>, dir: &std::path::Path, link: &mut Vec<PathBuf>) -> Result<()> {
    let (mut resolve, world) = resolve(job)?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default()
        .build()
        .generate(&mut resolve, world, &mut files)
        .map_err(|error| anyhow!("{error:#}"))
        .context("there is no C for the WIT")?;
    for (name, content) in files.iter() {
        let path = dir.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
        if !name.ends_with(".h") {
            link.push(path);
        }
    }
    Ok(())
}

fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    let encoded = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        })
        .and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| anyhow!("{error:#}"))
}
