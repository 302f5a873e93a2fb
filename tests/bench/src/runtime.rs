//! Calls of a plugin within one process.

use crate::report::{heading, line, median, time};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use windlass_bundle::{Bundle, NodePolicy};
use windlass_runtime::{Call, Plugin, Runtime, RuntimeOptions, Tape, aot::Compiler};
use windlass_tests::Binaries;
use windlass_types::Outcome;

const ROUNDS: usize = 500;

/// Compile, load and call the plugin that echoes.
pub async fn run(binaries: &Binaries) -> Result<()> {
    heading("the runtime in one process");
    let dir = tempfile::tempdir()?;
    let runtime = Runtime::new(RuntimeOptions {
        guest_threads: 2,
        state_dir: dir.path().join("state"),
        node_id: "bench".into(),
        node_name: "bench".into(),
    })?;
    let bundle = Bundle::read_dir(&binaries.bundle("torture")?)?;
    let compiler = Compiler::new(binaries.program("windlass-compile"), dir.path().join("compiled"));
    let start = Instant::now();
    let compiled = compiler.compiled(&bundle.component).await?;
    line("compile a plugin in the helper", &time(start.elapsed()), "");
    let load = || runtime.load(&bundle, &compiled, &NodePolicy::default(), None, json!({}));
    let mut loads = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        load()?;
        loads.push(start.elapsed());
    }
    line("load it from the cache, hash and types checked", &time(median(&mut loads)), "< 1 ms");
    let plugin = load()?;

    measure("fresh instance + call without values", &runtime, &plugin, "torture.echo.nothing", json!({}))
        .await?;
    let record = json!({ "value": {
        "truth": true, "tiny": -1, "signed": -1, "unsigned": u64::MAX, "fraction": 31.5, "short_fraction": 0.5,
        "letter": "x", "text": "/dev/disk/by-id/wwn-0x5000c500a0b1c2d3", "raw_bytes": "AAEC", "numbers": [1, 2, 3],
        "maybe": "/mnt/x", "colour": "red", "rights": ["may_read"], "shape": { "circle": 1.5 },
    }});
    measure("fresh instance + typed call + JSON both ways", &runtime, &plugin, "torture.echo.values", record)
        .await
}

async fn measure(
    what: &str,
    runtime: &Runtime,
    plugin: &Arc<Plugin>,
    operation: &str,
    args: Value,
) -> Result<()> {
    let mut times = Vec::with_capacity(ROUNDS);
    let text = serde_json::to_vec(&args)?;
    for round in 0..ROUNDS + 20 {
        let start = Instant::now();
        let call = Call {
            job_id: "bench".into(),
            operation: operation.parse()?,
            args: serde_json::from_slice(&text)?,
            secrets: Default::default(),
            type_digest: None,
            time_limit: Duration::from_secs(10),
            dry_run: false,
            cancel: Default::default(),
            progress: None,
            output: None,
            tape: Tape::Off,
        };
        let report = runtime.call(plugin, call).await;
        let answer = serde_json::to_vec(&report.outcome)?;
        let took = start.elapsed();
        ensure!(matches!(report.outcome, Outcome::Succeeded { .. }), "{}", String::from_utf8_lossy(&answer));
        // The first rounds warm caches.
        if round >= 20 {
            times.push(took);
        }
    }
    line(what, &time(median(&mut times)), "< 40 µs median");
    Ok(())
}
