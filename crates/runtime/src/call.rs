//! One call of one operation: an instance of its own, limits around it, an outcome at its end.

use crate::{
    convert::{arguments, to_json},
    engine::Running,
    host::{ProgressReport, Serving, State, Stop},
    limits::{LimitPassed, Meter, Metered},
    plugin::{Plugin, PluginOperation, one_line},
    runtime::Inner,
    secrets::{Redactor, Secrets},
    tape::Tape,
    trace::{Recorder, clip},
};
use bytes::Bytes;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, component::Val};
use wasmtime_wasi::I32Exit;
use windlass_bundle::{Grants, Manifest, NodePolicy};
use windlass_types::{
    Denial, Digest, OperationName, Outcome, Refusal, TrapReason,
    shape::Shape,
    trace::{CallStats, TraceEntry},
};

/// How long a guest that was told to end may go on, to clean up behind itself.
pub const GRACE: Duration = Duration::from_secs(2);
/// How often progress is passed on at most; what comes between is merged to the newest.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Memory for the values of a result, as a multiple of its limit as JSON text: a list of bytes
/// takes 32 bytes for each while it is converted, and most other things about four for one.
const VALUE_BYTES_PER_TEXT: u64 = 4;

/// What to call.
#[derive(Debug)]
pub struct Call {
    /// The job, as the plugin sees it.
    pub job_id: String,
    /// Full name of the operation.
    pub operation: OperationName,
    /// Arguments object.
    pub args: Value,
    /// The secrets that the arguments name, and no others.
    pub secrets: Secrets,
    /// The type the job was made for; another one on this node is refused.
    pub type_digest: Option<Digest>,
    /// Wall time. The operation's own timeout holds as well.
    pub time_limit: Duration,
    /// Record what would change instead of changing it.
    pub dry_run: bool,
    /// Ends the call.
    pub cancel: CancellationToken,
    /// Where progress goes.
    pub progress: Option<mpsc::Sender<ProgressReport>>,
    /// Where its output goes. It waits while there is no room.
    pub output: Option<mpsc::Sender<Bytes>>,
    /// Whether its host calls are recorded, or answered from a recording.
    pub tape: Tape,
}

/// What became of a call.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// What it asked of the host.
    pub trace: Vec<TraceEntry>,
    /// What it used.
    pub stats: CallStats,
}

impl Report {
    fn without_start(outcome: Outcome) -> Report {
        Report { outcome, trace: Vec::new(), stats: CallStats::default() }
    }

    pub(crate) fn lost(message: String) -> Report {
        Report::without_start(Outcome::Indeterminate { message })
    }
}

fn refused(reason: Refusal, message: String) -> Report {
    Report::without_start(Outcome::Refused { reason, message })
}

/// Where an operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a node, with what it was granted.
    Node,
    /// On a master, where it makes a plan and may touch nothing.
    Master,
}

/// A call that may begin.
pub(crate) struct Admitted {
    plugin: Arc<Plugin>,
    grants: Arc<Grants>,
    operation: PluginOperation,
    args: Vec<Val>,
    call: Call,
}

/// Everything that is decided before an instance is made.
pub(crate) fn admit(plugin: &Arc<Plugin>, call: Call, place: Place) -> Result<Admitted, Box<Report>> {
    let known = if call.operation.plugin() == *plugin.name() {
        plugin.operation(call.operation.local())
    } else {
        None
    };
    let Some(operation) = known else {
        let hint = windlass_types::json::nearest(
            call.operation.as_str(),
            plugin.operations().values().map(|operation| operation.name.as_str()),
        );
        return Err(Box::new(refused(
            Refusal::UnknownOperation,
            format!(
                "plugin `{}` {} has no operation `{}`{}",
                plugin.name(),
                plugin.version(),
                call.operation,
                hint.map(|hint| format!("; {hint}")).unwrap_or_default()
            ),
        )));
    };
    if operation.planned != (place == Place::Master) {
        let why = match place {
            Place::Node => "makes a plan: it runs on the master, not on a node",
            Place::Master => "makes no plan: it runs on nodes, not on the master",
        };
        return Err(Box::new(refused(Refusal::UnknownOperation, format!("`{}` {why}", call.operation))));
    }
    if let Some(wanted) = call.type_digest.filter(|wanted| *wanted != operation.type_digest) {
        return Err(Box::new(refused(
            Refusal::TypeChanged,
            format!(
                "the job was made for `{}` of type {wanted}; plugin {} {} on this node has it with type {}",
                call.operation,
                plugin.name(),
                plugin.version(),
                operation.type_digest
            ),
        )));
    }
    let grants = match place {
        Place::Node => plugin.grants.clone(),
        Place::Master => Arc::new(no_grants(plugin.manifest())),
    };
    if let Err(denial) = grants.operation(operation.name.local()) {
        return Err(Box::new(Report::without_start(Outcome::Denied { denial, error: None })));
    }
    let args = arguments(&operation.params, &call.args)
        .map_err(|error| Box::new(refused(Refusal::BadArguments, error.to_string())))?;
    let named = windlass_types::secret::names(&operation.params, &call.args)
        .map_err(|error| Box::new(refused(Refusal::BadArguments, error.to_string())))?;
    if let Some(missing) = named.iter().find(|name| call.secrets.get(name).is_none()) {
        return Err(Box::new(refused(
            Refusal::Secret,
            format!("secret `{missing}` is named in the arguments and did not come with them"),
        )));
    }
    if call.cancel.is_cancelled() {
        return Err(Box::new(Report::without_start(Outcome::Cancelled { started: false })));
    }
    Ok(Admitted { plugin: plugin.clone(), grants, operation: operation.clone(), args, call })
}

