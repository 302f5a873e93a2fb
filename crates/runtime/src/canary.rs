//! Whether a plugin can be instantiated at all, found out before it is put to use.

use crate::{
    call::{deadline_ms, no_grants, store, trapped},
    engine::Running,
    host::Serving,
    limits::{Meter, Metered},
    plugin::Plugin,
    runtime::Inner,
    tape::Tape,
    trace::Recorder,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wasmtime::PoolConcurrencyLimitError;
use windlass_types::{Effect, TrapReason};

/// Wall time for an instance to come to life. A Python plugin takes some ten milliseconds.
pub const CANARY_TIME: Duration = Duration::from_secs(5);

/// Why a plugin has no instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanaryError {
    /// It broke, or passed a limit.
    #[error("the plugin breaks when it is instantiated: {message}")]
    Trapped {
        /// Which limit, or how it broke.
        reason: TrapReason,
        /// Words for the operator.
        message: String,
    },
    /// It did not come to an end.
    #[error("the plugin was not instantiated within {} s", CANARY_TIME.as_secs())]
    TimedOut,
    /// The pool of instances has no room for it now. Says nothing about the plugin.
    #[error("no room for another plugin instance")]
    Busy,
    /// The host failed. Says nothing about the plugin.
    #[error("the host failed while it tried the plugin: {0}")]
    Lost(String),
}

/// Make an instance and throw it away. Runs on the guests' own threads.
pub(crate) async fn run(inner: Arc<Inner>, plugin: Arc<Plugin>) -> Result<(), CanaryError> {
    let _slot = inner.slots.acquire().await;
    let _ticking: Running = inner.ticker.run();
    // An export to speak of; it is not called.
    let Some(operation) = plugin.operations().values().next() else { return Ok(()) };
    let meter = Arc::new(Meter::new(plugin.manifest().limits.cpu_ms));
    let serving = Serving {
        grants: Arc::new(no_grants(plugin.manifest())),
        tape: Tape::Off,
        secrets: Default::default(),
        operation: operation.name.clone(),
        effect: Effect::Read,
        job_id: "canary".into(),
        node: inner.node(),
        dry_run: true,
        deadline: Instant::now() + CANARY_TIME,
        deadline_ms: deadline_ms(CANARY_TIME),
        cancel: CancellationToken::new(),
        progress: watch::channel(None).0,
        output: None,
        trace: Arc::new(Recorder::new(Arc::default())),
        store: inner.stores.of(plugin.name()),
        probes: inner.probes.clone(),
        plugin: plugin.clone(),
    };
    let mut store = store(&inner, serving, &meter);
    let made = {
        let instance = Metered::new(meter.clone(), plugin.pre.instantiate_async(&mut store));
        tokio::time::timeout(CANARY_TIME, instance).await
    };
    match made {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is::<PoolConcurrencyLimitError>() => Err(CanaryError::Busy),
        Ok(Err(error)) => {
            store.data().flush();
            let (reason, message) = trapped(&error, &store.data().last_words());
            Err(CanaryError::Trapped { reason, message })
        }
        Err(_) => Err(CanaryError::TimedOut),
    }
}
