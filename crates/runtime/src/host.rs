//! What a plugin sees of its host: `windlass:host/imports`, one module an interface.
//!
//! Every function does the same in the same order: it asks the grants, notes the answer in the
//! trace, and only then acts, or in a dry run says what it would have done. Acting goes through the
//! [`tape`](crate::tape).

mod commands;
mod files;
mod job;
mod log;
pub(crate) mod output;
mod print;
mod probes;
mod secrets;
mod state;

use crate::{
    limits::{LimitPassed, Memory},
    os::process::Crowd,
    plugin::Plugin,
    secrets::{Secrets, Stream},
    state::Store,
    tape::Tape,
    trace::Recorder,
};
use bytes::Bytes;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, random::Deterministic};
use windlass_bundle::Grants;
use windlass_probes::Probes;
use windlass_types::{Effect, OperationName, TrapReason, trace::Verdict};

/// The contract, as Rust.
pub(crate) mod api {
    wasmtime::component::bindgen!({
        path: "../../wit/host",
        world: "windlass:host/imports",
        imports: { default: async | trappable },
        with: { "windlass:host/commands.process": super::commands::Process },
    });
}

/// Resources of WASI and of ours that one call may hold: streams, pollables, processes.
const MAX_RESOURCES: usize = 4_096;
/// Random bytes that a guest may ask for at once.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressReport {
    /// What is being done.
    pub message: String,
    /// From 0 to 100.
    pub percent: Option<u8>,
}

/// The call that an instance serves.
pub(crate) struct Serving {
    pub(crate) plugin: Arc<Plugin>,
    /// What this call may do: that of its plugin, but for a canary, which may do nothing.
    pub(crate) grants: Arc<Grants>,
    pub(crate) tape: Tape,
    pub(crate) secrets: Secrets,
    pub(crate) operation: OperationName,
    pub(crate) effect: Effect,
    pub(crate) job_id: String,
    pub(crate) node: Arc<(String, String)>,
    pub(crate) dry_run: bool,
    pub(crate) deadline: Instant,
    pub(crate) deadline_ms: i64,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: watch::Sender<Option<ProgressReport>>,
    pub(crate) output: Option<mpsc::Sender<Bytes>>,
    pub(crate) trace: Arc<Recorder>,
    pub(crate) store: Arc<Store>,
    pub(crate) probes: Arc<Probes>,
}

/// Why an operation should end now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Cancelled,
    Deadline,
}

impl Serving {
    pub(crate) fn stop(&self) -> Option<Stop> {
        if self.cancel.is_cancelled() {
            Some(Stop::Cancelled)
        } else if self.left().is_zero() {
            Some(Stop::Deadline)
        } else {
            None
        }
    }

    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether something of this effect is done in truth.
    fn verdict(&self, rule: String, effect: Effect) -> (Verdict, bool) {
        if self.dry_run && effect > Effect::Read {
            (Verdict::WouldRun { rule }, false)
        } else {
            (Verdict::Allowed { rule }, true)
        }
    }

    /// End the guest if it hands over more than its manifest allows.
    fn check_size(&self, what: &str, bytes: usize) -> wasmtime::Result<()> {
        let limit = self.plugin.manifest().limits.output_bytes;
        if bytes as u64 <= limit {
            return Ok(());
        }
        Err(LimitPassed::error(
            TrapReason::Output,
            format!(
                "it passed {what} of {bytes} bytes to its host; its limit (`limits.output` in its \
                 manifest) is {limit}"
            ),
        ))
    }
}

/// What belongs to one instance.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    pub(crate) memory: Memory,
    /// The programs of this call.
    crowd: Arc<Crowd>,
    pub(crate) serving: Serving,
    printed: [print::Printer; 2],
    /// Programs that were started with `spawn`.
    spawned: u32,
    /// Output without secrets.
    hidden: Stream,
    /// Bytes of output.
    written: u64,
}

impl State {
    pub(crate) fn new(serving: Serving) -> State {
        let printed = print::streams(&serving);
        let mut wasi = WasiCtx::builder();
        // No environment, no arguments, no files, no network: only clocks, random numbers and
        // somewhere to print.
        wasi.allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(MAX_RANDOM_BYTES)
            .stdout(printed[0].clone())
            .stderr(printed[1].clone());
        if let Tape::Replay(playback) = &serving.tape {
            still(&mut wasi, playback.clock_ms);
        }
        let hidden = Stream::new(serving.trace.redactor.clone());
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let memory = Memory::new(serving.plugin.manifest().limits.memory_bytes);
        let crowd = Crowd::new(serving.plugin.manifest().limits.processes as usize);
        State { wasi: wasi.build(), table, memory, crowd, serving, printed, spawned: 0, hidden, written: 0 }
    }

    /// Log what was printed without a newline at its end.
    pub(crate) fn flush(&self) {
        for printer in &self.printed {
            printer.flush();
        }
    }

    /// The last lines printed on standard error: where panics say why.
    pub(crate) fn last_words(&self) -> String {
        self.printed[1].tail()
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// In a replay the wall clock stands still and random numbers are the same each time: a plugin
/// that sorts by a hash or prints a date gives the same answer tomorrow.
fn still(wasi: &mut WasiCtxBuilder, clock_ms: i64) {
    struct Still(Duration);
    impl HostWallClock for Still {
        fn resolution(&self) -> Duration {
            Duration::from_millis(1)
        }
        fn now(&self) -> Duration {
            self.0
        }
    }
    // Bytes without a pattern that a plugin could stumble over, such as all zeros.
    let bytes =
        || Deterministic::new((0..=255_u8).map(|byte| byte.wrapping_mul(167).wrapping_add(13)).collect());
    wasi.wall_clock(Still(Duration::from_millis(u64::try_from(clock_ms).unwrap_or_default())))
        .secure_random(bytes())
        .insecure_random(bytes())
        .insecure_random_seed(1);
}

/// Everything a plugin may import.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    api::Imports::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Run what blocks without holding up other guests.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> wasmtime::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| wasmtime::Error::msg(format!("the host failed in a system call: {error}")))
}

/// A path as text for the trace.
fn show_path(path: &Path) -> String {
    path.display().to_string()
}