/// Grants of a plugin that asks for nothing.
pub(crate) fn no_grants(manifest: &Manifest) -> Grants {
    let manifest = Manifest {
        commands: BTreeMap::new(),
        files: Vec::new(),
        probes: BTreeSet::new(),
        state: false,
        ..manifest.clone()
    };
    Grants::new(&manifest, &NodePolicy::default())
}

/// Make an instance, call it, and tell what became of it. Runs on the guests' own threads.
pub(crate) async fn run(inner: Arc<Inner>, admitted: Admitted) -> Report {
    let Admitted { plugin, grants, operation, args, call } = admitted;
    let _slot = tokio::select! {
        biased;
        () = call.cancel.cancelled() => {
            return Report::without_start(Outcome::Cancelled { started: false });
        }
        slot = inner.slots.acquire() => slot,
    };
    let _ticking: Running = inner.ticker.run();
    let began = Instant::now();
    let time_limit = call.time_limit.min(operation.policy.timeout);
    let redactor = Arc::new(Redactor::new(&call.secrets));
    let trace = Arc::new(Recorder::new(redactor.clone()));
    let (progress, mut reports) = watch::channel(None);
    let limits = plugin.manifest().limits;
    let meter = Arc::new(Meter::new(limits.cpu_ms));

    let serving = Serving {
        operation: operation.name.clone(),
        effect: operation.policy.effect,
        job_id: call.job_id,
        node: inner.node(),
        dry_run: call.dry_run,
        deadline: began + time_limit,
        deadline_ms: deadline_ms(time_limit),
        cancel: call.cancel.clone(),
        progress,
        output: call.output,
        trace: trace.clone(),
        store: inner.stores.of(plugin.name()),
        probes: inner.probes.clone(),
        grants,
        tape: call.tape,
        secrets: call.secrets,
        plugin: plugin.clone(),
    };
    let mut store = store(&inner, serving, &meter);

    let returned = {
        let guest = Metered::new(meter.clone(), guest(&mut store, &plugin, &operation, &args));
        let stopped = stopped(&call.cancel, time_limit);
        let forwarded = forward(&mut reports, call.progress.as_ref());
        tokio::select! {
            biased;
            returned = guest => Some(returned),
            () = stopped => None,
            () = forwarded => None,
        }
    };
    // Before the instance is gone, since that may end programs: whether it was told to end.
    let stop = store.data().serving.stop();
    let wall = began.elapsed();
    if let (Some(to), Ok(true)) = (&call.progress, reports.has_changed()) {
        let last = reports.borrow_and_update().clone();
        // Whoever does not keep up misses the last word: the outcome is on its way.
        let _ = last.map(|report| to.try_send(report));
    }
    store.data_mut().end_output().await;
    let state = store.into_data();
    state.flush();
    let last_words = state.last_words();
    let stats = CallStats {
        wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
        cpu_ms: meter.spent_ms(),
        memory_peak_bytes: state.memory.peak as u64,
    };
    drop(state);
    let (trace, denial) = trace.take();
    let ended = match returned {
        Some(Ok(value)) => returned_value(operation.signature.result.as_ref(), value, limits.output_bytes),
        // Each plugin may hold several memories and tables, so the pool can be used up by fewer
        // instances than it has slots for. Nothing of this one has run.
        Some(Err(error)) if error.is::<PoolConcurrencyLimitError>() => {
            return refused(Refusal::Busy, "no room for another plugin instance".into());
        }
        Some(Err(error)) => {
            let (reason, message) = trapped(&error, &last_words);
            Outcome::Trapped { reason, message }
        }
        None => timed_out(wall),
    };
    Report { outcome: redactor.outcome(settle(ended, stop, denial, wall)), trace, stats }
}

