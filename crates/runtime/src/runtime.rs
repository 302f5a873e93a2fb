//! The runtime: one engine, the threads guests run on, and what all plugins share.

use crate::{
    call::{self, Call, Place, Report},
    canary::{self, CanaryError},
    engine::{self, MAX_INSTANCES, Ticker},
    host::{self, State},
    plugin::{LoadError, Plugin},
    state::Stores,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::{Engine, component::Linker};
use windlass_bundle::{Approval, Bundle, Grants, NodePolicy};
use windlass_probes::Probes;

/// Threads for calls of the system that block, shared by all guests.
const BLOCKING_THREADS: usize = 32;

/// What a runtime needs to know.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Threads that run guests, and nothing else.
    pub guest_threads: usize,
    /// Where plugins keep their state.
    pub state_dir: PathBuf,
    /// Id of this node, as plugins see it.
    pub node_id: String,
    /// Name of this node, as plugins see it.
    pub node_name: String,
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine refuses its configuration.
    #[error("the WebAssembly engine can not be set up: {0}")]
    Engine(String),
    /// Threads could not be started.
    #[error("threads for plugins can not be started")]
    Threads(#[from] std::io::Error),
}

/// Runs plugins.
pub struct Runtime {
    inner: Arc<Inner>,
    linker: Linker<State>,
    /// Guests have threads of their own: one that computes without pause would otherwise hold up
    /// heartbeats and timers of its host.
    guests: Option<tokio::runtime::Runtime>,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
    pub(crate) stores: Stores,
    pub(crate) probes: Arc<Probes>,
    pub(crate) slots: Semaphore,
    node: RwLock<Arc<(String, String)>>,
}

impl Inner {
    /// Id and name of this node.
    pub(crate) fn node(&self) -> Arc<(String, String)> {
        self.node.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("node", &self.inner.node()).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Set up the engine and the threads for guests.
    ///
    /// # Errors
    /// If the system refuses memory or threads.
    pub fn new(options: RuntimeOptions) -> Result<Arc<Runtime>, RuntimeError> {
        let engine_error = |error: wasmtime::Error| RuntimeError::Engine(format!("{error:#}"));
        let engine = engine::engine().map_err(engine_error)?;
        let linker = host::linker(&engine).map_err(engine_error)?;
        let guests = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.guest_threads.max(1))
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(Duration::from_secs(5))
            // Guests yield once a tick. Timers and input are looked at after so many polls: with
            // the default of 61 that would be once in 600 ms.
            .event_interval(2)
            .thread_name("guest")
            .enable_all()
            .build()?;
        let inner = Inner {
            ticker: Ticker::start(&engine)?,
            engine,
            stores: Stores::new(options.state_dir),
            probes: Arc::new(Probes::system()),
            slots: Semaphore::new(MAX_INSTANCES as usize),
            node: RwLock::new(Arc::new((options.node_id, options.node_name))),
        };
        Ok(Arc::new(Runtime { inner: Arc::new(inner), linker, guests: Some(guests) }))
    }

    /// Say what plugins see as id and name of this node, from the next call on.
    pub fn set_node(&self, id: String, name: String) {
        *self.inner.node.write().unwrap_or_else(PoisonError::into_inner) = Arc::new((id, name));
    }

    /// Load a plugin from a file that [`Compiler`](crate::aot::Compiler) made of its component.
    ///
    /// It may do what its manifest asks for, less what `policy` forbids, less what `approval`, where
    /// there is one, leaves out.
    ///
    /// Reads and hashes the file: call it where blocking is fine.
    ///
    /// # Errors
    /// If the file is not what was compiled, or the plugin does not fit this host.
    pub fn load(
        &self,
        bundle: &Bundle,
        compiled: &Path,
        policy: &NodePolicy,
        approval: Option<Approval>,
        configuration: Value,
    ) -> Result<Arc<Plugin>, LoadError> {
        let grants = Grants::new(&bundle.manifest, policy);
        let grants = match approval {
            Some(approval) => grants.narrowed(approval),
            None => grants,
        };
        Plugin::load(&self.inner.engine, &self.linker, bundle, compiled, grants, &configuration).map(Arc::new)
    }

    /// Instantiate a plugin once, under its own limits and with nothing granted, and throw the
    /// instance away: what traps or starves already then would fail every call.
    ///
    /// Waits for a free instance as [`Runtime::call`] does; from then on it takes at most
    /// [`CANARY_TIME`](crate::CANARY_TIME).
    ///
    /// # Errors
    /// With how it broke.
    pub async fn canary(&self, plugin: &Arc<Plugin>) -> Result<(), CanaryError> {
        let Some(guests) = &self.guests else {
            return Err(CanaryError::Lost("the runtime has ended".into()));
        };
        let running = guests.spawn(canary::run(self.inner.clone(), plugin.clone()));
        AbortOnDropHandle::new(running)
            .await
            .unwrap_or_else(|error| Err(CanaryError::Lost(error.to_string())))
    }

    /// Call an operation in an instance of its own, and wait for its outcome. Dropping the future
    /// ends the call and every program it started.
    ///
    /// At most [`MAX_INSTANCES`] run at a time; what is more waits its turn.
    pub async fn call(&self, plugin: &Arc<Plugin>, call: Call) -> Report {
        self.run(plugin, call, Place::Node).await
    }

    /// Call a planned operation, for a master: as [`Runtime::call`], with nothing granted. Its arguments have
    /// the fleet among them where it takes one.
    pub async fn plan(&self, plugin: &Arc<Plugin>, call: Call) -> Report {
        self.run(plugin, call, Place::Master).await
    }

    async fn run(&self, plugin: &Arc<Plugin>, call: Call, place: Place) -> Report {
        let admitted = match call::admit(plugin, call, place) {
            Ok(admitted) => admitted,
            Err(report) => return *report,
        };
        let Some(guests) = &self.guests else {
            return Report::lost("the runtime has ended".into());
        };
        let running = guests.spawn(call::run(self.inner.clone(), admitted));
        AbortOnDropHandle::new(running).await.unwrap_or_else(|error| {
            Report::lost(format!("the host failed while it ran the operation: {error}"))
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(guests) = self.guests.take() {
            // Waiting is not allowed within another runtime, and there is nothing to wait for.
            guests.shutdown_background();
        }
    }
}
