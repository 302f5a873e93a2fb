//! A runtime in this process. The compiler is the same helper that hosts use, beside this program.

use super::source::Source;
use crate::{
    commands::{Context, Interrupts},
    exit::Problem,
    render::{results::progress_line, table::Tone, text::clean},
};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::mpsc;
use windlass_bundle::NodePolicy;
use windlass_runtime::{Call, Plugin, Report, Runtime, RuntimeOptions, aot::Compiler};
use windlass_types::NodeName;

/// Reports of progress that wait to be shown.
const PROGRESS: usize = 16;

/// A plugin that can be called in this process.
pub struct Session {
    runtime: Arc<Runtime>,
    compiled: PathBuf,
    /// Name of this machine.
    pub node: NodeName,
}

impl Session {
    /// Compile a plugin where that is not done yet, and start a runtime.
    ///
    /// # Errors
    /// If it does not compile, or there is no compiler.
    pub async fn start(context: &Context, source: &Source) -> Result<Session> {
        if let Some(newer) = &source.newer {
            context.out.note(&format!(
                "note: `{}` is older than `{}`: build it with `windlass plugin build`",
                newer.component.display(),
                newer.source.display()
            ));
        }
        // Absolute, since the runtime does not change directories and its messages should be clear.
        let work =
            std::path::absolute(&source.work).context("cannot find the folder for compiled plugins")?;
        let compiled = compile(context, source, &work.join("compiled")).await?;
        let node = node_name();
        let runtime = Runtime::new(RuntimeOptions {
            guest_threads: 1,
            state_dir: work.join("state"),
            node_id: "local".into(),
            node_name: node.to_string(),
        })
        .context("cannot start the runtime")?;
        Ok(Session { runtime, compiled, node })
    }

    /// The plugin with this configuration.
    ///
    /// # Errors
    /// If it does not fit this version of the runtime.
    pub fn load(&self, source: &Source, configuration: Value) -> Result<Arc<Plugin>> {
        // The node's policy narrows what a manifest asks; here is none.
        let policy = NodePolicy::default();
        self.runtime
            .load(&source.bundle, &self.compiled, &policy, None, configuration)
            .context("the plugin cannot be loaded")
    }

    /// Call an operation and wait for its end.
    pub async fn call(&self, plugin: &Arc<Plugin>, call: Call) -> Report {
        self.runtime.call(plugin, call).await
    }

    /// The same before a person: shows progress, and Ctrl-C cancels it. None when the person left.
    ///
    /// # Errors
    /// If Ctrl-C can not be watched for.
    pub async fn call_watched(
        &self,
        context: &Context,
        plugin: &Arc<Plugin>,
        mut call: Call,
    ) -> Result<Option<Report>> {
        let mut interrupts = Interrupts::new()?;
        let (sender, mut progress) = mpsc::channel(PROGRESS);
        let cancel = call.cancel.clone();
        call.progress = Some(sender);
        let (sender, mut output) = mpsc::channel(1);
        call.output = Some(sender);
        let running = self.runtime.call(plugin, call);
        tokio::pin!(running);
        loop {
            tokio::select! {
                biased;
                Some(bytes) = output.recv() => context.out.note_raw(&bytes),
                report = &mut running => {
                    while let Ok(bytes) = output.try_recv() {
                        context.out.note_raw(&bytes);
                    }
                    return Ok(Some(report));
                }
                Some(report) = progress.recv() => {
                    let line = progress_line(self.node.as_str(), &report.message, report.percent);
                    context.out.note(&Tone::Faint.paint(&line, &context.stderr_look()));
                }
                () = interrupts.next() => {
                    if cancel.is_cancelled() {
                        context.out.note("left; what it had started is ended");
                        return Ok(None);
                    }
                    context.out.note("cancelling; press ctrl-c again to leave");
                    cancel.cancel();
                }
            }
        }
    }
}

async fn compile(context: &Context, source: &Source, dir: &Path) -> Result<PathBuf> {
    let helper = compiler()?;
    let compiler = Compiler::new(helper, dir.to_owned());
    let path = compiler.path(windlass_types::Digest::of(&source.bundle.component));
    if !path.exists() && context.out.is_table() {
        context.out.note(&Tone::Faint.paint("compiling", &context.stderr_look()));
    }
    let compiled = compiler
        .compiled(&source.bundle.component)
        .await
        .map_err(|error| Problem::failed("the plugin cannot be compiled").because(error))?;
    remove_older(dir, &compiled);
    Ok(compiled)
}

/// `windlass-compile`, beside this program.
fn compiler() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let helper = own.with_file_name("windlass-compile");
    if helper.is_file() {
        return Ok(helper);
    }
    Err(Problem::failed(format!("the compiler of plugins is missing: there is no `{}`", helper.display()))
        .hint("it is part of the same release as `windlass`, and belongs beside it")
        .into())
}

/// Keep the newest few: each build of a plugin leaves one, and that of a Python plugin takes 60 MB.
fn remove_older(dir: &Path, keep: &Path) {
    const KEPT: usize = 4;
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut compiled: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "cwasm") && path != keep)
        .collect();
    compiled.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).and_then(|file| file.modified()).ok()));
    for path in compiled.iter().skip(KEPT - 1) {
        // What stays costs space, no more.
        let _ = fs::remove_file(path);
        let _ = fs::remove_file(path.with_extension("sha256"));
    }
}

/// The name of this machine, if it can be one of a node.
fn node_name() -> NodeName {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = clean(name.trim()).to_ascii_lowercase();
    name.parse().unwrap_or_else(|_| "localhost".parse().expect("a node name"))
}