/// A store of its own, under the limits of its plugin.
pub(crate) fn store(inner: &Inner, serving: Serving, meter: &Arc<Meter>) -> Store<State> {
    let output_bytes = serving.plugin.manifest().limits.output_bytes;
    let mut store = Store::new(&inner.engine, State::new(serving));
    store.limiter(|state| &mut state.memory);
    store.set_epoch_deadline(1);
    let ticks = meter.clone();
    store.epoch_deadline_callback(move |_| {
        ticks.check()?;
        // The thread is shared: others have their turn each tick.
        Ok(UpdateDeadline::Yield(1))
    });
    let fuel = output_bytes.saturating_mul(VALUE_BYTES_PER_TEXT);
    store.set_hostcall_fuel(usize::try_from(fuel).unwrap_or(usize::MAX));
    store
}

async fn guest(
    store: &mut Store<State>,
    plugin: &Plugin,
    operation: &PluginOperation,
    args: &[Val],
) -> wasmtime::Result<Option<Val>> {
    let instance = plugin.pre.instantiate_async(&mut *store).await?;
    let function = instance
        .get_func(&mut *store, operation.export)
        .ok_or_else(|| wasmtime::Error::msg("the export is no function"))?;
    let mut results = vec![Val::Bool(false); usize::from(operation.signature.result.is_some())];
    function.call_async(&mut *store, args, &mut results).await?;
    Ok(results.pop())
}

/// Returns once a guest has had its grace after it was told to end.
async fn stopped(cancel: &CancellationToken, time_limit: Duration) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = tokio::time::sleep(time_limit) => {}
    }
    tokio::time::sleep(GRACE).await;
}

/// Pass progress on, merged. Never returns.
async fn forward(
    reports: &mut watch::Receiver<Option<ProgressReport>>,
    to: Option<&mpsc::Sender<ProgressReport>>,
) {
    if let Some(to) = to {
        while reports.changed().await.is_ok() {
            let report = reports.borrow_and_update().clone();
            if let Some(report) = report
                && to.send(report).await.is_err()
            {
                break;
            }
            tokio::time::sleep(PROGRESS_EVERY).await;
        }
    }
    std::future::pending::<()>().await;
}

