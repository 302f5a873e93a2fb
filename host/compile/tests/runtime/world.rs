//! A runtime with the torture plugin loaded.

use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use windlass_bundle::{Bundle, NodePolicy};
use windlass_runtime::{Call, Plugin, Report, Runtime, RuntimeOptions, Tape, aot::Compiler};
use windlass_types::trace::{TraceEntry, Verdict};

/// Where the torture plugin may read and write.
pub const SCRATCH: &str = "/tmp/windlass-torture";

pub fn helper() -> PathBuf {
    env!("CARGO_BIN_EXE_windlass-compile").into()
}

pub fn bundle(name: &str) -> Bundle {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("bundles").join(name);
    assert!(
        dir.join("component.wasm").is_file(),
        "`{}` is not built: run `cargo xtask plugins`",
        dir.display()
    );
    Bundle::read_dir(&dir).unwrap()
}

/// A bundle with another manifest, for the same component.
pub fn with_manifest(bundle: &Bundle, change: impl Fn(String) -> String) -> Bundle {
    let before = String::from_utf8(bundle.manifest_text.clone()).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after, "the change found nothing to change");
    Bundle::from_parts(after.into_bytes(), bundle.component.clone(), bundle.wit.clone()).unwrap()
}

/// The compiled form, from a cache that all tests share.
pub async fn compiled(bundle: &Bundle) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
    Compiler::new(helper(), cache).compiled(&bundle.component).await.unwrap()
}

pub struct World {
    pub runtime: Arc<Runtime>,
    pub plugin: Arc<Plugin>,
    pub dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> World {
        World::of(&bundle("torture"), &NodePolicy::default()).await
    }

    pub async fn of(bundle: &Bundle, policy: &NodePolicy) -> World {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new(RuntimeOptions {
            guest_threads: 2,
            state_dir: dir.path().join("state"),
            node_id: "an-id".into(),
            node_name: "n1".into(),
        })
        .unwrap();
        let configuration = json!({ "answer": 42 });
        let plugin = runtime.load(bundle, &compiled(bundle).await, policy, None, configuration).unwrap();
        World { runtime, plugin, dir }
    }

    pub fn request(&self, operation: &str, args: Value) -> Call {
        Call {
            job_id: "a-job".into(),
            operation: format!("{}.{operation}", self.plugin.name()).parse().unwrap(),
            args,
            secrets: Default::default(),
            type_digest: None,
            time_limit: Duration::from_secs(60),
            dry_run: false,
            cancel: CancellationToken::new(),
            progress: None,
            output: None,
            tape: Tape::Off,
        }
    }

    pub async fn run(&self, call: Call) -> Report {
        self.runtime.call(&self.plugin, call).await
    }

    pub async fn call(&self, operation: &str, args: Value) -> Report {
        self.run(self.request(operation, args)).await
    }

    /// The outcome as JSON.
    pub async fn outcome(&self, operation: &str, args: Value) -> Value {
        json_of(&self.call(operation, args).await)
    }
}

pub fn json_of(report: &Report) -> Value {
    serde_json::to_value(&report.outcome).unwrap()
}

pub fn verdicts(trace: &[TraceEntry]) -> Vec<&Verdict> {
    trace.iter().map(|entry| &entry.verdict).collect()
}

/// A file of a test's own where the plugin may write. Removed on drop.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        std::fs::create_dir_all(SCRATCH).unwrap();
        let path = Path::new(SCRATCH).join(format!("runtime-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Scratch(path)
    }
    pub fn text(&self) -> String {
        self.0.display().to_string()
    }
    pub fn content(&self) -> Option<String> {
        std::fs::read_to_string(&self.0).ok()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Wait for a condition, and fail after a while.
pub async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Processes that run `sleep` with this argument.
pub fn sleepers(seconds: &str) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let sleeps = words.first().is_some_and(|word| word.ends_with(b"sleep"));
        count += usize::from(sleeps && words.get(1) == Some(&seconds.as_bytes()));
    }
    count
}
