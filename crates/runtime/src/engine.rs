//! The one engine configuration, shared by the agent and the compiler helper, and the clock that
//! interrupts guests.
//!
//! Compiled code carries the settings it was compiled with, and an engine refuses code made with
//! others. So everything that is compared is said here in full, and nothing is left to defaults:
//! defaults follow cargo features, and the helper is built with other features than the agent.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use wasmtime::{
    Config, Engine, EngineWeak, InstanceAllocationStrategy, ModuleVersionStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails, WasmFeatures,
};

/// Counts up with every change of [`engine_config`] that makes older compiled code unfit.
pub const CONFIG_REVISION: u32 = 2;
/// Version of wasmtime: the other part of what compiled code depends on.
pub const WASMTIME_VERSION: &str = "48";

/// Length of a tick: how often a guest that computes is interrupted.
pub const TICK: Duration = Duration::from_millis(10);

/// Operations that may run at the same time in one process, where the pool can be had.
pub const MAX_INSTANCES: u32 = 64;
/// Linear memories of one plugin: its own, and those of adapters and interpreters in it.
const MEMORIES_EACH: u32 = 2;
/// Tables of one plugin. A component made of one core module and its adapters has about four.
const TABLES_EACH: u32 = 12;
/// Entries of one table; an interpreter compiled to wasm has some 15,000 functions in it.
pub(crate) const TABLE_ENTRIES: usize = 64 << 10;

/// The configuration of both engines, the agent's and the helper's.
///
/// # Panics
/// Never: the one setting that can fail is given a constant.
pub fn engine_config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .consume_fuel(false)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20)
        .async_stack_zeroing(false)
        .concurrency_support(false)
        .shared_memory(false)
        .gc_support(false)
        .signals_based_traps(true)
        // 4 GiB of address space for each memory and guards of 32 MiB: no bounds checks in the
        // code. It is only reserved, so it costs no memory.
        .memory_reservation(4 << 30)
        .memory_reservation_for_growth(2 << 30)
        .memory_guard_size(32 << 20)
        .memory_may_move(true)
        .guard_before_linear_memory(true)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(16 << 20)
        .table_lazy_init(true)
        .generate_address_map(true)
        // For other debuggers than wasmtime's own backtraces; registering it costs at each load.
        .native_unwind_info(false)
        .debug_info(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(32));
    let on = WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::FLOATS
        | WasmFeatures::COMPONENT_MODEL;
    let off = WasmFeatures::RELAXED_SIMD
        | WasmFeatures::THREADS
        | WasmFeatures::SHARED_EVERYTHING_THREADS
        | WasmFeatures::MEMORY64
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::LEGACY_EXCEPTIONS
        | WasmFeatures::FUNCTION_REFERENCES
        | WasmFeatures::GC
        | WasmFeatures::GC_TYPES
        | WasmFeatures::MEMORY_CONTROL
        | WasmFeatures::CUSTOM_PAGE_SIZES
        | WasmFeatures::STACK_SWITCHING
        | WasmFeatures::WIDE_ARITHMETIC
        | WasmFeatures::CM_ASYNC
        | WasmFeatures::CM_ASYNC_STACKFUL
        | WasmFeatures::CM_MORE_ASYNC_BUILTINS
        | WasmFeatures::CM_THREADING
        | WasmFeatures::CM_ERROR_CONTEXT
        | WasmFeatures::CM_GC
        | WasmFeatures::CM_MAP
        | WasmFeatures::CM_FIXED_LENGTH_LISTS
        | WasmFeatures::CM64
        | WasmFeatures::CM_IMPLEMENTS;
    config.wasm_features(on, true).wasm_features(off, false);
    config
        .module_version(ModuleVersionStrategy::Custom(format!("windlass-{CONFIG_REVISION}")))
        .expect("a short version text is taken");
    config
}

/// What the helper compiles for: this machine, but without features that only some processors of
/// its architecture have, so that a disk may move to another machine. Only architecture and
/// system are compared, so `gnu` code also runs in a `musl` agent.
pub fn target_triple() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" }
}

/// The agent's engine. Instances come from a pool, which is three times as fast as mapping memory
/// for each; where the address space is too small for one (39 bits on some ARM kernels), they are
/// made on demand.
pub(crate) fn engine() -> Result<Engine, wasmtime::Error> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(MAX_INSTANCES)
        .total_core_instances(MAX_INSTANCES * 16)
        .max_core_instances_per_component(64)
        .total_memories(MAX_INSTANCES * MEMORIES_EACH)
        .max_memories_per_component(8)
        .total_tables(MAX_INSTANCES * TABLES_EACH)
        .max_tables_per_component(64)
        .max_tables_per_module(8)
        .max_memories_per_module(2)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(4 << 30)
        .table_elements(TABLE_ENTRIES)
        .total_stacks(MAX_INSTANCES)
        // An agent at rest gives everything back.
        .max_unused_warm_slots(4)
        .decommit_batch_size(1)
        .linear_memory_keep_resident(0)
        .table_keep_resident(0)
        .async_stack_keep_resident(0);
    let mut config = engine_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    match Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::info!(%error, "no pool for plugin instances: making them on demand");
            Engine::new(&engine_config())
        }
    }
}

/// Ticks without a guest after which the clock rests. Calls often come in rows, and to wake a
/// thread for each of them costs as much as a short call.
const TICKS_TO_REST: u32 = 20;

/// Moves an engine's epoch on while guests run, and rests while none does.
///
/// A guest that starts wakes the clock only if that rests. Waking it while it waits for its next
/// tick would make the tick come early, and every short call would be interrupted for nothing.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    running: AtomicUsize,
    /// Set by the clock before it looks at `running` for the last time, with the lock held.
    resting: AtomicBool,
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Shared {
    // Nothing panics with the lock held, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A guest that runs, as far as the ticker is concerned.
pub(crate) struct Running(Arc<Shared>);

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            resting: AtomicBool::new(false),
            stopped: Mutex::new(false),
            wake: Condvar::new(),
        });
        let (weak, seen) = (engine.weak(), shared.clone());
        let thread =
            std::thread::Builder::new().name("guest-clock".into()).spawn(move || tick(&weak, &seen))?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// Tick until the returned value is dropped.
    pub(crate) fn run(&self) -> Running {
        // Both this and the clock write first and read then: one of them sees the other.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.resting.load(Ordering::SeqCst) {
            // With the lock, so that the thread waits already.
            let _held = self.shared.lock();
            self.shared.wake.notify_one();
        }
        Running(self.shared.clone())
    }
}

fn tick(engine: &EngineWeak, shared: &Shared) {
    let mut stopped = shared.lock();
    let mut idle = 0_u32;
    while !*stopped {
        if idle < TICKS_TO_REST {
            let waited = shared.wake.wait_timeout(stopped, TICK);
            stopped = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        } else {
            shared.resting.store(true, Ordering::SeqCst);
            if shared.running.load(Ordering::SeqCst) == 0 {
                let woken = shared.wake.wait(stopped);
                stopped = woken.unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            shared.resting.store(false, Ordering::SeqCst);
        }
        idle = if shared.running.load(Ordering::SeqCst) == 0 { idle.saturating_add(1) } else { 0 };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.shared.lock() = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It only ends by returning.
            let _ = thread.join();
        }
    }
}