pub(crate) fn deadline_ms(time_limit: Duration) -> i64 {
    let deadline = SystemTime::now().checked_add(time_limit).unwrap_or_else(SystemTime::now);
    let since = deadline.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn timed_out(wall: Duration) -> Outcome {
    Outcome::TimedOut { after_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
}

/// A returned value as an outcome: its own `result`, if it is one.
fn returned_value(shape: Option<&Shape>, value: Option<Val>, limit: u64) -> Outcome {
    let (Some(shape), Some(value)) = (shape, value) else { return Outcome::Succeeded { value: Value::Null } };
    let json = |shape: Option<&Shape>, value: Option<&Val>| match (shape, value) {
        (Some(shape), Some(value)) => to_json(shape, value, limit),
        _ => Ok(Value::Null),
    };
    let outcome = match (shape, &value) {
        (Shape::Result { ok, .. }, Val::Result(Ok(value))) => {
            json(ok.as_deref(), value.as_deref()).map(|value| Outcome::Succeeded { value })
        }
        (Shape::Result { err, .. }, Val::Result(Err(error))) => {
            json(err.as_deref(), error.as_deref()).map(|error| Outcome::Failed { error })
        }
        (shape, value) => json(Some(shape), Some(value)).map(|value| Outcome::Succeeded { value }),
    };
    outcome.unwrap_or_else(|_| Outcome::Trapped {
        reason: TrapReason::Output,
        message: format!("its result is larger than {limit} bytes of JSON (`limits.output` in its manifest)"),
    })
}

/// What counts in the end: success, then that it was told to end, then that it was denied
/// something it needed, then what it says itself.
fn settle(ended: Outcome, stop: Option<Stop>, denial: Option<Denial>, wall: Duration) -> Outcome {
    if ended.is_success() {
        return ended;
    }
    match (stop, denial, ended) {
        (Some(Stop::Cancelled), ..) => Outcome::Cancelled { started: true },
        (Some(Stop::Deadline), ..) => timed_out(wall),
        (None, Some(denial), Outcome::Failed { error }) => Outcome::Denied { denial, error: Some(error) },
        // A plugin that does not expect a denial panics.
        (None, Some(denial), Outcome::Trapped { reason: TrapReason::Crash, .. }) => {
            Outcome::Denied { denial, error: None }
        }
        (_, _, ended) => ended,
    }
}

/// How a guest broke, in words for the operator.
pub(crate) fn trapped(error: &wasmtime::Error, last_words: &str) -> (TrapReason, String) {
    if let Some(passed) = error.downcast_ref::<LimitPassed>() {
        return (passed.reason, passed.message.clone());
    }
    let said = |what: &str| match last_words {
        "" => what.to_owned(),
        last_words => format!("{what}; its last words: {}", clip(last_words, 2_000)),
    };
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return (TrapReason::Crash, said(&format!("it ended itself with exit code {code}")));
    }
    let text = one_line(error);
    // wasmtime keeps this error to itself.
    if text.contains("fuel allocated for hostcalls has been exhausted") {
        let message =
            "it handed its host more data at once than its limit allows (`limits.output` in its manifest)";
        return (TrapReason::Output, message.into());
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => (TrapReason::Stack, "its stack ran over".into()),
        // The stack of most languages lies at the beginning of linear memory and grows down, so
        // that it runs over into addresses just below zero.
        Some(Trap::MemoryOutOfBounds) if fault_address(&text).is_some_and(|at| at >= 0xfff0_0000) => {
            (TrapReason::Stack, "its stack ran over".into())
        }
        Some(Trap::UnreachableCodeReached) => (TrapReason::Crash, said("it panicked or aborted")),
        Some(trap) => (TrapReason::Crash, said(&trap.to_string())),
        None => (TrapReason::Contract, clip(&text, 2_000)),
    }
}

fn fault_address(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("memory fault at wasm address 0x")?;
    let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial() -> Denial {
        Denial { capability: "commands.run".into(), request: "x".into(), missing: "y".into() }
    }

    #[test]
    fn success_counts_whatever_else_happened() {
        let ended = Outcome::Succeeded { value: Value::Null };
        assert_eq!(settle(ended.clone(), Some(Stop::Cancelled), Some(denial()), GRACE), ended);
    }

    #[test]
    fn a_denial_explains_a_failure_and_a_panic_but_no_limit() {
        let failed = Outcome::Failed { error: "no".into() };
        assert_eq!(
            settle(failed.clone(), None, Some(denial()), GRACE),
            Outcome::Denied { denial: denial(), error: Some("no".into()) }
        );
        assert_eq!(settle(failed.clone(), None, None, GRACE), failed);
        assert_eq!(
            settle(failed, Some(Stop::Cancelled), Some(denial()), GRACE),
            Outcome::Cancelled { started: true }
        );
        let trapped = |reason| Outcome::Trapped { reason, message: String::new() };
        assert_eq!(
            settle(trapped(TrapReason::Crash), None, Some(denial()), GRACE),
            Outcome::Denied { denial: denial(), error: None }
        );
        assert_eq!(settle(trapped(TrapReason::Cpu), None, Some(denial()), GRACE), trapped(TrapReason::Cpu));
    }

    #[test]
    fn a_result_becomes_the_outcome() {
        let shape = Shape::Result { ok: None, err: Some(Box::new(Shape::String)) };
        let ok = Val::Result(Ok(None));
        assert_eq!(returned_value(Some(&shape), Some(ok), 100), Outcome::Succeeded { value: Value::Null });
        let err = || Val::Result(Err(Some(Box::new(Val::String("broken".into())))));
        assert_eq!(
            returned_value(Some(&shape), Some(err()), 100),
            Outcome::Failed { error: "broken".into() }
        );
        let large = returned_value(Some(&shape), Some(err()), 5);
        assert!(matches!(large, Outcome::Trapped { reason: TrapReason::Output, .. }), "{large:?}");
    }

    #[test]
    fn the_address_of_a_fault_is_read() {
        let text =
            "x: memory fault at wasm address 0xfffffff0 in linear memory of size 0x110000: out of bounds";
        assert_eq!(fault_address(text), Some(0xffff_fff0));
        assert_eq!(fault_address("nothing"), None);
    }
}
